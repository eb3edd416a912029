import { html, useRef, useState, useEffect } from "./vendor/preact.js";
import { curve, SIDE, STROKE } from "./drawing.js";

// Where a picture comes from: drawn here, dropped here, or shown by the camera.
export function Pad({ input, camera, onStroke, onFile }) {
  const [over, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    const [file] = event.dataTransfer.files;
    if (file) onFile(file);
  };
  return html`
    <div class=${`pad ${over ? "over" : ""}`}
      onDragOver=${(event) => { event.preventDefault(); setOver(true); }}
      onDragLeave=${() => setOver(false)} onDrop=${drop}>
      ${camera ? html`<${Video} stream=${camera} />` : html`<${Surface} input=${input} onStroke=${onStroke} />`}
    </div>`;
}

function Surface({ input, onStroke }) {
  const points = useRef(null);
  const at = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const scale = SIDE / box.width;
    return [round((event.clientX - box.left) * scale), round((event.clientY - box.top) * scale)];
  };
  const begin = (event) => {
    if (event.button) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    points.current = [at(event)];
    onStroke(points.current, true);
  };
  const go = (event) => {
    if (!points.current) return;
    // The browser gathers what a fast pen reports between two frames.
    const steps = event.getCoalescedEvents?.() ?? [];
    for (const step of steps.length ? steps : [event]) points.current.push(at({ ...place(step), currentTarget: event.currentTarget }));
    onStroke([...points.current], false);
  };
  const end = () => { points.current = null; };
  const isEmpty = !input.file && !input.strokes.length;
  return html`
    ${input.file && html`<img class="shown" src=${input.url} alt="The picture" onLoad=${(event) => event.currentTarget.classList.toggle("coarse", event.currentTarget.naturalWidth < 160)} onError=${(event) => event.currentTarget.classList.add("broken")} />`}
    <svg viewBox="0 0 ${SIDE} ${SIDE}" role="img" aria-label="Drawing pad" class="surface"
      onPointerDown=${begin} onPointerMove=${go} onPointerUp=${end} onPointerCancel=${end}>
      ${!input.file && input.strokes.map((stroke, i) => html`
        <path key=${i} d=${curve(stroke)} fill="none" stroke-width=${STROKE} stroke-linecap="round" stroke-linejoin="round" />`)}
    </svg>
    ${isEmpty && html`<p class="hint">Draw here, or drop or paste a picture</p>`}`;
}

function Video({ stream }) {
  const video = useRef();
  useEffect(() => {
    video.current.srcObject = stream;
    video.current.play().catch(() => {});
  }, [stream]);
  return html`<video ref=${video} class="shown" muted playsinline id="camera"></video>`;
}

const place = ({ clientX, clientY }) => ({ clientX, clientY });
const round = (value) => Math.round(value * 10) / 10;
