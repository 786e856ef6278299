// Which parameters a metric goes along with: a correlation made here, and what a small forest of the server finds.
import { one, options } from "./drawing.js";
import { correlation } from "./series.js";

const cell = (name, properties) => Object.assign(document.createElement(name), properties);

export function importance(section, { runs, axes }) {
  const metrics = axes.filter((axis) => axis.name.startsWith("metrics.") && !axis.texts);
  const params = axes.filter((axis) => axis.name.startsWith("params."));
  if (!metrics.length || !params.length) return section.remove();
  const select = options(one("#target"), metrics, metrics.length - 1, () => draw());
  const forest = one("#forest");

  async function draw() {
    const target = metrics[select.value];
    const found = params.map((axis) => ({ name: axis.name, ...correlation(axis, target) })).filter(({ value }) => value !== null);
    show(found, null);
    forest.textContent = "A forest is being grown …";
    const query = new URLSearchParams({ runs: runs.map(({ id }) => id).join(","), metric: target.name.slice("metrics.".length) });
    const answer = await fetch("/api/importance?" + query).catch(() => null);
    if (metrics[select.value] !== target) return; // another one was chosen meanwhile
    const made = answer?.ok ? await answer.json() : null;
    if (!made?.parameters) {
      forest.textContent = made?.reason ?? "";
      return;
    }
    show(found, made.parameters);
    const share = Math.max(0, Math.round(100 * made.explained));
    forest.textContent = `Importance is the share of a forest's splits of ${made.runs} runs (impurity); on runs that a tree has not seen it explains ${share} % of the variance.`;
  }

  function show(found, shares) {
    const sorted = found.map((one) => ({ ...one, share: shares?.[one.name] ?? null }));
    sorted.sort((a, b) => (b.share ?? -1) - (a.share ?? -1) || Math.abs(b.value) - Math.abs(a.value));
    section.querySelectorAll(".of-forest").forEach((head) => (head.hidden = !shares));
    section.querySelector("tbody").replaceChildren(...sorted.map(({ name, value, count, share }) => {
      const row = cell("tr", {});
      const strength = cell("td", {});
      strength.append(cell("meter", { min: 0, max: 1, value: share ?? Math.abs(value), ariaLabel: `Strength of ${name}` }));
      row.append(cell("th", { scope: "row", textContent: name }));
      if (shares) row.append(cell("td", { className: "n", textContent: share === null ? "" : share.toFixed(2) }));
      row.append(cell("td", { className: "n", textContent: value.toFixed(2) }), strength, cell("td", { className: "n", textContent: count }));
      return row;
    }));
  }
  draw();
}
