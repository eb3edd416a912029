import { html, useEffect, useState } from "./vendor/preact.js";
import * as api from "./api.js";
import { toPng } from "./drawing.js";
import { example as zeros } from "./text.js";

const SHOWN = 4000;

// Every method of the HTTP API from its OpenAPI description, with a form and the answer.
export function Methods({ target, input }) {
  const [operations, setOperations] = useState([]);
  const [problem, setProblem] = useState("");
  useEffect(() => { api.description().then((found) => setOperations(listed(found)), (error) => setProblem(error.message)); }, []);
  return html`
    <section>
      <h2>Every HTTP method</h2>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${operations.map((each) => html`<${Method} key=${each.method + each.path} operation=${each} target=${target} input=${input} />`)}
    </section>`;
}

function listed({ paths, components }) {
  const resolved = (each) => (each.$ref ? components.parameters[each.$ref.split("/").pop()] : each);
  return Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) =>
    ({ ...operation, path, method, parameters: (operation.parameters ?? []).map(resolved) })));
}

function Method({ operation, target, input }) {
  const { path, method, summary, description, parameters, requestBody } = operation;
  const contents = requestBody?.content ?? {};
  const takesPicture = "image/png" in contents;
  // The description's example may be for another model.
  const example = path.endsWith("/infer") ? { inputs: target.inputs.map(zeros) } : contents["application/json"]?.example;
  const [values, setValues] = useState({});
  const [body, setBody] = useState(example === undefined ? "" : JSON.stringify(example));
  const [answer, setAnswer] = useState(null);
  const usual = { model: target.model, version: target.version };
  // Headers are only for binary bodies, which the form cannot send.
  const fields = parameters.filter((each) => each.in !== "header");
  const value = ({ name }) => values[name] ?? usual[name] ?? "";

  const send = async (event) => {
    event.preventDefault();
    const content = takesPicture ? input.file ?? (await toPng(input.strokes)) : body;
    const kind = takesPicture ? content.type || "image/png" : "application/json";
    setAnswer(await api.send(method.toUpperCase(), filled(path, fields, value), requestBody && content, kind));
  };
  return html`
    <details>
      <summary><b>${method.toUpperCase()}</b> <code>${path}</code> <span class="small">${summary}</span></summary>
      <form onSubmit=${send}>
        <p class="small">${description}</p>
        ${fields.map((each) => html`
          <label key=${each.name}>${each.name} <input value=${value(each)} spellcheck=${false}
            onInput=${(event) => setValues({ ...values, [each.name]: event.currentTarget.value })} /></label>`)}
        ${takesPicture ? html`<p class="small">The body is the picture of the Try view.</p>` : requestBody && html`
          <label>Body <textarea rows="3" spellcheck=${false} value=${body} onInput=${(event) => setBody(event.currentTarget.value)}></textarea></label>`}
        <button>Send</button>
        <div role="status">${answer && html`<p class="small">${answer.text === undefined ? "" : `${answer.status} after ${answer.ms.toFixed(0)} ms`}</p>
          ${answer.problem && html`<p class="problem">${answer.problem}</p>`}
          ${answer.text && html`<pre tabindex="0"><code>${answer.text.slice(0, SHOWN)}${answer.text.length > SHOWN ? " …" : ""}</code></pre>`}`}</div>
      </form>
    </details>`;
}

function filled(path, fields, value) {
  const query = new URLSearchParams();
  for (const each of fields) {
    if (each.in === "path") path = path.replace(`{${each.name}}`, encodeURIComponent(value(each)));
    else if (value(each)) query.set(each.name, value(each));
  }
  return query.size ? `${path}?${query}` : path;
}
