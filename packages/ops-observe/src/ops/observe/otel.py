"""Metrics for OpenTelemetry: observable instruments over a collector (extra `otel`).

An export reads the collector once, however many instruments there are: they share a snapshot until one of
them is called again, which begins the next export. Names are made what OpenTelemetry accepts; two metrics
whose names are one then, or differ in case only, get different instruments.
"""

from __future__ import annotations

import re
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation.forks import keep_over_forks
from ops.foundation.helpers import LazyImport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ops.observe.exporters import Source
    from ops.observe.metrics import MetricsSnapshot

__all__ = ["observe_with_opentelemetry"]

_Points: TypeAlias = dict[tuple[str, str], list[tuple[dict[str, str], float]]]
_OLDEST_SECONDS = 1.0
_LONGEST_NAME = 255


def observe_with_opentelemetry(collector: Source, meter: Any) -> Callable[[], None]:
    """Register observable instruments on an OpenTelemetry *meter*, and return what registers later ones.

    OpenTelemetry knows instruments by name, so call the result again after new names have
    appeared. Timers and histograms are observed as `NAME.count` and `NAME.sum`. A metric whose name is
    taken by one of another kind is `NAME.KIND`.
    """
    api: Any = LazyImport("opentelemetry.metrics", extra="ops-observe[otel]")
    shared = _SharedSnapshot(collector)
    known: set[tuple[str, str]] = set()
    taken: set[str] = set()

    def observe(kind: str, name: str) -> list[Callable[[object], Iterable[Any]]]:
        def callback(_: object) -> Iterable[Any]:
            for attributes, value in shared.points((kind, name)):
                yield api.Observation(value, attributes)

        return [callback]

    def register() -> None:
        snapshot = collector.collect()
        for kind, name in sorted(_points(snapshot), key=_order):
            if (kind, name) in known:
                continue
            known.add((kind, name))
            base, _, part = kind.partition(".")
            instrument = _free_name(name, base, part, taken)
            make = (
                meter.create_observable_gauge
                if base == "gauge"
                else meter.create_observable_counter
                if kind != "histogram.sum"  # observations may be negative
                else meter.create_observable_up_down_counter
            )
            described = snapshot.descriptions.get(name)
            make(
                instrument,
                callbacks=observe(kind, name),
                unit="" if described is None else _unit(described.unit),
                description="" if described is None else _clean(described.help),
            )

    register()
    return register


class _SharedSnapshot:
    """The points of one export, by kind and name."""

    def __init__(self, collector: Source) -> None:
        self._collector = collector
        self._points: _Points = {}
        self._used: set[tuple[str, str]] = set()
        self._read_at = float("-inf")
        self._lock = threading.RLock()
        keep_over_forks(self)

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the points; see `ops.foundation.forks`."""
        return self._lock

    def points(self, key: tuple[str, str]) -> list[tuple[dict[str, str], float]]:
        """Return the points of one instrument, of a new snapshot if it has had those of this one."""
        with self._lock:
            if key in self._used or monotonic() - self._read_at > _OLDEST_SECONDS:
                self._points = _points(self._collector.collect())
                self._used.clear()
                self._read_at = monotonic()
            self._used.add(key)
            return self._points.get(key, [])


def _points(snapshot: MetricsSnapshot) -> _Points:
    found: _Points = {}
    for kind, plain in (("counter", snapshot.counters), ("gauge", snapshot.gauges)):
        for (name, tags), value in plain.items():
            found.setdefault((kind, name), []).append((_attributes(tags), value))
    for kind, sketched in (("timer", snapshot.timers), ("histogram", snapshot.histograms)):
        for (name, tags), stats in sketched.items():
            for part, value in (("count", stats.count), ("sum", stats.total)):
                found.setdefault((f"{kind}.{part}", name), []).append((_attributes(tags), value))
    return found


def _attributes(tags: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {_clean(key): _clean(value) for key, value in tags}


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()  # exporters send UTF-8


def _unit(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()[:63]  # what OpenTelemetry takes


_KINDS = ("counter", "gauge", "timer.count", "timer.sum", "histogram.count", "histogram.sum")


def _order(key: tuple[str, str]) -> tuple[int, str]:
    return _KINDS.index(key[0]), key[1]


def _free_name(name: str, base: str, part: str, taken: set[str]) -> str:
    """Return an instrument name that no other has, in OpenTelemetry's syntax, and take it."""
    suffix = f".{part}" if part else ""
    stem = re.sub(r"[^a-zA-Z0-9_./-]", "_", name)[: _LONGEST_NAME - 40]
    if not stem[:1].isalpha():
        stem = f"n{stem}"
    candidates = [f"{stem}{suffix}", f"{stem}.{base}{suffix}"]
    number = 2
    while candidates[0].lower() in taken:
        candidates.pop(0)
        if not candidates:
            candidates.append(f"{stem}.{base}.{number}{suffix}")
            number += 1
    taken.add(candidates[0].lower())
    return candidates[0]
