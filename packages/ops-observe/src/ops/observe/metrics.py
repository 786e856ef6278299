"""Counters, gauges, timers and histograms that threads update without waiting for one another.

`x += 1` on shared state loses updates between threads, and a lock costs more than the addition. So
every thread counts in a shard of its own, which it alone writes, and a reader adds the shards up.
The sums are exact once writers pause, and never go back while they run. When a thread ends, its
`threading.local` values are dropped, a weak reference says so, and the next read folds its shard
into the sum of the departed: no thread that still runs can be writing to it.

A fork waits for readers: the child has none of their threads, and would wait for their locks for ever.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeAlias, TypeVar, cast

from ops.foundation.forks import keep_over_forks
from ops.observe.errors import SignatureError
from ops.observe.sketch import Sketch, Stats, finite, number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "Counter",
    "MetricsCollector",
    "MetricsSnapshot",
    "Timer",
    "get_metrics_collector",
]

P = ParamSpec("P")
R = TypeVar("R")

Tags: TypeAlias = "Mapping[str, object] | None"
"""What tells series of one name apart; values are shown as text."""
Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its sorted tags."""
_Key: TypeAlias = "str | Series"


def _key(name: str, tags: Tags) -> _Key:
    return name if not tags else (name, tuple(sorted((k, str(v)) for k, v in tags.items())))


class _Owner:
    """Lives as long as the thread whose shard it marks."""

    __slots__ = ("__weakref__",)


class _Shard:
    """What one thread has counted."""

    __slots__ = ("counts", "owner", "sketches")

    def __init__(self, owner: weakref.ref[_Owner] | None = None) -> None:
        self.counts: dict[_Key, float] = {}
        self.sketches: dict[tuple[str, _Key], Sketch] = {}
        self.owner = owner

    def absorb(self, other: _Shard) -> None:
        for key, value in other.counts.copy().items():
            self.counts[key] = self.counts.get(key, 0) + value
        for name, sketch in other.sketches.copy().items():
            self.sketches.setdefault(name, Sketch()).merge(sketch)


_numbers = itertools.count()


class _Epoch(threading.local):
    """The shards since the last reset. `__init__` runs again in each thread that first touches it."""

    counts: dict[_Key, float]
    sketches: dict[tuple[str, _Key], Sketch]

    def __init__(self, shards: dict[int, _Shard], ended: deque[int]) -> None:
        owner = _Owner()
        number = next(_numbers)  # not its id: that is given out again before the shard is folded
        # The callback may run in the middle of anything, so it takes no lock: append is atomic.
        reference = weakref.ref(owner, lambda _: ended.append(number))
        shard = _Shard(reference)
        self.owner = owner
        self.counts = shard.counts
        self.sketches = shard.sketches
        shards[number] = shard


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """All series at one moment; the key is the name and the sorted tags. Times in seconds."""

    counters: Mapping[Series, float]
    gauges: Mapping[Series, float]
    timers: Mapping[Series, Stats]
    histograms: Mapping[Series, Stats]


class MetricsCollector:
    """Counts, gauges and durations of one program; every method may be called from any thread.

    >>> metrics = MetricsCollector()
    >>> metrics.increment("requests", tags={"path": "/"})
    >>> metrics.get_counter("requests", tags={"path": "/"})
    1
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()
        keep_over_forks(self)

    @property
    def mutex(self) -> threading.Lock:
        """The lock of those who read; see `ops.foundation.forks`."""
        return self._lock

    def reset(self) -> None:
        """Forget everything; what threads are adding at this very moment may be lost."""
        with self._lock:
            self._shards: dict[int, _Shard] = {}
            self._ended: deque[int] = deque()
            self._departed = _Shard()
            self._gauges: dict[_Key, float] = {}
            self._falling: set[_Key] = set()
            self._local = _Epoch(self._shards, self._ended)

    # ------------------------------------------------------------------ writing

    def increment(self, name: str, value: float = 1, tags: Tags = None) -> None:
        """Add *value* to a counter; raises MetricValueError for NaN and infinities."""
        if value != 1:
            value = finite(value)
        counts = self._local.counts
        key: _Key = name if not tags else _key(name, tags)
        try:
            counts[key] += value
        except KeyError:
            counts[key] = value

    def decrement(self, name: str, value: float = 1, tags: Tags = None) -> None:
        """Take *value* from a counter; it is exported as a gauge from then on."""
        self._falling.add(_key(name, tags))
        self.increment(name, -value, tags)

    def gauge(self, name: str, value: float, tags: Tags = None) -> None:
        """Set a gauge; the last value counts."""
        self._gauges[_key(name, tags)] = number(value)

    def record_time(self, name: str, seconds: float, tags: Tags = None) -> None:
        """Count one duration; raises MetricValueError for NaN and infinities."""
        self._observe("timer", _key(name, tags), seconds)

    def histogram(self, name: str, value: float, tags: Tags = None) -> None:
        """Count one observation; raises MetricValueError for NaN and infinities."""
        self._observe("histogram", _key(name, tags), value)

    def timer(self, name: str, tags: Tags = None) -> Timer:
        """Return a context manager and decorator (sync or async) that records its duration."""
        return Timer(self, name, tags)

    def _observe(self, kind: str, key: _Key, value: float) -> None:
        sketches = self._local.sketches
        try:
            sketch = sketches[kind, key]
        except KeyError:
            sketch = Sketch()
            sketch.add(value)  # first: a value that is refused makes no series
            sketches[kind, key] = sketch
        else:
            sketch.add(value)

    # ------------------------------------------------------------------ bound handles

    def counter(self, name: str, tags: Tags = None) -> Counter:
        """Return a counter bound to its name and tags."""
        return Counter(self, _key(name, tags))

    # ------------------------------------------------------------------ reading

    def get_counter(self, name: str, tags: Tags = None) -> float:
        """Return the sum over all threads, 0 when nothing was counted."""
        return self._counter_value(_key(name, tags))

    def get_gauge(self, name: str, tags: Tags = None) -> float | None:
        """Return the last value, None when it was never set."""
        return self._gauges.get(_key(name, tags))

    def get_timer_stats(self, name: str, tags: Tags = None) -> Stats:
        """Return count, total, min, max, mean and quantiles in seconds."""
        return self._stats("timer", _key(name, tags))

    def get_histogram_stats(self, name: str, tags: Tags = None) -> Stats:
        """Return count, total, min, max, mean and quantiles."""
        return self._stats("histogram", _key(name, tags))

    def collect(self) -> MetricsSnapshot:
        """Return all series; what exporters read."""
        whole = self._whole()
        falling = self._falling.copy()
        counters = {_series(k): v for k, v in whole.counts.items() if k not in falling}
        gauges = {_series(k): v for k, v in self._gauges.copy().items()}
        gauges |= {_series(k): v for k, v in whole.counts.items() if k in falling}
        sketches: dict[str, dict[Series, Stats]] = {"timer": {}, "histogram": {}}
        for (kind, key), sketch in whole.sketches.items():
            sketches[kind][_series(key)] = sketch.stats()
        return MetricsSnapshot(counters, gauges, sketches["timer"], sketches["histogram"])

    def get_summary(self) -> dict[str, dict[str, Any]]:
        """Return everything as JSON-ready values; tagged series as `name{key=value}`."""
        snapshot = self.collect()
        return {
            "counters": {_shown(s): v for s, v in sorted(snapshot.counters.items())},
            "gauges": {_shown(s): v for s, v in sorted(snapshot.gauges.items())},
            "timers": {_shown(s): v.to_dict() for s, v in sorted(snapshot.timers.items())},
            "histograms": {_shown(s): v.to_dict() for s, v in sorted(snapshot.histograms.items())},
        }

    def _counter_value(self, key: _Key) -> float:
        with self._lock:
            self._fold()
            shards = (self._departed, *self._shards.copy().values())
            return sum(shard.counts.get(key, 0) for shard in shards)

    def _stats(self, kind: str, key: _Key) -> Stats:
        whole = self._whole()
        sketch = whole.sketches.get((kind, key))
        return Stats() if sketch is None else sketch.stats()

    def _whole(self) -> _Shard:
        whole = _Shard()
        with self._lock:
            self._fold()
            for shard in (self._departed, *self._shards.copy().values()):
                whole.absorb(shard)
        return whole

    def _fold(self) -> None:
        """Move the shards of threads that have ended into one; called under the lock."""
        while self._ended:
            self._departed.absorb(self._shards.pop(self._ended.popleft()))


class Counter:
    """A counter bound to its name and tags."""

    __slots__ = ("_collector", "_key")

    def __init__(self, collector: MetricsCollector, key: _Key) -> None:
        self._collector = collector
        self._key = key

    def inc(self, value: float = 1) -> None:
        """Add *value*; raises MetricValueError for NaN and infinities."""
        if value != 1:
            value = finite(value)
        counts = self._collector._local.counts  # noqa: SLF001 - one class in two halves
        try:
            counts[self._key] += value
        except KeyError:
            counts[self._key] = value

    @property
    def value(self) -> float:
        """The sum over all threads."""
        return self._collector._counter_value(self._key)  # noqa: SLF001


class Timer:
    """Records how long a block or a call takes, also when it raises; re-entrant per thread."""

    __slots__ = ("_collector", "_name", "_starts", "_tags")

    def __init__(self, collector: MetricsCollector, name: str, tags: Tags) -> None:
        self._collector, self._name, self._tags = collector, name, tags
        self._starts = threading.local()

    def __enter__(self) -> Self:
        vars(self._starts).setdefault("stack", []).append(perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        start = self._starts.stack.pop()
        self._collector.record_time(self._name, perf_counter() - start, self._tags)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return *function*, its calls timed; a coroutine function stays one.

        Raises SignatureError for generators, whose work is done after the call.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise SignatureError(f"{function!r} is a generator; time the loop that consumes it.")
        record, name, tags = self._collector.record_time, self._name, self._tags
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                start = perf_counter()
                try:
                    return await function(*args, **kwargs)
                finally:
                    record(name, perf_counter() - start, tags)

            return cast("Callable[P, R]", timed_async)

        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            start = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                record(name, perf_counter() - start, tags)

        return timed


_collector = MetricsCollector()


def get_metrics_collector() -> MetricsCollector:
    """Return the collector of this process."""
    return _collector


def _series(key: _Key) -> Series:
    return (key, ()) if isinstance(key, str) else key


def _shown(series: Series) -> str:
    name, tags = series
    return name if not tags else f"{name}{{{','.join(f'{k}={v}' for k, v in tags)}}}"
