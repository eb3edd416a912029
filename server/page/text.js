// Numbers and declarations in words.

export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

export const probability = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : percent(share));

// A class's number: probabilities with a percent sign, scores without.
export function shown(found) {
  return found.score === undefined ? probability(found.probability) : found.score.toPrecision(4);
}

// Wilson's interval of a share at 95 % (Wilson 1927).
export function wilson(share, count) {
  const z = 1.96;
  const middle = share + (z * z) / (2 * count);
  const reach = z * Math.sqrt((share * (1 - share)) / count + (z * z) / (4 * count * count));
  return [(middle - reach) / (1 + (z * z) / count), (middle + reach) / (1 + (z * z) / count)];
}

const FITS = {
  letterbox: "scaled whole, borders filled",
  stretch: "stretched",
  crop: "middle cropped",
  mnist: "ink centred as in MNIST",
};
const INVERSIONS = { auto: "inverted if light", always: "inverted", never: "" };

// config.pbtxt's picture line in words.
export function declaration(line) {
  const words = Object.fromEntries(line.split(" ").map((word) => word.split("=")));
  const [height, width] = (words.size ?? "").split("x");
  return [
    `${height} × ${width ?? height} pixels, ${words.colour}`,
    FITS[words.fit] ?? words.fit,
    words.resampling,
    INVERSIONS[words.inversion ?? "never"],
  ].filter(Boolean).join(", ");
}

export const KINDS = {
  probabilities: "probability",
  logits: "probability, from logits",
  sigmoids: "probability per class",
  scores: "score",
};

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const count = (value) => (value < 10 && value % 1 ? value.toFixed(1) : WHOLE.format(value));

// Two significant digits, but all digits of whole numbers.
const digits = (value) => (value < 10 ? String(Number(value.toPrecision(2))) : WHOLE.format(value));

export const day = (iso) => new Date(iso).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });

export function duration(seconds) {
  if (!seconds) return "0";
  if (seconds < 0.001) return `${digits(seconds * 1e6)} µs`;
  return seconds < 1 ? `${digits(seconds * 1000)} ms` : `${digits(seconds)} s`;
}

// An input of zeros in the right shape.
export function example({ name, datatype, shape }) {
  const sides = shape.map((side) => (side < 0 ? 1 : side));
  const zero = { BYTES: "", BOOL: false }[datatype] ?? 0;
  return { name, datatype, shape: sides, data: Array(sides.reduce((size, side) => size * side, 1)).fill(zero) };
}
