"""A quantile sketch in logarithmic buckets: any number of observations in bounded memory.

Bucket k > 0 holds values v with G**(k-1) < v / TINY <= G**k, so answering with the bucket's middle
is off by at most `RELATIVE_ERROR` of the value (the DDSketch bound, Masson, Rim and Lee, VLDB 2019).
Negative values mirror into negative k and what lies within ±TINY is bucket 0, so ascending k is
ascending value. Values beyond ±TINY * G**LAST share the last bucket, where only `maximum` is exact.

Quantiles are of the last `WINDOW_SECONDS`: else the past of a long-lived process would hide its present.
Observations are counted by slices of time as well, and slices that are too old are left out. Count, total,
minimum and maximum are of all observations, as a reader takes rates from their growth.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from dataclasses import dataclass
from math import ceil, log
from time import monotonic
from typing import TYPE_CHECKING, Any

from ops.observe.errors import MetricValueError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RELATIVE_ERROR", "WINDOW_SECONDS", "Sketch", "Stats", "finite", "number"]

RELATIVE_ERROR = 0.01
"""Bound on |estimate - true| / |true| of a quantile, for TINY < |true| < LARGEST."""
WINDOW_SECONDS = 600.0
"""How far back quantiles look."""
_SLICES = 5
_SLICE_SECONDS = WINDOW_SECONDS / _SLICES
TINY = 1e-9
LAST = 2100
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_SCALE = 1 / math.log(_GAMMA)
_SHIFT = -math.log(TINY) * _SCALE
LARGEST = TINY * _GAMMA**LAST
_QUICK = LARGEST * 0.99  # below it no rounding leads beyond LAST


@dataclass(frozen=True, slots=True)
class Stats:
    """What a timer or histogram has seen; times in seconds. All zero when it has seen nothing.

    The quantiles *p50*, *p95* and *p99* are of the last `WINDOW_SECONDS`, all else of all observations.
    *buckets* are (upper bound, observations up to it), where bounds were declared.

    *count* observations add up to *total*; *min*, *max* and *mean* are of all of them.
    """

    count: int = 0
    total: float = 0.0
    min: float = 0.0
    max: float = 0.0
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    buckets: tuple[tuple[float, int], ...] = ()

    def __getitem__(self, name: str) -> float:
        if name not in _NUMBERS:
            raise KeyError(name)
        value: float = getattr(self, name)
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name, and the buckets by their bound where there are any."""
        found: dict[str, Any] = {name: self[name] for name in _NUMBERS}
        if self.buckets:
            found["buckets"] = {str(bound): count for bound, count in self.buckets}
        return found


_NUMBERS = ("count", "total", "min", "max", "mean", "p50", "p95", "p99")


class Sketch:
    """Counts per bucket, with the exact count, total, minimum and maximum.

    *bounds* are ascending upper bounds, each counted exactly as well. One thread adds; any thread may
    read. `add` touches the bucket last, so a reader that copies the buckets first finds extremes that
    cover every value in them.
    """

    __slots__ = ("bounds", "buckets", "counts", "ends", "maximum", "minimum", "slices", "total")

    def __init__(self, bounds: tuple[float, ...] = ()) -> None:
        self.buckets: dict[int, int] = {}
        self.total: float = 0.0
        self.minimum: float = math.inf
        self.maximum: float = -math.inf
        self.bounds: tuple[float, ...] = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1) if bounds else []
        self.slices: tuple[tuple[float, dict[int, int]], ...] = ()  # by their end, the newest first
        self.ends: float = -math.inf  # of the newest slice

    def add(self, value: float, now: float | None = None) -> None:
        """Count *value*; NaN and infinities are refused and change nothing.

        *now* is the time of the observation, in seconds of `time.monotonic`.
        """
        if type(value) is float and TINY < value < _QUICK:  # as nearly always: without a call
            bucket = ceil(log(value) * _SCALE + _SHIFT) or 1
        else:
            value = finite(value)
            bucket = _bucket(value)
        self.total += value
        if value < self.minimum:  # noqa: PLR1730 - a call of min() costs as much as all the rest
            self.minimum = value
        if value > self.maximum:  # noqa: PLR1730 - as above
            self.maximum = value
        if self.counts:
            self.counts[bisect_left(self.bounds, value)] += 1
        if now is None:
            now = monotonic()
        if now >= self.ends:
            self._open_slice(now)
        recent = self.slices[0][1]
        try:
            recent[bucket] += 1
        except KeyError:
            recent[bucket] = 1
        buckets = self.buckets
        try:
            buckets[bucket] += 1
        except KeyError:
            buckets[bucket] = 1

    def _open_slice(self, now: float) -> None:
        kept = [s for s in self.slices if s[0] > now - WINDOW_SECONDS] or [*self.slices[:1]]
        self.ends = now + _SLICE_SECONDS
        self.slices = ((self.ends, {}), *kept[:_SLICES])

    def merge(self, other: Sketch) -> None:
        """Count everything that *other* has counted."""
        for bucket, count in other.buckets.copy().items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.slices = (*self.slices, *((end, found.copy()) for end, found in other.slices))
        if other.bounds == self.bounds:
            self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]

    def quantiles(self, wanted: Iterable[float]) -> list[float]:
        """Return, for each q in ascending *wanted*, the value of rank floor(q * (count - 1))."""
        return self._quantiles(sorted(self.buckets.items()), wanted)

    def _quantiles(self, ordered: list[tuple[int, int]], wanted: Iterable[float]) -> list[float]:
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

    def _recent(self, now: float) -> dict[int, int]:
        """Return the buckets of the last `WINDOW_SECONDS`, or of the newest slice if that is older."""
        recent: dict[int, int] = {}
        begin = now - WINDOW_SECONDS
        newest = max((end for end, _ in self.slices), default=begin)
        for end, found in self.slices:
            if end > begin or end == newest:
                for bucket, count in found.copy().items():
                    recent[bucket] = recent.get(bucket, 0) + count
        return recent

    def stats(self, now: float | None = None) -> Stats:
        """Return count, total, extremes, mean and quantiles; *now* as in `add`."""
        count = sum(self.buckets.values())
        if not count:
            return Stats()
        recent = self._recent(monotonic() if now is None else now) or self.buckets
        p50, p95, p99 = self._quantiles(sorted(recent.items()), (0.5, 0.95, 0.99))
        mean = self.total / count
        return Stats(
            count, self.total, self.minimum, self.maximum, mean, p50, p95, p99, self._cumulative()
        )

    def _cumulative(self) -> tuple[tuple[float, int], ...]:
        if not self.bounds:
            return ()
        sums = itertools.accumulate(self.counts)
        return tuple(zip((*self.bounds, math.inf), sums, strict=True))


def number(value: Any) -> float:
    """Return *value* as an int or float of Python's own, which every exporter can write.

    Raises MetricValueError for text, which `float` would take, and for integers that no float holds.
    """
    if type(value) is float:
        return value
    if isinstance(value, str | bytes | bytearray):
        raise MetricValueError(f"A measurement must be a number, not the text {value!r}.")
    try:
        found = float(value)
    except OverflowError:
        raise MetricValueError("A measurement must be a number that a float can hold.") from None
    return value if type(value) is int else found


def finite(value: Any) -> float:
    """Return *value* as a number that can be summed: one NaN would make a sum NaN for ever.

    Raises MetricValueError for NaN, infinities and integers that no float holds.
    """
    found = number(value)
    if math.isfinite(found):
        return found
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
