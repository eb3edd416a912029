import { html, useEffect, useRef } from "./vendor/preact.js";
import { declaration, KINDS, probability, shown } from "./text.js";

// One model's answer: what it saw, and its best classes.
export function Reading({ target, answer, titled }) {
  return html`
    <section class="reading" aria-label=${`Answer of ${target.model} version ${target.version}`}>
      <figure class="seen">
        <figcaption>What the model saw</figcaption>
        <${Seen} seen=${answer?.seen} />
        <p class="small">${target.takes_images ? declaration(target.picture) : ""}</p>
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

function Bars({ answer }) {
  const { classes, kind } = answer;
  const isScore = classes[0].score !== undefined;
  const value = (each) => (isScore ? each.score : each.probability);
  const values = classes.map(value);
  // Scores have no natural end: the bars show them between 0 or the least shown, and the best.
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

function Seen({ seen }) {
  const canvas = useRef();
  useEffect(() => {
    if (seen) paint(canvas.current, seen);
  }, [seen]);
  return html`<canvas ref=${canvas} class=${seen ? "pixels" : "pixels empty"} width="28" height="28" role="img"
    aria-label=${seen ? `Picture of ${seen.height} × ${seen.width} pixels` : "No picture yet"}></canvas>`;
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
