"""The page of what was measured, written from `benchmarks/results`: every line, the missed ones too."""

from __future__ import annotations

import html
import json
import math
import pathlib
from typing import TYPE_CHECKING, Any

from quantities import quantity

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).parents[2]
_HEAD = """# Benchmarks

Ours and the named peers run in turn in one process, and what counts is their ratio: how many times the peer takes what ours takes, as median and
from the 10th to the 90th percentile. The vertical line of a chart is 1: bars to its right are where ours is the quicker. Where a target was set, the
last column has it, met or missed. `nox -s bench -- PACKAGE` measures anew; `benchmarks/` has the programs. How costs grow
with the size of what is worked on is in [How far it goes](../how-far-it-goes.md).
"""
_WIDTH, _ROW, _LABEL, _NUMBER = 760, 22, 330, 70  # pixels


def write(app: Sphinx) -> None:
    """Write `reference/benchmarks.md`."""
    reports = [
        json.loads(file.read_text(encoding="utf-8"))
        for file in sorted((ROOT / "benchmarks" / "results").glob("*.json"))
        if not file.name.startswith("faults-") and not file.stem.endswith("-growth")
    ]
    missed = sum(t["met"] is False for r in reports for c in r["cases"] for t in c["targets"])
    met = sum(t["met"] is True for r in reports for c in r["cases"] for t in c["targets"])
    parts = [
        _HEAD,
        f"Of the targets that were judged, **{met} are met and {missed} are missed**.\n",
    ]
    package = ""
    for report in reports:
        if report["package"] != package:
            package = report["package"]
            parts.append(f"## ops-{package.replace('_', '-')}\n")
        parts.append(_section(report))
    text = "\n".join(parts)
    target = pathlib.Path(app.srcdir) / "reference" / "benchmarks.md"
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def _section(report: dict[str, Any]) -> str:
    versions: dict[str, str] = {}
    for case in report["cases"]:
        versions |= case["versions"]
    peers = ", ".join(f"{name} {number}" for name, number in versions.items())
    rows = [
        f"| {case['name'].replace('|', '/')} | {_figure(case)} | {peer} | {_ratio(ratio)} | {_target(case, peer)} |"
        for case in report["cases"]
        for peer, ratio in (case["ratio"] or {"": None}).items()
    ]
    return "\n".join(
        (
            f"### {report['topic'].replace('_', ' ')}",
            "",
            f"{report['when'][:10]}, {report['machine']}, Python {report['python']}{f'; {peers}' if peers else ''}.",
            "",
            _chart(report),
            "| what | ours | peer | times | target |",
            "|---|---|---|---|---|",
            *rows,
            "",
        )
    )


def _figure(case: dict[str, Any]) -> str:
    value = next(iter(case["median"].values()))
    timed = case["measure"] != "the figure that the call returns"
    return quantity(value, case.get("figure_unit") or ("seconds" if timed else ""))


def _ratio(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return ""
    return f"**{ratio['median']:.3g}** ({ratio['p10']:.3g} to {ratio['p90']:.3g})"


def _target(case: dict[str, Any], peer: str) -> str:
    found = []
    for target in case["targets"]:
        if (target["peer"] or "") != peer and not (peer == "" or target["peer"] is None):
            continue
        bound = (
            f"at most {target['at_most']:.4g}"
            if target["at_least"] is None
            else f"{target['at_least']:g} or more"
        )
        state = {True: "met", False: "**missed**", None: "not judged"}[target["met"]]
        found.append(f"{bound}: {state}")
    return "; ".join(found)


def _chart(report: dict[str, Any]) -> str:
    """Return the ratios as bars on a scale of powers of ten, an SVG that follows light and dark."""
    bars = [
        (f"{case['name']}, {peer}", ratio["median"])
        for case in report["cases"]
        for peer, ratio in case["ratio"].items()
        if ratio["median"] > 0
    ]
    if not bars:
        return ""
    lowest = min(0.0, math.floor(min(math.log10(value) for _, value in bars)))
    highest = max(1.0, math.ceil(max(math.log10(value) for _, value in bars)))
    scale = (_WIDTH - _LABEL - _NUMBER) / (highest - lowest)
    one = _LABEL - lowest * scale
    height = len(bars) * _ROW + 8
    lines = [
        (
            f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img" fill="currentColor" '
            f'font-size="12" aria-label="Ratios of {html.escape(report["topic"])}">'
        )
    ]
    for at, (name, value) in enumerate(bars):
        end = one + math.log10(value) * scale
        y = at * _ROW + 4
        colour = "#2e8b57" if value >= 1 else "#c0562f"
        shown = name if len(name) <= 52 else f"{name[:51]}…"
        lines += [
            (
                f'<text x="{_LABEL - 6}" y="{y + 13}" text-anchor="end">{html.escape(shown)}'
                f"<title>{html.escape(name)}</title></text>"
            ),
            f'<rect x="{min(one, end):.1f}" y="{y}" width="{max(1, abs(end - one)):.1f}" height="16" fill="{colour}"/>',
            f'<text x="{max(one, end) + 4:.1f}" y="{y + 13}">{value:.3g}</text>',
        ]
    lines.append(
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="0" y2="{height}" stroke="currentColor"/></svg>'
    )
    return "```{raw} html\n" + "\n".join(lines) + "\n```\n"
