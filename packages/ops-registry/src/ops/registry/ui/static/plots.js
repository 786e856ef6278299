// Two drawings of compared runs: one value over another, and the values of groups as boxes.
import { groupsOf, last, one, options, scaleOf, short, svg } from "./drawing.js";
import { colour, rounded } from "./series.js";

const LEFT = 90, RIGHT = 680, TOP = 32, BOTTOM = 268;

function frame(label, up, ys) {
  const picture = svg("svg", { viewBox: "0 0 700 320", role: "img", "aria-label": label });
  picture.append(svg("line", { x1: LEFT, x2: RIGHT, y1: 280, y2: 280, class: "axis" }), svg("line", { x1: LEFT, x2: LEFT, y1: 20, y2: 280, class: "axis" }));
  const y = (v) => BOTTOM - ys.at(v) * (BOTTOM - TOP);
  ys.marks.forEach((v) => picture.append(svg("text", { x: 84, y: y(v) + 4, "text-anchor": "end" }, short(ys.label(v)))));
  picture.append(svg("text", { x: 96, y: 14 }, up.name));
  return { picture, y };
}

export function scatter(box, { runs, axes }) {
  const selects = ["x", "y"].map((name, i) => options(one("#scatter-" + name), axes, i ? last(axes) : 0, () => draw()));
  const grouping = axes.filter((axis) => groupsOf(axis).length);
  const by = options(one("#scatter-group"), grouping, -1, () => draw());
  by.closest("label").hidden = !grouping.length;
  function draw() {
    const [across, up] = selects.map((select) => axes[select.value]);
    const xs = scaleOf(across), ys = scaleOf(up);
    const { picture, y } = frame(`${up.name} over ${across.name}`, up, ys);
    const x = (v) => 105 + xs.at(v) * 560;
    const groups = by.value === "" ? [] : groupsOf(grouping[by.value]);
    const groupAt = (r) => groups.findIndex((group) => group.runs.includes(r));
    xs.marks.forEach((v) => picture.append(svg("text", { x: x(v), y: 296, "text-anchor": "middle" }, short(xs.label(v)))));
    picture.append(svg("text", { x: 385, y: 314, "text-anchor": "middle" }, across.name));
    runs.forEach((run, r) => {
      if (across.values[r] === null || up.values[r] === null) return;
      const at = groups.length ? groupAt(r) : r;
      const dot = svg("circle", { cx: x(across.values[r]), cy: y(up.values[r]), r: 5, fill: at < 0 ? "var(--soft)" : colour(at) });
      const group = at >= 0 && groups.length ? ` (${groups[at].label})` : "";
      dot.append(svg("title", {}, `${run.name || run.id}${group}: ${xs.label(across.values[r])}, ${ys.label(up.values[r])}`));
      picture.append(dot);
    });
    box.replaceChildren(picture, legend(groups));
  }
  draw();
}

function legend(groups) {
  const list = document.createElement("p");
  list.className = "legend";
  list.append(...groups.map((group, g) => {
    const item = document.createElement("span");
    const mark = Object.assign(document.createElement("i"), { className: "swatch" });
    mark.style.background = colour(g);
    item.append(mark, `${group.label} (${group.runs.length})`);
    return item;
  }));
  return list;
}

// Quartiles by linear interpolation, as numpy and pandas have them.
export function quartiles(sorted) {
  return [0.25, 0.5, 0.75].map((share) => {
    const at = share * (sorted.length - 1), below = Math.floor(at);
    return sorted[below] + (at - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
  });
}

export function boxes(section, { runs, axes }) {
  const values = axes.filter((axis) => !axis.texts), grouping = axes.filter((axis) => groupsOf(axis).length);
  if (!values.length || !grouping.length) return section.remove();
  const value = options(one("#box-value"), values, last(values), () => draw());
  const by = options(one("#box-group"), grouping, 0, () => draw());
  function draw() {
    const up = values[value.value], axis = grouping[by.value], ys = scaleOf(up);
    const { picture, y } = frame(`${up.name} by ${axis.name}`, up, ys);
    const groups = groupsOf(axis), step = (RIGHT - LEFT) / groups.length, half = Math.min(step * 0.3, 45);
    groups.forEach((group, g) => {
      const there = group.runs.filter((r) => up.values[r] !== null), middle = LEFT + step * (g + 0.5);
      picture.append(svg("text", { x: middle, y: 296, "text-anchor": "middle" }, groups.length > 6 ? short(group.label).slice(0, 9) : short(group.label)));
      if (!there.length) return;
      const sorted = there.map((r) => up.values[r]).sort((a, b) => a - b);
      const [low, median, high] = quartiles(sorted), reach = 1.5 * (high - low);
      const ends = [sorted.find((v) => v >= low - reach), sorted.findLast((v) => v <= high + reach)];
      const part = svg("g", { class: "box", stroke: colour(g) });
      part.append(
        svg("title", {}, `${group.label}: ${there.length} runs, median ${rounded(median)}, quartiles ${rounded(low)} and ${rounded(high)}, from ${rounded(sorted[0])} to ${rounded(sorted.at(-1))}`),
        svg("line", { x1: middle, x2: middle, y1: y(ends[0]), y2: y(low) }), svg("line", { x1: middle, x2: middle, y1: y(high), y2: y(ends[1]) }),
        svg("rect", { x: middle - half, width: 2 * half, y: y(high), height: Math.max(y(low) - y(high), 1), fill: colour(g) }),
        svg("line", { x1: middle - half, x2: middle + half, y1: y(median), y2: y(median), class: "median" }),
      );
      for (const r of there) {
        const dot = svg("circle", { cx: middle + half * 0.8 * spreadOut(r), cy: y(up.values[r]), r: 2.5, fill: colour(g) });
        dot.append(svg("title", {}, `${runs[r].name || runs[r].id}: ${rounded(up.values[r])}`));
        part.append(dot);
      }
      picture.append(part);
    });
    picture.append(svg("text", { x: 385, y: 314, "text-anchor": "middle" }, axis.name));
    one("#boxes-drawn").replaceChildren(picture);
  }
  draw();
}

const spreadOut = (r) => (((r * 0.618034) % 1) - 0.5) * 2; // the same for a run each time
