"""SharedMemoryArray: a NumPy array that several processes read and write.

Reads take no lock on x86-64. The header's SEQ word is even while the data is stable and odd while a
write is under way (a seqlock): a reader loads SEQ, copies, loads SEQ again, and the copy is good when
both loads gave the same even number. This needs loads to stay ordered among loads and stores among
stores, which x86-64 guarantees (Intel SDM vol. 3, 9.2) and other machines do not; there, and when a
write is going on for long, a read takes the lock. A writer holds the lock (see `lock`) around both
steps of SEQ, so SEQ never sees two writers.

The mapping lives as long as any array that was made from it: disconnecting drops references and
leaves it to Python to unmap, so a view that is kept too long stays readable instead of crashing.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from ops.foundation.errors import ValidationError
from ops.foundation.processes import pid_namespace, this_process
from ops.shm import layout, mapping
from ops.shm.convert import as_slice, to_dtype
from ops.shm.disconnected import Disconnected
from ops.shm.errors import (
    OwnerDiedError,
    SegmentNotFoundError,
    ViewChangedError,
)
from ops.shm.layout import (
    ACKNOWLEDGED,
    EPOCH,
    INTERRUPTED,
    RECOVERIES,
    SEQ,
    THREAD,
    Layout,
    array_in,
    word,
)
from ops.shm.lock import RobustLock

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    from ops.shm.convert import Index

_TOTAL_STORE_ORDER = platform.machine().lower() in {"x86_64", "amd64"}
_POLL_SECONDS = 0.0005
_ndarray, _void = np.ndarray, np.void


class SharedMemoryArray:
    """A NumPy array in shared memory; make one with `create_array`, or `attach` to it by name.

    The object pickles as its name and is connected on arrival, so it can be an argument of a
    `Process`, go through a `Queue`, or be used in a pool, with every start method.
    """

    __slots__ = (
        "_array", "_depth", "_fd", "_holder", "_layout", "_lock", "_name", "_unlocked", "_words",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        """Name an array without connecting to it; `create_array` and `attach` are the usual ways."""
        self._name = name
        self._fd = -1
        self._layout: Layout | None = None
        self._forget()

    # ------------------------------------------------------------------ life

    @classmethod
    def create_array(
        cls,
        name: str,
        prototype: np.ndarray,
        *,
        exist_ok: bool = False,
        lock: Literal["auto", "always"] = "auto",
    ) -> Self:
        """Create the segment *name* with shape, dtype, order and values of *prototype*.

        The result is connected. *exist_ok* replaces a segment of that name: those attached to the
        old one keep it. *lock* "always" makes every read take the lock; "auto" reads without one
        where the machine allows it. The whole space is allocated here.

        Raises SegmentExistsError, UnsupportedArrayError (object dtype), OSError (no room),
        ValidationError.
        """
        if not name or "\0" in name or len(name) > 1024:
            raise ValidationError(f"{name!r} cannot name a shared array: 1 to 1024 characters.")
        if lock not in {"auto", "always"}:
            raise ValidationError(f"lock must be 'auto' or 'always', not {lock!r}.")
        prototype = np.asanyarray(prototype)
        described = Layout.of(name, prototype, locked_reads=lock == "always")
        header = described.header(pid_namespace())
        instance = word(header, layout.INSTANCE)
        fd, mapped = mapping.create(name, header, len(header) + described.nbytes, replace=exist_ok)
        self = cls(name)
        try:
            array_in(mapped, described)[...] = prototype
            RobustLock.make(instance, 1, 1)
            replaced = mapping.instance_of(name) if exist_ok else None
            mapping.publish(name, fd, replace=exist_ok)
            if replaced is not None:
                mapping.remove_semaphores(replaced)
            self._connect(fd, mapped)
        except BaseException:
            mapping.remove_semaphores(instance)
            os.close(fd)
            raise
        return self

    @classmethod
    def attach(cls, name: str) -> Self:
        """Connect to the existing segment *name*; raises SegmentNotFoundError."""
        self = cls(name)
        self.connect()
        return self

    def connect(self) -> None:
        """Connect to the segment; does nothing when connected. Raises SegmentNotFoundError."""
        if self.is_connected:
            return
        fd, mapped = mapping.attach(self._name)
        try:
            self._connect(fd, mapped)
        except BaseException:
            os.close(fd)
            raise

    def disconnect(self) -> None:
        """Let go of the segment; it lives on for others, and views that were taken stay valid."""
        fd, self._fd = self._fd, -1
        self._forget()
        if fd >= 0:
            os.close(fd)

    def destroy(self) -> None:
        """Remove the segment's name for everybody; processes that are attached keep the memory."""
        instance = self._instance_to_remove()
        mapping.remove(self._name)
        if instance is not None:
            mapping.remove_semaphores(instance)

    def _instance_to_remove(self) -> int | None:
        return (
            self._words[layout.INSTANCE] if self.is_connected else mapping.instance_of(self._name)
        )

    def _connect(self, fd: int, mapped: mmap.mmap) -> None:
        buffer = memoryview(mapped)
        described = layout.parse(buffer, f"the segment of {self._name!r}")
        words = buffer[: layout.DESCRIPTION].cast("Q")
        self._lock = RobustLock(self._name, words[layout.INSTANCE], words, fd)
        self._layout = described
        self._array = array_in(mapped, described)
        self._words = words
        self._fd = fd
        self._unlocked = _TOTAL_STORE_ORDER and not described.locked_reads

    def _forget(self) -> None:
        away: Any = Disconnected(self._name)
        self._words = self._array = away
        self._lock = cast("RobustLock", None)
        self._unlocked, self._depth, self._holder = True, 0, (0, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (type(self), self._name)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def __del__(self) -> None:
        fd, self._fd = getattr(self, "_fd", -1), -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __repr__(self) -> str:
        if self._layout is None or not self.is_connected:
            return f"<SharedMemoryArray {self._name!r}, not connected>"
        return f"<SharedMemoryArray {self._name!r} {self.dtype} {self.shape}>"

    # ------------------------------------------------------------------ facts

    @property
    def name(self) -> str:
        """The name that every process attaches by."""
        return self._name

    @property
    def is_connected(self) -> bool:
        """Whether this object can read and write now."""
        return self._fd >= 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape, which never changes."""
        return self._described().shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's dtype, which never changes."""
        return self._described().dtype

    @property
    def datatype(self) -> np.dtype[Any]:
        """The same as `dtype`."""
        return self.dtype

    @property
    def recoveries(self) -> int:
        """How often the lock was taken over from a process that died with it."""
        return int(self._words[RECOVERIES])

    @property
    def interrupted(self) -> bool:
        """Whether a writer died in the middle of a write and nobody has acknowledged it since."""
        return bool(self._words[INTERRUPTED] != self._words[ACKNOWLEDGED])

    def acknowledge_interruption(self) -> None:
        """Tell all processes that writes which were cut short have been mended."""
        with self._held():
            self._words[ACKNOWLEDGED] = self._words[INTERRUPTED]

    @property
    def version(self) -> int:
        """How many writes were completed; grows by one with each."""
        return int(self._words[SEQ]) >> 1

    def _described(self) -> Layout:
        if self._layout is None:
            self._array[0]  # the stand-in raises NotConnectedError
        return cast("Layout", self._layout)

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

    @contextlib.contextmanager
    def view(self) -> Iterator[np.ndarray]:
        """Give a read-only view without a copy; at the end, check that nobody wrote meanwhile.

        Raises ViewChangedError at the end of the block when somebody did: drop what was computed and
        do it again, or use `array()`.
        """
        before = self._stable_version()
        look = self._array[...]
        look.flags.writeable = False
        yield look
        if self._words[SEQ] != before:
            raise ViewChangedError(
                f"{self._name!r} was written while it was being read.",
                suggestions=("Repeat the block, or read under the lock with array().",),
            )

    def _stable_version(self) -> int:
        before = self._words[SEQ]
        if before & 1 or not _TOTAL_STORE_ORDER:
            with self._held():
                before = self._words[SEQ]
        return int(before)

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
        lock: RobustLock | None = self._lock
        words = self._words
        if self._depth and self._holder == (os.getpid(), threading.get_ident()):
            with self._held(write=True):
                self._array[index] = value
            return
        if lock is not None and lock.try_(False):  # noqa: FBT003 - the lock's fast path, in line
            words[lock.owner] = this_process()
            if words[EPOCH] != lock.epoch:
                lock.leave_old_epoch()
                lock.acquire()
        else:
            words[SEQ]  # raises NotConnectedError
            lock = self._lock
            lock.acquire()
        try:
            words[SEQ] = before = words[SEQ] + 1
            try:
                self._array[index] = value
            finally:
                words[SEQ] = before + 1
        finally:
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
        """Add to one element atomically and return its new value, wrapping as the dtype does."""
        with self.array(write=True) as array, np.errstate(over="ignore"):
            array[index] = array[index] + array.dtype.type(amount)
            return array[index]

    def compare_exchange(self, index: Any, expected: Any, new: Any) -> bool:
        """Set one element to *new* if it equals *expected*, atomically; tell whether it was set."""
        with self._held():
            if self._array[index] != expected:
                return False
            self[index] = to_dtype(new, self.dtype)
            return True

    # ------------------------------------------------------------------ the lock, held for long

    @contextlib.contextmanager
    def _held(self, timeout: float | None = None, *, write: bool = False) -> Iterator[None]:
        """Hold the lock; *write* keeps SEQ odd meanwhile, so that nobody reads half a change."""
        words, me = self._words, (os.getpid(), threading.get_ident())
        words[SEQ]  # raises NotConnectedError
        nested = self._depth > 0 and self._holder == me
        if not nested:
            self._lock.acquire(timeout)
            self._holder = me
            words[THREAD] = me[1] & 0xFFFFFFFFFFFFFFFF
        self._depth = self._depth + 1 if nested else 1
        opened = write and not words[SEQ] & 1
        if opened:
            words[SEQ] += 1
        try:
            yield
        finally:
            # A child forked inside the block runs this too, and holds nothing.
            if me[0] == os.getpid():
                if opened:
                    words[SEQ] += 1
                self._depth -= 1
                if not nested:
                    words[THREAD] = 0
                    self._lock.release()

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


def _arrived(cls: type[SharedMemoryArray], name: str) -> SharedMemoryArray:
    array = cls(name)
    # A segment that is gone by now must not break the unpickling of what it came with.
    with contextlib.suppress(SegmentNotFoundError):
        array.connect()
    return array
