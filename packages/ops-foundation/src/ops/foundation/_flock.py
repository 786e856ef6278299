"""The system's side of file locks: the file, its descriptor, and what becomes of both in a forked child.

A `Hold` is one attempt to lock one file, and the hold that it becomes. Everything that a release needs is
in it, so the holder of a lock hands back what it took and nothing that was swapped in the meantime.

After the lock is taken the file is compared with what is at its path now: when the file was removed or
replaced meanwhile (a cleaner of temporary files, `git clean`), the lock on it does not exclude callers that come
later, and the attempt is repeated with the current file.

A forked child inherits the open file description, and with it the power to keep its parent's lock. So the
child closes its copies of the descriptors, which does not unlock while the parent has them. It can,
because a lock knows its attempts before they open a file; of one that was just being opened the child
looks for the descriptor. No lock is held over a fork, which an exception at the wrong line would not free.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from ops.foundation.errors import LockUnsupportedError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Hold", "forget_in_children"]

_WINDOWS = sys.platform == "win32"
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
# EBADF is what NFS gives for an exclusive lock on a file that is open for reading only.
_UNSUPPORTED = {
    errno.ENOLCK,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EINVAL,
    errno.EBADF,
}
_FRESH_FILES = (
    100  # how often in a row a file may be removed under an attempt before it counts as busy
)


class Hold:
    """One attempt at the lock on *path*, by *owner*; a hold once `take` has returned True.

    Whatever interrupts it, dropping it closes its file and so unlocks it. That is left to the file
    object, which does it without running Python code: in a finalizer a Ctrl-C would be lost.
    """

    __slots__ = (
        "__weakref__",
        "_file",
        "_foreign",
        "_opening",
        "borrowed",
        "depth",
        "mode",
        "owner",
        "path",
    )

    def __init__(self, path: str, mode: int | None, owner: object) -> None:
        self.path = path
        self.mode = mode
        self.owner = owner
        self.depth = 0  # how many enters of its owner have not been left
        self.borrowed = (
            False  # by a signal handler, inside an acquire or release of the same thread
        )
        self._file: io.FileIO | None = None
        self._foreign: Any = None
        self._opening = False

    @property
    def descriptor(self) -> int:
        """The descriptor of the lock file, -1 when it is not open."""
        file = self._file
        return -1 if file is None or file.closed else file.fileno()

    def take(self) -> bool:
        """Try once to lock the file that is at the path now; return whether that succeeded."""
        if _WINDOWS:
            return self._take_with_filelock()
        for _ in range(_FRESH_FILES):
            file = self._file or self._open()
            if not self._locked(file):
                return False
            if _is_at(self.path, file.fileno()):
                return True
            if self.borrowed:
                return False  # the interrupted attempt goes on with this file
            self.close()
        return False

    def _open(self) -> io.FileIO:
        """Open the file, by a description that no other process shares."""
        while True:
            process = os.getpid()
            self._opening = True
            file = self._file = _opened(self.path, self.mode)
            self._opening = False
            if os.getpid() == process:
                return file
            self.forget()  # a signal handler forked meanwhile, and this is the child

    def close(self) -> None:
        """Unlock and close; to be called again when it was interrupted."""
        self.depth = 0
        foreign, self._foreign = self._foreign, None
        if foreign is not None:
            foreign.release()
        file = self._file
        if file is not None:
            if not file.closed:
                # Explicitly, as a forked child that has not run yet may still share the description.
                _unlock(file.fileno())
                file.close()
            self._file = None

    def forget(self) -> None:
        """In a forked child: close the inherited descriptor without unlocking, hold nothing."""
        file, self._file = self._file, None
        self.depth, self.borrowed, self._foreign = 0, False, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
        elif self._opening:
            # Another thread had opened the file and not yet noted its descriptor.
            _close_copies(self.path)

    def _locked(self, file: io.FileIO) -> bool:
        try:
            return _try_lock(file.fileno())
        except (OSError, ValueError) as error:
            if self._file is not file:
                return False  # closed in a child that a signal handler forked; it opens its own
            if isinstance(error, OSError) and error.errno in _UNSUPPORTED:
                raise _unsupported(self.path, error) from error
            raise

    def _take_with_filelock(self) -> bool:
        try:
            import filelock
        except ImportError as error:
            raise MissingExtraError("filelock", "ops-foundation[lock]") from error
        lock = filelock.FileLock(self.path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        self._foreign = lock
        return True


def _opened(path: str, mode: int | None) -> io.FileIO:
    """Open the lock file, creating it and its folder when they are missing."""
    for _ in range(3):
        try:
            # Without O_CREAT, which sticky folders refuse for a file of another user.
            return io.FileIO(path, "r+")
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                return _created(path, mode)
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120 - hot path
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
            return _opened_for_reading(path)
    return _created(path, mode)


def _created(path: str, mode: int | None) -> io.FileIO:
    def opener(name: str, _flags: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | _CLOEXEC
        return os.open(name, flags, 0o666 if mode is None else mode)

    file = io.FileIO(path, "r+", opener=opener)
    if mode is not None:
        with contextlib.suppress(PermissionError):  # another user has created it just before
            os.fchmod(file.fileno(), mode)  # which the umask does not narrow
    return file


def _opened_for_reading(path: str) -> io.FileIO:
    try:
        # Enough for flock on local file systems, so who may read the file may lock it.
        return io.FileIO(path, "r")
    except PermissionError as error:
        error.add_note("A lock file for several users is created with FileLock(path, mode=0o666).")
        raise


def _is_at(path: str, descriptor: int) -> bool:
    own = os.fstat(descriptor)
    if not own.st_nlink:
        return False
    try:
        return os.path.samestat(own, os.stat(path))  # noqa: PTH116 - hot path
    except FileNotFoundError:
        return False


def _unsupported(path: str, error: OSError) -> LockUnsupportedError:
    return LockUnsupportedError(
        f"The file system of {path!r} does not lock files: {error.strerror} (errno {error.errno}).",
        suggestions=("Put the lock file on a local disk, when all processes run on one machine.",),
        error_number=error.errno,
    )


if _WINDOWS:

    def _try_lock(descriptor: int) -> bool:
        raise NotImplementedError

    def _unlock(descriptor: int) -> None:
        raise NotImplementedError

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class Locks(Protocol):
    """A lock object whose holds are forgotten in forked children."""

    def holds(self) -> Iterable[Hold]:
        """Return its holds and attempts, of all threads."""
        ...


_locks: weakref.WeakSet[Locks] = weakref.WeakSet()


def forget_in_children(lock: Locks) -> None:
    """Let forked children close what *lock* holds or tries to hold, as long as it lives."""
    _locks.add(lock)


def _forget_inherited() -> None:
    for lock in list(_locks):
        for hold in lock.holds():
            hold.forget()


def _close_copies(path: str) -> None:
    """Close every descriptor of this process that is open on *path*."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"  # noqa: PTH112 - strings here
    with contextlib.suppress(OSError):
        lock_file = os.stat(path)  # noqa: PTH116 - a str
        for name in os.listdir(folder):  # noqa: PTH208 - names are wanted
            with contextlib.suppress(OSError):
                if os.path.samestat(lock_file, os.fstat(int(name))):
                    os.close(int(name))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
