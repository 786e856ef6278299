"""Metrics of several processes as one: files in a folder that they share, for servers that fork workers.

Each process counts in memory, as quickly as alone, and writes what it has into a file of its own every
*interval* and when it ends. An export adds the files up. A process holds a file lock as long as it
lives, which the kernel releases when it is killed: so the file of a process that has ended is known. Its
counters are added to those of all that have ended, its gauges no longer hold. That sum names the files
that are in it, so a crash between adding and removing one does not count it twice.
The lock is taken with `flock` itself, in a child as soon as it is forked; so this needs a POSIX system.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import multiprocessing.util
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.foundation.errors import ValidationError, described
from ops.foundation.files import atomic_write
from ops.foundation.forks import in_children
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger
from ops.foundation.paths import listed
from ops.observe.metrics import MetricDescription, MetricsState, get_metrics_collector
from ops.observe.shards import Shard, key_of, series_of
from ops.observe.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.observe.metrics import MetricsCollector, MetricsSnapshot
    from ops.observe.shards import Key

__all__ = ["MultiprocessMetrics"]

GaugeRule: TypeAlias = Literal["pid", "sum", "max", "min"]
_FORMAT = 1
_logger = get_logger("ops.observe")


class MultiprocessMetrics:
    """The metrics of all processes that use *folder*; give it to `serve_probes` or `prometheus_text`.

    Make it before the server forks, in a folder that is empty when the service starts: each forked
    worker then has a file of its own. A process that is killed loses what it counted since the last
    *interval*.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        collector: MetricsCollector | None = None,
        *,
        interval: float = 1.0,
        gauges: GaugeRule = "pid",
    ) -> None:
        """Begin to write the metrics of this process.

        Args:
            folder: one for each service, on a local file system; it is created.
            collector: what this process counts in; by default the process's own.
            interval: seconds between two writes.
            gauges: how those of several processes become one: apart, with a tag `pid`, or by their
                sum, maximum or minimum.

        Raises:
            ValidationError: *interval* or *gauges* makes no sense.
        """
        if not 0 < interval <= threading.TIMEOUT_MAX or gauges not in {"pid", "sum", "max", "min"}:
            raise ValidationError(
                f"interval must be positive and gauges pid, sum, max or min: {interval}, {gauges!r}."
            )
        self._folder = Path(folder).absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._collector = get_metrics_collector() if collector is None else collector
        self._interval = interval
        self._rule: GaugeRule = gauges
        self._descriptor = -1
        self._is_closed = False
        self._begin()
        in_children(self, MultiprocessMetrics._begin)
        atexit.register(self.flush)
        self._flush_at_end_of_worker()
        # Those of multiprocessing forget at their start what the parent wanted done at the end.
        multiprocessing.util.register_after_fork(self, MultiprocessMetrics._flush_at_end_of_worker)

    def _begin(self) -> None:
        if self._is_closed:
            return
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        if self._descriptor >= 0:
            os.close(self._descriptor)  # inherited: it would keep the parent's lock
        self._descriptor = _opened(self._folder / f"{self._name}.alive")
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._writing = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-files", daemon=True)
        self._thread.start()

    def _flush_at_end_of_worker(self) -> None:
        # Processes of multiprocessing, and so of pools, end without `atexit`.
        self._at_end = multiprocessing.util.Finalize(None, self.flush, exitpriority=0)

    def flush(self) -> None:
        """Write what this process has counted now; does nothing once it is closed."""
        with self._writing:
            if not self._stopped.is_set():
                self._write(self._name, _to_json(self._collector.state(), os.getpid()))

    def close(self) -> None:
        """Write for the last time; the counters of this process stay in the sum. Again, it does nothing."""
        if self._is_closed:
            return
        self.flush()
        self._is_closed = True
        with self._writing:  # a file that is written when the lock is gone would be counted twice
            self._stopped.set()
        atexit.unregister(self.flush)
        self._at_end.cancel()
        self._thread.join()
        os.close(self._descriptor)
        self._descriptor = -1

    def collect(self) -> MetricsSnapshot:
        """Return the series of all processes, those that have ended included.

        Raises `ValidationError` when a file of the folder is none of this format.
        """
        self.flush()
        with FileLock(self._folder / "folder.lock"):
            self._add_ended()
            whole, names = self._ended()
            states = [(0, whole)] + [
                (found["pid"], _from_json(found))
                for name in self._names()
                if name not in names and (found := self._read(name)) is not None
            ]
        return _added(states, self._rule).snapshot()

    def _run(self) -> None:
        stopped = self._stopped
        while not stopped.wait(self._interval):
            try:
                self.flush()
            except OSError as error:
                _logger.error("metrics were not written: %s", described(error))  # noqa: TRY400

    def _names(self) -> Iterator[str]:
        for path in listed(self._folder, "*-*.json"):
            yield path.name.removesuffix(".json")

    def _add_ended(self) -> None:
        """Add the files of processes that have ended to their sum; called under the folder's lock."""
        gone = [name for name in self._names() if name != self._name and not self._is_alive(name)]
        if not gone:
            return
        whole, names = self._ended()
        new = [name for name in gone if name not in names]
        states = [(0, whole)] + [
            (0, _from_json(found)) for name in new if (found := self._read(name)) is not None
        ]
        total = _added(states, "sum")
        total.gauges.clear()
        self._write("ended", _to_json(total, 0) | {"names": sorted(gone)})
        for name in gone:
            for suffix in (".json", ".alive"):
                (self._folder / f"{name}{suffix}").unlink(missing_ok=True)

    def _is_alive(self, name: str) -> bool:
        descriptor = _opened(self._folder / f"{name}.alive")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _ended(self) -> tuple[MetricsState, set[str]]:
        found = self._read("ended")
        if found is None:
            return MetricsState(Shard(), {}, set(), {}), set()
        return _from_json(found), set(found.get("names", ()))

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self._folder / f"{name}.json").read_text("ascii"))
        except FileNotFoundError:
            return None
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise ValidationError(
                f"{self._folder / name}.json is no file of this version; empty the folder when the "
                "service starts."
            )
        return found

    def _write(self, name: str, state: dict[str, Any]) -> None:
        with atomic_write(self._folder / f"{name}.json", durable="none") as file:
            file.write(json.dumps(state))


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _added(states: list[tuple[int, MetricsState]], rule: GaugeRule) -> MetricsState:
    """Return the sum of *states*, each with the number of its process."""
    whole = MetricsState(Shard(), {}, set(), {})
    for pid, state in states:
        whole.shard.absorb(state.shard)
        whole.falling |= state.falling
        whole.descriptions |= state.descriptions
        for key, value in state.gauges.items():
            if rule == "pid":
                name, tags = series_of(key)
                whole.gauges[key_of(name, dict(tags) | {"pid": pid})] = value
            elif key not in whole.gauges:
                whole.gauges[key] = value
            else:
                before = whole.gauges[key]
                whole.gauges[key] = {"sum": before + value, "max": max(before, value)}.get(
                    rule, min(before, value)
                )
    return whole


def _to_json(state: MetricsState, pid: int) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "pid": pid,
        "counts": [[series_of(k), v] for k, v in state.shard.counts.items()],
        "gauges": [[series_of(k), v] for k, v in state.gauges.items()],
        "falling": [series_of(k) for k in state.falling],
        "descriptions": {
            name: [d.help, d.unit, d.buckets] for name, d in state.descriptions.items()
        },
        "sketches": [
            [kind, series_of(key), _sketch_to_json(sketch)]
            for (kind, key), sketch in state.shard.sketches.items()
        ],
    }


def _from_json(found: dict[str, Any]) -> MetricsState:
    shard = Shard()
    shard.counts = {_key(series): value for series, value in found["counts"]}
    shard.sketches = {
        (kind, _key(series)): _sketch_from_json(sketch)
        for kind, series, sketch in found["sketches"]
    }
    return MetricsState(
        shard,
        {_key(series): value for series, value in found["gauges"]},
        {_key(series) for series in found["falling"]},
        {
            name: MetricDescription(text, unit, tuple(buckets))
            for name, (text, unit, buckets) in found["descriptions"].items()
        },
    )


def _key(series: list[Any]) -> Key:
    name, tags = series
    return key_of(name, dict(tags))


def _sketch_to_json(sketch: Sketch) -> dict[str, Any]:
    return {
        "total": sketch.total,
        "extremes": [sketch.minimum, sketch.maximum],
        "buckets": list(sketch.buckets.items()),
        "bounds": sketch.bounds,
        "counts": sketch.counts,
        "slices": [[end, list(found.items())] for end, found in sketch.slices],
    }


def _sketch_from_json(found: dict[str, Any]) -> Sketch:
    sketch = Sketch(tuple(found["bounds"]))
    sketch.total = found["total"]
    sketch.minimum, sketch.maximum = found["extremes"]
    sketch.buckets = {int(bucket): count for bucket, count in found["buckets"]}
    sketch.counts = list(found["counts"])
    sketch.slices = tuple(
        (end, {int(bucket): count for bucket, count in counts}) for end, counts in found["slices"]
    )
    return sketch
