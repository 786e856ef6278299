"""SharedMemoryArray: a NumPy array that several processes read and write.

Reads take no lock on x86-64. The header's SEQ word is even while the data is stable and odd while a
write is under way (a seqlock): a reader loads SEQ, copies, loads SEQ again, and the copy is good when
both loads gave the same even number. This needs loads to stay ordered among loads and stores among
stores, which x86-64 guarantees (Intel SDM vol. 3, 9.2) and other machines do not; there, and when a
write is going on for long, a read takes the lock. A writer holds the lock (see `lock`) around both
steps of SEQ, so SEQ never sees two writers. A segment that was replaced or destroyed has an odd SEQ
for ever, so that reads come to the lock, which reports it.

What indexing returns is a copy that cannot be written: `a[0:2][0] = 5` and `a[0]["x"] = 7` would be
lost in it. `read_data`, `numpy.array(a)` and `.copy()` give copies that can.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ops.foundation.errors import ValidationError
from ops.shm.connection import Connection
from ops.shm.convert import (
    as_element,
    as_slice,
    is_exact,
    one_element,
    to_addend,
    to_dtype,
    to_element,
)
from ops.shm.errors import OwnerDiedError
from ops.shm.hold import Hold
from ops.shm.layout import ACKNOWLEDGED, INTERRUPTED, RETIRED, SEQ
from ops.shm.lock import HAVE_TAKES, another_lives
from ops.shm.views import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ops.shm.convert import Index

_POLL_SECONDS = 0.0005
#: Polls after which a waiting reader looks at the segment's name and at the writer.
_POLLS = 40
_ndarray, _void = np.ndarray, np.void


class SharedMemoryArray(Connection):
    """A NumPy array in shared memory; make one with `create_array`, or `attach` to it by name.

    The object pickles as its name and is connected on arrival, so it can be an argument of a
    `Process`, go through a `Queue`, or be used in a pool, with every start method. Threads and
    signal handlers may share one object. Raises `ValidationError` for a *name* that is no str.

    >>> import numpy as np, os
    >>> name = f"example-{os.getpid()}"
    >>> shared = SharedMemoryArray.create_array(name, np.zeros(3))
    >>> shared[0] = 7.0
    >>> with SharedMemoryArray.attach(name) as same:  # in any other process
    ...     same.read_data(0, convert_output=True)
    7.0
    >>> shared.destroy()
    """

    __slots__ = ()

    # ------------------------------------------------------------------ reading

    def __getitem__(self, index: Any) -> Any:
        if self._unlocked:
            seen = self._seen
            for _ in (1, 2, 3):
                before = seen[SEQ]
                if not before & 1:
                    value = self._array[index]
                    kind = value.__class__
                    if kind is _ndarray:
                        value = value.copy("K")
                        value.flags.writeable = False
                    elif kind is _void:
                        value = _frozen(value)
                    if seen[SEQ] == before:
                        return value
        return self._read(lambda: _frozen(self._array[index]))

    def read_data(
        self,
        index: Index,
        convert_output: bool = False,  # noqa: FBT001, FBT002 - the signature users know
        with_lock: bool = True,  # noqa: FBT001, FBT002
    ) -> Any:
        """Return what is at *index*: an element at an integer, the elements from `(start,)` or in `(start, stop)`.

        The result is the caller's own copy. *convert_output* gives Python values instead of NumPy
        ones. *with_lock* False reads without any protection against a write that is under way.

        Raises IndexError, StaleSegmentError.
        """
        where = index if type(index) is int else as_slice(index, self.shape, self._name)
        value = self[where] if with_lock else _frozen(self._array[where])
        if convert_output:
            return value.tolist()
        if value.__class__ is _ndarray:
            value.flags.writeable = True  # the copy that indexing made has no other owner
        return value.copy() if value.__class__ is _void else value

    def read_into(self, out: np.ndarray) -> None:
        """Copy the whole array into *out* (same shape), never a torn state, with no allocation."""
        if self._unlocked:
            seen = self._seen
            for _ in range(3):
                before = seen[SEQ]
                if not before & 1:
                    np.copyto(out, self._array, casting="same_kind")
                    if seen[SEQ] == before:
                        return
        self._read(lambda: np.copyto(out, self._array, casting="same_kind"))

    def view(self) -> AbstractContextManager[np.ndarray]:
        """Give a read-only view without a copy; at the end, check that nothing was written meanwhile.

        Raises ViewChangedError at the end of the block when something was: drop what was computed
        and do it again, or use `array()`. Where reads take the lock, the block holds it instead.
        """
        if self._unlocked:
            return View(self._readable, self._seen, self._name, self._settled)
        return self.array()

    def wait_changed(self, timeout: float | None = None, *, since: int | None = None) -> bool:
        """Wait until a write is completed after version *since* (default: now); False on timeout.

        The end of the segment is a change too: the next access raises StaleSegmentError. Looks every
        half millisecond.
        """
        seen = self._seen
        known = self.version if since is None else since
        deadline = None if timeout is None else time.monotonic() + timeout
        for poll in _counting():
            if seen[SEQ] >> 1 != known or seen[RETIRED]:
                return True
            if poll % _POLLS == 0 and self.is_stale:
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return False

    # ------------------------------------------------------------------ as NumPy's

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a shared array without axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise TypeError("iteration over a shared array without axes")
        return iter(self[...])

    def __contains__(self, value: object) -> bool:
        return value in self[...]

    def __bool__(self) -> bool:
        return bool(self[...])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001
        """Return a copy of one state, for `numpy.asarray` one that cannot be written.

        Raises ValueError for *copy* False: use `view()` or `array()` to look without a copy.
        """
        if copy is False:
            raise ValueError(
                "A shared array is copied when it becomes a NumPy array; "
                "`with shared.view()` and `with shared.array()` give its memory without a copy."
            )
        value: np.ndarray = self[...]
        if dtype is not None and value.dtype != dtype:
            value = value.astype(dtype)
        value.flags.writeable = bool(copy)
        return value

    # ------------------------------------------------------------------ writing

    def __setitem__(self, index: Any, value: Any) -> None:
        # The lock's acquire and release in line, see `lock`. `lock`, `slot` and `odd` are known there
        # by these names. Between a call and the next line a handler may run, or raise.
        lock = self._lock
        words, flags = lock.words, lock.flags
        slot, taken = -1, False
        try:
            for slot in lock.slots:
                flags[slot] = 1
                try:
                    for taken in lock.tries:  # noqa: B007 - is kept before a handler can run
                        break
                    if taken:
                        words[SEQ] = odd = words[SEQ] + 1
                        try:
                            self._array[index] = value
                        finally:
                            words[SEQ] = odd + 1
                            odd = 0
                            lock.post()
                        return
                finally:
                    flags[slot] = 0
                    slot, spare = -1, slot  # noqa: PLW2901 - another thread's from the next line on
                    lock.free.append(spare)
                break
        except IndexError:  # no slot is free; an error of *index* comes again below
            pass
        with Hold(lock, self._array, write=True) as array:
            array[index] = value

    def write_data(
        self,
        index: Index,
        data: Any,
        with_lock: bool = True,  # noqa: FBT001, FBT002 - the signature users know
    ) -> None:
        """Write *data* at *index*: an integer, from `(start,)` or into `(start, stop)`.

        The data is converted to the array's dtype before anything is written: numbers, text, dates
        (also as text, and NaT), and for structured dtypes tuples or lists of them. *with_lock*
        False writes without protection: readers may see part of it.

        Raises IndexError, StaleSegmentError, ValidationError (a value does not fit the dtype, or
        the shape is wrong).
        """
        if with_lock and index.__class__ is int and is_exact(data, self.dtype):
            self[index] = data
            return
        where = index if type(index) is int else as_slice(index, self.shape, self._name)
        target = self._array[where]
        value = to_dtype(data, self.dtype)
        if value.shape != np.shape(target) and value.shape:
            raise ValidationError(
                f"Data of shape {value.shape} does not fill index {index!r}, "
                f"which is {np.shape(target)}."
            )
        if with_lock:
            self[where] = value
        else:
            self._lock.words  # noqa: B018 - raises ReadOnlyError
            self._array[where] = value

    def array(
        self, *, write: bool = False, timeout: float | None = None, check_owner: bool = False
    ) -> AbstractContextManager[np.ndarray]:
        """Hold the lock and give the array itself, without a copy; re-entrant in one thread.

        *write* gives a writable array and makes the changes one write for all readers. *timeout* is
        in seconds. *check_owner* raises OwnerDiedError when a writer died in the middle of a write
        that was not acknowledged here. A signal handler that runs within the block is within it.

        Raises LockTimeout, OwnerDiedError, DeadlockError, StaleSegmentError, ReadOnlyError.
        """
        self._lock.words  # noqa: B018 - raises NotConnectedError, ReadOnlyError
        view = self._array[...] if write else self._readable[...]
        return Hold(self._lock, view, timeout, write=write, check_owner=check_owner)

    def add(self, index: Any, amount: Any) -> Any:
        """Add to one element atomically and return its new value, wrapping as the dtype does.

        Raises ValidationError when the dtype is no number or *amount* would lose something, and
        IndexError.
        """
        step = to_addend(amount, self.dtype)
        with np.errstate(over="ignore"), self.array(write=True) as array:
            one_element(array, index)
            # No call, so no handler of this thread runs between the load and the store.
            new = array[index] = array[index] + step
            return new

    def compare_exchange(self, index: Any, expected: Any, new: Any) -> bool:
        """Set the element at *index* to *new* if it equals *expected*, atomically; return whether it was set.

        NaN equals NaN here and NaT equals NaT, for else they could never be exchanged. Both values
        are converted as in `write_data`.

        Raises IndexError, ValidationError.
        """
        one_element(self._array, index)
        value, wanted = to_element(new, self.dtype), as_element(expected, self.dtype)
        unequal = self.dtype.names is None and wanted != wanted  # noqa: PLR0124 - NaN or NaT
        with self.array() as array:
            current = array[index]
            if not (current == wanted or (unequal and current != current)):  # noqa: PLR0124 - NaN
                return False
            with self.array(write=True) as writable:
                # Compared again, without a call: a handler of this thread may have written since.
                current = writable[index]
                if current == wanted or (unequal and current != current):  # noqa: PLR0124
                    writable[index] = value
                    return True
                return False

    def acknowledge_interruption(self) -> None:
        """Declare to all processes that writes which were cut short have been repaired."""
        with self.array():
            self._lock.words[ACKNOWLEDGED] = self._seen[INTERRUPTED]

    # ------------------------------------------------------------------ reading, when writes go on

    def _read(self, read: Callable[[], Any]) -> Any:
        """Return what *read* gives while no write is under way."""
        self._seen[SEQ]
        if not self._readonly:
            with Hold(self._lock, self._readable):
                return read()
        while True:
            before = self._settled()
            value = read()
            if self._seen[SEQ] == before:
                return value

    def _settled(self) -> int:
        """Return SEQ when no write is under way, by waiting for one."""
        seen = self._seen
        if not self._readonly:
            with Hold(self._lock, self._readable):
                return int(seen[SEQ])
        for poll in _counting():
            before = int(seen[SEQ])
            if not before & 1:
                return before
            self._refuse_stale()
            if poll % _POLLS == 0 and not self._is_being_written() and seen[SEQ] == before:
                raise OwnerDiedError(
                    f"A process died while it was writing {self._name!r}, and this one may only read.",
                    suggestions=("Let a process that may write access the array.",),
                )
            time.sleep(_POLL_SECONDS)
        raise AssertionError

    def _is_being_written(self) -> bool:
        member = self._member
        return member is not None and another_lives(self._mapped.flags, member, frozenset())

    # ------------------------------------------------------------------ all segments

    @staticmethod
    def list_segments() -> list[str]:
        """Return the names of all segments of ops.shm on this machine that you may read."""
        from ops.shm.segments import list_segments

        return [info.name for info in list_segments()]

    @staticmethod
    def cleanup_stale() -> list[str]:
        """Remove segments that no process uses, and orphaned semaphores; returns the names."""
        from ops.shm.segments import cleanup_stale

        return cleanup_stale()


HAVE_TAKES.add(SharedMemoryArray.__setitem__.__code__)


def _frozen(value: Any) -> Any:
    """Return a copy that cannot be written; scalars cannot anyway."""
    kind = value.__class__
    if kind is not _ndarray and kind is not _void:
        return value
    copy = value.copy("K") if kind is _ndarray else np.array(value.copy())
    copy.flags.writeable = False
    return copy if kind is _ndarray else copy[()]


def _counting() -> Iterator[int]:
    poll = 0
    while True:
        poll += 1
        yield poll
