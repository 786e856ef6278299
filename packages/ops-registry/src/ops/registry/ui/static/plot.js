// One chart: uPlot with our axes, a cursor that all charts of a page share, and a list of values beside it.
import { rounded } from "./series.js";

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const WHOLE = [...Array(15).keys()].flatMap((power) => [1, 2, 5].map((n) => n * 10 ** power)); // there is no step 0.2
const tick = (v, gap) => { // so many digits that two neighbours differ
  const digits = v && gap ? Math.floor(Math.log10(Math.abs(v))) - Math.floor(Math.log10(gap)) + 2 : 4;
  const near = +v.toPrecision(Math.min(Math.max(digits, 1), 15));
  return Math.abs(near) < 1e6 ? String(near) : near.toExponential().replace("+", "");
};
const LISTED = 8; // the values nearest to the cursor; more of them cover the chart

// lines: {name, colour, band} for each series of data but x; a line with a band is followed by its two borders.
export class Plot {
  constructor(frame, data, lines, { stepped, log, label }) {
    this.frame = frame;
    this.lines = lines;
    this.label = label;
    this.look = Plot.look(frame, data, lines, { stepped, log, label });
    const stroke = { stroke: ink("--line"), width: 1 };
    const axis = { stroke: ink("--soft"), grid: stroke, ticks: stroke };
    const values = (isEven) => (_, ticks, __, ___, gap) => ticks.map((v) => (v === null ? "" : tick(v, isEven && gap)));
    const wide = (_, texts) => Math.max(50, 7 * Math.max(0, ...(texts || []).map((text) => text.length)) + 16);
    const few = data[0].length < 30;
    this.uplot = new window.uPlot({
      width: Plot.width(frame),
      height: 210,
      padding: [8, 10, 0, 0],
      scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
      axes: [{ ...axis, size: 28, ...(stepped ? { incrs: WHOLE } : { values: values(true) }) }, { ...axis, values: values(!log), size: wide }],
      cursor: {
        y: false,
        drag: { x: true, y: true, uni: 30 },
        sync: { key: "charts", setSeries: false, scales: ["x", null], filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
        points: { show: false },
      },
      focus: { alpha: 0.15 },
      legend: { show: false },
      hooks: { setSelect: [() => (this.zoomed = true)], setCursor: [() => this.list()] },
      bands: lines.flatMap((line, i) => (line.band ? [{ series: [i + 3, i + 2], fill: line.colour + "30" }] : [])),
      series: [{}, ...lines.map((line) => ({
        label: line.name, stroke: line.colour, width: line.border ? 0 : 1.5, spanGaps: true, points: { show: few && !line.border },
      }))],
    }, data, frame);
    this.uplot.over.addEventListener("dblclick", () => (this.zoomed = false));
    this.uplot.over.addEventListener("mouseleave", () => this.tip.replaceChildren());
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    frame.append(this.tip);
  }

  static width(frame) {
    return Math.max(frame.clientWidth - 14, 200);
  }

  static look(frame, data, lines, options) {
    return JSON.stringify([options, data[0].length < 30, Plot.width(frame), ink("--line"), lines]);
  }

  update(data) { // where the reader has zoomed to stays
    this.uplot.setData(data, !this.zoomed);
    if (this.zoomed) this.uplot.redraw();
  }

  highlight(names) { // null for all
    const at = names === null ? -1 : this.lines.findIndex((line) => names.has(line.id));
    if (at < 0) this.uplot.setSeries(null, { focus: true });
    else this.uplot.setSeries(at + 1, { focus: true });
  }

  list() {
    const plot = this.uplot;
    if (!this.tip) return;
    const at = plot?.cursor.idx;
    if (at === null || at === undefined || !this.frame.matches(":hover")) return this.tip.replaceChildren();
    const found = [];
    this.lines.forEach((line, i) => {
      if (line.border) return;
      const value = near(plot.data[i + 1], at);
      if (value !== null) found.push({ line, value, far: Math.abs(plot.valToPos(value, "y") - plot.cursor.top) });
    });
    const shown = found.sort((a, b) => a.far - b.far).slice(0, LISTED).sort((a, b) => b.value - a.value);
    const head = document.createElement("b");
    head.textContent = `${this.label} ${rounded(plot.data[0][at], 12)}`;
    this.tip.replaceChildren(head, ...shown.map(({ line, value }) => {
      const row = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.style.background = line.colour;
      const name = document.createElement("span");
      name.textContent = line.name;
      const number = document.createElement("b");
      number.textContent = rounded(value, 6);
      row.append(swatch, name, number);
      return row;
    }));
    this.tip.classList.toggle("left", plot.cursor.left > plot.over.clientWidth / 2);
  }

  destroy() {
    this.uplot.destroy();
    this.tip.remove();
  }
}

function near(ys, at) { // the value at an index, or the nearest one before or after it
  for (let far = 0; far < ys.length; far++) {
    for (const i of [at - far, at + far]) if (ys[i] !== undefined && ys[i] !== null) return ys[i];
    if (at - far < 0 && at + far >= ys.length) break;
  }
  return null;
}
