import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import * as api from "./api.js";
import { paint } from "./reading.js";

// A model's golden samples as lossless picture files at its input size; null while loading.
export function useSamples(target) {
  const [samples, setSamples] = useState({ key: "", files: null });
  useEffect(() => {
    let isCurrent = true;
    const load = async () => {
      const raw = target?.takes_images ? await api.samples(target).catch(() => []) : [];
      const files = await Promise.all(raw.map(toFile));
      if (isCurrent) setSamples({ key: target?.key ?? "", files });
    };
    load();
    return () => { isCurrent = false; };
  }, [target?.key]);
  return samples.key === target?.key ? samples.files : null;
}

async function toFile(raw, i) {
  const canvas = document.createElement("canvas");
  paint(canvas, raw);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const file = new File([blob], `sample-${i}.png`, { type: "image/png" });
  return Object.assign(file, { raw });
}

export function Strip({ files, current, onFile }) {
  if (!files) return null;
  if (!files.length) return html`<p class="small none">This version has no golden samples that can be shown as pictures.</p>`;
  return html`
    <div class="strip" role="group" aria-label="Samples">
      ${files.map((file, i) => html`
        <button key=${file.name} aria-label=${`Sample ${i + 1}`} aria-pressed=${file === current} onClick=${() => onFile(file)}>
          <${Picture} raw=${file.raw} />
        </button>`)}
    </div>`;
}

function Picture({ raw }) {
  const canvas = useRef();
  useEffect(() => paint(canvas.current, raw), [raw]);
  return html`<canvas ref=${canvas} class="pixels" aria-hidden="true"></canvas>`;
}
