import { html, render, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";
import { useActions, useKeys, usePaste } from "./actions.js";
import * as api from "./api.js";
import { FIRST, toPng } from "./drawing.js";
import { follow, keyOf } from "./figures.js";
import { Header } from "./header.js";
import { useSamples } from "./samples.js";
import { Try } from "./try.js";

const TABS = ["Try", "Trust", "Watch", "Use"];
const TOP = 5;
const USUAL_GRPC_PORT = 8001;

function App() {
  const [versions, setVersions] = useState(null);
  const [problem, setProblem] = useState(null);
  const [watched, setWatched] = useState({ figures: null, problem: null });
  const [tab, setTab] = useState(tabOf(location.hash));
  const [picked, setPicked] = useState({ main: "", other: "" });
  const [input, setInput] = useState({ strokes: FIRST });
  const [answers, setAnswers] = useState([]);
  const [why, setWhy] = useState(false);
  const act = useActions(setInput);
  const targets = useMemo(() => chosen(versions ?? [], picked), [versions, picked]);
  const samples = useSamples(targets[0]);
  const views = useViews();

  const load = () => api.models().then((found) => { setVersions(found); setProblem(null); }, setProblem);
  useEffect(() => { load(); }, []);
  useEffect(() => versions && follow(
    (figures) => setWatched({ figures, problem: null }),
    (error) => setWatched({ figures: null, problem: error }),
  ), [Boolean(versions)]);
  // A model was loaded or unloaded since the list was fetched.
  const served = watched.figures?.versions.map(keyOf).sort().join();
  useEffect(() => { if (served !== undefined && served !== readyOf(versions).map((each) => each.key).sort().join()) load(); }, [served]);
  useHash(setTab);

  const offer = useRef(api.newest(async (job) => setAnswers(await classified(job)))).current;
  useEffect(() => { offer({ targets, input, why }); }, [targets, input, why]);
  // Digit models start with a drawing, others with one of their samples.
  useEffect(() => {
    if (samples?.length && !input.touched && !isOfDigits(targets[0])) act.file(samples[0]);
  }, [samples]);

  const nextSample = () => samples?.length && act.file(samples[(samples.indexOf(input.file) + 1) % samples.length]);
  const askWhy = () => setWhy((before) => !before);
  useKeys({ s: nextSample, w: askWhy, z: act.undo, c: act.clear, ...Object.fromEntries(TABS.map((name, i) => [i + 1, () => go(name)])) });
  usePaste(act.file);

  const view = () => {
    if (problem) return html`<${Trouble} problem=${problem} onToken=${(token) => { api.setToken(token); load(); }} />`;
    const [target] = targets;
    if (tab === "Try" && target?.takes_images) return html`<${Try} targets=${targets} input=${input} answers=${answers} samples=${samples} act=${act} why=${why} onWhy=${askWhy} />`;
    if (views?.problem) return html`<p class="problem" role="alert">${views.problem}</p>`;
    if (!versions || !views) return html`<p class="small">Loading …</p>`;
    const { Tensors, Trust, Use, Watch } = views;
    if (tab === "Watch" && versions.length) return html`<${Watch} key=${target?.key} target=${target ?? { model: "", version: "" }} versions=${versions} ...${watched} />`;
    if (!target) return html`<p class="problem" role="alert">No model is ready. Add one to the model repository; see docs/repository.md.</p>`;
    if (tab === "Trust") return html`<${Trust} target=${target} />`;
    if (tab === "Use") return html`<${Use} target=${target} input=${input} grpcPort=${watched.figures?.grpc_port ?? USUAL_GRPC_PORT} />`;
    return html`<${Tensors} target=${target} />`;
  };
  return html`
    <${Header} tabs=${TABS} tab=${tab} onTab=${go} versions=${versions ?? []} targets=${targets} picked=${picked} onPick=${setPicked}
      status=${statusOf(watched, targets[0])} />
    <main><div role="tabpanel" id="panel" aria-labelledby=${`tab-${tab}`}>${view()}</div></main>`;
}

function Trouble({ problem, onToken }) {
  const field = useRef();
  const submit = (event) => {
    event.preventDefault();
    onToken(field.current.value);
  };
  return html`
    <p class="problem" role="alert">${api.sentence(problem.message)}</p>
    ${problem.needsToken ? html`
      <form class="token" onSubmit=${submit}>
        <label for="token">Token with the scopes infer and observe</label>
        <input id="token" ref=${field} type="password" autocomplete="off" spellcheck=${false} />
        <p class="small">Kept in this tab's memory until the tab closes.</p>
        <button>Use it</button>
      </form>` : html`<p><button onClick=${() => onToken("")}>Try again</button></p>`}`;
}

function useViews() {
  const [views, setViews] = useState(null);
  useEffect(() => {
    import("./views.js").then(setViews, () => setViews({ problem: "The server did not answer. Reload the page once it is running." }));
  }, []);
  return views;
}

function useHash(onTab) {
  useEffect(() => {
    const change = () => onTab(tabOf(location.hash));
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
}

// Returns the selected versions, or the best default.
function chosen(versions, { main, other }) {
  const ready = readyOf(versions);
  const first = ready.find(isOfDigits) ?? ready.find((each) => each.takes_images) ?? ready[0];
  const target = ready.find((each) => each.key === main) ?? first;
  const second = ready.find((each) => each.key === other && each.takes_images && each.key !== target?.key);
  return [target, second].filter(Boolean);
}

function readyOf(versions) {
  return versions.filter((each) => each.state === "STATE_READY").map((each) => ({ ...each, model: each.name, key: `${each.name}/${each.version}` }));
}

const isOfDigits = (target) => target.picture.includes("fit=mnist");

async function classified({ targets, input, why }) {
  if (!targets[0]?.takes_images || !(input.file || input.strokes.length)) return [];
  const picture = input.file ?? (await toPng(input.strokes));
  return Promise.all(targets.map((target) => api.classify(target, picture, TOP, why).catch((error) => ({ problem: error.message }))));
}

function statusOf({ figures, problem }, target) {
  if (problem) return { isReady: false, text: problem.status ? "" : "no answer" };
  if (!figures) return null;
  const newest = target && figures.histories.get(keyOf(target))?.at(-1);
  return { isReady: figures.ready, text: figures.ready ? "ready" : "not ready", rate: newest?.answered, p99: newest?.p99 };
}

const tabOf = (hash) => TABS.find((tab) => `#${tab.toLowerCase()}` === hash) ?? TABS[0];
const go = (tab) => { location.hash = tab.toLowerCase(); };

render(html`<${App} />`, document.getElementById("app"));
