"""Measured values as text with a unit that suits their size."""

from __future__ import annotations

_SECONDS = (
    ("h", 7200, 3600),
    ("min", 120, 60),
    ("s", 1, 1),
    ("ms", 1e-3, 1e-3),
    ("µs", 1e-6, 1e-6),
)
_BYTES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def quantity(value: float, unit: str) -> str:
    """Return *value* in *unit* with three digits; seconds and bytes in the multiple that suits them."""
    if unit == "seconds":
        for name, least, size in _SECONDS:
            if value >= least * 0.9995:  # what three digits would round to it
                return f"{value / size:.3g} {name}"
        return f"{value / 1e-9:.3g} ns"
    if unit == "bytes":
        for name, size in _BYTES:
            if value >= size * 0.9995:
                return f"{value / size:.3g} {name}"
    return (
        f"{value:.3g} {unit}".strip() if value < 1000 else f"{count(round(value))} {unit}".strip()
    )


def count(number: int) -> str:
    """Return a whole number with a space between thousands."""
    return f"{number:,}".replace(",", " ")
