"""Fragments of the page "How far it goes": curves, tables and computed examples from what was measured.

A curve is the cases of one operation at several sizes (see `benchmarks.harness`). Its growth says what its
cost should do: "flat" stays as it is, "linear" grows in proportion. From that and the largest size that was
measured follows what a hundred times that size would cost. Where the measured curve grew faster than its
class, the fragment says so, since the computed value is then only the least to expect.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import growth_chart
from quantities import count, quantity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
#: The program of each library whose results have curves, in the order of the page.
TOPICS = {
    "foundation": "growth",
    "resilience": "growth",
    "observe": "growth",
    "serialize": "growth",
    "shm": "growth",
    "cache": "growth",
    "datalog": "growth",
    "metrics_collect": "growth",
    "registry": "scale",
}
TIMES = 100
#: A step to the next size that costs this many times more than its class has it is not of its class.
STEADY = 1.5
#: A step of a linear curve that costs less than this share of it is mostly a cost that does not grow.
BENT = 0.5
#: Two charts beside each other in the width of the text, one on a narrow screen.
_COLUMNS = "repeat(auto-fill, minmax(min(320px, 100%), 1fr))"


@dataclass(frozen=True, slots=True)
class Curve:
    """What one operation costs at each size; the first of *points*, by contender, is ours."""

    operation: str
    unit: str
    figure_unit: str
    measure: str
    growth: str
    points: dict[str, list[tuple[int, float]]]

    @property
    def ours(self) -> list[tuple[int, float]]:
        """Our sizes and values, smallest size first."""
        return next(iter(self.points.values()))

    @property
    def computed(self) -> tuple[int, float]:
        """A hundred times the largest measured size, and the cost there by the class of growth."""
        size, value = self.ours[-1]
        return size * TIMES, value * TIMES if self.growth == "linear" else value

    @property
    def grew(self) -> float:
        """How many times the cost at the smallest size is the cost at the largest."""
        return self.ours[-1][1] / self.ours[0][1]

    @property
    def exceeds_its_class(self) -> bool:
        """Whether the last step to a larger size cost clearly more than the class of the curve has it."""
        if len(self.ours) < 2:
            return False
        (before, cost_before), (size, cost) = self.ours[-2:]
        expected = size / before if self.growth == "linear" else 1
        return cost / cost_before > STEADY * expected

    @property
    def by_its_last_step(self) -> float | None:
        """The cost at the computed size by the slope of the last step, where a linear curve still bends."""
        if len(self.ours) < 2 or self.growth != "linear":
            return None
        (before, cost_before), (size, cost) = self.ours[-2:]
        if cost / cost_before >= BENT * size / before:
            return None
        return cost + max(0.0, cost - cost_before) / (size - before) * (self.computed[0] - size)


def write(app: Sphinx) -> None:
    """Write `reference/growth/LIBRARY.md` for each library."""
    folder = pathlib.Path(app.srcdir) / "reference" / "growth"
    folder.mkdir(parents=True, exist_ok=True)
    for library in TOPICS:
        target, text = folder / f"{library}.md", fragment(library)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def fragment(library: str, results: pathlib.Path = RESULTS) -> str:
    """Return the charts, tables and computed values of *library*, or that there are none yet."""
    topic = TOPICS[library]
    file = results / f"{library}-{topic}.json"
    report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"cases": []}
    curves = curves_of(report["cases"])
    if not curves:
        return f"Not measured yet: `nox -s bench -- {library}/{topic}` measures it.\n"
    parts = [
        f"Measured {report['when'][:10]} on {report['machine']}, Python {report['python']}, by `benchmarks/{library}/{topic}.py`.",
        "```{raw} html\n"
        f'<div style="display: grid; gap: 12px; grid-template-columns: {_COLUMNS}">\n'
        + "\n".join(map(growth_chart.drawn, curves))
        + "\n</div>\n```",
    ]
    for _, some in groupby(curves, key=lambda c: (c.unit, [size for size, _ in c.ours])):
        parts.append(_table(list(some)))
    parts.append(_computed(curves))
    return "\n\n".join(parts) + "\n"


def curves_of(cases: Iterable[dict[str, Any]]) -> list[Curve]:
    """Return the curves among *cases*, those of one unit beside each other; what is not above 0 is left out."""
    found: dict[str, Curve] = {}
    for case in cases:
        if not case.get("size"):
            continue
        curve = found.setdefault(
            case["operation"],
            Curve(
                *(case[key] for key in ("operation", "unit", "figure_unit", "measure", "growth")),
                points={},
            ),
        )
        for contender, value in case["median"].items():
            if value > 0:
                curve.points.setdefault(contender, []).append((case["size"], value))
    for curve in found.values():
        for points in curve.points.values():
            points.sort()
    units = list(dict.fromkeys(curve.unit for curve in found.values()))
    return sorted((c for c in found.values() if c.points), key=lambda c: units.index(c.unit))


def _table(curves: list[Curve]) -> str:
    """Return a table of *curves* with one column for each of their sizes."""
    sizes = [size for size, _ in curves[0].ours]
    unit = curves[0].unit
    heads = [_size(size, unit, named=size == sizes[0]) for size in sizes]
    lines = [
        f"| operation | {' | '.join(heads)} | growth | grew by |",
        f"|---|{'---:|' * len(sizes)}---|---|",
    ]
    for curve in curves:
        for number, (contender, points) in enumerate(curve.points.items()):
            values = dict(points)
            cells = [quantity(values[s], curve.figure_unit) if s in values else "" for s in sizes]
            name, growth, grew = curve.operation, curve.growth, f"{curve.grew:.3g} times"
            if number:
                name, growth, grew = f"the same, {contender}", "", ""
            lines.append(f"| {name} | {' | '.join(cells)} | {growth} | {grew} |")
    return "\n".join(lines)


def _computed(curves: list[Curve]) -> str:
    lines = [
        f"**Computed, not measured**, for {TIMES} times the largest size that was measured:\n",
    ]
    for curve in curves:
        size, value = curve.computed
        rule = f"{TIMES} times as much" if curve.growth == "linear" else "as much"
        line = (
            f"- *{curve.operation}* at {_size(size, curve.unit, named=True)}: "
            f"**{quantity(value, curve.figure_unit)}**, {rule} as at {_size(curve.ours[-1][0], curve.unit)}."
        )
        if curve.exceeds_its_class:
            line += " The last measured step grew faster than that, so this is the least to expect."
        bent = curve.by_its_last_step
        if bent is not None:
            slope = quantity(bent, curve.figure_unit)
            line += f" At most, since a fixed part is multiplied as well; by the slope of the last step {slope}."
        lines.append(line)
    return "\n".join(lines)


def _size(size: int, unit: str, *, named: bool = False) -> str:
    """Return a size, with its unit where it is *named*; bytes always have theirs."""
    if unit == "bytes":
        return quantity(size, unit)
    return f"{count(size)} {unit}" if named else count(size)
