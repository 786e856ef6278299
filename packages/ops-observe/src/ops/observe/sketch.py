"""A quantile sketch in logarithmic buckets: any number of observations in bounded memory.

Bucket k > 0 holds values v with G**(k-1) < v / TINY <= G**k, so answering with the bucket's middle
is off by at most `RELATIVE_ERROR` of the value (the DDSketch bound, Masson, Rim and Lee, VLDB 2019).
Negative values mirror into negative k and what lies within ±TINY is bucket 0, so ascending k is
ascending value. Values beyond ±TINY * G**LAST share the last bucket, where only `maximum` is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.observe.errors import MetricValueError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RELATIVE_ERROR", "Sketch", "Stats", "finite", "number"]

RELATIVE_ERROR = 0.01
"""Bound on |estimate - true| / |true| of a quantile, for TINY < |true| < LARGEST."""
TINY = 1e-9
LAST = 2100
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_SCALE = 1 / math.log(_GAMMA)
_SHIFT = -math.log(TINY) * _SCALE
LARGEST = TINY * _GAMMA**LAST


@dataclass(frozen=True, slots=True)
class Stats:
    """What a timer or histogram has seen; times in seconds. All zero when it has seen nothing."""

    count: int = 0
    total: float = 0.0
    min: float = 0.0
    max: float = 0.0
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0

    def __getitem__(self, name: str) -> float:
        if name not in self.__slots__:
            raise KeyError(name)
        value: float = getattr(self, name)
        return value

    def to_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return {name: self[name] for name in self.__slots__}


class Sketch:
    """Counts per bucket, with the exact count, total, minimum and maximum.

    One thread adds; any thread may read. `add` touches the bucket last, so a reader that copies
    the buckets first finds extremes that cover every value in them.
    """

    __slots__ = ("buckets", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.total: float = 0.0
        self.minimum: float = math.inf
        self.maximum: float = -math.inf

    def add(self, value: float) -> None:
        """Count *value*; NaN and infinities are refused and change nothing."""
        value = finite(value)
        bucket = _bucket(value)
        self.total += value
        if value < self.minimum:  # noqa: PLR1730 - a call of min() costs as much as all the rest
            self.minimum = value
        if value > self.maximum:  # noqa: PLR1730 - as above
            self.maximum = value
        buckets = self.buckets
        try:
            buckets[bucket] += 1
        except KeyError:
            buckets[bucket] = 1

    def merge(self, other: Sketch) -> None:
        """Count everything that *other* has counted."""
        for bucket, count in other.buckets.copy().items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)

    def quantiles(self, wanted: Iterable[float]) -> list[float]:
        """Return, for each q in ascending *wanted*, the value of rank floor(q * (count - 1))."""
        ordered = sorted(self.buckets.items())
        last_rank = sum(n for _, n in ordered) - 1
        found: list[float] = []
        position, seen = -1, 0
        for q in wanted:
            rank = math.floor(q * last_rank)
            while seen <= rank:
                position += 1
                seen += ordered[position][1]
            found.append(min(max(_middle(ordered[position][0]), self.minimum), self.maximum))
        return found

    def stats(self) -> Stats:
        """Return the figures."""
        count = sum(self.buckets.values())
        if not count:
            return Stats()
        p50, p95, p99 = self.quantiles((0.5, 0.95, 0.99))
        mean = self.total / count
        return Stats(count, self.total, self.minimum, self.maximum, mean, p50, p95, p99)


def number(value: Any) -> float:
    """Return *value* as an int or float of Python's own, which every exporter can write."""
    return value if type(value) is float or type(value) is int else float(value)


def finite(value: Any) -> float:
    """Return *value* as a number that can be summed: one NaN would make a sum NaN for ever.

    Raises MetricValueError for NaN, infinities and integers that no float holds.
    """
    try:
        found = number(value)
        if math.isfinite(found):
            return found
    except OverflowError:
        pass
    raise MetricValueError(f"A measurement must be a finite number, not {value!r}.")


def _bucket(value: float) -> int:
    if value > TINY:
        return min(LAST, max(1, math.ceil(math.log(value) * _SCALE + _SHIFT)))
    if value < -TINY:
        return -min(LAST, max(1, math.ceil(math.log(-value) * _SCALE + _SHIFT)))
    return 0


def _middle(bucket: int) -> float:
    if bucket == 0:
        return 0.0
    # The point of a bucket that is equally far, relatively, from both of its ends.
    size = TINY * _GAMMA ** abs(bucket) * 2 / (1 + _GAMMA)
    return math.copysign(size, bucket)
