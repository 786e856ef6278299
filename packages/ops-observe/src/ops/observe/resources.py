"""What a block of work costs: memory and CPU of this process, and of its children, sampled in the background."""

from __future__ import annotations

import contextlib
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.errors import ValidationError
from ops.foundation.forks import in_children
from ops.observe import cgroups
from ops.observe.system import get_gpu_info, psutil

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ResourceMonitor"]


class ResourceMonitor:
    """Samples this process every *interval* seconds, and at start and stop, so that short work counts.

    Args:
        interval: seconds between two samples.
        io: adds bytes read and written by this process.
        gpu: adds the peak of GPU memory.
        children: adds the memory and CPU time of all processes below this one, so that a pool of
            workers counts. Memory that forked processes share counts in each of them.
        clock: seconds that never go back.

    >>> with ResourceMonitor() as monitor:
    ...     _ = sum(range(1000))
    >>> monitor.get_stats()["samples"] >= 2
    True

    Raises `ValidationError` for an *interval* that is not positive.
    """

    def __init__(
        self,
        interval: float = 1.0,
        *,
        io: bool = False,
        gpu: bool = False,
        children: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not 0 < interval <= threading.TIMEOUT_MAX:
            raise ValidationError(f"interval must be positive, not {interval}.")
        self._interval, self._io, self._gpu, self._clock = interval, io, gpu, clock
        self._children = children
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        in_children(self, ResourceMonitor.begin_in_child)
        self._clear()

    def _clear(self) -> None:
        self._samples = self._peak_bytes = self._gpu_peak = 0
        self._peak_percent = self._cpu_peak = 0.0
        self._began = self._ended = self._cpu_began = self._cpu_last = self._last = 0.0
        self._io_began: Any = None
        self._io_last: Any = None

    def start(self) -> Self:
        """Begin; a running monitor goes on."""
        if self._thread is not None:
            return self
        self._process = psutil.Process()
        self._clear()
        self._began = self._last = self._clock()
        self._cpu_began = self._cpu_last = self._cpu_seconds()
        self._sample()
        self._wake.clear()
        self._thread = threading.Thread(target=self._run, name="resource-monitor", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> dict[str, Any]:
        """Take the last sample and return the measurements; does not wait for the interval."""
        if self._thread is not None:
            self._wake.set()
            self._thread.join()
            self._thread = None
            self._sample()
        return self.get_stats()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get_stats(self) -> dict[str, Any]:
        """Return the measurements so far.

        `memory_peak_bytes` is of this process (with *children*, of all below it as well), `memory_peak_percent` of what may be used;
        `cpu_average_percent` and `cpu_peak_percent` are of one CPU, so 200 is two busy ones.
        """
        if self._thread is not None:
            self._sample()
        with self._lock:
            duration = max(self._last - self._began, 1e-9)
            stats: dict[str, Any] = {
                "duration_seconds": self._last - self._began,
                "samples": self._samples,
                "memory_peak_bytes": self._peak_bytes,
                "memory_peak_percent": self._peak_percent,
                "cpu_average_percent": 100 * (self._cpu_last - self._cpu_began) / duration,
                "cpu_peak_percent": self._cpu_peak,
            }
            if self._io_began is not None:
                stats["io_read_bytes"] = self._io_last.read_bytes - self._io_began.read_bytes
                stats["io_write_bytes"] = self._io_last.write_bytes - self._io_began.write_bytes
            if self._gpu:
                stats["gpu_memory_peak_bytes"] = self._gpu_peak
            return stats

    def begin_in_child(self) -> None:
        """Stop, in a forked child, which has no thread that samples; `start` begins its own."""
        self._lock, self._wake, self._thread = threading.Lock(), threading.Event(), None

    def _run(self) -> None:
        while not self._wake.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        with self._lock:
            now, cpu = self._clock(), self._cpu_seconds()
            resident = sum(self._resident(process) for process in self._processes())
            self._samples += 1
            self._peak_bytes = max(self._peak_bytes, resident)
            percent = 100 * resident / cgroups.memory_usage()[1]
            self._peak_percent = max(self._peak_percent, percent)
            # CPU clocks tick every 10 ms; a shorter stretch would give a wild value.
            if now - self._last >= 0.05 or self._cpu_peak == 0:
                share = 100 * (cpu - self._cpu_last) / max(now - self._last, 0.01)
                self._cpu_peak = max(self._cpu_peak, share)
            self._last, self._cpu_last = now, cpu
            if self._io:
                self._io_last = self._process.io_counters()
                self._io_began = self._io_began or self._io_last
            if self._gpu:
                used = sum(gpu["memory_used_bytes"] for gpu in get_gpu_info())
                self._gpu_peak = max(self._gpu_peak, used)

    def _processes(self) -> list[Any]:
        return [self._process, *(self._process.children(recursive=True) if self._children else ())]

    def _resident(self, process: Any) -> int:
        try:
            return int(process.memory_info().rss)
        except psutil.Error:  # it has ended meanwhile
            return 0

    def _cpu_seconds(self) -> float:
        if not self._children:
            times = self._process.cpu_times()
            return float(times.user + times.system)
        total = 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                # Those that have ended count for the parent that has waited for them.
                total += times.user + times.system + times.children_user + times.children_system
        # A child that ended and was not waited for yet is in neither.
        return max(total, self._cpu_last)
