"""Measured values as text with a unit that suits their size, which no line break takes apart."""

from __future__ import annotations

_SPACE = "\N{NO-BREAK SPACE}"
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
                return _digits(value / size) + _SPACE + name
        return _digits(value / 1e-9) + _SPACE + "ns"
    if unit == "MB" and value >= 999.5:
        return quantity(value * 1e6, "bytes")
    if unit == "bytes":
        for name, size in _BYTES:
            if value >= size * 0.9995:
                return _digits(value / size) + _SPACE + name
    return _digits(value) + _SPACE + unit if unit else _digits(value)


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 999.5 else count(round(value))


def count(number: int) -> str:
    """Return a whole number with a space between thousands."""
    return f"{number:,}".replace(",", _SPACE)
