import { html } from "./vendor/preact.js";
import { Calibration, SurestErrors } from "./certainty.js";
import { Confusion, Recall } from "./classes.js";
import { count, day, percent, wilson } from "./text.js";

// The version's card in words.
export function Trust({ target }) {
  const card = target.card_json ? JSON.parse(target.card_json) : null;
  if (!card) {
    return html`<article class="trust">
      <h2 class="headline">No evidence</h2>
      <p>This version has no card, so its origin and accuracy are unknown. <code>pixelserve export</code> writes a card.</p>
      <${Running} target=${target} />
    </article>`;
  }
  const { evaluation, calibration } = card;
  return html`
    <article class="trust">
      <${Headline} card=${card} />
      ${evaluation && html`<${Recall} ...${evaluation} />`}
      ${evaluation?.confusion && html`<${Confusion} ...${evaluation.confusion} />`}
      ${calibration && html`<${Calibration} ...${calibration} />`}
      ${evaluation && html`<${SurestErrors} ...${evaluation} />`}
      <${Running} target=${target} />
      <${Origin} card=${card} />
    </article>`;
}

function Headline({ card: { evaluation, dataset, created } }) {
  if (!evaluation) return html`<h2 class="headline">Not evaluated</h2><p>The card has no evaluation.</p>`;
  const { accuracy, ...others } = evaluation.metrics;
  const [low, high] = accuracy === undefined ? [] : wilson(accuracy, evaluation.samples);
  const on = html`${count(evaluation.samples)} samples of ${dataset?.name ?? "its data"} (${evaluation.split}), ${measuredBy(evaluation, created)}`;
  const rest = Object.entries(others).map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toPrecision(4)}`).join(", ");
  return accuracy === undefined
    ? html`<h2 class="headline">${rest}</h2><p>On ${on}.</p>`
    : html`
      <h2 class="headline">${percent(accuracy, 2)} accuracy</h2>
      <p>Between ${percent(low, 2)} and ${percent(high, 2)} (95 % Wilson interval), on ${on}${rest && `; ${rest}`}.</p>`;
}

// A network that learned every sample has the figures of the run that chose its settings.
function measuredBy({ split, choice_run: choice }, created) {
  const learned = "with the same settings, without these samples, which this model learned too";
  if (choice) return `measured by the run ${choice.run} (seed ${choice.seed}), ${learned}`;
  if (split === "cross-validation") return `each predicted by a model trained ${learned}`;
  return `measured ${day(created)} with the exported file`;
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
