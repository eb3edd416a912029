// The views behind the first one. The page loads them after itself, so drawing does not wait for them.
export { Tensors } from "./tensors.js";
export { Trust } from "./trust.js";
export { Use } from "./use.js";
export { Watch } from "./watch.js";
