// Figures of versions over time: differences between the server's cumulative counts. Only this page keeps them.
import * as api from "./api.js";

const KEPT = 600;
// Latency and batch sizes cover this many seconds, so single requests do not make them jump.
const SPAN = 5;
const PAUSE_MS = 1000;
const PAUSE_AFTER_ERROR_MS = 5000;

export const keyOf = (each) => `${each.model}/${each.version}`;

// Calls `onAnswer` every second with the figures and the history of each version; returns a stop function.
export function follow(onAnswer, onError) {
  const histories = new Map();
  let timer;
  const look = async () => {
    let pause = PAUSE_MS;
    // Hidden tabs do not poll.
    if (!document.hidden) {
      try {
        const answer = await api.figures();
        for (const each of answer.versions) remember(histories, each, answer.read_s);
        onAnswer({ ...answer, histories });
      } catch (error) {
        pause = PAUSE_AFTER_ERROR_MS;
        onError(error);
      }
    }
    timer = setTimeout(look, pause);
  };
  look();
  return () => clearTimeout(timer);
}

function remember(histories, figures, s) {
  const history = histories.get(keyOf(figures)) ?? [];
  // A reloaded version counts from zero.
  if (history.length && history.at(-1).figures.success > figures.success) history.length = 0;
  const last = history.at(-1);
  const entry = { s, at: Date.now() / 1000, figures };
  if (last) Object.assign(entry, between(last, entry, history.at(-SPAN) ?? history[0]));
  history.push(entry);
  if (history.length > KEPT) history.shift();
  histories.set(keyOf(figures), history);
}

function between(last, now, earlier) {
  const span = now.s - last.s;
  const requests = difference(earlier.figures.request_seconds, now.figures.request_seconds);
  const batches = difference(earlier.figures.batch_rows, now.figures.batch_rows);
  const runs = total(batches.counts);
  return {
    answered: (now.figures.success - last.figures.success) / span,
    failed: (failures(now.figures) - failures(last.figures)) / span,
    p50: quantile(requests, 0.5),
    p99: quantile(requests, 0.99),
    waiting: now.figures.pending,
    rows: runs ? batches.sum / runs : null,
    classes: now.figures.drift?.classes ?? null,
    confidence: now.figures.drift?.confidence ?? null,
  };
}

const total = (counts) => counts.reduce((sum, count) => sum + count, 0);
export const failures = (figures) => total(Object.values(figures.failure));

function difference(before, after) {
  return { bounds: after.bounds, sum: after.sum - before.sum, counts: after.counts.map((count, i) => count - before.counts[i]) };
}

// A quantile's value, from its bucket; null without counts.
export function quantile({ bounds, counts }, share) {
  let left = share * total(counts);
  if (!left) return null;
  for (let i = 0; i < bounds.length; i += 1) {
    if (left <= counts[i]) {
      const low = i ? bounds[i - 1] : 0;
      return low + (bounds[i] - low) * (left / counts[i]);
    }
    left -= counts[i];
  }
  return bounds.at(-1);
}
