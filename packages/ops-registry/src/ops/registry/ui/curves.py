"""Metric histories as a browser can draw them: few points that keep what the eye would see.

Of each bucket of points the smallest and the largest stay (min-max decimation), so no peak is lost
however long the history; the first and the last point always stay.

A workspace asks for many metrics of many runs at once, and again with each point that arrives. So a run is read
once, all metrics together, and is kept as columns of numbers; after that only what was appended is read (`Follower`).
Runs that are too long for that are read metric by metric. Encoding numbers as JSON takes longer than thinning them, so the
text of a curve is kept until its run has logged more.
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import json
import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ops.cache.lru import LRUCache
from ops.foundation.errors import ValidationError
from ops.registry.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from ops.registry.records import Metric
    from ops.registry.tracking.ports import Follower
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["Axis", "Curves", "thinned"]

MOST_POINTS = 1000
#: Runs with more points than this are read metric by metric; of their metrics so many curves are kept.
_LONG, _KEPT_CURVES = 200_000, 200
#: How many points of the other runs are kept: 24 bytes each.
_KEPT_POINTS = 2_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """What a curve runs over: the step, the time since its first point in seconds, or another metric."""

    kind: str = "step"
    metric: str = ""

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read step, time or metrics.NAME; raises `ValidationError` for anything else."""
        kind, _, metric = text.partition(".")
        if text in {"", "step", "time"}:
            return cls(text or "step")
        if kind == "metrics" and metric:
            return cls("metric", metric)
        raise ValidationError(f"x is step, time or metrics.NAME, not {text!r:.80}.")

    def __str__(self) -> str:
        return f"metrics.{self.metric}" if self.kind == "metric" else self.kind


class Curves:
    """The curves of a store."""

    def __init__(self, tracker: ExperimentTracker) -> None:
        self._tracker = tracker
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, _RunPoints] = OrderedDict()
        self._long: LRUCache[Hashable, dict[str, Any]] = LRUCache(_KEPT_CURVES)

    def get(
        self, run_ids: Iterable[str], keys: Sequence[str], axis: Axis, most: int = MOST_POINTS
    ) -> dict[str, dict[str, dict[str, Any]]]:
        """Return by metric and run the x and y of at most about *most* points; runs that are gone are left out."""
        found: dict[str, dict[str, dict[str, Any]]] = json.loads(
            self.encoded(run_ids, keys, axis, most)
        )
        return found

    def encoded(
        self, run_ids: Iterable[str], keys: Sequence[str], axis: Axis, most: int = MOST_POINTS
    ) -> str:
        """Return what `get` returns as JSON; numbers that are not finite are null."""
        found: dict[str, list[str]] = {key: [] for key in keys}
        for run_id in run_ids:
            with contextlib.suppress(NotFoundError):
                for key, curve in self._of_run(run_id, keys, axis, most).items():
                    found[key].append(f"{json.dumps(run_id)}:{curve}")
        return _object(f"{json.dumps(key)}:{_object(curves)}" for key, curves in found.items())

    def _of_run(self, run_id: str, keys: Sequence[str], axis: Axis, most: int) -> dict[str, str]:
        summaries = self._tracker.get_run(run_id).metric_summaries
        counts = {key: summary.count for key, summary in summaries.items()}
        if sum(counts.values()) > _LONG:
            return {key: self._long_curve(run_id, key, axis, most, counts) for key in keys}
        with self._lock:
            kept = self._runs.pop(run_id, None)
            if kept is None:
                kept = _RunPoints(self._tracker.follower(run_id))
            self._runs[run_id] = kept
        try:
            kept.read_on()
        except BaseException:
            self._runs.pop(run_id, None)
            raise
        self._evict()
        return kept.encoded(keys, axis, most)

    def _evict(self) -> None:
        with self._lock:
            total = sum(each.count for each in self._runs.values())
            while total > _KEPT_POINTS and len(self._runs) > 1:
                total -= self._runs.popitem(last=False)[1].count

    def _long_curve(
        self, run_id: str, key: str, axis: Axis, most: int, counts: dict[str, int]
    ) -> str:
        requested = run_id, key, axis, most
        state = counts.get(key, 0), counts.get(axis.metric, 0)
        kept = self._long.get(requested)
        if kept is None or kept["state"] != state:
            over = self._history(run_id, axis.metric) if axis.kind == "metric" else None
            curve = _encoded(_curve(self._history(run_id, key), over, axis, most))
            kept = {"state": state, "curve": curve}
            self._long.set(requested, kept)
        return str(kept["curve"])

    def _history(self, run_id: str, key: str) -> _Points:
        points = _Points()
        points.add(self._tracker.get_metric_history(run_id, key))
        return points


class _Points:
    """The points of one metric as columns, sorted by step, then time."""

    __slots__ = ("steps", "times", "values")

    def __init__(self) -> None:
        self.steps: array.array[int] = array.array("q")
        self.times = array.array("d")
        self.values = array.array("d")

    def add(self, metrics: Iterable[Metric]) -> None:
        is_sorted = True
        for point in metrics:
            when = point.timestamp.timestamp()
            if self.steps and (self.steps[-1], self.times[-1]) > (point.step, when):
                is_sorted = False
            self.steps.append(point.step)
            self.times.append(when)
            self.values.append(point.value)
        if not is_sorted:
            rows = sorted(
                zip(self.steps, self.times, self.values, strict=True), key=lambda row: row[:2]
            )
            self.steps = array.array("q", [row[0] for row in rows])
            self.times = array.array("d", [row[1] for row in rows])
            self.values = array.array("d", [row[2] for row in rows])


class _RunPoints:
    """All points of one run, which `read_on` adds to."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._lock = threading.Lock()
        self.points: dict[str, _Points] = {}
        self.count = 0
        #: What was requested last, and the curves of that, by metric.
        self._view: tuple[Axis, int] | None = None
        self._texts: dict[str, str] = {}

    def encoded(self, keys: Sequence[str], axis: Axis, most: int) -> dict[str, str]:
        """Return the curve of each metric as JSON."""
        with self._lock:
            if self._view != (axis, most):
                self._view, self._texts = (axis, most), {}
            over = self.points.get(axis.metric)
            for key in keys:
                if key not in self._texts:
                    self._texts[key] = _encoded(_curve(self.points.get(key), over, axis, most))
            return {key: self._texts[key] for key in keys}

    def read_on(self) -> None:
        """Read what was appended since the last time."""
        with self._lock:
            while True:
                found, _ = self._follower.poll()
                by_key: dict[str, list[Metric]] = {}
                for point in found:
                    by_key.setdefault(point.key, []).append(point)
                if found:
                    self._texts = {}
                for key, points in by_key.items():
                    self.points.setdefault(key, _Points()).add(points)
                self.count += len(found)
                if not self._follower.is_behind:
                    return


def thinned(
    points: Sequence[tuple[float, float]], most: int = MOST_POINTS
) -> list[tuple[float, float]]:
    """Return at most about *most* of *points* (x, y), sorted by x as they are given."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / (most // 2))
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        bucket = range(start, min(start + size, len(points)))
        chosen = {
            min(bucket, key=lambda i: _or(points[i][1], math.inf)),
            max(bucket, key=lambda i: _or(points[i][1], -math.inf)),
        }
        if start == 0:
            chosen.add(0)
        if bucket.stop == len(points):
            chosen.add(len(points) - 1)
        kept += [points[i] for i in sorted(chosen)]
    return kept


def _curve(points: _Points | None, over: _Points | None, axis: Axis, most: int) -> dict[str, Any]:
    """Return x, y and how many points there are."""
    if points is None or not points.values:
        return {"x": [], "y": [], "points": 0}
    if axis.kind == "time":
        start = min(points.times)
        pairs = [(t - start, y) for t, y in zip(points.times, points.values, strict=True)]
        pairs.sort(key=lambda pair: pair[0])
    elif axis.kind == "metric":
        pairs = _joined(points, over)
    else:
        pairs = list(zip(points.steps, points.values, strict=True))
    kept = thinned(pairs, most)
    return {
        "x": [x for x, _ in kept],
        "y": [y if math.isfinite(y) else None for _, y in kept],
        "points": len(pairs),
    }


def _encoded(curve: dict[str, Any]) -> str:
    return json.dumps(curve, allow_nan=False, separators=(",", ":"))


def _object(members: Iterable[str]) -> str:
    return "{" + ",".join(members) + "}"


def _joined(points: _Points, over: _Points | None) -> list[tuple[float, float]]:
    """Return the values of *points* over those of *over* at the same steps."""
    if over is None:
        return []
    at = dict(zip(over.steps, over.values, strict=True))
    pairs = [
        (at[step], value)
        for step, value in zip(points.steps, points.values, strict=True)
        if math.isfinite(at.get(step, math.nan))
    ]
    return sorted(pairs, key=lambda pair: pair[0])


def _or(value: float, other: float) -> float:
    return other if math.isnan(value) else value
