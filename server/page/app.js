import { html, render, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";
import * as api from "./api.js";
import { FIRST, toPng } from "./drawing.js";
import { Header } from "./header.js";
import { Try } from "./try.js";

const TABS = ["Try", "Trust", "Watch", "Use"];
const TOP = 5;

function App() {
  const [versions, setVersions] = useState(null);
  const [problem, setProblem] = useState(null);
  const [tab, setTab] = useState(tabOf(location.hash));
  const [picked, setPicked] = useState({ main: "", other: "" });
  const [input, setInput] = useState({ strokes: FIRST });
  const [answers, setAnswers] = useState([]);

  const load = async () => {
    try {
      setVersions(await api.models());
      setProblem(null);
    } catch (error) {
      setProblem(error);
    }
  };
  useEffect(() => { load(); }, []);
  useEffect(() => {
    const follow = () => setTab(tabOf(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);

  const targets = useMemo(() => chosen(versions ?? [], picked), [versions, picked]);
  const offer = useRef(api.newest(async (job) => setAnswers(await classified(job)))).current;
  useEffect(() => { if (targets.length) offer({ targets, input }); }, [targets, input]);

  const act = useActions(setInput);
  useKeys({ ...act, tab: (i) => go(TABS[i]) });
  usePaste(act.file);

  return html`
    <${Header} tabs=${TABS} tab=${tab} onTab=${go} versions=${versions ?? []} targets=${targets} onPick=${setPicked} picked=${picked} />
    <main role="tabpanel" id="panel" aria-labelledby=${`tab-${tab}`}>
      ${problem ? html`<${Trouble} problem=${problem} onToken=${(token) => { api.setToken(token); load(); }} />`
        : !versions ? html`<p class="small">Loading …</p>`
        : !targets.length ? html`<p class="problem" role="alert">This server has no model ready. Put one into its model repository (docs/repository.md).</p>`
        : html`<${Try} targets=${targets} input=${input} answers=${answers} act=${act} />`}
    </main>`;
}

function Trouble({ problem, onToken }) {
  const field = useRef();
  const submit = (event) => {
    event.preventDefault();
    onToken(field.current.value);
  };
  return html`
    <p class="problem" role="alert">${problem.message}</p>
    ${problem.needsToken && html`
      <form class="token" onSubmit=${submit}>
        <label for="token">Token with the scopes infer and observe; this tab forgets it when it closes</label>
        <input id="token" ref=${field} type="password" autocomplete="off" spellcheck=${false} />
        <button>Use it</button>
      </form>`}`;
}

function useActions(setInput) {
  return useMemo(() => ({
    stroke: (points, begins) => setInput((input) => {
      const strokes = input.strokes ?? [];
      return { strokes: [...(begins ? strokes : strokes.slice(0, -1)), points] };
    }),
    undo: () => setInput((input) => ({ strokes: (input.strokes ?? []).slice(0, -1) })),
    clear: () => setInput({ strokes: [] }),
    file: (file) => setInput((input) => {
      if (input.url) URL.revokeObjectURL(input.url);
      return { file, name: file.name, url: URL.createObjectURL(file) };
    }),
  }), []);
}

function useKeys({ tab, undo, clear }) {
  useEffect(() => {
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
      if (event.key >= "1" && event.key <= String(TABS.length)) tab(Number(event.key) - 1);
      else if (event.key === "z") undo();
      else if (event.key === "c") clear();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

function usePaste(onFile) {
  useEffect(() => {
    const paste = (event) => {
      const [file] = event.clipboardData?.files ?? [];
      if (file) onFile(file);
    };
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
}

// Returns the versions that answer: the picked ones, or the one that suits a first visit best.
function chosen(versions, { main, other }) {
  const ready = versions.filter((each) => each.state === "STATE_READY").map((each) => ({ ...each, model: each.name, key: `${each.name}/${each.version}` }));
  const first = ready.find((each) => each.picture.includes("fit=mnist")) ?? ready.find((each) => each.takes_images) ?? ready[0];
  const targets = [ready.find((each) => each.key === main) ?? first, ready.find((each) => each.key === other)];
  return targets.filter(Boolean);
}

async function classified({ targets, input }) {
  if (!input.file && !input.strokes.length) return [];
  const picture = input.file ?? (await toPng(input.strokes));
  return Promise.all(targets.map((target) => api.classify(target, picture, TOP).catch((error) => ({ problem: error.message }))));
}

const tabOf = (hash) => TABS.find((tab) => `#${tab.toLowerCase()}` === hash) ?? TABS[0];
const go = (tab) => { location.hash = tab.toLowerCase(); };

render(html`<${App} />`, document.getElementById("app"));
