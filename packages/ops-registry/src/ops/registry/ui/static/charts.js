// The charts of a page: which runs and metrics they draw, from when they come into sight, live; the choice is in the address.
import { Plot } from "./plot.js";
import { aligned, averaged, colour, rounded, sections } from "./series.js";

const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const MOST = 60; // so many charts at once: more of them are not looked at, and slow every browser
const AT_ONCE = 6; // so many metrics in one request: the first ones are drawn while the next are on their way
const EMPTY = { x: [], y: [] };

class Charts {
  constructor(box) {
    this.box = box;
    this.runs = JSON.parse(box.dataset.runs);
    this.metrics = JSON.parse(box.dataset.metrics);
    this.isGrouped = box.dataset.group !== "";
    this.groups = [...new Set(this.runs.map((run) => run.group))];
    this.runs.forEach((run, i) => (run.colour = colour(this.isGrouped ? this.groups.indexOf(run.group) : i)));
    this.hidden = new Set((new URLSearchParams(location.search).get("hidden") || "").split(",").filter(Boolean));
    this.most = MOST;
    this.frames = new Map(); // metric -> where its chart is drawn
    this.visible = new Set();
    this.wanted = new Set(); // metrics whose curves the next request is for
    this.requests = new Map(); // metric -> the request that is on its way
    this.curves = new Map(); // metric -> run -> {x, y}
    this.old = new Map(); // metric -> runs that have logged since
    this.plots = new Map();
    this.live = new Map(); // metric -> the timer that will load what arrived by the stream
    this.watch = new IntersectionObserver((seen) => seen.forEach((each) => this.appear(each.target.dataset.metric, each.isIntersecting)), { rootMargin: "300px" });
    this.listen();
    this.showEyes();
    this.arrange();
    this.follow();
  }

  listen() {
    one("#chart-tools").addEventListener("submit", (event) => event.preventDefault());
    one("#axis").addEventListener("input", () => { this.remember(); this.forget(); });
    for (const id of ["log", "smooth", "average"]) one("#" + id)?.addEventListener("input", () => { this.remember(); this.drawAll(); });
    one("#metric").addEventListener("input", () => { this.remember(); this.most = MOST; this.arrange(); });
    one("#more").addEventListener("click", () => { this.most += MOST; this.arrange(); });
    document.addEventListener("theme", () => this.drawAll());
    let timer = 0;
    addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => this.drawAll(), 150); });
    const list = one("#run-list");
    list?.addEventListener("change", (event) => this.choose(event.target));
    list?.addEventListener("mouseover", (event) => this.highlight(event.target.closest("li")));
    list?.addEventListener("mouseleave", () => this.highlight(null));
  }

  // The address

  remember() {
    const query = new URLSearchParams(location.search);
    const keep = (name, value, usual) => (value === usual ? query.delete(name) : query.set(name, value));
    keep("x", one("#axis").value, "step");
    keep("smooth", one("#smooth").value, "0");
    keep("log", one("#log").checked ? "1" : "", "");
    keep("average", one("#average")?.checked ? "1" : "", "");
    keep("metric", one("#metric").value, "");
    keep("hidden", this.runs.map((run) => run.id).filter((id) => this.hidden.has(id)).join(","), "");
    const text = query.toString().replaceAll("%2C", ",");
    history.replaceState(history.state, "", text ? "?" + text : location.pathname);
  }

  // Which runs

  get shown() {
    return this.runs.filter((run) => !this.hidden.has(run.id));
  }

  choose(box) {
    const ids = box.id === "all-eyes" ? this.runs.map((run) => run.id)
      : box.matches(".group-eye") ? this.runs.filter((run) => run.group === box.value).map((run) => run.id) : [box.value];
    ids.forEach((id) => (box.checked ? this.hidden.delete(id) : this.hidden.add(id)));
    this.showEyes();
    this.remember();
    this.visible.forEach((metric) => { this.draw(metric); this.want(metric); });
    [...this.plots.keys()].filter((metric) => !this.visible.has(metric)).forEach((metric) => this.drop(metric, true));
  }

  showEyes() {
    if (!one("#run-list")) return;
    const number = this.shown.length;
    all("#run-list .eye").forEach((eye) => (eye.checked = !this.hidden.has(eye.value)));
    const state = (box, some, every) => { box.checked = every; box.indeterminate = some && !every; };
    all("#run-list .group-eye").forEach((eye) => {
      const group = this.runs.filter((run) => run.group === eye.value);
      const there = group.filter((run) => !this.hidden.has(run.id)).length;
      state(eye, there > 0, there === group.length);
    });
    state(one("#all-eyes"), number > 0, number === this.runs.length);
    one("#seen").textContent = `${number} of ${this.runs.length} drawn`;
    const colours = new Map(this.runs.map((run) => [run.id, run.colour]));
    all("#run-list [data-run]").forEach((row) => (row.querySelector(".swatch").style.background = colours.get(row.dataset.run)));
    all("#run-list [data-group]").forEach((row) => (row.querySelector(".swatch").style.background = colour(this.groups.indexOf(row.dataset.group))));
  }

  highlight(row) {
    const names = row && new Set([row.dataset.run, "group " + (row.dataset.group ?? this.runs.find((run) => run.id === row.dataset.run)?.group)]);
    this.visible.forEach((metric) => this.plots.get(metric)?.highlight(names || null));
  }

  // Which metrics, in which sections

  arrange() {
    const text = one("#metric").value.trim().toLowerCase();
    const found = sections(this.metrics.filter((metric) => metric.toLowerCase().includes(text)));
    const total = [...found.values()].flat().length;
    let left = this.most;
    const wanted = new Map();
    for (const [name, metrics] of found) {
      const some = metrics.slice(0, left);
      left -= some.length;
      if (some.length) wanted.set(name, some);
    }
    const chosen = new Set([...wanted.values()].flat());
    [...this.frames.keys()].filter((metric) => !chosen.has(metric)).forEach((metric) => this.drop(metric));
    const isPlain = wanted.size < 2;
    const closed = new Set(all("#charts details:not([open])").map((section) => section.dataset.section));
    const made = [...wanted].map(([name, metrics]) => this.section(name, metrics, isPlain, found.get(name).length, closed.has(name)));
    this.box.replaceChildren(...made);
    one("#more").hidden = chosen.size >= total;
    one("#shown").textContent = chosen.size < this.metrics.length ? `${chosen.size} of ${this.metrics.length} metrics` : "";
    if (this.metrics.length) one("#nothing")?.remove();
  }

  section(name, metrics, isPlain, total, isClosed) {
    const grid = document.createElement("div");
    grid.className = "grid";
    grid.append(...metrics.map((metric) => this.frames.get(metric) || this.frame(metric)));
    if (isPlain) return grid;
    const section = document.createElement("details");
    section.className = "section";
    section.open = !isClosed;
    section.dataset.section = name;
    const head = document.createElement("summary");
    const count = document.createElement("span");
    count.className = "soft";
    count.textContent = ` ${total}`;
    head.append(name || "Metrics", count);
    section.append(head, grid);
    return section;
  }

  frame(metric) {
    const frame = document.createElement("div");
    frame.className = "chart";
    frame.setAttribute("role", "figure");
    frame.setAttribute("aria-label", `Chart of ${metric}`);
    const title = document.createElement("h3");
    title.textContent = metric;
    frame.append(title);
    frame.dataset.metric = metric;
    this.frames.set(metric, frame);
    this.watch.observe(frame);
    return frame;
  }

  drop(metric, onlyPlot = false) {
    this.plots.get(metric)?.destroy();
    this.plots.delete(metric);
    if (onlyPlot) return;
    this.watch.unobserve(this.frames.get(metric));
    this.frames.get(metric).remove();
    for (const kept of [this.frames, this.visible, this.wanted, this.requests, this.curves, this.old]) kept.delete(metric);
  }

  appear(metric, visible) {
    if (!visible) this.visible.delete(metric);
    else if (this.frames.has(metric)) {
      this.visible.add(metric);
      if (!this.plots.has(metric)) this.draw(metric);
      this.want(metric);
    }
  }

  // Their curves

  missing(metric) {
    const there = this.curves.get(metric), old = this.old.get(metric);
    return this.shown.map((run) => run.id).filter((id) => !there?.has(id) || old?.has(id));
  }

  want(metric) {
    if (this.requests.has(metric) || !this.missing(metric).length) return;
    this.wanted.add(metric);
    this.timer ||= setTimeout(() => {
      this.timer = 0;
      const metrics = [...this.wanted].filter((each) => this.visible.has(each));
      this.wanted.clear();
      while (metrics.length) this.load(metrics.splice(0, AT_ONCE));
    });
  }

  async load(metrics) {
    const ids = [...new Set(metrics.flatMap((metric) => this.missing(metric)))];
    if (!ids.length) return;
    metrics.forEach((metric) => this.old.delete(metric));
    const query = new URLSearchParams({ runs: ids.join(","), x: one("#axis").value, points: this.runs.length > 10 ? 300 : 1000 });
    metrics.forEach((metric) => query.append("key", metric));
    const request = fetch("/api/curves?" + query);
    metrics.forEach((metric) => this.requests.set(metric, request));
    const answer = await request.then((got) => (got.ok ? got.json() : null)).catch(() => null);
    for (const metric of metrics) {
      if (this.requests.get(metric) !== request) continue; // not wanted any more
      this.requests.delete(metric);
      if (!answer) { // requested again by the next point, or when it comes into sight again
        ids.forEach((id) => this.outdate(metric, id));
        continue;
      }
      if (!this.curves.has(metric)) this.curves.set(metric, new Map());
      ids.forEach((id) => this.curves.get(metric).set(id, answer[metric][id] || EMPTY));
      this.draw(metric);
      if (this.missing(metric).some((id) => !this.old.get(metric)?.has(id))) this.want(metric); // shown meanwhile
    }
  }

  outdate(metric, id) {
    if (!this.old.has(metric)) this.old.set(metric, new Set());
    this.old.get(metric).add(id);
  }

  forget() { // all curves: those that are out of sight when they come into it
    this.requests.clear();
    this.metrics.forEach((metric) => this.curves.get(metric)?.forEach((_, id) => this.outdate(metric, id)));
    this.visible.forEach((metric) => this.want(metric));
  }

  // Drawing

  drawAll() {
    for (const metric of this.plots.keys()) this.draw(metric);
  }

  draw(metric) {
    const frame = this.frames.get(metric);
    const curves = this.curves.get(metric);
    if (!curves || !frame) return; // what is drawn stays until they come
    const weight = Number(one("#smooth").value), log = one("#log").checked;
    const runs = this.shown.filter((run) => curves.get(run.id)?.x.length);
    const { data, lines } = this.isGrouped && one("#average")?.checked ? this.averages(runs, curves, weight, log) : {
      data: aligned(runs.map((run) => curves.get(run.id)), weight, log),
      lines: runs.map((run) => ({ id: run.id, name: run.name, colour: run.colour })),
    };
    frame.classList.toggle("void", !data.slice(1).some((ys) => ys.some((y) => y !== null && y !== undefined)));
    const axis = one("#axis");
    const options = { stepped: axis.value === "step", log, label: { step: "Step", time: "Seconds" }[axis.value] || axis.selectedOptions[0].textContent };
    const plot = this.plots.get(metric);
    if (plot?.look === Plot.look(frame, data, lines, options)) return plot.update(data);
    plot?.destroy();
    this.plots.set(metric, new Plot(frame, data, lines, options));
    frame.setAttribute("aria-label", `Chart of ${metric}: ${lines.filter((line) => !line.border).length} curves`);
  }

  averages(runs, curves, weight, log) {
    const groups = this.groups.filter((group) => runs.some((run) => run.group === group));
    const members = groups.map((group) => runs.filter((run) => run.group === group));
    const lines = groups.flatMap((group, i) => {
      const line = { id: "group " + group, name: `${group} (${members[i].length})`, colour: colour(this.groups.indexOf(group)) };
      const border = { id: "", name: "", colour: line.colour, border: true };
      return [{ ...line, band: true }, border, border];
    });
    return { data: averaged(members.map((some) => some.map((run) => curves.get(run.id))), weight, log), lines };
  }

  // Runs that go on

  follow() {
    const ids = this.runs.filter((run) => run.status === "RUNNING" || run.status === "SCHEDULED").map((run) => run.id);
    if (!ids.length) return;
    const source = new EventSource(`/api/stream?runs=${ids.join(",")}`);
    source.onmessage = (event) => {
      const changed = Object.entries(JSON.parse(event.data));
      const fresh = changed.map(([metric]) => metric).filter((metric) => !this.metrics.includes(metric));
      this.metrics.push(...fresh);
      if (fresh.length) this.arrange();
      this.summarize(ids[0]);
      for (const [metric, runs] of changed) {
        runs.forEach((id) => this.outdate(metric, id));
        this.soon(metric);
      }
    };
    source.addEventListener("end", (event) => {
      const [id, status] = JSON.parse(event.data);
      const shown = one("#status") || one(`#run-list [data-run="${id}"] .status`);
      if (shown) Object.assign(shown, { textContent: status, className: "status " + status });
      if (status === "ERASED") return clearTimeout(this.summing); // what is drawn is all there is
      this.summarize(id);
      this.metrics.filter((metric) => this.curves.has(metric)).forEach((metric) => { this.outdate(metric, id); this.soon(metric); });
    });
    source.addEventListener("over", () => source.close());
  }

  summarize(id) { // the table of a run's page, at most once a second
    const body = one("#summaries");
    if (!body || this.summing) return;
    this.summing = setTimeout(async () => {
      const run = await fetch(`/api/runs/${encodeURIComponent(id)}`).then((got) => (got.ok ? got.json() : null)).catch(() => null);
      this.summing = 0;
      for (const [metric, found] of Object.entries(run?.metric_summaries || {})) {
        let row = [...body.rows].find((each) => each.dataset.metricRow === metric);
        if (!row) {
          row = body.insertRow();
          row.dataset.metricRow = metric;
          row.append(Object.assign(document.createElement("th"), { scope: "row", className: "text", textContent: metric }));
          for (let i = 0; i < 4; i++) row.insertCell().className = "n";
        }
        [found.last, found.minimum, found.maximum].forEach((value, i) => (row.cells[i + 1].textContent = value === null ? "nan" : rounded(value, 6)));
        row.cells[4].textContent = found.count;
      }
    }, 1000);
  }

  soon(metric) { // at most twice a second, however fast points arrive
    if (this.live.has(metric)) return;
    this.live.set(metric, setTimeout(() => {
      this.live.delete(metric);
      if (this.requests.has(metric)) this.soon(metric); // an answer that is slow is waited for
      else if (this.visible.has(metric)) this.want(metric);
    }, 500));
  }
}

if (one("#charts")) new Charts(one("#charts"));
