"""Flushing files in the background: what ``durability="interval"`` means.

One thread of the process looks once a second at the files that were appended to since, and flushes
each. A machine that loses power loses at most about the last second; who appends never waits.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from ops.foundation.forks import in_children
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

__all__ = ["Flusher", "flush"]

logger: logging.Logger = get_logger("ops.registry")


class Flusher:
    """Calls what it was given to flush after *interval_seconds*, once, in a thread of its own."""

    def __init__(self, interval_seconds: float = 1.0) -> None:
        self._interval = interval_seconds
        self._due: list[Callable[[], object]] = []
        self._lock = threading.RLock()  # a signal handler may append amid an append of its thread
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        in_children(self, Flusher.begin_in_child)

    def begin_in_child(self) -> None:
        """Reset in a forked child, which has no thread; the parent flushes what is due."""
        self._due, self._lock, self._thread = [], threading.RLock(), None

    def add(self, call: Callable[[], object]) -> None:
        """Call *call* within the interval."""
        with self._lock:
            self._due.append(call)
            if self._thread is None:
                # A daemon: closing a file flushes it, so nothing waits for this at the end.
                self._thread = threading.Thread(target=self._run, name="ops-flush", daemon=True)
                self._thread.start()
        self._wake.set()

    def run_due(self) -> None:
        """Call everything that is due now."""
        with self._lock:
            due, self._due = self._due, []
        for call in due:
            try:
                call()
            except OSError:
                logger.exception("a journal could not be flushed")

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            threading.Event().wait(self._interval)
            self.run_due()


def flush(descriptor: int) -> None:
    """Wait until what was written to *descriptor* is on the disk."""
    getattr(os, "fdatasync", os.fsync)(descriptor)
