"""Counters, gauges, timers and histograms that threads update without waiting for one another.

`x += 1` on shared state loses updates between threads, and a lock costs more than the addition. So
every thread counts in a shard of its own (`ops.observe.shards`), and a reader adds the shards up.

A fork waits for readers: the child has none of their threads, and would wait for their locks for ever.
What the parent had counted is exported by the parent; exports of the child begin at zero, so that the
sum over all processes counts everything once.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import ValidationError, described
from ops.foundation.forks import in_children, keep_over_forks
from ops.foundation.logs import get_logger
from ops.observe.shards import Epoch, Shard, checked, key_of, series_of
from ops.observe.sketch import Sketch, Stats, finite, number
from ops.observe.timing import Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ops.observe.shards import Key, Series, Tags

__all__ = [
    "Counter",
    "MetricDescription",
    "MetricsCollector",
    "MetricsSnapshot",
    "Timer",
    "get_metrics_collector",
]

_logger = get_logger("ops.observe")
_ONE = 1  # the usual step, known by being it: all that merely equals it may be of any type


@dataclass(frozen=True, slots=True)
class MetricDescription:
    """What exporters show beside a metric.

    *help* is a sentence, *unit* a word such as "seconds", and *buckets* are the upper bounds of a
    histogram.
    """

    help: str = ""
    unit: str = ""
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """All series at one time; the key is the name and the sorted tags. Times in seconds.

    *descriptions* are by name.

    *counters* and *gauges* are numbers, *timers* and *histograms* `Stats`.
    """

    counters: Mapping[Series, float]
    gauges: Mapping[Series, float]
    timers: Mapping[Series, Stats]
    histograms: Mapping[Series, Stats]
    descriptions: Mapping[str, MetricDescription] = field(default_factory=dict)


@dataclass(slots=True)
class MetricsState:
    """The series of one process, or of several, before their quantiles are computed."""

    shard: Shard
    gauges: dict[Key, float]
    falling: set[Key]
    descriptions: dict[str, MetricDescription]

    def snapshot(self) -> MetricsSnapshot:
        """Return the series as exporters read them."""
        counts = self.shard.counts
        counters = {series_of(k): v for k, v in counts.items() if k not in self.falling}
        gauges = {series_of(k): v for k, v in self.gauges.items()}
        gauges |= {series_of(k): v for k, v in counts.items() if k in self.falling}
        sketches: dict[str, dict[Series, Stats]] = {"timer": {}, "histogram": {}}
        for (kind, key), sketch in self.shard.sketches.items():
            sketches[kind][series_of(key)] = sketch.stats()
        return MetricsSnapshot(
            counters, gauges, sketches["timer"], sketches["histogram"], self.descriptions
        )


class MetricsCollector:
    """Counts, gauges and durations of one program; every method may be called from any thread.

    In a forked child `collect`, which exporters use, begins at zero; `get_counter` and the other readers
    still include what the parent had counted.

    >>> metrics = MetricsCollector()
    >>> metrics.increment("requests", tags={"path": "/"})
    >>> metrics.get_counter("requests", tags={"path": "/"})
    1
    """

    def __init__(self) -> None:
        # Re-entrant: a signal handler may read what it interrupts.
        self._lock = threading.RLock()
        self._descriptions: dict[str, MetricDescription] = {}
        self._callbacks: dict[Key, Callable[[], float]] = {}
        self.reset()
        keep_over_forks(self)
        in_children(self, MetricsCollector._inherit)

    @property
    def mutex(self) -> threading.RLock:
        """The lock of those who read; see `ops.foundation.forks`."""
        return self._lock

    def reset(self) -> None:
        """Remove all series; what threads add at the same time may be lost.

        Descriptions and callback gauges stay.
        """
        with self._lock:
            self._begin()
            self._inherited = Shard()
            self._gauges: dict[Key, float] = {}
            self._falling: set[Key] = set()

    def _begin(self) -> None:
        self._shards: dict[int, Shard] = {}
        self._ended: deque[int] = deque()
        self._departed = Shard()
        self._local = Epoch(self._shards, self._ended)

    def _inherit(self) -> None:
        """In a forked child: what was counted so far is the parent's to export."""
        self._inherited = self._whole()
        self._begin()

    # ------------------------------------------------------------------ writing

    def increment(self, name: str, value: float = 1, tags: Tags = None) -> None:
        """Add *value* to the counter *name*; raises MetricValueError for NaN and infinities.

        *tags* distinguish series of one name; each set of them is one series. A negative *value* is
        taken from it, as `decrement` does.
        """
        key: Key = name if not tags else key_of(name, tags)
        if value is not _ONE:
            value = finite(value)
            if value < 0:
                self._falling.add(key)
        counts = self._local.counts
        try:
            counts[key] += value
        except KeyError:
            counts[checked(key)] = value

    def decrement(self, name: str, value: float = 1, tags: Tags = None) -> None:
        """Take *value* from the counter *name* with *tags*; it is exported as a gauge from then on.

        Exporters rely on counters that never fall. Raises MetricValueError for NaN and infinities.
        """
        key = checked(key_of(name, tags))
        value = finite(value)
        self._falling.add(key)
        self.increment(name, -value, tags)

    def gauge(self, name: str, value: float, tags: Tags = None) -> None:
        """Set the gauge *name* with *tags* to *value*; the last one counts.

        *value* is a number, NaN and infinities included. Raises MetricValueError for text and for
        integers that no float holds.
        """
        self._gauges[checked(key_of(name, tags))] = number(value)

    def gauge_callback(self, name: str, function: Callable[[], float], tags: Tags = None) -> None:
        """Call *function* for the value of the gauge *name* with *tags* whenever it is read; the last one counts.

        When it raises, the gauge is left out and the type of the error is logged. Raises
        `ValidationError` when it cannot be called, and for a coroutine function.
        """
        if not callable(function):
            raise ValidationError(f"gauge_callback needs a function, not {function!r}.")
        refuse_coroutine_function(function, "function")
        self._callbacks[checked(key_of(name, tags))] = function

    def record_time(self, name: str, seconds: float, tags: Tags = None) -> None:
        """Count one duration of *seconds* under *name* and *tags*; raises MetricValueError for NaN and infinities."""
        self._observe("timer", name if not tags else key_of(name, tags), seconds)

    def histogram(self, name: str, value: float, tags: Tags = None) -> None:
        """Count the observation *value* under *name* and *tags*; raises MetricValueError for NaN and infinities."""
        self._observe("histogram", name if not tags else key_of(name, tags), value)

    def timer(self, name: str, tags: Tags = None) -> Timer:
        """Return a context manager and decorator (sync or async) that records its duration."""
        return Timer(self, name, tags)

    def _observe(self, kind: str, key: Key, value: float) -> None:
        sketches = self._local.sketches
        try:
            sketch = sketches[kind, key]
        except KeyError:
            key = checked(key)
            described = self._descriptions.get(series_of(key)[0])
            sketch = Sketch(described.buckets if described is not None else ())
            sketch.add(value)  # first: a value that is refused makes no series
            sketches[kind, key] = sketch
        else:
            sketch.add(value)

    # ------------------------------------------------------------------ descriptions and removal

    def describe(
        self,
        name: str,
        help: str = "",  # noqa: A002 - as in Prometheus
        *,
        unit: str = "",
        buckets: Iterable[float] = (),
    ) -> None:
        """Describe the metric *name* for exporters.

        Args:
            name: as it is counted.
            help: a sentence.
            unit: such as "bytes"; OpenMetrics gives it to the name as a suffix.
            buckets: ascending upper bounds for a timer or histogram, which is then exported with
                buckets, beside quantiles for readers in the process. Give them before the first
                observation.

        Raises ValidationError for bounds that do not ascend, or that come too late, and for a name,
        a help or a unit that is no text.
        """
        if not all(isinstance(text, str) for text in (name, help, unit)):
            raise ValidationError(
                f"name, help and unit are text, not {name!r}, {help!r}, {unit!r}."
            )
        bounds = tuple(float(bound) for bound in buckets)
        ascending = all(a < b for a, b in itertools.pairwise(bounds))
        if not ascending or any(not abs(bound) < float("inf") for bound in bounds):
            raise ValidationError(f"buckets must be finite and ascend: {bounds}.")
        with self._lock:
            known = self._descriptions.get(name, MetricDescription())
            if bounds != known.buckets and self._is_observed(name):
                raise ValidationError(
                    f"{name!r} has observations without these buckets; describe it before the first."
                )
            self._descriptions[name] = MetricDescription(help, unit, bounds)

    def _is_observed(self, name: str) -> bool:
        return any(series_of(key)[0] == name for _, key in self._whole().sketches)

    def remove(self, name: str, tags: Tags = None) -> bool:
        """Remove the series of *name* with these *tags*, without tags all of it; False if there is none.

        A thread that counts at the same time may bring its series back.
        """
        key = key_of(name, tags) if tags else None
        with self._lock:
            self._fold()
            shards = (self._departed, self._inherited, *self._shards.copy().values())
            found = [shard.remove(name, key) for shard in shards]
            stores: tuple[dict[Key, Any], ...] = (self._gauges, self._callbacks)
            for store in stores:
                fitting = (
                    k for k in store.copy() if k == key or (key is None and series_of(k)[0] == name)
                )
                found += [store.pop(k, None) is not None for k in fitting]
        return any(found)

    # ------------------------------------------------------------------ bound handles

    def counter(self, name: str, tags: Tags = None) -> Counter:
        """Return a counter bound to its name and tags."""
        return Counter(self, checked(key_of(name, tags)))

    # ------------------------------------------------------------------ reading

    def get_counter(self, name: str, tags: Tags = None) -> float:
        """Return the sum over all threads, 0 when nothing was counted."""
        return self._counter_value(key_of(name, tags))

    def get_gauge(self, name: str, tags: Tags = None) -> float | None:
        """Return the last value, None when it was never set."""
        key = key_of(name, tags)
        return (
            _called(name, self._callbacks[key]) if key in self._callbacks else self._gauges.get(key)
        )

    def get_timer_stats(self, name: str, tags: Tags = None) -> Stats:
        """Return count, total, min, max, mean and quantiles in seconds."""
        return self._stats("timer", key_of(name, tags))

    def get_histogram_stats(self, name: str, tags: Tags = None) -> Stats:
        """Return count, total, min, max, mean and quantiles."""
        return self._stats("histogram", key_of(name, tags))

    def collect(self) -> MetricsSnapshot:
        """Return all series of this process; what exporters read."""
        return self.state().snapshot()

    def state(self) -> MetricsState:
        """Return copies of all series of this process, from which those of several can be added up."""
        gauges = self._gauges.copy()
        for key, function in self._callbacks.copy().items():
            value = _called(series_of(key)[0], function)
            if value is not None:
                gauges[key] = value
        whole = self._whole(inherited=False)
        return MetricsState(whole, gauges, self._falling.copy(), self._descriptions.copy())

    def get_summary(self) -> dict[str, dict[str, Any]]:
        """Return everything as JSON-ready values; tagged series as `name{key=value}`."""
        snapshot = self.collect()
        return {
            "counters": {_shown(s): v for s, v in sorted(snapshot.counters.items())},
            "gauges": {_shown(s): v for s, v in sorted(snapshot.gauges.items())},
            "timers": {_shown(s): v.to_dict() for s, v in sorted(snapshot.timers.items())},
            "histograms": {_shown(s): v.to_dict() for s, v in sorted(snapshot.histograms.items())},
        }

    def _counter_value(self, key: Key) -> float:
        with self._lock:
            self._fold()
            shards = (self._inherited, self._departed, *self._shards.copy().values())
            return sum(shard.counts.get(key, 0) for shard in shards)

    def _stats(self, kind: str, key: Key) -> Stats:
        whole = self._whole()
        sketch = whole.sketches.get((kind, key))
        return Stats() if sketch is None else sketch.stats()

    def _whole(self, *, inherited: bool = True) -> Shard:
        whole = Shard()
        with self._lock:
            self._fold()
            before = (self._inherited,) if inherited else ()
            for shard in (*before, self._departed, *self._shards.copy().values()):
                whole.absorb(shard)
        return whole

    def _fold(self) -> None:
        """Move the shards of threads that have ended into one; called under the lock."""
        while self._ended:
            self._departed.absorb(self._shards.pop(self._ended.popleft()))


class Counter:
    """A counter bound to its name and tags."""

    __slots__ = ("_collector", "_key")

    def __init__(self, collector: MetricsCollector, key: Key) -> None:
        self._collector = collector
        self._key = key

    def inc(self, value: float = 1) -> None:
        """Add *value*; raises MetricValueError for NaN and infinities.

        After a negative *value* the counter is exported as a gauge.
        """
        if value is not _ONE:
            value = finite(value)
            if value < 0:
                self._collector._falling.add(self._key)  # noqa: SLF001 - one class in two halves
        counts = self._collector._local.counts  # noqa: SLF001
        try:
            counts[self._key] += value
        except KeyError:
            counts[self._key] = value

    @property
    def value(self) -> float:
        """The sum over all threads."""
        return self._collector._counter_value(self._key)  # noqa: SLF001


_collector = MetricsCollector()


def get_metrics_collector() -> MetricsCollector:
    """Return the collector of this process."""
    return _collector


def _called(name: str, function: Callable[[], float]) -> float | None:
    try:
        return number(function())
    except Exception as error:  # noqa: BLE001 - one gauge must not take the others away
        _logger.error("the callback of gauge %r failed with %s", name, described(error))  # noqa: TRY400
        return None


def _shown(series: Series) -> str:
    name, tags = series
    return name if not tags else f"{name}{{{','.join(f'{k}={v}' for k, v in tags)}}}"
