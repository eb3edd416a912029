import { html, useEffect, useState } from "./vendor/preact.js";
import { Pad } from "./pad.js";
import { Reading } from "./reading.js";
import { Strip } from "./samples.js";

export function Try({ targets, input, answers, samples, act, why, onWhy }) {
  const [camera, setCamera] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => () => stop(camera), [camera]);
  useEffect(() => camera && film(act.file), [camera]);

  const start = async () => {
    setProblem("");
    try {
      setCamera(await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }));
    } catch (error) {
      setProblem(refusal(error));
    }
  };
  const choose = (event) => {
    const [file] = event.currentTarget.files;
    if (file) act.file(file);
    event.currentTarget.value = "";
  };
  return html`
    <div class="try">
      <section class="input" aria-label="Picture">
        <${Pad} input=${input} camera=${camera} onStroke=${act.stroke} onFile=${act.file} />
        <div class="tools">
          ${camera
            ? html`<button onClick=${() => setCamera(null)}>Keep this picture</button>`
            : html`
              <button class="camera" onClick=${start}>Camera</button>
              <label class="button">Choose a picture<input type="file" accept="image/*" class="unseen" onChange=${choose} /></label>
              <button onClick=${act.undo} disabled=${!input.strokes?.length} aria-keyshortcuts="z">Undo</button>
              <button onClick=${act.clear} aria-keyshortcuts="c">Clear</button>`}
        </div>
        ${problem && html`<p class="problem" role="alert">${problem}</p>`}
        <${Strip} files=${samples} current=${input.file} onFile=${act.file} />
      </section>
      <div class="readings">
        ${targets.length > 1 && html`<${Agreement} answers=${answers} />`}
        ${targets.map((target, i) => html`<${Reading} key=${i} target=${target} answer=${answers[i]} titled=${targets.length > 1} why=${why} onWhy=${i ? null : onWhy} />`)}
      </div>
    </div>`;
}

function Agreement({ answers }) {
  const labels = answers.map((answer) => answer?.classes?.[0]?.label);
  if (labels.length < 2 || labels.includes(undefined)) return null;
  const agree = labels[0] === labels[1];
  return html`<p class=${agree ? "agreement" : "agreement differ"} role="status">${agree ? "They agree." : `They differ: ${labels[0]} and ${labels[1]}.`}</p>`;
}

function refusal(error) {
  if (!window.isSecureContext) return "Browsers allow the camera only on https pages and localhost. Choose a picture instead.";
  if (error.name === "NotAllowedError") return "Camera access was denied. Allow it in the browser's site settings, or choose a picture.";
  if (error.name === "NotFoundError") return "This device has no camera. Choose a picture instead.";
  return `The camera cannot be used: ${error.message}`;
}

const stop = (stream) => stream?.getTracks().forEach((track) => track.stop());

// Offers a frame five times per second; frames beyond what the server can answer are dropped.
function film(onFile) {
  const canvas = document.createElement("canvas");
  const timer = setInterval(() => {
    const video = document.getElementById("camera");
    if (!video?.videoWidth) return;
    const side = Math.min(video.videoWidth, video.videoHeight);
    canvas.width = canvas.height = Math.min(side, 640);
    canvas.getContext("2d").drawImage(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => blob && onFile(new File([blob], "camera.jpg", { type: blob.type })), "image/jpeg", 0.9);
  }, 200);
  return () => clearInterval(timer);
}
