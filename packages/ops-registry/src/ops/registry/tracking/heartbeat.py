"""Heartbeats of the runs that a process has open, sent by a thread of its own until it ends."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MISSED_HEARTBEATS", "Heartbeat"]

#: How many heartbeats may be missed.
MISSED_HEARTBEATS = 5


class Heartbeat:
    """Calls *send* every *interval_seconds*, in a thread of its own; 0 is never."""

    def __init__(self, send: Callable[[], object], interval_seconds: float) -> None:
        self.send: Callable[[], object] = send
        self.interval_seconds: float = interval_seconds
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = -1

    def start(self) -> None:
        """Begin, unless it runs already in this process."""
        if self.interval_seconds <= 0 or self._process == os.getpid():
            return
        self._process = os.getpid()  # a forked child has no thread
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="ops-registry-heartbeat", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop; the last heartbeat stays as old as it is."""
        self._stopped.set()
        self._process = -1

    def _run(self) -> None:
        stopped = self._stopped
        while not stopped.wait(self.interval_seconds):
            self.send()
