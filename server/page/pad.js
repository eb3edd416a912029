import { html, useRef, useState, useEffect } from "./vendor/preact.js";
import { curve, SIDE, STROKE } from "./drawing.js";

// The picture's source: drawn, dropped, or from the camera.
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
  const at = (surface, { clientX, clientY }) => {
    const box = surface.getBoundingClientRect();
    const scale = SIDE / box.width;
    return [round((clientX - box.left) * scale), round((clientY - box.top) * scale)];
  };
  const begin = (event) => {
    if (event.button) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    points.current = [at(event.currentTarget, event)];
    onStroke(points.current, true);
  };
  const go = (event) => {
    if (!points.current) return;
    // The browser coalesces a fast pen's events between frames.
    const steps = event.getCoalescedEvents?.() ?? [];
    for (const step of steps.length ? steps : [event]) points.current.push(at(event.currentTarget, step));
    onStroke([...points.current], false);
  };
  const end = () => { points.current = null; };
  const isEmpty = !input.file && !input.strokes.length;
  return html`
    ${input.file && html`<${Shown} key=${input.url} url=${input.url} />`}
    <svg viewBox="0 0 ${SIDE} ${SIDE}" role="img" aria-label="Drawing pad" class="surface"
      onPointerDown=${begin} onPointerMove=${go} onPointerUp=${end} onPointerCancel=${end}>
      ${!input.file && input.strokes.map((stroke, i) => html`
        <path key=${i} d=${curve(stroke)} fill="none" stroke-width=${STROKE} stroke-linecap="round" stroke-linejoin="round" />`)}
    </svg>
    ${isEmpty && html`<p class="hint">Draw here, or drop or paste a picture</p>`}`;
}

// Small pictures are shown with sharp pixels; pictures that the browser cannot show leave the pad empty.
function Shown({ url }) {
  const [kind, setKind] = useState("");
  const onLoad = (event) => setKind(event.currentTarget.naturalWidth < 160 ? "coarse" : "");
  return html`<img class=${`shown ${kind}`} src=${url} alt="The picture" onLoad=${onLoad} onError=${() => setKind("broken")} />`;
}

function Video({ stream }) {
  const video = useRef();
  useEffect(() => {
    video.current.srcObject = stream;
    video.current.play().catch(() => {});
  }, [stream]);
  return html`<video ref=${video} class="shown" muted playsinline id="camera"></video>`;
}

const round = (value) => Math.round(value * 10) / 10;
