// The other views. Loaded after the page, so drawing does not wait for them.
export { Tensors } from "./tensors.js";
export { Trust } from "./trust.js";
export { Use } from "./use.js";
export { Watch } from "./watch.js";
