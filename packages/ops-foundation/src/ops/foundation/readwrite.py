"""A lock that many readers share and one writer has alone, between the threads of a process.

Writers are preferred: once a writer waits, no new reader enters, so a steady stream of readers
cannot starve it. All state changes under one condition; whoever leaves wakes the others.
"""

from __future__ import annotations

import contextlib
import math
import threading
from typing import TYPE_CHECKING

from ops.foundation.errors import LockTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ReadWriteLock"]


class ReadWriteLock:
    """Many readers or one writer. Not re-entrant: a nested wait would be for oneself.

    *timeout* in seconds is the default of both sides; None waits for ever.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout: float | None = checked_timeout(timeout)
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0

    @contextlib.contextmanager
    def read(self, timeout: float | None = None) -> Iterator[None]:
        """Share the lock with other readers for a block."""
        self.acquire_read(timeout)
        try:
            yield
        finally:
            self.release_read()

    @contextlib.contextmanager
    def write(self, timeout: float | None = None) -> Iterator[None]:
        """Have the lock alone for a block."""
        self.acquire_write(timeout)
        try:
            yield
        finally:
            self.release_write()

    def acquire_read(self, timeout: float | None = None) -> None:
        """Enter as a reader, or raise `LockTimeout`."""
        limit = self.timeout if timeout is None else checked_timeout(timeout)
        with self._changed:
            if not self._changed.wait_for(self._may_read, limit):
                raise LockTimeout(f"No reader could enter within {limit} s.")
            self._readers += 1

    def release_read(self) -> None:
        """Leave as a reader."""
        with self._changed:
            if not self._readers:
                raise RuntimeError("release_read without a reader inside.")
            self._readers -= 1
            if not self._readers:
                self._changed.notify_all()

    def acquire_write(self, timeout: float | None = None) -> None:
        """Enter as the only one, or raise `LockTimeout`."""
        limit = self.timeout if timeout is None else checked_timeout(timeout)
        with self._changed:
            self._writers_waiting += 1
            try:
                if not self._changed.wait_for(self._may_write, limit):
                    raise LockTimeout(f"The writer could not enter within {limit} s.")
                self._writing = True
            finally:
                self._writers_waiting -= 1
                if not self._writing:
                    # A writer that gave up must not keep the readers out that waited behind it.
                    self._changed.notify_all()

    def release_write(self) -> None:
        """Leave as the writer."""
        with self._changed:
            if not self._writing:
                raise RuntimeError("release_write without a writer inside.")
            self._writing = False
            self._changed.notify_all()

    def _may_read(self) -> bool:
        return not self._writing and not self._writers_waiting

    def _may_write(self) -> bool:
        return not self._writing and not self._readers


def checked_timeout(timeout: float | None) -> float | None:
    """Return what a wait of *timeout* seconds is to `threading`: None for more than it can count.

    Raises ValueError for NaN, which is neither reached nor exceeded: a wait would spin for ever.
    """
    if timeout is None or timeout > threading.TIMEOUT_MAX:
        return None
    if math.isnan(timeout):
        raise ValueError("timeout=nan is no number of seconds; None waits for ever.")
    return timeout
