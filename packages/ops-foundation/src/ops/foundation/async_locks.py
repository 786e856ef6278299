"""`AsyncFileLock`: the file lock for coroutines, whose wait lets the loop run.

It is the same lock on the same file, so coroutines exclude each other, threads and other processes. Each
acquire opens a descriptor of its own; what a task has taken is its own value, and the block ends with it.
Waiting is trying again after a pause that grows, since the kernel notifies no loop that a lock is free.
"""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from typing import TYPE_CHECKING, Self

from ops.foundation._flock import Hold, forget_in_children
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import LockCancelled, LockTimeout, SelfDeadlockError
from ops.foundation.paths import anchored
from ops.foundation.waiting import checked_timeout, checked_wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ops.foundation.paths import StrPath

__all__ = ["AsyncFileLock"]

_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.05


class AsyncFileLock:
    """A lock on the file *path* between tasks, threads and processes; `async with`, or acquire and release.

    Not re-entrant: a task that holds it and acquires it again gets `SelfDeadlockError`, or with a limit
    `LockTimeout` at once. Other tasks that share the object wait.

    Args:
        path: the lock file, as for `FileLock`; both exclude each other.
        timeout: the longest wait in seconds; None or -1 waits for ever, 0 tries once.
        mode: the permission bits of a lock file that is created; None: 0o666 less the umask.
        cancel_check: called before each pause of a wait; when it returns true, `LockCancelled` (a
            `LockTimeout`) is raised. Cancelling the task ends a wait as well.

    Raises ValueError for a *timeout* that is no number of seconds, `ValidationError` (one too) for a
    coroutine function.
    """

    def __init__(
        self,
        path: StrPath,
        timeout: float | None = None,
        *,
        mode: int | None = None,
        cancel_check: Callable[[], bool] | None = None,
    ) -> None:
        refuse_coroutine_function(cancel_check, "cancel_check", "cancel the task")
        self.path: str = anchored(path)
        self.timeout: float | None = checked_timeout(timeout)
        self.mode: int | None = mode
        self._cancel_check = cancel_check
        self._hold: Hold | None = None
        self._attempts: list[weakref.ref[Hold]] = []
        forget_in_children(self)

    @property
    def is_acquired(self) -> bool:
        """Whether a task of this process holds the lock through this object."""
        hold = self._hold
        return hold is not None and hold.depth > 0

    async def acquire(
        self,
        blocking: bool | float | None = True,  # noqa: FBT001, FBT002 - as the locks of threading
        timeout: float | None = None,  # noqa: ASYNC109 - as FileLock has it
    ) -> bool:
        """Take the lock and return True.

        Args:
            blocking: False tries once and returns False when the lock is not free. A number other
                than True and False is a *timeout*.
            timeout: the longest wait in seconds, in place of the object's.

        Raises `LockTimeout` when it is not free in time, `LockUnsupportedError` (an OSError) on a file
        system without locks.
        """
        waits, timeout = checked_wait(blocking, timeout)
        if waits:
            await self._take(timeout)
            return True
        try:
            await self._take(0.0)
        except LockTimeout:
            return False
        return True

    def release(self) -> None:
        """Unlock. Raises RuntimeError when no task holds the lock through this object."""
        hold = self._hold
        if hold is None or not hold.depth:
            raise RuntimeError(f"The lock on {self.path!r} is not held.")
        self._leave(hold)

    async def __aenter__(self) -> Self:
        await self._take(None)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._hold is not None:  # a forked child holds nothing
            self._leave(self._hold)

    def holds(self) -> list[Hold]:
        """Return the hold and the attempts of all tasks, for a fork."""
        attempts = [ref() for ref in self._attempts]
        return [hold for hold in (self._hold, *attempts) if hold is not None]

    def __repr__(self) -> str:
        state = "held" if self.is_acquired else "free"
        return f"<AsyncFileLock {self.path!r} {state}>"

    async def _take(self, seconds: float | None) -> None:
        limit = self.timeout if seconds is None else checked_timeout(seconds)
        hold = Hold(self.path, self.mode, asyncio.current_task())
        try:
            self._attempts.append(weakref.ref(hold))
            self._refuse_self_deadlock(hold, limit)
            if not self._tries(hold):
                await self._wait(hold, limit)
            hold.depth = 1
            self._hold = hold
        except BaseException:
            self._leave(hold)
            raise
        finally:
            self._attempts = [ref for ref in self._attempts if ref() not in (None, hold)]

    def _tries(self, hold: Hold) -> bool:
        # While another task holds it through this object, no file is opened to learn that.
        return not self.is_acquired and hold.take()

    async def _wait(self, hold: Hold, limit: float | None) -> None:
        pause = _FIRST_PAUSE
        end = None if limit is None else time.monotonic() + limit
        while True:
            remaining = pause if end is None else end - time.monotonic()
            if remaining <= 0:
                raise LockTimeout(f"The lock on {self.path!r} was not free within {limit} s.")
            if self._cancel_check is not None and self._cancel_check():
                raise LockCancelled(f"The wait for the lock on {self.path!r} was cancelled.")
            await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), remaining))
            if self._tries(hold):
                return
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _refuse_self_deadlock(self, hold: Hold, limit: float | None) -> None:
        held = self._hold
        if held is not None and held.depth and held.owner is hold.owner:
            kind = SelfDeadlockError if limit is None else LockTimeout
            raise kind(f"This task already holds the lock on {self.path!r}.")

    def _leave(self, hold: Hold) -> None:
        try:
            hold.close()
        except BaseException:
            hold.close()
            raise
        finally:
            if self._hold is hold:
                self._hold = None
