"""A lock between processes and threads that the kernel releases when its holder dies.

`FileLock` is `flock` on a descriptor that this object opened. The lock belongs to the open file
description, so it ends when the last descriptor of it is closed, which the kernel does for a
process that is killed. The file is never unlinked: whoever waits on the unlinked file and whoever
creates a new one would both hold "the" lock.

A second object on the same path has a description of its own, so threads exclude each other just
as processes do, and one thread with two objects would wait for itself: each thread keeps a list of
what it holds, which is looked at before waiting. That list also is the thread's identity, since the
numbers of threads are given out again and a lock may outlive the thread that held it.

A forked child inherits the description, and with it the power to keep its parent's lock. So the child
closes its copies of the descriptors (which does not unlock while the parent still has them) and
forgets every lock. It can, because descriptors are recorded before anybody waits on them, and no
fork happens between the opening and the recording.

Other kinds of lock are in `ops.foundation.optimistic` and `ops.foundation.readwrite`.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from ops.foundation.errors import LockTimeout, MissingExtraError, SelfDeadlockError
from ops.foundation.optimistic import OptimisticLock
from ops.foundation.readwrite import ReadWriteLock, checked_timeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ops.foundation.paths import StrPath

__all__ = [
    "FileLock",
    "LockProtocol",
    "OptimisticLock",
    "ReadWriteLock",
    "SelfDeadlockError",
]

_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.05
_WINDOWS = sys.platform == "win32"
_OPEN_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)


@runtime_checkable
class LockProtocol(Protocol):
    """What a lock can do; `FileLock` and the locks of `threading` fit."""

    def acquire(self, *args: Any, **kwargs: Any) -> Any:
        """Take the lock."""
        ...

    def release(self) -> None:
        """Give the lock back."""
        ...

    def __enter__(self) -> Any: ...
    def __exit__(self, *exc: object) -> Any: ...


class FileLock:
    """A lock on the file *path*, between processes and between threads.

    *timeout* is the longest wait in seconds: None waits for ever, 0 tries once. A lock that is not
    free in time raises `LockTimeout`, and the block is not entered. One thread may enter the same
    object again; other threads that share the object wait as they would with one of their own.

    The parent folder is created when it is missing; the file is created and never removed.
    """

    def __init__(
        self,
        path: StrPath,
        timeout: float | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path: str = os.fspath(path)
        self.timeout: float | None = checked_timeout(timeout)
        self._sleep = sleep
        self._clock = clock
        # Between threads that share this object; not an RLock, which knows threads by number.
        self._turn = threading.Lock()
        self._owner: list[FileLock] | None = None
        self._depth = 0
        self._descriptor = -1
        self._foreign: Any = None
        _objects.add(self)

    @property
    def is_acquired(self) -> bool:
        """Whether this object holds the lock now, in this process."""
        return self._depth > 0

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock within *timeout* seconds (default: the object's) and return True.

        Raises `LockTimeout` when it is not free in time. When this thread itself holds the file
        through another object, that is at once, and without a limit it is `SelfDeadlockError`.
        """
        held = _thread.held
        if self._owner is held:
            self._depth += 1
            return True
        limit = self.timeout if timeout is None else checked_timeout(timeout)
        deadline = None if limit is None else self._clock() + max(limit, 0.0)
        if not self._turn.acquire(timeout=-1 if limit is None else max(limit, 0.0)):
            raise self._timed_out(limit)
        try:
            self._lock(held, deadline, limit)
        except BaseException:
            self._turn.release()
            raise
        self._owner = held
        self._depth = 1
        held.append(self)
        return True

    def release(self) -> None:
        """Leave once; the last leave unlocks. Raises RuntimeError in a thread that does not hold it."""
        held = _thread.held
        if self._owner is not held:
            raise RuntimeError(f"The lock on {self.path!r} is not held by this thread.")
        self._depth -= 1
        if self._depth:
            return
        held.remove(self)
        self._owner = None
        try:
            self._unlock()
        finally:
            self._turn.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A block that forked gets here in the child too, which holds nothing.
        if self._depth:
            self.release()

    def __repr__(self) -> str:
        state = "held" if self.is_acquired else "free"
        return f"<FileLock {self.path!r} {state}>"

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process is a lock of its own on the same file.
        return {"path": self.path, "timeout": self.timeout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # rebuilding is the point

    def _lock(self, held: list[FileLock], deadline: float | None, limit: float | None) -> None:
        if _WINDOWS:
            self._lock_with_filelock(limit)
            return
        with _no_fork:
            self._descriptor = _open(self.path)
        try:
            if not _try_flock(self._descriptor):
                self._refuse_self_deadlock(held, limit)
                self._wait(self._descriptor, deadline, limit)
        except BaseException:
            self._close()
            raise

    def _wait(self, descriptor: int, deadline: float | None, limit: float | None) -> None:
        pause = _FIRST_PAUSE
        while True:
            if deadline is None:
                remaining = pause
            else:
                remaining = deadline - self._clock()
                if remaining <= 0:
                    raise self._timed_out(limit)
            # Jitter keeps a crowd of waiters from trying in step.
            self._sleep(min(pause * random.uniform(0.5, 1.0), max(remaining, 0.0)))
            if _try_flock(descriptor):
                return
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _refuse_self_deadlock(self, held: list[FileLock], limit: float | None) -> None:
        # By file and not by path: links and relative names lead to the same lock.
        file = os.fstat(self._descriptor)
        for other in held:
            if os.path.samestat(file, os.fstat(other._descriptor)):  # noqa: SLF001 - the same class
                message = (
                    f"This thread already holds {self.path!r} through another FileLock object."
                )
                kind = SelfDeadlockError if limit is None else LockTimeout
                raise kind(message, suggestions=("Share one object: it is re-entrant.",))

    def _unlock(self) -> None:
        if self._foreign is not None:
            self._foreign.release()
            self._foreign = None
            return
        # Explicitly, as a forked child that has not run yet may still share the description.
        _unflock(self._descriptor)
        self._close()

    def _close(self) -> None:
        # Forgotten first: a child that closed it later could close another file of that number.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _lock_with_filelock(self, limit: float | None) -> None:
        try:
            import filelock
        except ImportError as error:
            raise MissingExtraError("filelock", "ops-foundation[lock]") from error
        lock = filelock.FileLock(self.path)
        try:
            lock.acquire(timeout=-1 if limit is None else limit)
        except filelock.Timeout as error:
            raise self._timed_out(limit) from error
        self._foreign = lock

    def _timed_out(self, limit: float | None) -> LockTimeout:
        return LockTimeout(f"The lock on {self.path!r} was not free within {limit} s.")

    def _forget(self) -> None:
        """In a forked child: close the inherited descriptor without unlocking, hold nothing."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = -1
        self._depth = 0
        self._owner = None
        self._turn = threading.Lock()


class _Thread(threading.local):
    """What this thread holds; the list itself stands for the thread and is never shared or reused."""

    def __init__(self) -> None:
        self.held: list[FileLock] = []


_thread = _Thread()
_objects: weakref.WeakSet[FileLock] = weakref.WeakSet()
# Re-entrant: a signal handler may fork while its own thread opens a file.
_no_fork = threading.RLock()


def _forget_inherited() -> None:
    _no_fork.release()
    _thread.held.clear()
    for lock in list(_objects):
        lock._forget()  # noqa: SLF001 - the same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_no_fork.acquire,
        after_in_parent=_no_fork.release,
        after_in_child=_forget_inherited,
    )

if _WINDOWS:

    def _try_flock(descriptor: int) -> bool:
        raise NotImplementedError

    def _unflock(descriptor: int) -> None:
        raise NotImplementedError

else:
    import fcntl

    def _try_flock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unflock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _open(path: str) -> int:
    try:
        return os.open(path, _OPEN_FLAGS, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120 - hot path
        return os.open(path, _OPEN_FLAGS, 0o666)
