// Compared runs as numbers: parallel coordinates, a scatter plot, and which parameters go along with a metric.
import { colour, correlation, rounded } from "./series.js";

const one = (selector) => document.querySelector(selector);
const svg = (name, attributes, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const short = (text) => (text.length > 18 ? `${text.slice(0, 7)}…${text.slice(-10)}` : text); // what differs is at the end
const NEAR = 3; // so far from the end of a range a line still counts: no pointer hits the last one exactly
const USUAL = 12; // so many axes at first: more of them are too narrow to read

function scaleOf(axis) {
  const there = axis.values.filter((v) => v !== null);
  const low = axis.texts ? 0 : Math.min(...there), high = axis.texts ? axis.texts.length - 1 : Math.max(...there);
  const label = (v) => (axis.texts ? axis.texts[v] : rounded(v));
  return { low, high, label, at: (v) => (high === low ? 0.5 : (v - low) / (high - low)), marks: axis.texts ? axis.texts.map((_, i) => i) : [...new Set([low, high])] };
}

class Parallel {
  constructor(box, { runs, axes }) {
    this.box = box;
    this.runs = runs;
    this.axes = axes;
    this.order = axes.slice(0, USUAL);
    this.brushes = new Map(); // axis -> [top, bottom]
    one("#axes").append(...axes.map((axis) => {
      const label = document.createElement("label");
      const pick = Object.assign(document.createElement("input"), { type: "checkbox", checked: this.order.includes(axis) });
      pick.addEventListener("change", () => {
        this.order = pick.checked ? [...this.order, axis] : this.order.filter((each) => each !== axis);
        this.brushes.delete(axis);
        this.draw();
      });
      label.append(pick, " " + axis.name);
      return label;
    }));
    this.draw();
  }

  move(axis, to) {
    const order = this.order.filter((each) => each !== axis);
    order.splice(Math.min(Math.max(to, 0), order.length), 0, axis);
    this.order = order;
    this.draw();
  }

  draw() {
    const axes = this.order, count = axes.length;
    const width = Math.max(120 * count, this.box.clientWidth), height = 310, top = 42, bottom = 280;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Parallel coordinates of the runs" });
    picture.style.minWidth = `${120 * count}px`;
    const across = (i) => (count < 2 ? width / 2 : 70 + (i * (width - 140)) / (count - 1));
    const scales = axes.map(scaleOf);
    const y = (i, v) => bottom - scales[i].at(v) * (bottom - top);
    const lines = this.runs.map((run, r) => {
      const points = axes.map((axis, i) => (axis.values[r] === null ? null : `${across(i)},${y(i, axis.values[r])}`)).filter(Boolean);
      const line = svg("polyline", { points: points.join(" "), class: "line", stroke: colour(r) });
      line.append(svg("title", {}, run.name || run.id));
      picture.append(line);
      return line;
    });
    const refresh = () => lines.forEach((line, r) => line.classList.toggle("off", axes.some((axis, i) => {
      const brush = this.brushes.get(axis), v = axis.values[r];
      return brush && (v === null || y(i, v) < brush[0] - NEAR || y(i, v) > brush[1] + NEAR);
    })));
    const at = (event) => {
      const frame = picture.getBoundingClientRect();
      return { x: ((event.clientX - frame.left) / frame.width) * width, y: Math.min(Math.max(((event.clientY - frame.top) / frame.height) * height, top), bottom) };
    };
    axes.forEach((axis, i) => {
      const x = across(i);
      picture.append(svg("line", { x1: x, x2: x, y1: top, y2: bottom, class: "axis" }));
      for (const mark of scales[i].marks) {
        const high = y(i, mark);
        const [dx, dy] = axis.texts ? [6, 4] : [0, mark === scales[i].high ? -4 : 14];
        picture.append(svg("text", { x: x + dx, y: high + dy, "text-anchor": axis.texts ? "start" : "middle", class: "mark" }, short(scales[i].label(mark))));
      }
      picture.append(this.brush(axis, x, top, bottom, at, refresh), this.name(axis, i, x, at, across));
    });
    const focused = this.box.contains(document.activeElement) && document.activeElement.dataset?.axis;
    this.box.replaceChildren(picture);
    if (focused) [...this.box.querySelectorAll("[data-axis]")].find((name) => name.dataset.axis === focused)?.focus();
    refresh();
  }

  brush(axis, x, top, bottom, at, refresh) {
    const group = svg("g", {});
    const [from, to] = this.brushes.get(axis) || [0, 0];
    const shown = svg("rect", { x: x - 9, width: 18, y: from, height: to - from, class: "brush" });
    const grip = svg("rect", { x: x - 12, width: 24, y: top, height: bottom - top, class: "grip" });
    let start = null;
    grip.addEventListener("pointerdown", (event) => { start = at(event).y; this.brushes.delete(axis); grip.setPointerCapture(event.pointerId); });
    grip.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const now = at(event).y;
      this.brushes.set(axis, [Math.min(start, now), Math.max(start, now)]);
      shown.setAttribute("y", Math.min(start, now));
      shown.setAttribute("height", Math.abs(now - start));
      refresh();
    });
    grip.addEventListener("pointerup", () => {
      start = null;
      const made = this.brushes.get(axis);
      if (!made || made[1] - made[0] < 3) { this.brushes.delete(axis); shown.setAttribute("height", 0); }
      refresh();
    });
    group.append(shown, grip);
    return group;
  }

  name(axis, i, x, at, across) {
    const name = svg("text", { x, y: 16, "text-anchor": "middle", class: "name", tabindex: 0, role: "button", "aria-label": `${axis.name}: move with the arrow keys`, "data-axis": axis.name }, short(axis.name));
    name.append(svg("title", {}, axis.name));
    name.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.move(axis, i + step);
    });
    name.addEventListener("pointerdown", (event) => name.setPointerCapture(event.pointerId));
    name.addEventListener("pointermove", (event) => name.hasPointerCapture(event.pointerId) && name.setAttribute("x", at(event).x));
    name.addEventListener("pointerup", (event) => {
      const now = at(event).x;
      const order = this.order.map((each, n) => [each === axis ? now : across(n), n]).sort((a, b) => a[0] - b[0]);
      this.move(axis, order.findIndex(([, n]) => n === i));
    });
    return name;
  }
}

function options(select, axes, first, draw) {
  axes.forEach((axis, n) => select.append(new Option(axis.name, n, false, n === first)));
  select.addEventListener("change", draw);
  return select;
}

const last = (axes) => { // the last metric, which comes of the others
  const at = axes.map((axis) => axis.name.startsWith("metrics.")).lastIndexOf(true);
  return at < 0 ? axes.length - 1 : at;
};

function scatter(box, { runs, axes }) {
  const selects = ["x", "y"].map((name, i) => options(one("#scatter-" + name), axes, i ? last(axes) : 0, () => draw()));
  function draw() {
    const [across, up] = selects.map((select) => axes[select.value]);
    const picture = svg("svg", { viewBox: "0 0 700 320", role: "img", "aria-label": `${up.name} over ${across.name}` });
    const xs = scaleOf(across), ys = scaleOf(up);
    picture.append(svg("line", { x1: 90, x2: 680, y1: 280, y2: 280, class: "axis" }), svg("line", { x1: 90, x2: 90, y1: 20, y2: 280, class: "axis" }));
    const x = (v) => 105 + xs.at(v) * 560, y = (v) => 268 - ys.at(v) * 236;
    xs.marks.forEach((v) => picture.append(svg("text", { x: x(v), y: 296, "text-anchor": "middle" }, short(xs.label(v)))));
    ys.marks.forEach((v) => picture.append(svg("text", { x: 84, y: y(v) + 4, "text-anchor": "end" }, short(ys.label(v)))));
    picture.append(svg("text", { x: 385, y: 314, "text-anchor": "middle" }, across.name), svg("text", { x: 96, y: 14 }, up.name));
    runs.forEach((run, r) => {
      if (across.values[r] === null || up.values[r] === null) return;
      const dot = svg("circle", { cx: x(across.values[r]), cy: y(up.values[r]), r: 5, fill: colour(r) });
      dot.append(svg("title", {}, `${run.name || run.id}: ${xs.label(across.values[r])}, ${ys.label(up.values[r])}`));
      picture.append(dot);
    });
    box.replaceChildren(picture);
  }
  draw();
}

function importance(section, axes) {
  const metrics = axes.filter((axis) => axis.name.startsWith("metrics."));
  const params = axes.filter((axis) => axis.name.startsWith("params."));
  if (!metrics.length || !params.length) return section.remove();
  const select = options(one("#target"), metrics, metrics.length - 1, () => draw());
  function draw() {
    const target = metrics[select.value];
    const found = params.map((axis) => ({ axis, ...correlation(axis, target) })).filter(({ value }) => value !== null);
    found.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    section.querySelector("tbody").replaceChildren(...found.map(({ axis, value, count }) => {
      const row = document.createElement("tr");
      const name = Object.assign(document.createElement("th"), { scope: "row", textContent: axis.name });
      const number = Object.assign(document.createElement("td"), { className: "n", textContent: value.toFixed(2) });
      const strength = document.createElement("td");
      strength.append(Object.assign(document.createElement("meter"), { min: 0, max: 1, value: Math.abs(value), ariaLabel: `Strength of ${axis.name}` }));
      row.append(name, number, strength, Object.assign(document.createElement("td"), { className: "n", textContent: count }));
      return row;
    }));
  }
  draw();
}

if (one("#parallel")) {
  const numbers = JSON.parse(one("#parallel").dataset.numbers);
  new Parallel(one("#parallel"), numbers);
  scatter(one("#scatter"), numbers);
  importance(one("#importance"), numbers.axes);
}
