"""A curve as an SVG with logarithmic axes, in the colors of the text around it, light or dark.

What was measured is a line with filled points, ours solid and that of others dashed. Our line goes on,
dotted, to the hollow point that was computed.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

from quantities import count, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from growth_page import Curve

_WIDTH, _HEIGHT = 370, 250  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 46, 42
#: Seen on white and on black alike.
_COLORS = ("#2e8b57", "#c0562f", "#5b7fb5", "#a07a1f")
_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class _Scale:
    """Powers of ten from one that is no more than *lowest* to one that is no less than *highest*."""

    def __init__(self, lowest: float, highest: float, start: float, end: float) -> None:
        self.first = math.floor(math.log10(lowest) + 1e-9)
        self.last = max(math.ceil(math.log10(highest) - 1e-9), self.first + 1)
        self._start, self._step = start, (end - start) / (self.last - self.first)

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self.first) * self._step

    def ticks(self, most: int) -> list[int]:
        """Return exponents to label, so many at most."""
        step = math.ceil((self.last - self.first + 1) / most)
        return list(range(self.first, self.last + 1, step))


def drawn(curve: Curve) -> str:
    """Return the SVG of *curve*."""
    points = [point for some in curve.points.values() for point in some]
    size, value = curve.computed
    x = _Scale(min(s for s, _ in points), size, _LEFT, _WIDTH - _RIGHT)
    values = [v for _, v in points] + [value]
    y = _Scale(min(values), max(values), _HEIGHT - _BOTTOM, _TOP)
    name = html.escape(curve.operation)
    return "\n".join(
        (
            (
                f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" role="img" '
                f'fill="currentColor" font-size="11" aria-label="{name} by {html.escape(curve.unit)}">'
            ),
            f'<text x="4" y="14" font-size="12" font-weight="bold">{name}</text>',
            f'<text x="4" y="32" opacity="0.75">{html.escape(_vertical(curve))}</text>',
            *_grid(curve, x, y),
            *_lines(curve, x, y),
            "</svg>",
        )
    )


def _vertical(curve: Curve) -> str:
    if "CPU" in curve.measure:
        return "CPU time"
    if curve.figure_unit == "seconds":
        return "time"
    return curve.figure_unit


def _grid(curve: Curve, x: _Scale, y: _Scale) -> Iterator[str]:
    left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    for exponent in range(x.first, x.last + 1):
        at = x(10.0**exponent)
        yield _line(at, top, at, bottom, 'stroke="currentColor" stroke-opacity="0.15"')
    for exponent in x.ticks(6):
        at = x(10.0**exponent)
        text = f"10{str(exponent).translate(_POWERS)}" if exponent > 1 else count(10**exponent)
        yield f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
    for exponent in range(y.first, y.last + 1):
        at = y(10.0**exponent)
        yield _line(left, at, right, at, 'stroke="currentColor" stroke-opacity="0.15"')
    for exponent in y.ticks(6):
        at = y(10.0**exponent)
        text = quantity(10.0**exponent, curve.figure_unit)
        yield f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{html.escape(text)}</text>'
    yield _line(left, bottom, right, bottom, 'stroke="currentColor"')
    yield _line(left, top, left, bottom, 'stroke="currentColor"')
    unit = html.escape(curve.unit)
    middle = (left + right) / 2
    yield f'<text x="{middle:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{unit}</text>'


def _lines(curve: Curve, x: _Scale, y: _Scale) -> Iterator[str]:
    for number, (contender, points) in enumerate(curve.points.items()):
        color = _COLORS[number % len(_COLORS)]
        path = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in points)
        dashes = ' stroke-dasharray="6 3"' if number else ""
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>'
        for size, value in points:
            yield _point(curve, contender, (size, value), x, y, f'fill="{color}"')
        if len(curve.points) > 1:
            label = 14 + 14 * number
            yield (
                f'<text x="{_WIDTH - _RIGHT}" y="{label + 18}" text-anchor="end" fill="{color}">'
                f"{html.escape(contender)}</text>"
            )
    (size, value), (farther, computed) = curve.ours[-1], curve.computed
    yield _line(
        x(size),
        y(value),
        x(farther),
        y(computed),
        f'stroke="{_COLORS[0]}" stroke-width="2" stroke-dasharray="2 3"',
    )
    hollow = f'fill="none" stroke="{_COLORS[0]}" stroke-width="1.5"'
    yield _point(curve, "computed, not measured", (farther, computed), x, y, hollow)


def _point(
    curve: Curve, name: str, point: tuple[int, float], x: _Scale, y: _Scale, style: str
) -> str:
    size, value = point
    text = f"{name}: {quantity(value, curve.figure_unit)} at {count(size)} {curve.unit}"
    return (
        f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3.5" {style}>'
        f"<title>{html.escape(text)}</title></circle>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'
