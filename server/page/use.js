import { toPng } from "./drawing.js";
import { Methods } from "./methods.js";
import { example } from "./text.js";
import { html, useState } from "./vendor/preact.js";

// The Try view's call for other clients, with this server's addresses and the selected model.
export function Use({ target, input, grpcPort }) {
  const file = input.name ?? "picture.png";
  const calls = target.takes_images ? forPictures(target, file, grpcPort) : forTensors(target, grpcPort);
  return html`
    <div class="use">
      <p>${target.takes_images
        ? html`The last picture${input.name ? "" : ", saved as picture.png,"} for ${target.model} version ${target.version}.`
        : html`${target.model} version ${target.version} takes tensors.`}
        ${" "}All methods: <a href="/docs">/docs</a>.</p>
      ${calls.map(([title, code]) => html`<${Code} key=${title} title=${title} code=${code} />`)}
      ${target.takes_images && !input.name && html`<${Save} input=${input} />`}
      <${Methods} target=${target} input=${input} />
    </div>`;
}

function Save({ input }) {
  const save = async () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await toPng(input.strokes));
    link.download = "picture.png";
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return html`<p><button onClick=${save}>Save the drawing as picture.png</button></p>`;
}

function Code({ title, code }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code);
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      // Without https there is no clipboard access; the text can be selected.
    }
  };
  return html`
    <section>
      <div class="head"><h2>${title}</h2>${navigator.clipboard && html`<button class="quiet" onClick=${copy} aria-label=${`Copy ${title}`}>${copied ? "Copied" : "Copy"}</button>`}</div>
      <pre tabindex="0"><code>${code}</code></pre>
    </section>`;
}

const isTls = () => location.protocol === "https:";
const address = (port) => `${location.hostname}:${port}`;
const httpAddress = () => location.host;
const shell = (text) => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const text = (value) => JSON.stringify(value);

function forPictures({ model, version, inputs, outputs }, file, port) {
  const path = `/v1/models/${encodeURIComponent(model)}/versions/${version}:classify`;
  const [input] = inputs;
  const shape = text(input.shape.map((side) => (side < 0 ? 1 : side)));
  const tls = isTls() ? ", tls=Tls()" : "";
  return [
    ["curl", `curl -F image=@${shell(file)} -F top_k=5 ${shell(`${location.origin}${path}`)}`],
    ["Python", [
      `from pixelserve.client import Client${tls && ", Tls"}`, "",
      `with Client(${text(address(port))}${tls}) as client:`,
      `    prediction = client.classify(${text(file)}, model=${text(model)}, version=${text(version)}, top_k=5)`,
      "    for each in prediction.classes:",
      `        print(each.label, ${outputs[0]?.labels.length ? "each.probability" : "each.index"})`,
    ].join("\n")],
    ["grpcurl", [
      `base64 -w0 ${shell(file)} | sed 's/.*/{"model": ${text(model)}, "version": "${version}", "top_k": 5, "images": [{"encoded": "&"}]}/' |`,
      `  grpcurl ${isTls() ? "" : "-plaintext "}-d @ ${address(port)} pixelserve.v1.Classifier/Classify`,
    ].join("\n")],
    ["tritonclient", tritonclient(model, version, input, outputs, `np.zeros(${shape}, np.${numpy(input.datatype)})  # your pixels`)],
  ];
}

function forTensors({ model, version, inputs, outputs }, port) {
  const request = { inputs: inputs.map(example) };
  return [
    ["curl", `curl -H 'Content-Type: application/json' -d ${shell(text(request))} \\\n  ${shell(`${location.origin}/v2/models/${encodeURIComponent(model)}/versions/${version}/infer`)}`],
    ["tritonclient", tritonclient(model, version, inputs[0], outputs, `np.zeros(${text(example(inputs[0]).shape)}, np.${numpy(inputs[0].datatype)})`)],
    ["grpcurl", `grpcurl ${isTls() ? "" : "-plaintext "}-d ${shell(text({ name: model, version }))} ${address(port)} inference.GRPCInferenceService/ModelMetadata`],
  ];
}

function tritonclient(model, version, input, outputs, array) {
  return [
    "import numpy as np",
    "from tritonclient import http", "",
    `client = http.InferenceServerClient(${text(httpAddress())}${isTls() ? ", ssl=True" : ""})`,
    `values = ${array}`,
    `tensor = http.InferInput(${text(input.name)}, list(values.shape), ${text(input.datatype)})`,
    "tensor.set_data_from_numpy(values)",
    `answer = client.infer(${text(model)}, [tensor], model_version=${text(version)})`,
    `print(answer.as_numpy(${text(outputs[0].name)}))`,
  ].join("\n");
}

function numpy(datatype) {
  if (datatype === "BYTES") return "object_";
  if (datatype === "BOOL") return "bool_";
  return datatype.toLowerCase().replace(/^fp/, "float");
}
