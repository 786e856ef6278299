"""Limits of time: an alarm that interrupts the main thread, a deadline object everywhere else.

Python can interrupt a running block only in the main thread, by a signal. In other threads the block
gets a `Deadline` to ask, and a block that overran raises when it ends: a limit never passes silently.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING

from ops.foundation.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Deadline", "timeout_context"]


class Deadline:
    """A moment, *seconds* from now on a monotonic clock, after which work should have ended."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, never less than zero."""
        return max(0.0, self._end - self._clock())

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return self._clock() >= self._end

    def check(self) -> None:
        """Raise `DeadlineExceededError` (a TimeoutError) if the moment has passed."""
        if self.expired:
            raise DeadlineExceededError(f"The work did not end within {self.seconds} s.")


@contextlib.contextmanager
def timeout_context(seconds: float) -> Iterator[Deadline]:
    """Limit a block to *seconds*: `DeadlineExceededError` (a TimeoutError) is raised.

    In the main thread of a POSIX system the block is interrupted where it is (by SIGALRM, so code
    that holds the interpreter is interrupted when it lets go). In any other thread ask the given
    `Deadline`; a block that ends too late raises then. Blocks nest; the earliest limit is the first.
    """
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        most = threading.TIMEOUT_MAX
        raise ValueError(f"seconds={seconds} must be positive and at most {most:.0f}.")
    deadline = Deadline(seconds)
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        with _alarm(deadline):
            yield deadline
    else:
        yield deadline
        deadline.check()


@contextlib.contextmanager
def _alarm(deadline: Deadline) -> Iterator[None]:
    def interrupt(_signal: int, _frame: object) -> None:
        raise DeadlineExceededError(f"The work did not end within {deadline.seconds} s.")

    outer_left, _ = signal.getitimer(signal.ITIMER_REAL)
    if outer_left and outer_left <= deadline.seconds:
        # The outer limit comes first: its alarm stays. Should its handler not raise, this one does.
        yield
        deadline.check()
        return
    start = time.monotonic()
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, deadline.seconds)
    try:
        try:
            yield
        finally:
            # The alarm may still come here; it comes once, so what is below is not interrupted.
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, previous)
        if outer_left:
            # At least a microsecond: zero would switch the outer alarm off.
            left = max(outer_left - (time.monotonic() - start), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, left)
