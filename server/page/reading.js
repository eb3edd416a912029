import { html, useEffect, useRef } from "./vendor/preact.js";
import { cellsOf } from "./api.js";
import { declaration, KINDS, probability, shown } from "./text.js";

// One model's answer: its input picture and best classes.
export function Reading({ target, answer, titled, why, onWhy }) {
  return html`
    <section class="reading" aria-label=${`Answer of ${target.model} version ${target.version}`}>
      <figure class="seen">
        <figcaption>What the model saw</figcaption>
        <${Seen} seen=${answer?.seen} occlusion=${answer?.occlusion} />
        <p class="small">${target.takes_images ? declaration(target.picture) : ""}</p>
        ${answer?.occlusion && html`<p class="small key"><i></i>Covering this lowers ${answer.classes[0].label} by up to ${points(answer)}.</p>`}
        ${onWhy && cellsOf(target) > 0 && html`<button class="why" onClick=${onWhy} aria-pressed=${why} aria-keyshortcuts="w">Why?</button>`}
      </figure>
      <div class="answer">
        <p class="verdict" aria-live="polite">
          ${titled && html`<span class="small">${target.model} version ${target.version} says</span>`}
          <b>${answer?.classes?.[0]?.label ?? " "}</b>
        </p>
        ${answer?.problem ? html`<p class="problem" role="alert">${answer.problem}</p>`
          : answer?.classes && html`<${Bars} answer=${answer} />`}
        ${answer?.ms !== undefined && html`<p class="small time">${answer.ms.toFixed(0)} ms to the server and back</p>`}
      </div>
    </section>`;
}

function points({ occlusion, classes: [best] }) {
  const most = Math.max(...occlusion, 0);
  return best.score === undefined ? `${(100 * most).toPrecision(2)} points` : most.toPrecision(2);
}

function Bars({ answer }) {
  const { classes, kind } = answer;
  const isScore = classes[0].score !== undefined;
  const value = (each) => (isScore ? each.score : each.probability);
  const values = classes.map(value);
  // Scores are unbounded: bars range from the lower of 0 and the lowest shown score to the best.
  const low = isScore ? Math.min(0, ...values) : 0;
  const high = isScore ? Math.max(...values, low + 1e-9) : 1;
  const rows = classes.map((each) => ({ label: each.label, share: (value(each) - low) / (high - low), text: shown(each) }));
  const others = 1 - values.reduce((sum, each) => sum + each, 0);
  const exclusive = kind === "probabilities" || kind === "logits";
  if (exclusive && classes.length === 5 && others > 0.0005) rows.push({ label: "others", share: others, text: probability(others), rest: true });
  return html`
    <table class="bars">
      <caption class="unseen">Best classes by ${KINDS[kind] ?? "score"}</caption>
      <tbody>
        ${rows.map((row, i) => html`
          <tr key=${i} class=${row.rest ? "rest" : i ? "" : "best"}>
            <th scope="row">${row.label}</th>
            <td><div><span class="track"><span class="bar" style=${{ width: `${100 * row.share}%` }}></span></span><span class="number">${row.text}</span></div></td>
          </tr>`)}
      </tbody>
    </table>`;
}

function Seen({ seen, occlusion }) {
  const canvas = useRef();
  const map = useRef();
  useEffect(() => {
    if (seen) paint(canvas.current, seen);
    if (occlusion) paintMap(map.current, occlusion);
  }, [seen, occlusion]);
  return html`
    <div class="over">
      <canvas ref=${canvas} class=${seen ? "pixels" : "pixels empty"} width="28" height="28" role="img"
        aria-label=${seen ? `Picture of ${seen.height} × ${seen.width} pixels` : "No picture yet"}></canvas>
      ${occlusion && html`<canvas ref=${map} class="map" role="img" aria-label=${inWords(occlusion)}></canvas>`}
    </div>`;
}

// One pixel per cell, more opaque the more the best class falls; the browser smooths it to the picture's size.
function paintMap(canvas, drops) {
  const side = Math.sqrt(drops.length);
  const most = Math.max(...drops, 1e-6);
  canvas.width = canvas.height = side;
  const image = new ImageData(side, side);
  drops.forEach((drop, i) => image.data.set([230, 120, 0, 220 * Math.max(drop, 0) / most], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function inWords(drops) {
  const side = Math.sqrt(drops.length);
  const most = drops.indexOf(Math.max(...drops));
  return `Occlusion map of ${side} × ${side} cells: covering row ${Math.floor(most / side) + 1}, column ${(most % side) + 1} lowers the best class most`;
}

export function paint(canvas, { height, width, channels, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      image.data[4 * i + channel] = bytes[i * channels + (channels === 1 ? 0 : channel)];
    }
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
