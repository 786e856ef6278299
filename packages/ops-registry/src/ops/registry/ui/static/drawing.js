// Helpers of the drawings that compare runs: SVG, scales, choices.
import { rounded } from "./series.js";

export const one = (selector) => document.querySelector(selector);
export const svg = (name, attributes, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
export const short = (text) => (text.length > 18 ? `${text.slice(0, 7)}…${text.slice(-10)}` : text); // what differs is at the end

export function scaleOf(axis) {
  const there = axis.values.filter((v) => v !== null);
  const low = axis.texts ? 0 : Math.min(...there), high = axis.texts ? axis.texts.length - 1 : Math.max(...there);
  const label = (v) => (axis.texts ? axis.texts[v] : rounded(v));
  return { low, high, label, at: (v) => (high === low ? 0.5 : (v - low) / (high - low)), marks: axis.texts ? axis.texts.map((_, i) => i) : [...new Set([low, high])] };
}

export function options(select, axes, first, draw) {
  axes.forEach((axis, n) => select.append(new Option(axis.name, n, false, n === first)));
  select.addEventListener("change", draw);
  return select;
}

export const last = (axes) => { // the last metric, which comes of the others
  const at = axes.map((axis) => axis.name.startsWith("metrics.")).lastIndexOf(true);
  return at < 0 ? axes.length - 1 : at;
};

const MOST_GROUPS = 12;

// The groups that a parameter or tag makes of runs: [{ label, runs: [index] }], none where it makes too many.
export function groupsOf(axis) {
  const values = [...new Set(axis.values.filter((v) => v !== null))].sort((a, b) => a - b);
  if (axis.name.startsWith("metrics.") || values.length < 2 || values.length > MOST_GROUPS) return [];
  const label = scaleOf(axis).label;
  const groups = values.map((value) => ({ label: label(value), runs: axis.values.flatMap((v, r) => (v === value ? [r] : [])) }));
  return groups.some(({ runs }) => runs.length > 1) ? groups : []; // each run alone is no group
}
