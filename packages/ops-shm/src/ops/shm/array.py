"""SharedMemoryArray: a NumPy array that several processes read and write.

Reads take no lock on x86-64. The header's SEQ word is even while the data is stable and odd while a
write is under way (a seqlock): a reader loads SEQ, copies, loads SEQ again, and the copy is good when
both loads gave the same even number. This needs loads to stay ordered among loads and stores among
stores, which x86-64 guarantees (Intel SDM vol. 3, 9.2) and other machines do not; there, and when a
write is going on for long, a read takes the lock. A writer holds the lock (see `lock`) around both
steps of SEQ, so SEQ never sees two writers.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ops.foundation.errors import ValidationError
from ops.foundation.processes import this_process
from ops.shm.connection import Connection
from ops.shm.convert import as_slice, is_exact, one_element, to_addend, to_dtype
from ops.shm.errors import OwnerDiedError
from ops.shm.layout import ACKNOWLEDGED, EPOCH, INTERRUPTED, SEQ, THREAD
from ops.shm.views import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from ops.shm.convert import Index

_POLL_SECONDS = 0.0005
_ndarray, _void = np.ndarray, np.void
#: The identity of this process; a call less for each write.
_me = this_process()


def _remember() -> None:
    global _me  # noqa: PLW0603 - one word per process, renewed after a fork
    _me = this_process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember)


class SharedMemoryArray(Connection):
    """A NumPy array in shared memory; make one with `create_array`, or `attach` to it by name.

    The object pickles as its name and is connected on arrival, so it can be an argument of a
    `Process`, go through a `Queue`, or be used in a pool, with every start method.
    """

    __slots__ = ()

    # ------------------------------------------------------------------ reading

    def __getitem__(self, index: Any) -> Any:
        words = self._words
        if self._unlocked:
            for _ in (1, 2, 3):
                before = words[SEQ]
                if not before & 1:
                    value = self._array[index]
                    kind = value.__class__
                    if kind is _ndarray:
                        value = value.copy("K")
                    elif kind is _void:
                        value = value.copy()
                    if words[SEQ] == before:
                        return value
        with self._held():
            value = self._array[index]
            return value.copy() if isinstance(value, (_ndarray, _void)) else value

    def read_data(
        self,
        index: Index,
        convert_output: bool = False,  # noqa: FBT001, FBT002 - the signature users know
        with_lock: bool = True,  # noqa: FBT001, FBT002
    ) -> Any:
        """Return the element at an integer, or the elements from `(start,)` or in `(start, stop)`.

        *convert_output* gives Python values instead of NumPy ones. *with_lock* False reads without
        any protection against a write that is under way. Raises IndexError.
        """
        where = index if type(index) is int else as_slice(index, self.shape, self._name)
        if with_lock:
            value = self[where]
        else:
            value = self._array[where]
            if isinstance(value, (_ndarray, _void)):
                value = value.copy()
        return value.tolist() if convert_output else value

    def read_into(self, out: np.ndarray) -> None:
        """Copy the whole array into *out* (same shape), never a torn state, with no allocation."""
        words = self._words
        if self._unlocked:
            for _ in range(3):
                before = words[SEQ]
                if not before & 1:
                    np.copyto(out, self._array, casting="same_kind")
                    if words[SEQ] == before:
                        return
        with self._held():
            np.copyto(out, self._array, casting="same_kind")

    def view(self) -> AbstractContextManager[np.ndarray]:
        """Give a read-only view without a copy; at the end, check that nobody wrote meanwhile.

        Raises ViewChangedError at the end of the block when somebody did: drop what was computed and
        do it again, or use `array()`. Where reads take the lock, the block holds it instead.
        """
        if self._unlocked:
            return View(self._readable, self._words, self._name, self._settled)
        return self.array()

    def _settled(self) -> int:
        with self._held():
            return int(self._words[SEQ])

    def wait_changed(self, timeout: float | None = None, *, since: int | None = None) -> bool:
        """Wait until a write is completed after version *since* (default: now); False on timeout.

        Looks every half millisecond.
        """
        known = self.version if since is None else since
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.version == known:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    # ------------------------------------------------------------------ writing

    def __setitem__(self, index: Any, value: Any) -> None:
        # The lock's acquire and release in line, or the stand-in that raises.
        lock: Any = self._lock
        words = self._words
        if self._depth and self._holder == (_me, threading.get_ident()):
            with self._held(write=True):
                self._array[index] = value
            return
        if lock.try_(False):  # noqa: FBT003
            words[lock.owner] = _me
            if words[EPOCH] != lock.epoch:
                lock.leave_old_epoch()
                lock.acquire()
        else:
            lock.acquire()
        words[SEQ] = odd = words[SEQ] + 1
        try:
            self._array[index] = value
        finally:
            words[SEQ] = odd + 1
            words[lock.owner] = 0
            lock.post()

    def write_data(
        self,
        index: Index,
        data: Any,
        with_lock: bool = True,  # noqa: FBT001, FBT002 - the signature users know
    ) -> None:
        """Write *data* at an integer, from `(start,)` or into `(start, stop)`.

        The data is converted to the array's dtype before anything is written. *with_lock* False
        writes without protection: readers may see part of it.

        Raises IndexError, ValidationError (a value does not fit the dtype, or the shape is wrong).
        """
        if with_lock and index.__class__ is int and is_exact(data, self.dtype):
            self[index] = data
            return
        where = index if type(index) is int else as_slice(index, self.shape, self._name)
        target = self._array[where]
        value = to_dtype(data, self.dtype)
        if value.shape != target.shape and value.shape:
            raise ValidationError(
                f"Data of shape {value.shape} does not fill index {index!r}, which is {target.shape}."
            )
        if with_lock:
            self[where] = value
        else:
            self._array[where] = value

    @contextlib.contextmanager
    def array(
        self, *, write: bool = False, timeout: float | None = None, check_owner: bool = False
    ) -> Iterator[np.ndarray]:
        """Hold the lock and give the array itself, without a copy; re-entrant in one thread.

        *write* gives a writable array and makes the changes one write for all readers. *timeout* is
        in seconds. *check_owner* raises OwnerDiedError when a writer died in the middle of a write
        that was not acknowledged here.

        Raises LockTimeout, OwnerDiedError, DeadlockError.
        """
        with self._held(timeout, write=write):
            if check_owner and self.interrupted:
                raise OwnerDiedError(
                    f"A process died while it was writing {self._name!r}.",
                    suggestions=("Mend the data, then call acknowledge_interruption().",),
                )
            view = self._array[...]
            view.flags.writeable = write
            yield view

    def add(self, index: Any, amount: Any) -> Any:
        """Add to one element atomically and return its new value, wrapping as the dtype does.

        Raises ValidationError when the dtype is no number or *amount* would lose something, and
        IndexError.
        """
        step = to_addend(amount, self.dtype)
        with self.array(write=True) as array, np.errstate(over="ignore"):
            array[index] = one_element(array, index) + step
            return array[index]

    def compare_exchange(self, index: Any, expected: Any, new: Any) -> bool:
        """Set one element to *new* if it equals *expected*, atomically; tell whether it was set."""
        with self._held():
            if one_element(self._array, index) != expected:
                return False
            self[index] = to_dtype(new, self.dtype)
            return True

    def acknowledge_interruption(self) -> None:
        """Tell all processes that writes which were cut short have been mended."""
        with self._held():
            self._words[ACKNOWLEDGED] = self._words[INTERRUPTED]

    # ------------------------------------------------------------------ the lock, held for long

    @contextlib.contextmanager
    def _held(self, timeout: float | None = None, *, write: bool = False) -> Iterator[None]:
        """Hold the lock; *write* keeps SEQ odd meanwhile, so that nobody reads half a change."""
        words, lock, me = self._words, self._lock, (_me, threading.get_ident())
        words[SEQ]  # raises NotConnectedError
        nested = self._depth > 0 and self._holder == me
        if not nested:
            lock.acquire(timeout)
            self._holder = me
            words[THREAD] = me[1] & 0xFFFFFFFFFFFFFFFF
        self._depth = self._depth + 1 if nested else 1
        opened = write and not words[SEQ] & 1
        if opened:
            words[SEQ] += 1
        try:
            yield
        finally:
            # A child forked inside the block runs this too, and holds nothing. No function is called
            # before the lock is given back: behind any call a KeyboardInterrupt may come.
            if me[0] == _me:
                if opened:
                    words[SEQ] += 1
                if self._words is words:  # not disconnected inside the block
                    self._depth -= 1
                if not nested:
                    words[THREAD] = words[lock.owner] = 0
                    lock.post()

    # ------------------------------------------------------------------ all segments

    @staticmethod
    def list_segments() -> list[str]:
        """Return the names of all segments of ops.shm on this machine that you may read."""
        from ops.shm.segments import list_segments

        return [info.name for info in list_segments()]

    @staticmethod
    def cleanup_stale() -> list[str]:
        """Remove segments that no process has mapped, and orphaned semaphores; returns the names."""
        from ops.shm.segments import cleanup_stale

        return cleanup_stale()
