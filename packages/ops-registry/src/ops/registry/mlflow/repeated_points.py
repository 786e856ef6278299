"""Points that a client logs twice: they count once, as in MLflow's own stores, and are written once.

A client repeats a request that was not answered, and MLflow 3 logs the metrics of a run again for each model that it logs. A point
is the same when name, value, step and time are. One that is later than the last, by step and then time, is new without looking;
only for others the history is read, and what it has is kept as long as nothing else is logged.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlflow.entities import Metric

    from ops.registry.run_rows import RunningSummary

__all__ = ["RepeatedPoints", "once"]

#: Value as text (so that NaN equals itself), step, nanoseconds.
Identity: TypeAlias = tuple[str, int, int]
Point: TypeAlias = tuple[float, int, int]
_NS_PER_MS = 1_000_000
#: The histories of so many metrics are kept.
_MOST = 64


@dataclasses.dataclass(slots=True)
class _Known:
    """The points of a metric; *count* is how many its summary has when all of them are written."""

    count: int
    points: set[Identity]


class RepeatedPoints:
    """Knows points that a run has from new ones; *points* gives all of a metric as (value, step, nanoseconds)."""

    def __init__(self, points: Callable[[str, str], Iterable[Point]]) -> None:
        self._points = points
        self._known: collections.OrderedDict[tuple[str, str], _Known] = collections.OrderedDict()
        self._lock = threading.RLock()  # a signal handler may log amid logging of its thread

    def new(
        self, run_id: str, summaries: Mapping[str, RunningSummary], metrics: Sequence[Metric]
    ) -> Sequence[Metric]:
        """Return those of *metrics* that the run does not have; *summaries* is what its row has of each."""
        # What the request has brought so far counts as the last one too.
        last = {
            key: (kept.last_step, kept.last_at)
            for key, kept in ((m.key, summaries.get(m.key)) for m in metrics)
            if kept is not None
        }
        fresh = []
        for metric in metrics:
            key, time = metric.key, _time(metric)
            if key not in last or time > last[key]:
                last[key] = time
                fresh.append(metric)
                self._note(run_id, metric)
            elif self._is_unknown(run_id, summaries.get(key), metric, fresh):
                fresh.append(metric)
                self._note(run_id, metric)
        return fresh

    def _is_unknown(
        self, run_id: str, summary: RunningSummary | None, metric: Metric, before: Iterable[Metric]
    ) -> bool:
        identity = _identity(metric)
        earlier = [_identity(one) for one in before if one.key == metric.key]
        if identity in earlier:
            return False
        if summary is None:
            return True
        with self._lock:
            known = self._known.get((run_id, metric.key))
            if known is None or known.count != summary.count + len(earlier):
                points = {_of(point) for point in self._points(run_id, metric.key)}
                known = _Known(summary.count + len(earlier), points | set(earlier))
                self._known[run_id, metric.key] = known
                while len(self._known) > _MOST:
                    self._known.popitem(last=False)
            return identity not in known.points

    def _note(self, run_id: str, metric: Metric) -> None:
        """Keep a history that was read up to date."""
        if (run_id, metric.key) not in self._known:  # nearly always
            return
        with self._lock:
            known = self._known.get((run_id, metric.key))
            if known is not None:
                known.count += 1
                known.points.add(_identity(metric))


def once(points: Iterable[Point]) -> list[Point]:
    """Return each point once, as the first of its kind."""
    found: dict[Identity, Point] = {}
    for point in points:
        found.setdefault(_of(point), point)
    return list(found.values())


def _of(point: Point) -> Identity:
    return repr(float(point[0])), point[1], point[2]


def _identity(metric: Metric) -> Identity:
    return repr(float(metric.value)), *_time(metric)


def _time(metric: Metric) -> tuple[int, int]:
    return int(metric.step or 0), int(metric.timestamp) * _NS_PER_MS
