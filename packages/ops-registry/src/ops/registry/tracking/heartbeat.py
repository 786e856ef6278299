"""Signs of life of the runs that a process has open, given in a thread of its own until it ends."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MISSED_BEATS", "Heart"]

#: How many heartbeats may be missed.
MISSED_BEATS = 5


class Heart:
    """Calls *beat* every *interval_seconds*, in a thread of its own; 0 is never."""

    def __init__(self, beat: Callable[[], object], interval_seconds: float) -> None:
        self.beat: Callable[[], object] = beat
        self.interval_seconds: float = interval_seconds
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = -1

    def start(self) -> None:
        """Begin, unless it beats already in this process."""
        if self.interval_seconds <= 0 or self._process == os.getpid():
            return
        self._process = os.getpid()  # a forked child has no thread
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ops-registry-heart", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; what was given stays as old as it is."""
        self._stopped.set()
        self._process = -1

    def _run(self) -> None:
        stopped = self._stopped
        while not stopped.wait(self.interval_seconds):
            self.beat()
