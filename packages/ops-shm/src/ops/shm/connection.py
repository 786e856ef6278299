"""A connection to a shared array: how it begins, travels and ends, and what is known about it.

The mapping lives as long as any array that was made from it: disconnecting drops references and
leaves it to Python to unmap, so a view that is kept too long stays readable instead of crashing.
"""

from __future__ import annotations

import contextlib
import os
import platform
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from ops.foundation.errors import ValidationError
from ops.foundation.processes import pid_namespace
from ops.shm import layout, mapping
from ops.shm.disconnected import Disconnected
from ops.shm.errors import SegmentNotFoundError
from ops.shm.layout import ACKNOWLEDGED, INTERRUPTED, RECOVERIES, SEQ, Layout, array_in, word
from ops.shm.lock import RobustLock

if TYPE_CHECKING:
    import mmap

#: Loads stay ordered among loads and stores among stores; see `array`.
_TOTAL_STORE_ORDER = platform.machine().lower() in {"x86_64", "amd64"}


class Connection:
    """What a `SharedMemoryArray` is apart from reading and writing."""

    __slots__ = (
        "_array",
        "_depth",
        "_fd",
        "_holder",
        "_layout",
        "_lock",
        "_name",
        "_readable",
        "_unlocked",
        "_words",
    )

    def __init__(self, name: str) -> None:
        """Name an array without connecting to it; `create_array` and `attach` are the usual ways."""
        if not isinstance(name, str):
            raise ValidationError(f"{name!r} cannot name a shared array: a name is a str.")
        self._name = name
        self._fd = -1
        self._layout: Layout | None = None
        self._forget()

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
        self = cls(name)
        if not name or "\0" in name or len(name) > 1024:
            raise ValidationError(f"{name!r} cannot name a shared array: 1 to 1024 characters.")
        if lock not in {"auto", "always"}:
            raise ValidationError(f"lock must be 'auto' or 'always', not {lock!r}.")
        mapping.directory()  # refuses other systems before anything here relies on Linux
        prototype = np.asanyarray(prototype)
        described = Layout.of(name, prototype, locked_reads=lock == "always")
        header = described.header(pid_namespace())
        instance = word(header, layout.INSTANCE)
        fd, mapped = mapping.create(name, header, len(header) + described.nbytes, replace=exist_ok)
        try:
            array_in(mapped, described)[...] = prototype
            made = RobustLock.make(instance, 1, 1)  # kept: cleaning spares what is mapped
            replaced = mapping.instance_of(name) if exist_ok else None
            mapping.publish(name, fd, replace=exist_ok)
            if replaced is not None:
                mapping.remove_semaphores(replaced)
            self._connect(fd, mapped)
            del made
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
        """Remove the segment's name for everybody; processes that are attached keep the memory.

        When somebody has replaced the segment that this object is connected to, nothing is removed: the
        name is the replacement's.
        """
        there = mapping.instance_of(self._name)
        ours = self._words[layout.INSTANCE] if self.is_connected else there
        if there is None or there == ours:
            mapping.remove(self._name)
        if ours is not None:
            mapping.remove_semaphores(ours)

    def _connect(self, fd: int, mapped: mmap.mmap) -> None:
        buffer = memoryview(mapped)
        described = layout.parse(buffer, f"the segment of {self._name!r}")
        words = buffer[: layout.DESCRIPTION].cast("Q")
        self._lock = RobustLock(self._name, words[layout.INSTANCE], words, fd)
        self._layout = described
        self._array = array_in(mapped, described)
        self._readable = self._array[...]
        self._readable.flags.writeable = False
        self._words = words
        self._fd = fd
        self._unlocked = _TOTAL_STORE_ORDER and not described.locked_reads

    def _forget(self) -> None:
        away: Any = Disconnected(self._name)
        self._words = self._array = self._readable = self._lock = away
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
        """How often the lock was taken over from a holder that died, or did not say who it is in time."""
        return int(self._words[RECOVERIES])

    @property
    def interrupted(self) -> bool:
        """Whether a writer died in the middle of a write and nobody has acknowledged it since."""
        return bool(self._words[INTERRUPTED] != self._words[ACKNOWLEDGED])

    @property
    def version(self) -> int:
        """How many writes were completed; grows by one with each."""
        return int(self._words[SEQ]) >> 1

    def _described(self) -> Layout:
        if self._layout is None:
            self._array[0]  # the stand-in raises NotConnectedError
        return cast("Layout", self._layout)


def _arrived(cls: type[Connection], name: str) -> Connection:
    array = cls(name)
    # A segment that is gone by now must not break the unpickling of what it came with.
    with contextlib.suppress(SegmentNotFoundError):
        array.connect()
    return array
