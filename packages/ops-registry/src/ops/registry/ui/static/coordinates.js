// Parallel coordinates and the scatter plot of compared runs.
import { colour, rounded } from "./series.js";

const one = (selector) => document.querySelector(selector);
const svg = (name, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

function scaleOf(values) {
  const there = values.filter((v) => v !== null);
  const low = Math.min(...there), high = Math.max(...there);
  return { low, high, at: (v) => (high === low ? 0.5 : (v - low) / (high - low)) };
}

function parallel(box) {
  const { runs, axes: all } = JSON.parse(box.dataset.numbers);
  const axes = all.slice(0, 16); // more of them are too narrow to read
  const width = Math.max(120 * axes.length, box.clientWidth), height = 300, top = 34, bottom = 270;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Parallel coordinates of the runs" });
  picture.style.minWidth = `${120 * axes.length}px`;
  const place = (i) => 60 + (i * (width - 120)) / (axes.length - 1);
  const scales = axes.map((axis) => scaleOf(axis.values));
  const y = (i, v) => bottom - scales[i].at(v) * (bottom - top);
  const brushes = axes.map(() => null);
  const lines = runs.map((run, r) => {
    const points = axes.map((axis, i) => (axis.values[r] === null ? null : `${place(i)},${y(i, axis.values[r])}`)).filter(Boolean);
    const line = svg("polyline", { points: points.join(" "), class: "line", stroke: colour(r) });
    line.append(svg("title", {}));
    line.firstChild.textContent = run.name || run.id;
    picture.append(line);
    return line;
  });
  const refresh = () => lines.forEach((line, r) => line.classList.toggle("off", brushes.some((b, i) => {
    if (!b) return false;
    const v = axes[i].values[r];
    return v === null || y(i, v) < b[0] || y(i, v) > b[1];
  })));
  axes.forEach((axis, i) => {
    picture.append(svg("line", { x1: place(i), x2: place(i), y1: top, y2: bottom, class: "axis" }));
    const texts = [[axis.name, 14], [rounded(scales[i].high), 28], [rounded(scales[i].low), 286]];
    for (const [text, at] of texts) {
      const label = svg("text", { x: place(i), y: at, "text-anchor": "middle" });
      label.textContent = text.length > 18 ? `${text.slice(0, 7)}…${text.slice(-10)}` : text; // what differs is at the end
      picture.append(label);
    }
    const brush = svg("rect", { x: place(i) - 9, width: 18, y: 0, height: 0, class: "brush" });
    const grip = svg("rect", { x: place(i) - 12, width: 24, y: top, height: bottom - top, class: "grip" });
    let from = null;
    const at = (event) => {
      const frame = picture.getBoundingClientRect();
      return Math.min(Math.max(((event.clientY - frame.top) / frame.height) * height, top), bottom);
    };
    grip.addEventListener("pointerdown", (event) => { from = at(event); grip.setPointerCapture(event.pointerId); });
    grip.addEventListener("pointermove", (event) => {
      if (from === null) return;
      brushes[i] = [Math.min(from, at(event)), Math.max(from, at(event))];
      brush.setAttribute("y", brushes[i][0]);
      brush.setAttribute("height", brushes[i][1] - brushes[i][0]);
      refresh();
    });
    grip.addEventListener("pointerup", () => {
      if (!brushes[i] || brushes[i][1] - brushes[i][0] < 3) { brushes[i] = null; brush.setAttribute("height", 0); }
      from = null;
      refresh();
    });
    picture.append(brush, grip);
  });
  box.append(picture);
}

function scatter(box, numbers) {
  const selects = ["x", "y"].map((name, i) => {
    const select = one("#scatter-" + name);
    const first = i === 0 ? 0 : numbers.axes.length - 1;
    numbers.axes.forEach((axis, n) => select.append(new Option(axis.name, n, false, n === first)));
    select.addEventListener("change", draw);
    return select;
  });
  function draw() {
    const [across, up] = selects.map((select) => numbers.axes[select.value]);
    const picture = svg("svg", { viewBox: "0 0 700 320", role: "img", "aria-label": `${up.name} over ${across.name}` });
    const xs = scaleOf(across.values), ys = scaleOf(up.values);
    picture.append(svg("line", { x1: 60, x2: 680, y1: 280, y2: 280, class: "axis" }), svg("line", { x1: 60, x2: 60, y1: 20, y2: 280, class: "axis" }));
    const texts = [[rounded(xs.low), 60, 296, "middle"], [rounded(xs.high), 680, 296, "end"], [across.name, 370, 312, "middle"], [rounded(ys.low), 54, 284, "end"], [rounded(ys.high), 54, 26, "end"], [up.name, 66, 14, "start"]];
    for (const [text, x, y, anchor] of texts) {
      const label = svg("text", { x, y, "text-anchor": anchor });
      label.textContent = text;
      picture.append(label);
    }
    numbers.runs.forEach((run, r) => {
      if (across.values[r] === null || up.values[r] === null) return;
      const dot = svg("circle", { cx: 60 + xs.at(across.values[r]) * 620, cy: 280 - ys.at(up.values[r]) * 260, r: 5, fill: colour(r) });
      dot.append(svg("title", {}));
      dot.firstChild.textContent = `${run.name || run.id}: ${rounded(across.values[r])}, ${rounded(up.values[r])}`;
      picture.append(dot);
    });
    box.replaceChildren(picture);
  }
  draw();
}

if (one("#parallel")) {
  parallel(one("#parallel"));
  scatter(one("#scatter"), JSON.parse(one("#parallel").dataset.numbers));
}
