import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { failures, keyOf } from "./figures.js";
import { count, duration } from "./text.js";

const CHARTS = [
  { title: "Requests per second", series: [["answered", "answered", "--accent"], ["failed", "failed", "--second"]], show: (value) => count(value) },
  { title: "Latency", series: [["p50", "p50", "--accent"], ["p99", "p99", "--second"]], show: duration },
  { title: "Requests in the queue", series: [["waiting", "waiting", "--accent"]], show: (value) => count(value) },
  { title: "Batch size", series: [["rows", "average", "--accent"]], show: (value) => value.toFixed(1) },
  { title: "Drift from the card's data", series: [["classes", "classes", "--accent"], ["confidence", "confidence", "--second"]], show: (value) => value.toFixed(3), note: "population stability index: above 0.25 is a large change; needs 100 predictions" },
];

export function Watch({ target, versions, figures, problem }) {
  if (problem) return html`<p class="problem" role="alert">${problem.message}</p>`;
  if (!figures) return html`<p class="small">Waiting for the first figures …</p>`;
  const history = figures.histories.get(keyOf(target)) ?? [];
  return html`
    <p class="small">${target.model} version ${target.version}, since this page was opened, at most ten minutes.</p>
    <div class="charts">
      ${CHARTS.map((chart) => html`<${Chart} key=${chart.title} chart=${chart} history=${history} />`)}
    </div>
    <${Models} versions=${versions} figures=${figures} />`;
}

function Chart({ chart, history }) {
  const place = useRef();
  const plot = useRef();
  const data = [history.map(({ at }) => at), ...chart.series.map(([key]) => history.map((entry) => entry[key] ?? null))];
  const [isDrawn, setDrawn] = useState(false);
  useEffect(() => {
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: place.current.clientWidth, height: HEIGHT }));
    let isGone = false;
    library().then(() => {
      if (isGone) return;
      plot.current = new uPlot(options(chart, place.current.clientWidth), data, place.current);
      observer.observe(place.current);
      setDrawn(true);
    });
    return () => { isGone = true; observer.disconnect(); plot.current?.destroy(); };
  }, []);
  useEffect(() => {
    if (!isDrawn) return;
    plot.current.setData(data, false);
    const end = data[0].at(-1) ?? Date.now() / 1000;
    // At least a minute wide, so the first seconds do not fill the chart.
    plot.current.setScale("x", { min: Math.min(data[0][0] ?? end, end - 60), max: end });
  }, [isDrawn, history.length, data[0].at(-1)]);
  const newest = chart.series.map(([key, label, colour]) => [label, colour, history.at(-1)?.[key]]);
  const text = ([label, , value]) => `${label} ${value === null || value === undefined ? "–" : chart.show(value)}`;
  return html`
    <section class="chart" aria-label=${chart.title}>
      <h2>${chart.title}</h2>
      <p class="small legend">${newest.map((each) => html`<span key=${each[0]}><i class=${each[1].slice(2)}></i>${text(each)}</span>`)}</p>
      <div ref=${place} class="plot" role="img" aria-label=${`${chart.title}: ${newest.map(text).join(", ")}`}></div>
      ${chart.note && html`<p class="small">${chart.note}</p>`}
    </section>`;
}

const HEIGHT = 136;
let loading = null;

// Loads uPlot, which is larger than the rest of the page, on first use.
function library() {
  loading ??= new Promise((done) => {
    const style = Object.assign(document.createElement("link"), { href: "/page/vendor/uplot.css", rel: "stylesheet" });
    const script = Object.assign(document.createElement("script"), { src: "/page/vendor/uplot.js", onload: done });
    document.head.append(style, script);
  });
  return loading;
}

function options(chart, width) {
  const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif", gap: 4 };
  return {
    width, height: HEIGHT, legend: { show: false }, cursor: { show: false }, pxAlign: 0,
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      { ...axis, size: 24, space: 96, values: (_, values) => values.map(clock) },
      { ...axis, size: 56, space: 32, values: (_, values) => values.map((value) => (chart.show === duration ? duration(value) : String(Number(value.toPrecision(3))))) },
    ],
    series: [{}, ...chart.series.map(([, label, name]) => ({ label, stroke: () => colour(name), width: 1.5, points: { show: false }, spanGaps: false }))],
  };
}

const clock = (s) => new Date(1000 * s).toLocaleTimeString("en-GB");

// A CSS variable's colour in the current theme, because a canvas does not support variables.
function colour(name) {
  const probe = document.getElementById("panel");
  const before = probe.style.accentColor;
  probe.style.accentColor = `var(${name})`;
  const found = getComputedStyle(probe).accentColor;
  probe.style.accentColor = before;
  return found;
}

function Models({ versions, figures }) {
  const counts = new Map(figures.versions.map((each) => [keyOf(each), each]));
  return html`
    <div class="wide"><table class="list">
      <caption>Models</caption>
      <thead><tr>${["Model", "Version", "State", "Computes on", "Evidence", "Requests", "Failed"].map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
      <tbody>
        ${versions.map((each) => {
          const found = counts.get(`${each.name}/${each.version}`);
          const isReady = each.state === "STATE_READY";
          return html`
            <tr key=${`${each.name}/${each.version}`}>
              <th scope="row">${each.name}</th><td>${[each.version, ...each.aliases].join(" ")}</td>
              <td class=${isReady ? "" : "problem"}>${isReady ? "ready" : each.reason || "unavailable"}</td>
              <td>${each.provider.replace("ExecutionProvider", "")}</td><td>${each.evidence}</td>
              <td class="figure">${found ? count(found.success) : "–"}</td><td class="figure">${found ? count(failures(found)) : "–"}</td>
            </tr>`;
        })}
      </tbody>
    </table></div>`;
}
