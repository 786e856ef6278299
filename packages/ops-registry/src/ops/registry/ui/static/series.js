// Curves as columns of numbers: smoothed, aligned on one x axis, averaged. Nothing here touches the page.
const COLOURS = ["#1f77b4", "#d95f02", "#1b9e77", "#c2348b", "#7570b3", "#8a6d00", "#d62728", "#3b8f3b", "#b15928", "#0097a7", "#6b6b6b", "#9467bd"];
export const colour = (i) => COLOURS[i] || `hsl(${Math.round((i * 137.5) % 360)} 58% 48%)`;
export const rounded = (v, digits = 4) => String(+v.toPrecision(digits));

export function smoothed(values, weight) {
  if (!weight) return values;
  let last = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    mass = mass * weight + (1 - weight); // debiased, so that the beginning is not drawn to zero
    last = last * weight + value * (1 - weight);
    return last / mass;
  });
}

const visible = (y, log) => y !== null && y !== undefined && !(log && y <= 0);
const union = (curves) => [...new Set(curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);

// [xs, ys of the first curve, ...]; undefined where a curve has no point at that x.
export function aligned(curves, weight, log) {
  const xs = union(curves);
  const at = new Map(xs.map((x, i) => [x, i]));
  return [xs, ...curves.map((curve) => {
    const ys = new Array(xs.length).fill(undefined);
    smoothed(curve.y, weight).forEach((y, i) => { if (y === null || visible(y, log)) ys[at.get(curve.x[i])] = y; });
    return ys;
  })];
}

const FINEST = 600; // so many points of an average are all that a chart can show

function grid(curves) {
  const xs = union(curves);
  if (xs.length <= FINEST) return xs;
  const low = xs[0], step = (xs[xs.length - 1] - low) / (FINEST - 1);
  return Array.from({ length: FINEST }, (_, i) => low + i * step);
}

function interpolated(curve, weight, log, xs) { // null outside of the range that the curve has
  const ys = smoothed(curve.y, weight);
  const points = curve.x.map((x, i) => [x, ys[i]]).filter(([, y]) => visible(y, log));
  let i = 0;
  return xs.map((x) => {
    if (!points.length || x < points[0][0] || x > points[points.length - 1][0]) return null;
    while (i + 1 < points.length && points[i + 1][0] <= x) i++;
    const [x0, y0] = points[i];
    const next = points[i + 1];
    return !next || next[0] === x0 ? y0 : y0 + ((next[1] - y0) * (x - x0)) / (next[0] - x0);
  });
}

// [xs, then mean, smallest and largest of each group]; groups are lists of curves.
export function averaged(groups, weight, log) {
  const xs = grid(groups.flat());
  return [xs, ...groups.flatMap((curves) => {
    const all = curves.map((curve) => interpolated(curve, weight, log, xs));
    const columns = xs.map((_, i) => all.map((ys) => ys[i]).filter((y) => y !== null));
    const each = (f) => columns.map((found) => (found.length ? f(found) : null));
    return [
      each((found) => found.reduce((a, b) => a + b, 0) / found.length),
      each((found) => Math.min(...found)),
      each((found) => Math.max(...found)),
    ];
  })];
}

// Sections by the prefix of names, in the order in which they are shown; what shares none with another comes first.
export function sections(metrics) {
  const prefix = (metric) => metric.slice(0, Math.max(metric.indexOf("/"), 0));
  const counts = new Map();
  metrics.forEach((metric) => counts.set(prefix(metric), (counts.get(prefix(metric)) || 0) + 1));
  const found = new Map([["", []]]);
  const last = (name) => (name === "system" ? 1 : 0);
  [...counts.keys()].filter((name) => name && counts.get(name) > 1)
    .sort((a, b) => last(a) - last(b) || a.localeCompare(b)).forEach((name) => found.set(name, []));
  metrics.forEach((metric) => (found.get(prefix(metric)) || found.get("")).push(metric));
  return found;
}
