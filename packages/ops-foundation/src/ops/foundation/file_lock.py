"""A lock between processes and threads that the kernel releases when its holder dies.

`FileLock` is `flock` on a descriptor that each hold opens for itself (see `ops.foundation._flock`). The
lock belongs to the open file description, so it ends when the last descriptor of it is closed, which
the kernel does for a process that is killed. The file is never unlinked: a process that waits on the
unlinked file and one that creates a new file would both hold "the" lock.

Threads exclude each other just as processes do. One thread with two objects would wait for itself, so
each thread keeps a list of what it holds, which is looked at before waiting. That list also is the
thread's identity, since the numbers of threads are given out again and a lock may outlive its thread.

Two kinds of interruption need care. An exception (Ctrl-C, a limit of time) may come at any line: what is
taken is then given back, also when the end of a `with` block is interrupted before it has begun (see
`_Leaving`). And a signal handler may use the very lock whose `acquire` or `release` it has interrupted:
it then enters through the descriptor of that attempt, since `flock` on one description is idempotent.

Other kinds of lock are in `ops.foundation.async_locks`, `optimistic` and `readwrite`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from ops.foundation._flock import Hold, forget_in_children
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.deadlines import current_deadline
from ops.foundation.errors import LockCancelled, LockTimeout, SelfDeadlockError
from ops.foundation.paths import anchored
from ops.foundation.waiting import checked_timeout, checked_wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ops.foundation.paths import StrPath

__all__ = ["FileLock", "LockProtocol"]

_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.05


@runtime_checkable
class LockProtocol(Protocol):
    """What a lock can do; `FileLock` and the locks of `threading` fit."""

    def acquire(self, *args: Any, **kwargs: Any) -> Any:
        """Take the lock; *args* and *kwargs* are those of the lock that is used, as a timeout."""
        ...

    def release(self) -> None:
        """Give the lock back."""
        ...

    def __enter__(self) -> Any: ...
    def __exit__(self, *exc: object) -> Any: ...


class _Leaving:
    """The end of one `with` block, made before the block is entered.

    An exception may come between the last line of a block and the first of its `__exit__`, which then
    never runs. The `with` statement drops this object in that case, and its guard leaves instead. A
    weak reference is the guard and no `__del__`: it is taken away once the block is left, so usually no
    Python code runs when this object ends, where a Ctrl-C would be lost.
    """

    __slots__ = ("__weakref__", "_depth", "_guard", "_lock", "_owner")

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock
        self._owner = _thread.holds
        self._depth = lock._depth_of(self._owner)  # noqa: SLF001 - the same module
        leave = functools.partial(lock._leave_to, self._owner, self._depth)  # noqa: SLF001
        self._guard: weakref.ref[_Leaving] | None = weakref.ref(self, leave)

    def __call__(self, *_exc: object) -> None:
        depth = self._lock._depth_of(self._owner)  # noqa: SLF001 - the same module
        # Called by hand, inside the lock, it leaves once.
        self._lock._leave_to(self._owner, min(self._depth, max(depth - 1, 0)))  # noqa: SLF001
        self._guard = None


class _LeavingOf:
    """The attribute `__exit__` of a lock: a `_Leaving` for each `with` that looks it up."""

    def __get__(self, lock: FileLock | None, owner: type[FileLock]) -> Callable[..., None]:
        if lock is None:  # looked up in the class, as ExitStack does
            return lambda lock, *exc: _Leaving(lock)(*exc)
        return _Leaving(lock)


class FileLock:
    """A lock on the file *path*, between processes and between threads.

    One thread may enter the same object again; other threads that share the object wait as they would
    with one of their own. The parent folder is created when it is missing; the file is created and
    never removed. Who may read the file may lock it, on local file systems.

    Args:
        path: the lock file, which holds no data. A relative one stays where it is now.
        timeout: the longest wait in seconds; None or -1 waits for ever, 0 tries once. A lock that is
            not free in time raises `LockTimeout`, and the block is not entered.
        mode: the permission bits of a lock file that is created, whatever the umask; None: 0o666 less
            the umask. Use 0o666 for a lock that users share who write nothing else together.
        cancel_check: called before each pause of a wait; when it returns true, `LockCancelled` (a
            `LockTimeout`) is raised.
        sleep: waits a number of seconds, for tests.
        clock: counts seconds, for tests.

    Raises ValueError for a *timeout* that is no number of seconds, `ValidationError` (one too) for a
    coroutine function.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "work.lock")
    >>> with FileLock(path, timeout=5):
    ...     pass  # one process at a time
    """

    def __init__(
        self,
        path: StrPath,
        timeout: float | None = None,
        *,
        mode: int | None = None,
        cancel_check: Callable[[], bool] | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        refuse_coroutine_function(cancel_check, "cancel_check")
        if sleep is not time.sleep:
            refuse_coroutine_function(sleep, "sleep", "use AsyncFileLock")
        self.path: str = anchored(path)
        self.timeout: float | None = checked_timeout(timeout)
        self.mode: int | None = mode
        self._cancel_check = cancel_check
        self._sleep = sleep
        self._clock = clock
        self._hold: Hold | None = None
        # Attempts that have not ended: they are dropped with the frame that makes them.
        self._attempts: list[weakref.ref[Hold]] = []
        # Wakes a thread of this process that waits for this object; other waits are for time alone.
        self._freed = threading.Lock()
        self._freed.acquire()
        forget_in_children(self)

    @property
    def is_acquired(self) -> bool:
        """Whether this object holds the lock now, in this process."""
        hold = self._hold
        return hold is not None and hold.depth > 0

    def acquire(
        self,
        blocking: bool | float | None = True,  # noqa: FBT001, FBT002 - as the locks of threading
        timeout: float | None = None,
    ) -> bool:
        """Take the lock and return True.

        Args:
            blocking: False tries once and returns False when the lock is not free. A number other
                than True and False is a *timeout*.
            timeout: the longest wait in seconds, in place of the object's.

        Raises `LockTimeout` when it is not free in time. When this thread itself holds the file
        through another object, that is at once, and without a limit it is `SelfDeadlockError`.
        Inside `timeout_context` a wait ends with the block's deadline, also in other threads. A file
        system without locks raises `LockUnsupportedError` (an OSError).
        """
        waits, timeout = checked_wait(blocking, timeout)
        if waits:
            return self._take(timeout) is self
        try:
            return self._take(0.0) is self
        except LockTimeout:
            return False

    def release(self) -> None:
        """Leave once; the last leave unlocks. Raises RuntimeError in a thread that does not hold it."""
        owner = _thread.holds
        depth = self._depth_of(owner)
        if not depth:
            raise RuntimeError(f"The lock on {self.path!r} is not held by this thread.")
        try:
            self._leave_to(owner, depth - 1)
        except BaseException:
            self._leave_to(owner, depth - 1)
            raise

    def __enter__(self) -> Self:
        return self._take(None)

    if TYPE_CHECKING:

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exc: BaseException | None,
            traceback: TracebackType | None,
        ) -> None: ...
    else:
        # A block that forked gets here in the child too, which holds nothing: that is no error.
        __exit__ = _LeavingOf()

    def holds(self) -> list[Hold]:
        """Return the hold and the attempts of all threads, for a fork."""
        attempts = [ref() for ref in self._attempts]
        return [hold for hold in (self._hold, *attempts) if hold is not None]

    def __repr__(self) -> str:
        state = "held" if self.is_acquired else "free"
        return f"<FileLock {self.path!r} {state}>"

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process is a lock of its own on the same file.
        return {"path": self.path, "timeout": self.timeout, "mode": self.mode}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # rebuilding is the point

    def _depth_of(self, owner: list[Hold]) -> int:
        hold = self._hold
        return hold.depth if hold is not None and hold.owner is owner else 0

    def _take(self, timeout: float | None) -> Self:
        """Enter, or leave everything as it was before."""
        owner = _thread.holds
        there, before = self._hold, self._depth_of(owner)
        if there is not None and before:
            return self._again(there, before)
        hold: Hold | None = None
        borrowed, reference = False, None
        try:
            hold = self._interrupted_attempt(owner)
            if hold is None:
                hold = Hold(self.path, self.mode, owner)
                reference = weakref.ref(hold)
                self._attempts.append(reference)
            else:
                borrowed = hold.borrowed = True
            limit = self.timeout if timeout is None else checked_timeout(timeout)
            if not self._tries(hold):
                self._refuse_self_deadlock(hold, limit)
                self._wait(hold, limit)
            self._hold = hold
            if hold not in owner:
                owner.append(hold)
            hold.borrowed = borrowed
            hold.depth += 1
            if reference is not None:
                self._attempts.remove(reference)
            return self
        except BaseException:
            if hold is not None and borrowed:
                hold.borrowed, hold.depth = False, 0
            elif hold is not None:
                self._drop(hold, owner)
                self._attempts = [r for r in self._attempts if r() not in (None, hold)]
            raise

    def _again(self, hold: Hold, before: int) -> Self:
        try:
            hold.depth = before + 1
            return self
        except BaseException:
            hold.depth = before
            raise

    def _interrupted_attempt(self, owner: list[Hold]) -> Hold | None:
        """Return the acquire or release of this thread that the caller, a signal handler, is inside of."""
        if self._hold is None and not self._attempts:
            return None
        for hold in self.holds():
            if hold.owner is owner and not hold.depth and hold.descriptor >= 0:
                return hold
        return None

    def _tries(self, hold: Hold) -> bool:
        there = self._hold
        if there is not None and there.depth and there.owner is not hold.owner:
            return False  # by another thread through this object: no file is opened to learn that
        return hold.take()

    def _wait(self, hold: Hold, limit: float | None) -> None:
        pause = _FIRST_PAUSE
        end = None if limit is None else self._clock() + limit
        while True:
            remaining = pause if end is None else end - self._clock()
            if remaining <= 0:
                raise self._timed_out(limit)
            if self._cancel_check is not None and self._cancel_check():
                raise LockCancelled(f"The wait for the lock on {self.path!r} was cancelled.")
            # Jitter keeps a crowd of waiters from trying in step.
            self._pause(min(pause * random.uniform(0.5, 1.0), remaining))
            if self._tries(hold):
                return
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _pause(self, seconds: float) -> None:
        around = current_deadline()
        if around is not None:
            around.check()
            seconds = around.clamp(seconds)
        if self._sleep is time.sleep:
            self._freed.acquire(timeout=seconds)
        else:
            self._sleep(seconds)

    def _refuse_self_deadlock(self, hold: Hold, limit: float | None) -> None:
        if hold.descriptor < 0:
            return
        # By file and not by path: links and relative names lead to the same lock.
        file = os.fstat(hold.descriptor)
        for other in _thread.holds:
            if other.descriptor >= 0 and os.path.samestat(file, os.fstat(other.descriptor)):
                message = (
                    f"This thread already holds {self.path!r} through another FileLock object."
                )
                kind = SelfDeadlockError if limit is None else LockTimeout
                raise kind(message, suggestions=("Share one object: it is re-entrant.",))

    def _leave_to(self, owner: list[Hold], depth: int, _guard: object = None) -> None:
        """Leave until *owner* is inside *depth* times only."""
        hold = self._hold
        if hold is None or hold.owner is not owner or hold.depth <= depth:
            return
        if depth:
            hold.depth = depth
        elif hold.borrowed:
            # What the interrupted acquire or release does next takes or gives back this hold.
            hold.borrowed, hold.depth = False, 0
        else:
            try:
                self._drop(hold, owner)
            except BaseException:
                self._drop(hold, owner)
                raise

    def _drop(self, hold: Hold, owner: list[Hold]) -> None:
        hold.close()
        if self._hold is hold:
            self._hold = None
        with contextlib.suppress(ValueError):
            owner.remove(hold)
        if self._freed.locked():
            with contextlib.suppress(RuntimeError):  # another thread has just done so
                self._freed.release()

    def _timed_out(self, limit: float | None) -> LockTimeout:
        return LockTimeout(f"The lock on {self.path!r} was not free within {limit} s.")


class _Thread(threading.local):
    """What this thread holds; the list itself stands for the thread and is never shared or reused."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []


_thread = _Thread()


def _forget_holds() -> None:
    _thread.holds.clear()  # of the thread that forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_holds)
