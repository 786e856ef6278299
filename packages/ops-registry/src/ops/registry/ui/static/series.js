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

function ranks(values) { // the same for equal values: the mean of theirs
  const order = values.map((v, i) => [v, i]).sort((a, b) => a[0] - b[0]);
  const found = new Array(values.length);
  for (let i = 0; i < order.length;) {
    let j = i;
    while (j < order.length && order[j][0] === order[i][0]) j++;
    for (let k = i; k < j; k++) found[order[k][1]] = (i + j - 1) / 2;
    i = j;
  }
  return found;
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const spread = (values) => { const m = mean(values); return values.reduce((sum, v) => sum + (v - m) ** 2, 0); };

// How an axis of numbers or texts goes along with one of numbers: Spearman's rank correlation, or the correlation ratio.
export function correlation(axis, target) {
  const there = axis.values.map((v, i) => [v, target.values[i]]).filter(([a, b]) => a !== null && b !== null);
  const [wide, tall] = [0, 1].map((side) => Math.max(...there.map((pair) => Math.abs(pair[side]))) || 1);
  const pairs = there.map(([a, b]) => [a / wide, b / tall]); // squares of huge or tiny values leave the range of numbers
  const [as, bs] = [pairs.map(([a]) => a), pairs.map(([, b]) => b)];
  if (pairs.length < 3 || !spread(as) || !spread(bs)) return { value: null, count: pairs.length };
  if (axis.texts) {
    const groups = Map.groupBy ? [...Map.groupBy(pairs, ([a]) => a).values()] : [...new Set(as)].map((a) => pairs.filter((pair) => pair[0] === a));
    const within = groups.reduce((sum, group) => sum + spread(group.map(([, b]) => b)), 0);
    return { value: Math.sqrt(Math.max(0, 1 - within / spread(bs))), count: pairs.length };
  }
  const [ra, rb] = [ranks(as), ranks(bs)];
  const [ma, mb] = [mean(ra), mean(rb)];
  const both = ra.reduce((sum, a, i) => sum + (a - ma) * (rb[i] - mb), 0);
  return { value: both / Math.sqrt(spread(ra) * spread(rb)), count: pairs.length };
}
