// Compared runs as numbers: parallel coordinates here, a scatter plot, boxes and the importance of parameters beside it.
import { one, scaleOf, short, svg } from "./drawing.js";
import { importance } from "./importance.js";
import { boxes, scatter } from "./plots.js";
import { colour } from "./series.js";

const NEAR = 3; // so far from the end of a range a line still counts: no pointer hits the last one exactly
const USUAL = 12; // so many axes at first: more of them are too narrow to read

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

if (one("#parallel")) {
  const numbers = JSON.parse(one("#parallel").dataset.numbers);
  new Parallel(one("#parallel"), numbers);
  scatter(one("#scatter"), numbers);
  boxes(one("#boxes"), numbers);
  importance(one("#importance"), numbers);
}
