// Strokes: lists of points [x, y] on a square of SIDE units. One path text serves the screen (SVG, crisp at any zoom)
// and the picture that is sent.

export const SIDE = 280;
export const STROKE = 20;

// A curve through the midpoints, so even a few points make a smooth stroke.
export function curve(points) {
  const [[x, y], ...rest] = points;
  // A path of zero length draws nothing; this draws only the round caps.
  if (!rest.length) return `M${x} ${y}h.01`;
  const middles = points.slice(1).map(([x2, y2], i) => [(points[i][0] + x2) / 2, (points[i][1] + y2) / 2]);
  const bends = middles.slice(1).map(([mx, my], i) => `Q${points[i + 1].join(" ")} ${mx} ${my}`);
  return `M${x} ${y}L${middles[0].join(" ")}${bends.join("")}L${points.at(-1).join(" ")}`;
}

export function toPng(strokes) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SIDE, SIDE);
  context.lineWidth = STROKE;
  context.lineCap = context.lineJoin = "round";
  for (const points of strokes) context.stroke(new Path2D(curve(points)));
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

// Drawn when the page opens and the model has no samples.
export const FIRST = [
  [[86, 78], [120, 76], [160, 75], [196, 76], [184, 104], [168, 138], [152, 174], [138, 216]],
];
