import { html } from "./vendor/preact.js";
import { count, percent, wilson } from "./text.js";

// Bins with fewer samples are not significant.
const LEAST_SAMPLES = 30;
const SIDE = 240;

// The calibration of stated probabilities.
export function Calibration({ expected_calibration_error: error, bins, reliability = [] }) {
  const rows = reliability.map((each, i) => ({ ...each, from: i / bins, to: (i + 1) / bins })).filter(({ samples }) => samples);
  const drawn = rows.filter(({ samples }) => samples >= LEAST_SAMPLES);
  return html`
    <section>
      <h2>Calibration</h2>
      <p class="small">On average, a stated probability differs by ${percent(error, 2)} from how often it is right (expected calibration error, ${bins} bins).${rows.length > 0 && ` Bins of at least ${LEAST_SAMPLES} samples are drawn, with 95 % intervals.`}</p>
      ${rows.length > 0 && html`
        <div class="reliability">
          <${Diagram} bins=${drawn} />
          <table>
            <caption class="unseen">How often predictions are right, by their probability</caption>
            <thead class="small"><tr><th scope="col">It says</th><th scope="col">Right</th><th scope="col">of</th></tr></thead>
            <tbody>${rows.map(({ from, to, samples, accuracy }) => html`
              <tr key=${from}>
                <th scope="row">${percent(from, 0)} to ${percent(to, 0)}</th>
                <td>${samples < LEAST_SAMPLES ? html`<span class="small">too few</span>` : percent(accuracy)}</td>
                <td class="small">${count(samples)}</td>
              </tr>`)}
            </tbody>
          </table>
        </div>`}
    </section>`;
}

// Screen readers skip the drawing; the table next to it has the same data.
function Diagram({ bins }) {
  const x = (share) => SIDE * share;
  const y = (share) => SIDE * (1 - share);
  return html`
    <svg viewBox="-52 -12 312 300" class="diagram" aria-hidden="true">
      ${[0, 0.5, 1].map((share) => html`
        <path class="grid" d="M0 ${y(share)}H${SIDE}M${x(share)} 0V${SIDE}" />
        <text x="-8" y=${y(share) + 4} text-anchor="end">${100 * share} %</text>
        <text x=${x(share)} y=${SIDE + 20} text-anchor="middle">${100 * share} %</text>`)}
      <path class="ideal" d="M0 ${SIDE}L${SIDE} 0" />
      <text x=${SIDE / 2} y=${SIDE + 40} text-anchor="middle">stated probability</text>
      <text transform="translate(12 12)" dominant-baseline="middle">right</text>
      ${bins.map(({ confidence, accuracy, samples }) => {
        const [low, high] = wilson(accuracy, samples);
        return html`<path class="whisker" d="M${x(confidence)} ${y(low)}V${y(high)}" /><circle cx=${x(confidence)} cy=${y(accuracy)} r="4" />`;
      })}
    </svg>`;
}

// The most confident errors.
export function SurestErrors({ surest_errors: errors = [], metrics: { accuracy }, samples, split }) {
  if (!errors.length) return null;
  const all = Math.round((1 - accuracy) * samples);
  return html`
    <section>
      <h2>Surest errors</h2>
      <p class="small">The wrong predictions of the highest ${errors[0].probability === undefined ? "score" : "probability"} (${errors.length} of ${count(all)}); samples are numbered from 0 in the split ${split}.</p>
      <ol class="errors">
        ${errors.map(({ sample, label, predicted, probability: share, picture }) => html`
          <li key=${sample}>
            ${picture && html`<img src=${address(picture)} alt=${`Sample ${sample}`} />`}
            <p><b>${label}</b> taken for <b>${predicted}</b></p>
            <p class="small">${share !== undefined && `${percent(share, 2)}, `}sample ${sample}</p>
          </li>`)}
      </ol>
    </section>`;
}

// The card does not state a picture's format; JPEG files start with these bytes.
const address = (picture) => `data:image/${picture.startsWith("/9j/") ? "jpeg" : "png"};base64,${picture}`;
