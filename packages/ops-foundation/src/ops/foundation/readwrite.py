"""A lock that many readers share and one writer has alone, between the threads of a process.

All entries stand in one queue, those inside and those that wait, in the order in which they came: a
reader may be inside when no writer stands before it, a writer when no entry does. So neither a stream of
readers nor one of writers starves the other side, and no lock guards the queue: its order is decided by
`list.append` alone, and what stands before an entry only ever gets less.

The queue knows its entries weakly. An entry lives in the block that it belongs to; when an exception comes
at any line (Ctrl-C, a limit of time), the entry ends with that block. A signal handler that uses the lock
passes attempts of its own thread, which cannot go on before the handler returns. A forked child keeps the
entries of the thread that forked and drops those of threads that it does not have.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from typing import TYPE_CHECKING

from ops.foundation.deadlines import current_deadline
from ops.foundation.errors import LockTimeout
from ops.foundation.forks import in_children
from ops.foundation.waiting import checked_timeout, checked_wait

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ReadWriteLock"]

# A waiter looks again this often although nothing woke it: an entry that is dropped wakes no other.
_LOOK_AGAIN_SECONDS = 0.5


class ReadWriteLock:
    """Many readers or one writer. Not re-entrant: a nested wait would be for oneself.

    *timeout* in seconds is the default of both sides; None or -1 waits for ever.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout: float | None = checked_timeout(timeout)
        self._queue: list[weakref.ref[_Entry]] = []
        # Entries without a block, between an `acquire_` and its `release_`.
        self._kept: list[_Entry] = []
        in_children(self, ReadWriteLock._drop_other_threads)

    def read(self, timeout: float | None = None) -> _Block:
        """Share the lock with other readers for a block."""
        return _Block(self, timeout, writes=False)

    def write(self, timeout: float | None = None) -> _Block:
        """Have the lock alone for a block."""
        return _Block(self, timeout, writes=True)

    def acquire_read(
        self,
        blocking: bool | float | None = True,  # noqa: FBT001, FBT002 - as the locks of threading
        timeout: float | None = None,
    ) -> bool:
        """Enter as a reader and return True.

        Args:
            blocking: False does not wait, and returns False when a writer is inside or waits. A
                number other than True and False is a *timeout*.
            timeout: the longest wait in seconds, in place of the lock's.

        Raises `LockTimeout` when that was not possible in time.
        """
        return self._keep(_Entry(writes=False), blocking, timeout)

    def release_read(self) -> None:
        """Leave as a reader. Raises RuntimeError without an `acquire_read` before."""
        self._leave_kept(writes=False)

    def acquire_write(
        self,
        blocking: bool | float | None = True,  # noqa: FBT001, FBT002 - as the locks of threading
        timeout: float | None = None,
    ) -> bool:
        """Enter as the only one and return True; the arguments are those of `acquire_read`.

        *blocking* False does not wait, and returns False when the lock is not free; *timeout* is
        the longest wait in seconds. Raises `LockTimeout`.
        """
        return self._keep(_Entry(writes=True), blocking, timeout)

    def release_write(self) -> None:
        """Leave as the writer. Raises RuntimeError without an `acquire_write` before."""
        self._leave_kept(writes=True)

    def _keep(
        self,
        entry: _Entry,
        blocking: bool | float | None,  # noqa: FBT001
        timeout: float | None,
    ) -> bool:
        waits, timeout = checked_wait(blocking, timeout)
        try:
            self._enter(entry, timeout if waits else 0.0)
            self._kept.append(entry)
            return True
        except LockTimeout:
            self._leave(entry)
            if not waits:
                return False
            raise
        except BaseException:
            self._leave(entry)
            raise

    def _leave_kept(self, *, writes: bool) -> None:
        entries = [entry for entry in self._kept if entry.writes == writes]
        if not entries:
            side = "write" if writes else "read"
            raise RuntimeError(f"release_{side} without an acquire_{side} before.")
        own = [entry for entry in entries if entry.thread == threading.get_ident()]
        self._leave((own or entries)[0])

    def _enter(self, entry: _Entry, timeout: float | None) -> None:
        limit = self.timeout if timeout is None else checked_timeout(timeout)
        try:
            self._queue.append(entry.reference)
            if not self._is_free_for(entry):
                self._wait(entry, limit)
            entry.inside = True
        except BaseException:
            self._leave(entry)
            raise

    def _is_free_for(self, entry: _Entry) -> bool:
        for reference in list(self._queue):
            other = reference()
            if other is entry:
                break
            if other is None or (other.thread == entry.thread and not other.inside):
                continue
            if entry.writes or other.writes:
                return False
        return True

    def _wait(self, entry: _Entry, limit: float | None) -> None:
        end = None if limit is None else time.monotonic() + limit
        while not self._is_free_for(entry):
            left = _LOOK_AGAIN_SECONDS if end is None else end - time.monotonic()
            if left <= 0:
                side = "writer" if entry.writes else "reader"
                raise LockTimeout(f"The {side} could not enter within {limit} s.")
            entry.wait(min(left, _LOOK_AGAIN_SECONDS))

    def _leave(self, entry: _Entry) -> None:
        """Take *entry* out of the queue, as often as is needed, and wake those behind it."""
        entry.inside = False
        if entry in self._kept:
            self._kept.remove(entry)
        if entry.reference in self._queue:
            self._queue.remove(entry.reference)
        for reference in list(self._queue):
            waiter = reference()
            if waiter is None:
                with contextlib.suppress(ValueError):  # removed by another thread
                    self._queue.remove(reference)
            else:
                waiter.wake()

    def _drop_other_threads(self) -> None:
        thread = threading.get_ident()
        self._kept = [entry for entry in self._kept if entry.thread == thread]
        entries = ((reference, reference()) for reference in self._queue)
        self._queue = [ref for ref, entry in entries if entry and entry.thread == thread]


class _Entry:
    """One reader or writer that stands in the queue of its lock."""

    __slots__ = ("__weakref__", "_woken", "inside", "reference", "thread", "writes")

    def __init__(self, *, writes: bool) -> None:
        self.writes = writes
        self.thread = threading.get_ident()
        self.inside = False
        self.reference = weakref.ref(self)
        self._woken: threading.Lock | None = None

    def wait(self, seconds: float) -> None:
        around = current_deadline()
        if around is not None:
            around.check()
            seconds = around.clamp(seconds)
        if self._woken is None:
            woken = threading.Lock()
            woken.acquire()
            self._woken = woken
            seconds = 0.0  # once more at once: the entry before saw no waiter to wake
        self._woken.acquire(timeout=seconds)

    def wake(self) -> None:
        if self._woken is not None and self._woken.locked():
            with contextlib.suppress(RuntimeError):  # woken by another thread
                self._woken.release()


class _Block(contextlib.ContextDecorator):
    """A `with` block of a reader or a writer; as a decorator, each call is one."""

    def __init__(self, lock: ReadWriteLock, timeout: float | None, *, writes: bool) -> None:
        self._lock = lock
        self._timeout = timeout
        self._writes = writes
        self._entry: _Entry | None = None

    def __enter__(self) -> None:
        if self._entry is not None:
            raise RuntimeError(
                "This block is entered already; each entry needs a block of its own."
            )
        entry = _Entry(writes=self._writes)
        self._lock._enter(entry, self._timeout)  # noqa: SLF001 - the same module
        self._entry = entry

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            self._lock._leave(entry)  # noqa: SLF001 - the same module

    def _recreate_cm(self) -> _Block:
        return _Block(self._lock, self._timeout, writes=self._writes)
