import { html, useEffect, useState } from "./vendor/preact.js";
import * as api from "./api.js";
import { example } from "./text.js";

const MOST = 4096;

// For models without picture input: tensors as JSON, and the answer.
export function Tensors({ target }) {
  const [request, setRequest] = useState("");
  const [answer, setAnswer] = useState(null);
  const size = target.inputs.reduce((sum, each) => sum + each.shape.reduce((product, side) => product * Math.max(side, 1), 1), 0);
  useEffect(() => {
    setAnswer(null);
    setRequest(size > MOST ? "" : JSON.stringify({ inputs: target.inputs.map(example) }, null, 1).replace(/\[[^[\]{}]*\]/g, (list) => list.replace(/\s+/g, " ")));
  }, [target.key]);
  const send = async (event) => {
    event.preventDefault();
    try {
      JSON.parse(request);
    } catch (error) {
      setAnswer({ problem: `This is not JSON: ${error.message}` });
      return;
    }
    setAnswer(await api.infer(target, request).catch((error) => ({ problem: error.message })));
  };
  return html`
    <form class="tensors" onSubmit=${send}>
      <p>${target.model} does not accept pictures. Its inputs are ${target.inputs.map(({ name, datatype, shape }) => `${name} (${datatype} ${shape.join(" × ").replaceAll("-1", "any")})`).join(", ")}.</p>
      <label for="request">Request, as JSON</label>
      <textarea id="request" rows="10" spellcheck=${false} value=${request} onInput=${(event) => setRequest(event.currentTarget.value)}></textarea>
      <button>Send</button>
      ${answer?.problem && html`<p class="problem" role="alert">${answer.problem}</p>`}
      ${answer?.outputs && html`
        <h2>Answer</h2>
        ${answer.outputs.map(({ name, datatype, shape, data }) => html`
          <p class="small" key=${name}>${name}, ${datatype} ${shape.join(" × ")}</p>
          <pre tabindex="0"><code>${data.slice(0, 200).join(", ")}${data.length > 200 ? ", …" : ""}</code></pre>`)}`}
    </form>`;
}
