"""A connection to a shared array: how it begins, travels and ends, and what is known about it.

The mapping lives as long as any array that was made from it: disconnecting drops references and
leaves it to Python to unmap, so a view that is kept too long stays readable instead of crashing.
"""

from __future__ import annotations

import contextlib
import os
import platform
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from ops.foundation.errors import ValidationError
from ops.foundation.forks import in_children
from ops.foundation.processes import pid_namespace
from ops.shm import layout, mapping
from ops.shm.disconnected import Disconnected, ReadOnly
from ops.shm.errors import SegmentFormatError, SegmentNotFoundError, ShmError
from ops.shm.layout import (
    ACKNOWLEDGED,
    DESTROYED,
    INSTANCE,
    INTERRUPTED,
    RECOVERIES,
    REPLACED,
    RETIRED,
    SEQ,
    Layout,
    array_in,
)
from ops.shm.lock import RobustLock, make_semaphore, open_semaphore, stale

if TYPE_CHECKING:
    from ops.shm.mapping import Mapped
    from ops.shm.members import Member

#: Loads stay ordered among loads and stores among stores; see `array`.
_TOTAL_STORE_ORDER = platform.machine().lower() in {"x86_64", "amd64"}


class Connection:
    """What a `SharedMemoryArray` is apart from reading and writing.

    Raises `ValidationError` for a *name* that is no str.
    """

    __slots__ = (
        "__weakref__",
        "_array",
        "_layout",
        "_lock",
        "_mapped",
        "_member",
        "_name",
        "_readable",
        "_readonly",
        "_seen",
        "_unlocked",
    )

    def __init__(self, name: str) -> None:
        """Name an array without connecting to it; `create_array` and `attach` are the usual ways."""
        if not isinstance(name, str):
            raise ValidationError(f"{name!r} cannot name a shared array: a name is a str.")
        self._name = name
        self._readonly = False
        self._member: Member | None = None
        self._lock: Any
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
        mode: int = 0o600,
        remove_at_exit: bool = False,
    ) -> Self:
        """Create the segment *name* with shape, dtype, order and values of *prototype*.

        The result is connected, and the whole space is allocated. A segment of that name is taken
        over when its creator has ended and no process is connected to it. Otherwise *exist_ok*
        replaces it, and those that are connected to it get a StaleSegmentError at their next access.
        *lock* "always" makes every read take the lock; "auto" reads without one where the machine
        allows it. *mode* holds the permission bits of the segment: 0o660 lets the group write, 0o644
        lets everyone attach with `readonly=True`. *remove_at_exit* destroys the segment when the
        process that creates it ends in an orderly way (not by a signal's default action).

        Raises SegmentExistsError, UnsupportedArrayError (object dtype), OSError (no free memory),
        ValidationError.
        """
        self = cls(name)
        if not name or "\0" in name or len(name) > 1024:
            raise ValidationError(f"{name!r} cannot name a shared array: 1 to 1024 characters.")
        if lock not in {"auto", "always"}:
            raise ValidationError(f"lock must be 'auto' or 'always', not {lock!r}.")
        if type(mode) is not int or mode & ~0o666 or mode & 0o600 != 0o600:
            raise ValidationError(
                f"mode must hold read and write bits, the owner's among them, not {mode!r}.",
                suggestions=("0o600, 0o640, 0o660, 0o644 or 0o666.",),
            )
        mapping.directory()  # refuses other systems before anything here relies on Linux
        prototype = np.asanyarray(prototype)
        described = Layout.of(name, prototype, locked_reads=lock == "always")
        if not exist_ok:
            _take_over(name)
        header = described.header(pid_namespace())
        fd, mapped = mapping.create(name, header, len(header) + described.nbytes, mode)
        try:
            array_in(mapped, described)[...] = prototype
        except BaseException:
            os.close(fd)
            raise
        try:
            with mapping.naming():  # cleaning spares what it can see to be used
                replaced = self._named(fd, mapped, mode, replace=exist_ok)
        except BaseException:
            self._forget()
            mapping.semaphore_file(mapped.words[INSTANCE]).unlink(missing_ok=True)
            raise
        if replaced is not None:
            replaced.retire(REPLACED)
            mapping.semaphore_file(replaced.instance).unlink(missing_ok=True)
        if remove_at_exit:
            # In this process alone, also when it was made by multiprocessing.
            Finalize(None, _remove, (name, mapped.words[INSTANCE]), exitpriority=0)
        return self

    def _named(self, fd: int, mapped: Mapped, mode: int, *, replace: bool) -> RobustLock | None:
        """Connect to what was made, give it its name, and return the lock of what had it before."""
        try:
            made = make_semaphore(mapped.words[INSTANCE], mode)  # which goes, were it not kept
        except BaseException:
            os.close(fd)
            raise
        self._connect(fd, mapped)
        replaced = _opened(self._name) if replace else None
        mapping.publish(self._name, self._fd(), replace=replace)
        del made
        return replaced

    @classmethod
    def attach(cls, name: str, *, readonly: bool = False) -> Self:
        """Connect to the existing segment *name*.

        *readonly* maps it without write permission, which a mode such as 0o644 asks for: reads work,
        writes and `array()` raise ReadOnlyError.

        Raises SegmentNotFoundError, SegmentFormatError, PermissionError.
        """
        self = cls(name)
        self._readonly = readonly
        self.connect()
        return self

    def connect(self) -> None:
        """Connect to the segment that has the name now; does nothing when connected to it already.

        Raises SegmentNotFoundError, SegmentFormatError, PermissionError.
        """
        if self.is_connected:
            if not self.is_stale:
                return
            self.disconnect()
        fd, mapped = mapping.attach(self._name, readonly=self._readonly)
        self._connect(fd, mapped)
        if mapped.words[RETIRED]:
            self._forget()
            raise SegmentNotFoundError(f"The shared array {self._name!r} is being destroyed.")

    def disconnect(self) -> None:
        """Let go of the segment; it lives on for others, and views that were taken stay valid."""
        self._forget()

    def destroy(self, *, retire: bool = True) -> None:
        """Remove the segment: its name now, its memory when the last process lets go.

        All that are connected get a StaleSegmentError at their next access. *retire* False only
        removes the name, so that they carry on among themselves: with it a program can remove the
        name as soon as all its processes are connected, and leaves nothing behind however it ends.
        When another segment has the name by now, that one is left alone.
        """
        with mapping.naming():
            if self.is_connected and not mapping.is_linked(self._name, self._fd()):
                return
            lock = self._lock if self.is_connected and not self._readonly else _opened(self._name)
            mapping.remove(self._name)
        if lock is None:  # nothing, or a file that is no whole segment
            return
        if retire:
            lock.retire(DESTROYED)
        mapping.semaphore_file(lock.instance).unlink(missing_ok=True)

    def _connect(self, fd: int, mapped: Mapped) -> None:
        """Connect to what is *mapped*; closes the descriptor *fd* when that fails."""
        from ops.shm.members import Member  # here, so that other systems get to `mapping.directory`

        semaphore = None
        try:
            described = layout.parse(mapped.memory, f"the segment of {self._name!r}")
            instance = mapped.words[INSTANCE]
            if self._readonly:
                member = Member.reading(fd)
            else:
                semaphore = open_semaphore(self._name, instance)
                member = Member.writing(fd, mapped.flags)
        except BaseException:
            os.close(fd)
            raise
        if self._readonly:
            self._lock = ReadOnly(self._name)
        else:
            words, flags = mapped.memory[: layout.DESCRIPTION].cast("Q"), mapped.flags
            self._lock = RobustLock(self._name, instance, words, flags, semaphore, member)
        self._layout, self._member = described, member
        self._array = array_in(mapped, described)
        self._readable = self._array[...]
        self._readable.flags.writeable = False
        self._mapped, self._seen = mapped, mapped.words
        self._unlocked = _TOTAL_STORE_ORDER and not described.locked_reads
        in_children(self, Connection._renew)

    def _fd(self) -> int:
        return -1 if self._member is None else self._member.fd

    def _forget(self) -> None:
        away: Any = Disconnected(self._name)
        self._lock = self._seen = self._array = self._readable = self._mapped = away
        self._member = None
        self._unlocked = True

    def _renew(self) -> None:
        """Take part anew in a forked child: the parent's part ends with the parent."""
        from ops.shm.members import Member

        member, lock, mapped = self._member, self._lock, self._mapped
        if member is None:
            return
        try:
            fd = mapping.reopened(member.fd, readonly=self._readonly)
            if self._readonly:
                self._member = Member.reading(fd)
                member.close()
                return
            words, flags = mapped.memory[: layout.DESCRIPTION].cast("Q"), mapped.flags
            self._member = Member.writing(fd, flags)
            self._lock = RobustLock(
                self._name, lock.instance, words, flags, lock.semaphore, self._member
            )
        except (OSError, ShmError):
            self._forget()
        if isinstance(lock, RobustLock):
            lock.forget()

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (type(self), self._name, self._readonly)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

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
        return self._member is not None

    @property
    def is_readonly(self) -> bool:
        """Whether this object was attached for reading only."""
        return self._readonly

    @property
    def is_stale(self) -> bool:
        """Whether the segment has lost its name: it was replaced, destroyed or unlinked since."""
        if self._member is None:
            return False
        return bool(self._seen[RETIRED]) or not mapping.is_linked(self._name, self._member.fd)

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
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of data."""
        return self._described().nbytes

    @property
    def recoveries(self) -> int:
        """How often the lock was taken over from a holder that had died."""
        return int(self._seen[RECOVERIES])

    @property
    def interrupted(self) -> bool:
        """Whether a writer died in the middle of a write, which was not acknowledged since."""
        return bool(self._seen[INTERRUPTED] != self._seen[ACKNOWLEDGED])

    @property
    def version(self) -> int:
        """How many writes were completed; grows by one with each."""
        return int(self._seen[SEQ]) >> 1

    def _described(self) -> Layout:
        if self._layout is None:
            self._array[0]  # the stand-in raises NotConnectedError
        return cast("Layout", self._layout)

    def _refuse_stale(self) -> None:
        """Raise StaleSegmentError when the segment is retired."""
        if self._seen[RETIRED]:
            raise stale(self._name, self._seen[RETIRED])


def _arrived(cls: type[Connection], name: str, readonly: bool = False) -> Connection:  # noqa: FBT001, FBT002
    array = cls(name)
    array._readonly = readonly
    # A segment that is gone by now must not break the unpickling of what it came with.
    with contextlib.suppress(SegmentNotFoundError):
        array.connect()
    return array


def _opened(name: str) -> RobustLock | None:
    """Return the lock of the segment that has *name* now; None if there is none that is whole."""
    holder = Connection(name)
    try:
        holder.connect()
    except (OSError, ShmError):
        return None
    lock: RobustLock = holder._lock  # noqa: SLF001 - of this class
    return lock


def _remove(name: str, instance: int) -> None:
    holder = Connection(name)
    with contextlib.suppress(OSError, ShmError):
        holder.connect()
        if holder._lock.instance == instance:  # noqa: SLF001 - of this class
            holder.destroy()


def _take_over(name: str) -> None:
    """Remove the segment *name* when it is an orphan; raises SegmentExistsError when it is not.

    An orphan's creator has ended, and no living process is connected, as the kernel knows.
    """
    from ops.shm.members import close_to_others

    try:
        fd, mapped = mapping.attach(name)
    except SegmentNotFoundError:
        return
    except (OSError, SegmentFormatError):  # of another user, or no segment at all
        raise mapping.taken(name) from None
    try:
        layout.parse(mapped.memory, name)
        if layout.creator_may_live(mapped.words) or not close_to_others(fd):
            raise mapping.taken(name)
        mapped.words[RETIRED] = DESTROYED
        mapping.unlink(mapping.path_of(name), fd)
        mapping.semaphore_file(mapped.words[INSTANCE]).unlink(missing_ok=True)
    except SegmentFormatError:
        raise mapping.taken(name) from None
    finally:
        os.close(fd)
