// Metric charts, parallel coordinates and the scatter plot.
"use strict";
(() => {
  const colours = ["#1f77b4", "#d95f02", "#1b9e77", "#c2348b", "#7570b3", "#8a6d00", "#e7298a", "#3b8f3b", "#b15928", "#0097a7"];
  const one = (selector) => document.querySelector(selector);
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const svg = (name, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };

  function smoothed(values, weight) {
    if (!weight) return values;
    let last = null;
    let mass = 0;
    return values.map((value) => {
      if (value === null) return null;
      mass = mass * weight + (1 - weight); // debiased, so that the beginning is not drawn to zero
      last = (last === null ? 0 : last) * weight + value * (1 - weight);
      return last / mass;
    });
  }

  const WHOLE = [...Array(15).keys()].flatMap((power) => [1, 2, 5].map((n) => n * 10 ** power)); // there is no step 0.2
  const rounded = (v, digits = 4) => String(+v.toPrecision(digits));
  const plain = (digits) => (_, v) => (v === null || v === undefined ? "–" : rounded(v, digits));
  const tick = (v, gap) => { // so many digits that two neighbours differ
    const digits = v && gap ? Math.floor(Math.log10(Math.abs(v))) - Math.floor(Math.log10(gap)) + 2 : 4;
    const near = +v.toPrecision(Math.min(Math.max(digits, 1), 15));
    return Math.abs(near) < 1e6 ? String(near) : near.toExponential().replace("+", "");
  };
  const MOST = 60; // so many charts at once: more of them nobody looks at, and no browser draws gladly

  class Charts {
    constructor(box) {
      this.box = box;
      this.runs = JSON.parse(box.dataset.runs);
      this.metrics = JSON.parse(box.dataset.metrics);
      this.most = MOST;
      this.frames = new Map(); // metric -> where its chart is drawn
      this.visible = new Set();
      this.asked = new Map(); // metric -> the request for its curves that is on its way
      this.curves = new Map(); // metric -> run -> {x, y}, of those that were visible
      this.plots = new Map();
      this.live = new Map(); // metric -> the timer that will load what arrived by the stream
      this.watch = new IntersectionObserver((seen) => seen.forEach((one) => this.appear(one.target.dataset.metric, one.isIntersecting)), { rootMargin: "300px" });
      one("#chart-tools").addEventListener("submit", (event) => event.preventDefault());
      one("#axis").addEventListener("input", () => this.loadAll());
      for (const id of ["log", "smooth"]) one("#" + id).addEventListener("input", () => this.drawAll());
      one("#metric").addEventListener("input", () => { this.most = MOST; this.arrange(); });
      one("#more").addEventListener("click", () => { this.most += MOST; this.arrange(); });
      document.addEventListener("theme", () => this.drawAll());
      let timer = 0;
      addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => this.drawAll(), 150); });
      this.arrange();
      if (box.dataset.live) this.follow(box.dataset.live);
    }

    arrange() { // let there be a frame for each metric that is asked for, in their order
      const text = one("#metric").value.trim().toLowerCase();
      const found = this.metrics.filter((metric) => metric.toLowerCase().includes(text));
      const wanted = new Set(found.slice(0, this.most));
      [...this.frames.keys()].filter((metric) => !wanted.has(metric)).forEach((metric) => this.drop(metric));
      this.box.append(...[...wanted].map((metric) => this.frames.get(metric) || this.frame(metric)));
      one("#more").hidden = found.length <= wanted.size;
      one("#shown").textContent = found.length < this.metrics.length || found.length > wanted.size ? `${wanted.size} of ${this.metrics.length} metrics` : "";
      if (this.metrics.length) one("#nothing")?.remove();
    }

    frame(metric) {
      const frame = document.createElement("div");
      frame.className = "chart";
      const title = document.createElement("h3");
      title.textContent = metric;
      frame.append(title);
      frame.dataset.metric = metric;
      this.frames.set(metric, frame);
      this.watch.observe(frame);
      return frame;
    }

    drop(metric) {
      this.watch.unobserve(this.frames.get(metric));
      this.plots.get(metric)?.destroy();
      this.frames.get(metric).remove();
      for (const kept of [this.frames, this.visible, this.asked, this.curves, this.plots]) kept.delete(metric);
    }

    appear(metric, visible) {
      if (!visible) this.visible.delete(metric);
      else if (this.frames.has(metric)) {
        this.visible.add(metric);
        if (!this.curves.has(metric) && !this.asked.has(metric)) this.load(metric);
      }
    }

    add(metric) {
      if (this.metrics.includes(metric)) return;
      this.metrics.push(metric);
      this.arrange();
    }

    loadAll() { // those that are out of sight when they come into it
      this.curves.clear();
      this.asked.clear();
      this.visible.forEach((metric) => this.load(metric));
    }

    async load(metric) {
      const axis = one("#axis").value;
      const ids = this.runs.map((run) => run.id).join(",");
      const name = metric.split("/").map(encodeURIComponent).join("/");
      const request = fetch(`/api/curves/${name}?runs=${encodeURIComponent(ids)}&x=${axis}`);
      this.asked.set(metric, request);
      const curves = await request.then((answer) => (answer.ok ? answer.json() : null)).catch(() => null);
      if (this.asked.get(metric) !== request) return; // nobody wants it any more
      this.asked.delete(metric);
      if (!curves) return; // asked for again by the next point, or when it comes into sight again
      this.curves.set(metric, curves);
      this.draw(metric);
    }

    drawAll() {
      for (const metric of this.plots.keys()) this.draw(metric);
    }

    draw(metric) {
      const frame = this.frames.get(metric);
      const curves = this.curves.get(metric);
      if (!curves) return; // what is drawn stays until they come
      const weight = Number(one("#smooth").value);
      const tables = this.runs.map((run) => {
        const curve = curves[run.id] || { x: [], y: [] };
        const byX = new Map();
        const ys = smoothed(curve.y, weight);
        curve.x.forEach((x, i) => byX.set(x, ys[i]));
        return byX;
      });
      const xs = [...new Set(tables.flatMap((table) => [...table.keys()]))].sort((a, b) => a - b);
      const log = one("#log").checked;
      const timed = one("#axis").value === "time";
      const data = [xs, ...tables.map((table) => xs.map((x) => {
        const y = table.get(x);
        return y === undefined || (log && y !== null && y <= 0) ? undefined : y;
      }))];
      frame.classList.toggle("void", !data.slice(1).some((ys) => ys.some((y) => y !== null && y !== undefined)));
      const few = xs.length < 30;
      const look = [timed, log, few, frame.clientWidth, ink("--line")].join();
      const shown = this.plots.get(metric);
      if (shown?.look === look) { // a run that goes on: where the visitor has zoomed to stays
        shown.setData(data, !shown.zoomed);
        if (shown.zoomed) shown.redraw();
        return;
      }
      shown?.destroy();
      const grid = { stroke: ink("--line"), width: 1 };
      const axis = { stroke: ink("--soft"), grid, ticks: grid };
      const values = (isEven) => (_, ticks, __, ___, gap) => ticks.map((v) => (v === null ? "" : tick(v, isEven && gap)));
      const wide = (_, texts) => Math.max(62, 7 * Math.max(0, ...(texts || []).map((text) => text.length)) + 16);
      const made = new uPlot({
        width: Math.max(frame.clientWidth - 14, 200),
        height: 220,
        scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
        axes: [timed ? { ...axis, values: values(true) } : { ...axis, incrs: WHOLE }, { ...axis, values: values(!log), size: wide }],
        cursor: { drag: { x: true, y: true, uni: 30 } },
        legend: { show: true },
        hooks: { setSelect: [(plot) => (plot.zoomed = true)] },
        series: [{ label: timed ? "seconds" : "step", value: plain(15) }, ...this.runs.map((run, i) => ({
          label: run.name || run.id, stroke: colours[i % colours.length], width: 1.5, spanGaps: true, points: { show: few },
          value: plain(6),
        }))],
      }, data, frame);
      made.look = look;
      made.over.addEventListener("dblclick", () => (made.zoomed = false));
      this.plots.set(metric, made);
    }

    follow(id) {
      const source = new EventSource(`/api/runs/${encodeURIComponent(id)}/stream?history=0`);
      source.onmessage = (event) => {
        const metrics = new Set(JSON.parse(event.data).map((point) => point[0]));
        metrics.forEach((metric) => this.add(metric));
        metrics.forEach((metric) => this.soon(metric));
      };
      source.addEventListener("end", (event) => {
        source.close();
        this.live.forEach(clearTimeout);
        this.live.clear();
        const status = JSON.parse(event.data);
        one("#status").textContent = status;
        one("#status").className = "status " + status;
        if (status !== "ERASED") this.loadAll(); // else what is drawn is all there is
      });
    }

    soon(metric) { // at most twice a second, however fast points arrive
      if (this.live.has(metric)) return;
      this.live.set(metric, setTimeout(() => {
        this.live.delete(metric);
        if (this.asked.has(metric)) this.soon(metric); // an answer that is slow is waited for
        else if (this.visible.has(metric)) this.load(metric);
        else this.curves.delete(metric);
      }, 500));
    }
  }

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
      const line = svg("polyline", { points: points.join(" "), class: "line", stroke: colours[r % colours.length] });
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
        const dot = svg("circle", { cx: 60 + xs.at(across.values[r]) * 620, cy: 280 - ys.at(up.values[r]) * 260, r: 5, fill: colours[r % colours.length] });
        dot.append(svg("title", {}));
        dot.firstChild.textContent = `${run.name || run.id}: ${rounded(across.values[r])}, ${rounded(up.values[r])}`;
        picture.append(dot);
      });
      box.replaceChildren(picture);
    }
    draw();
  }

  if (one("#charts")) new Charts(one("#charts"));
  if (one("#parallel")) {
    parallel(one("#parallel"));
    scatter(one("#scatter"), JSON.parse(one("#parallel").dataset.numbers));
  }
})();
