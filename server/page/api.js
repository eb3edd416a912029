// Calls to this page's server. Errors are sentences to show unchanged.

// In memory only: stored tokens would outlive the tab.
let token = "";

export function setToken(text) {
  token = text.trim();
}

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }

  get needsToken() {
    return this.status === 401 || this.status === 403;
  }
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    return await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new ServerError("The server does not answer. Is it still running?", 0);
  }
}

async function call(path, options) {
  const response = await request(path, options);
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new ServerError(body?.error ?? `The server answered ${response.status}.`, response.status);
  return body;
}

// Sends any request; errors count as answers too.
export async function send(method, path, body, kind) {
  const began = performance.now();
  try {
    const response = await request(path, { method, ...(body === undefined ? {} : { body, headers: { "Content-Type": kind } }) });
    return { status: response.status, text: await response.text(), ms: performance.now() - began };
  } catch (error) {
    return { problem: error.message };
  }
}

export function description() {
  return call("/openapi.json");
}

export function pathOf({ model, version }) {
  return `/v1/models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}`;
}

export async function models() {
  return (await call("/v1/models")).versions;
}

export async function samples(target) {
  return (await call(`${pathOf(target)}/samples`)).pictures;
}

export function figures() {
  return call("/v1/figures");
}

// Cells per side of an occlusion map; they and the picture form one batch. 0: the model's batches are too small.
export function cellsOf(target) {
  const cells = Math.min(7, Math.floor(Math.sqrt(Math.max(target.max_batch_size - 1, 0))));
  return cells < 2 ? 0 : cells;
}

// Classifies one picture; returns the result and the round-trip time in milliseconds.
export async function classify(target, picture, topK, isAskedWhy) {
  const began = performance.now();
  const answer = await call(`${pathOf(target)}:classify?top_k=${topK}&return_seen=true&occlusion=${isAskedWhy ? cellsOf(target) : 0}`, {
    method: "POST",
    // The server detects the format from the bytes, but requires an image type.
    headers: { "Content-Type": picture.type.startsWith("image/") ? picture.type : "image/png" },
    body: picture,
  });
  const [result] = answer.results;
  if (result.error) throw new ServerError(sentence(result.error), 200);
  return { ...result, kind: answer.output_kind, ms: performance.now() - began };
}

export function infer(target, request) {
  return call(`/v2/models/${encodeURIComponent(target.model)}/versions/${encodeURIComponent(target.version)}/infer`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: request,
  });
}

export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");
}

// Runs one job at a time; then the newest of those offered meanwhile.
export function newest(work) {
  let running = false;
  let waiting = null;
  return async (job) => {
    waiting = { job };
    if (running) return;
    running = true;
    while (waiting) {
      const next = waiting.job;
      waiting = null;
      await work(next);
    }
    running = false;
  };
}
