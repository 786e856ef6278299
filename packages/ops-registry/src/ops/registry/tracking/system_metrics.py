"""System metrics of a run: CPU, memory and, where there is one, GPU memory, logged in the background."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.registry.components import BaseMLOpsComponent
from ops.registry.errors import InvalidValueError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from ops.registry.tracking.logging_api import RunLogger

__all__ = ["SystemMetrics"]

logger: logging.Logger = get_logger("ops.registry")


class SystemMetrics(BaseMLOpsComponent):
    """Logs ``system/*`` metrics of a run while its ``with`` block runs; steps count the samples.

    *runs* is the tracker and *run_id* the run. A sample is taken every *interval_seconds* by
    *measure* (default: CPU and memory of the machine, memory of this process and of GPUs); *clock*
    counts seconds. A sample that cannot be taken or logged is counted as an error and ends nothing.
    Raises `InvalidValueError` for an interval that is not positive.
    """

    def __init__(
        self,
        runs: RunLogger,
        run_id: str,
        *,
        interval_seconds: float = 10.0,
        measure: Callable[[], dict[str, float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(f"system metrics of {run_id}", clock=clock)
        if interval_seconds <= 0:
            raise InvalidValueError(f"interval_seconds must be positive, not {interval_seconds}.")
        self._runs = runs
        self._run_id = run_id
        self._interval = interval_seconds
        self._measure = measure or measure_system
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._step = 0

    def sample(self) -> None:
        """Measure and log once, now."""
        with self.operation():
            self._runs.log_metrics(self._run_id, self._measure(), step=self._step)
            self._step += 1

    def _on_start(self) -> None:
        self._measure()  # what is missing (psutil) is reported here, not in the thread
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ops-system-metrics", daemon=True)
        self._thread.start()

    def _on_stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self._sample_quietly()  # so that a short run has one

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            self._sample_quietly()

    def _sample_quietly(self) -> None:
        try:
            self.sample()
        except Exception:
            logger.exception("%s could not be logged", self.name)


def measure_system() -> dict[str, float]:
    """Return CPU percent since the last call, memory of this process and machine, and of GPUs."""
    from ops.observe.system import get_cpu_usage, get_gpu_info, get_memory_usage, get_process_info

    process: dict[str, Any] = get_process_info()
    found = {
        "system/cpu_percent": float(get_cpu_usage(interval=0.0)["percent"]),
        "system/memory_percent": float(get_memory_usage()["percent"]),
        "system/process_memory_bytes": float(process["memory_bytes"]),
    }
    for number, gpu in enumerate(get_gpu_info()):
        found[f"system/gpu{number}_memory_used_bytes"] = float(gpu["memory_used_bytes"])
    return found
