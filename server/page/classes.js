import { html } from "./vendor/preact.js";
import { count, percent, wilson } from "./text.js";

const MOST_ROWS = 30;
const LEAST_FOUND = 20;
// Longer labels make all column headings vertical.
const SHORT = 3;
// Thresholds of a class's share mistaken for another; each has a colour.
const HEATS = [0, 0.005, 0.01, 0.02, 0.05, 0.1];

// Recall per class. Cards of older exports have no counts, so no intervals.
export function Recall({ per_class_recall: recall = {}, per_class_samples: samples = {} }) {
  const classes = Object.entries(recall).map(([label, share]) => {
    const all = samples[label];
    return { label, share, all, interval: all ? wilson(share, all) : [share, share] };
  });
  if (!classes.length) return null;
  const isLong = classes.length > MOST_ROWS;
  const rows = isLong ? classes.sort((a, b) => a.share - b.share).slice(0, LEAST_FOUND) : classes;
  const start = Math.floor(Math.min(...rows.map(({ interval }) => interval[0])) * 20) / 20;
  const x = (share) => `${(100 * (share - start)) / (1 - start || 1)}%`;
  const hasCounts = rows.every(({ all }) => all);
  return html`
    <section>
      <h2>Recall per class</h2>
      <p class="small">How many of a class's samples are found${hasCounts && "; lines are 95 % intervals"}.${isLong && ` The ${LEAST_FOUND} lowest of ${classes.length} classes.`}</p>
      <div class="wide"><table class="recall">
        <caption class="unseen">Recall per class${hasCounts && " with samples and 95 % intervals"}</caption>
        <thead class="small"><tr><th scope="col">Class</th><th scope="col">Recall</th>${hasCounts && html`<th scope="col" class="of">of</th>`}
          <th scope="col"><div class="ends"><span>${percent(start, 0)}</span><span class="unseen">interval</span><span>100 %</span></div></th></tr></thead>
        <tbody>${rows.map(({ label, share, all, interval: [low, high] }) => html`
          <tr key=${label}>
            <th scope="row">${label}</th>
            <td class="figure">${percent(share)}</td>
            ${hasCounts && html`<td class="figure small of">${count(all)}</td>`}
            <td><div class="dots" aria-hidden="true"><i class="whisker" style=${{ left: x(low), width: `calc(${x(high)} - ${x(low)})` }}></i><i class="dot" style=${{ left: x(share) }}></i></div>
              ${hasCounts && html`<span class="unseen">${percent(low)} to ${percent(high)}</span>`}</td>
          </tr>`)}
        </tbody>
      </table></div>
    </section>`;
}

// The confusion matrix. Colours show mistakes as shares of the true class.
export function Confusion({ labels, counts }) {
  const totals = counts.map((row) => row.reduce((sum, each) => sum + each, 0));
  const isShort = labels.every((label) => label.length <= SHORT);
  const heat = (row, column) => {
    if (row === column) return "right";
    const share = counts[row][column] / totals[row];
    return `heat-${HEATS.filter((least) => share > least).length}`;
  };
  return html`
    <section>
      <h2>Confusion</h2>
      <p class="small">Samples by what they are (rows) and what was predicted (columns). ${mostOften({ labels, counts, totals })}</p>
      <div class="wide" tabindex="0" role="group" aria-label="Confusion matrix"><table class="confusion">
        <caption class="unseen">Confusion matrix: a row per true class, a column per predicted class</caption>
        <thead><tr><td></td>${labels.map((label) => html`<th scope="col" key=${label}><span class=${isShort ? "" : "upright"}>${label}</span></th>`)}</tr></thead>
        <tbody>${labels.map((label, row) => html`
          <tr key=${label}><th scope="row">${label}</th>${labels.map((other, column) => html`<td key=${other} class=${heat(row, column)}>${count(counts[row][column])}</td>`)}</tr>`)}
        </tbody>
      </table></div>
    </section>`;
}

function mostOften({ labels, counts, totals }) {
  const mistakes = counts.flatMap((row, i) => row.map((all, j) => ({ all: i === j ? 0 : all, i, j }))).filter(({ all }) => all);
  if (!mistakes.length) return "No sample was mistaken.";
  const worst = mistakes.sort((a, b) => b.all - a.all).slice(0, 3);
  return `Most often mistaken: ${worst.map(({ all, i, j }) => `${labels[i]} for ${labels[j]} (${count(all)} of ${count(totals[i])})`).join(", ")}.`;
}
