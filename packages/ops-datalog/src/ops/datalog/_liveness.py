"""Who is alive: decided by locks that the kernel keeps, never by process IDs.

A process ID means something only inside its PID namespace; containers that share a folder do not share
those. So a process that must be known to be alive holds `flock` on a file of its own (a writer on its
tail, a logger on `log.owner`), and the kernel ends that lock with the process, however it dies. Probing takes
a shared lock for microseconds, without waiting and without the right to write. A file that is there and
cannot be probed counts as held: what is decided on a dead process cannot be taken back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import weakref
from typing import TYPE_CHECKING

from ops.datalog.errors import LogFormatError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HeldFile", "is_held", "open_regular", "try_lock"]

_held: weakref.WeakSet[HeldFile] = weakref.WeakSet()


def try_lock(fd: int) -> bool:
    """Take the exclusive lock of an open file without waiting; return whether no process held it.

    Those that only probe it are no holders.
    """
    while not _flock(fd, fcntl.LOCK_EX):
        if not _flock(fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(0)
    return True


def is_held(path: Path) -> bool:
    """Return whether a living process holds the lock of the file *path*.

    False when there is no such file, or none that a process of ours holds; True when it cannot be opened now.
    """
    try:
        fd = open_regular(path)
    except (FileNotFoundError, LogFormatError):
        return False
    except OSError:  # no right to read it, no descriptor or memory left
        return True
    try:
        # Shared, so that two that probe at once do not take each other for the holder.
        return not _flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a file of a log; raises LogFormatError for what is no regular file, and OSError.

    A FIFO is opened without waiting for its other end. For writing, symbolic links are refused: what is
    outside of the folder is not ours to change.
    """
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if writes else 0))
    except FileNotFoundError:
        if path.is_symlink():
            raise LogFormatError(f"{path.name} is a link to nothing.") from None
        raise
    except IsADirectoryError:
        raise LogFormatError(f"{path.name} is a folder and no file.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LogFormatError(f"{path.name} is a symbolic link.") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise LogFormatError(f"{path.name} is no regular file.")
    return fd


class HeldFile:
    """The lock of a file, held by this process until `release`; a forked child does not hold it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        _held.add(self)

    def take(self) -> bool:
        """Take the lock without waiting; return whether it was free."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not try_lock(fd):
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # Explicitly: a child that is just being forked may still share it.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def drop(self) -> None:
        """In a forked child: close the inherited descriptor, by which the parent goes on holding it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.drop()


def _drop_inherited() -> None:
    for held in list(_held):
        held.drop()


os.register_at_fork(after_in_child=_drop_inherited)
