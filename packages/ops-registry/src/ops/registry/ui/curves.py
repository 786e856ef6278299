"""Metric histories as a browser can draw them: few points that keep what the eye would see.

Of each bucket of points the smallest and the largest stay (min-max decimation), so no peak is lost
however long the history; the first and the last point always stay.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ops.cache.lru import LRUCache

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from ops.registry.records import Metric
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["Curves", "curve", "thinned"]

MOST_POINTS = 1000
#: Histories from so many points on take so long to read that their curves are kept, and how many of them.
_LONG, _KEPT = 50_000, 200


class Curves:
    """The curves of a store; those of long histories are kept while nothing is logged to them."""

    def __init__(self, tracker: ExperimentTracker) -> None:
        self._tracker = tracker
        self._kept: LRUCache[Hashable, dict[str, Any]] = LRUCache(_KEPT)

    def get(self, run_id: str, key: str, *, by_time: bool, most: int) -> dict[str, Any]:
        """Return what `curve` makes of the history of a metric."""
        requested = run_id, key, by_time, most
        kept = self._kept.get(requested)
        if kept is not None and kept["points"] == self._count(run_id, key):
            return kept
        history = self._tracker.get_metric_history(run_id, key)
        made = curve(history, by_time=by_time, most=most)
        if made["points"] >= _LONG:
            self._kept.set(requested, made)
        return made

    def _count(self, run_id: str, key: str) -> int:
        found = self._tracker.get_run(run_id).metric_summaries.get(key)
        return 0 if found is None else found.count


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


def curve(history: Sequence[Metric], *, by_time: bool, most: int = MOST_POINTS) -> dict[str, Any]:
    """Return x and y of a history; x is the step, or seconds since the first point."""
    if not history:
        return {"x": [], "y": [], "points": 0}
    if by_time:
        start = min(point.timestamp for point in history)
        pairs = [((p.timestamp - start).total_seconds(), p.value) for p in history]
        pairs.sort(key=lambda pair: pair[0])
    else:
        pairs = [(float(p.step), p.value) for p in history]
    kept = thinned(pairs, most)
    return {
        "x": [x for x, _ in kept],
        "y": [y if math.isfinite(y) else None for _, y in kept],
        "points": len(pairs),
    }


def _or(value: float, other: float) -> float:
    return other if math.isnan(value) else value
