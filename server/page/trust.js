import { html } from "./vendor/preact.js";
import { count, day, percent, wilson } from "./text.js";

// What the version's card says, in words.
export function Trust({ target }) {
  const card = target.card_json ? JSON.parse(target.card_json) : null;
  if (!card) {
    return html`<article class="trust">
      <h2 class="headline">No evidence</h2>
      <p>This version has no card, so nothing is known of its origin and accuracy. <code>pixelserve export</code> writes one.</p>
      <${Running} target=${target} />
    </article>`;
  }
  const { evaluation, calibration } = card;
  return html`
    <article class="trust">
      <${Headline} card=${card} />
      ${evaluation?.per_class_recall && html`<${Recall} recall=${evaluation.per_class_recall} samples=${evaluation.samples} />`}
      ${calibration && html`
        <section><h2>Calibration</h2>
          <p>The expected calibration error is ${percent(calibration.expected_calibration_error, 2)} over ${calibration.bins} bins:
          on average, a stated probability differs by so much from how often it is right.</p></section>`}
      <${Running} target=${target} />
      <${Origin} card=${card} />
    </article>`;
}

function Headline({ card: { evaluation, dataset, created } }) {
  if (!evaluation) return html`<h2 class="headline">Not evaluated</h2><p>The card has no evaluation.</p>`;
  const { accuracy, ...others } = evaluation.metrics;
  const [low, high] = accuracy === undefined ? [] : wilson(accuracy, evaluation.samples);
  const on = html`${count(evaluation.samples)} samples of ${dataset?.name ?? "its data"} (${evaluation.split}), measured ${day(created)} with the exported file`;
  const rest = Object.entries(others).map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toPrecision(4)}`).join(", ");
  return accuracy === undefined
    ? html`<h2 class="headline">${rest}</h2><p>On ${on}.</p>`
    : html`
      <h2 class="headline">${percent(accuracy, 2)} accuracy</h2>
      <p>Between ${percent(low, 2)} and ${percent(high, 2)} (95 % Wilson interval), on ${on}${rest && `; ${rest}`}.</p>`;
}

function Recall({ recall, samples }) {
  const classes = Object.entries(recall);
  const size = Math.round(samples / classes.length);
  const rows = classes.map(([label, share]) => ({ label, share, interval: wilson(share, size) }));
  const least = Math.min(...rows.map(({ interval }) => interval[0]));
  const start = Math.floor(least * 20) / 20;
  const x = (share) => `${(100 * (share - start)) / (1 - start)}%`;
  const width = ([low, high]) => `${(100 * (high - low)) / (1 - start)}%`;
  return html`
    <section>
      <h2>Recall per class</h2>
      <p class="small">How many of a class's pictures are found. Lines: 95 % intervals, if the classes are of equal size (${count(size)} each).</p>
      <div class="wide"><table class="recall">
        <caption class="unseen">Recall per class with intervals</caption>
        <thead class="small"><tr><th scope="col">Class</th><th scope="col">Recall</th>
          <th scope="col"><div class="ends"><span>${percent(start, 0)}</span><span class="unseen">interval</span><span>100 %</span></div></th></tr></thead>
        <tbody>${rows.map(({ label, share, interval }) => html`
          <tr key=${label}>
            <th scope="row">${label}</th>
            <td class="figure">${percent(share)}</td>
            <td><div class="dots" aria-hidden="true"><i class="whisker" style=${{ left: x(interval[0]), width: width(interval) }}></i><i class="dot" style=${{ left: x(share) }}></i></div>
              <span class="unseen">${percent(interval[0])} to ${percent(interval[1])}</span></td>
          </tr>`)}
        </tbody>
      </table></div>
    </section>`;
}

function Running({ target }) {
  return html`
    <section><h2>On this server</h2>
      <dl>
        <dt>Evidence</dt><dd class=${target.verified ? "" : "problem"}>${target.evidence}</dd>
        <dt>Computes on</dt><dd>${target.provider}</dd>
        ${target.output_kind && html`<dt>Output</dt><dd>${target.output_kind} (${target.output_kind_reason})</dd>`}
        ${target.picture && html`<dt>Pictures</dt><dd><code>${target.picture}</code></dd>`}
        ${target.unmerged && html`<dt>Batches</dt><dd>${target.unmerged}</dd>`}
      </dl>
    </section>`;
}

function Origin({ card }) {
  const rows = [
    ["Recipe", card.recipe && `${card.recipe}${card.seed === undefined ? "" : `, seed ${card.seed}`}`],
    ["Parameters", card.parameters && count(card.parameters)],
    ["Data", card.dataset && `${card.dataset.name}${card.dataset.note ? ` (${card.dataset.note})` : ""}`],
    ["Data's SHA-256", card.dataset && html`<code>${card.dataset.sha256}</code>`],
    ["File's SHA-256", html`<code>${card.sha256}</code>`],
    ["Compared with", card.reference && `${card.reference.framework} ${card.reference.version}`],
    ["Largest difference", (card.parity ?? []).filter((each) => each.samples).map((each) => `${each.max_abs_error.toPrecision(2)} on ${each.provider.replace("ExecutionProvider", "")}, ${each.precision}, ${count(each.samples)} samples`).join("; ")],
    ["Made with", Object.entries(card.versions ?? {}).map(([name, version]) => `${name} ${version}`).join(", ")],
  ].filter(([, value]) => value);
  return html`<section><h2>Origin</h2><dl>${rows.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl></section>`;
}
