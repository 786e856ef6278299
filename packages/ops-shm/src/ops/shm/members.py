"""Which connections of a segment live, as the kernel knows it: by locks that end with their holder.

Each connection has a block of flags in the header, and as long as it lives a lock on one byte of the
segment's file that stands for the block. The bytes lie far behind the end of the file, where nothing
is stored. These are open file description locks (fcntl(2), F_OFD_SETLK): the kernel gives them back
when the last descriptor of the open file is closed, be it by `close`, the end of the process or
SIGKILL. No process ID is compared, so PID reuse, containers with PID namespaces of their own and
restarts mean nothing here; all that counts is that the processes share the file.

A forked child has the parent's open file too, and would keep its locks when the parent dies, so it
opens the file anew (see `connection`). A child that was forked by C code past Python's hooks and
keeps running without exec is the one case in which a dead parent looks alive.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

from ops.foundation.errors import ResourceError
from ops.shm.errors import SegmentNotFoundError
from ops.shm.layout import BLOCK, BLOCKS

_RECOVERY: Final = 1 << 40
_READERS: Final = _RECOVERY + 1
_FIRST_BLOCK: Final = _RECOVERY + 2
#: struct flock: type, whence, start, length, pid.
_FLOCK = "hhqqi4x"


class Member:
    """One connection as others see it; owns its descriptor."""

    __slots__ = ("block", "fd")
    block: int
    fd: int

    def __init__(self, fd: int, block: int = -1) -> None:
        self.fd, self.block = fd, block

    @classmethod
    def reading(cls, fd: int) -> Member:
        """Register the read-only descriptor *fd*, which has no part in the lock."""
        if not _lock(fd, fcntl.F_RDLCK, _READERS):
            raise SegmentNotFoundError("The segment is being removed, since no process used it.")
        return cls(fd)

    @classmethod
    def writing(cls, fd: int, flags: memoryview) -> Member:
        """Register the descriptor *fd* and give it a block of *flags*, cleared.

        Raises ResourceError when all blocks belong to living connections.
        """
        # A block whose flags are set is that of a dead one, and shows it to the next that recovers.
        for leave_evidence in (True, False):
            for block in range(BLOCKS):
                first = block * BLOCK
                if leave_evidence and any(flags[first : first + BLOCK]):
                    continue
                if not _lock(fd, fcntl.F_WRLCK, _FIRST_BLOCK + block):
                    continue
                if leave_evidence and any(flags[first : first + BLOCK]):
                    _lock(fd, fcntl.F_UNLCK, _FIRST_BLOCK + block)
                    continue
                flags[first : first + BLOCK] = bytes(BLOCK)
                return cls(fd, block)
        raise ResourceError(
            f"{BLOCKS} connections to this shared array exist already.",
            suggestions=("Disconnect those that are not needed, or attach with readonly=True.",),
        )

    def is_alive(self, block: int) -> bool:
        """Return whether the connection that has *block* still exists."""
        return block == self.block or _is_locked(self.fd, _FIRST_BLOCK + block, 1)

    def begin_recovery(self) -> bool:
        """Become the only connection that recovers, without waiting; again is granted again."""
        return _lock(self.fd, fcntl.F_WRLCK, _RECOVERY)

    def end_recovery(self) -> None:
        """Let others recover."""
        _lock(self.fd, fcntl.F_UNLCK, _RECOVERY)

    def close(self) -> None:
        """Give up the block and the descriptor; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def anyone_connected(fd: int) -> bool:
    """Return whether a connection other than that of *fd* exists, in whatever container."""
    return _is_locked(fd, _READERS, 1 + BLOCKS)


def close_to_others(fd: int) -> bool:
    """Let no connection come into being as long as *fd* is open; False when there is one already."""
    return _lock(fd, fcntl.F_WRLCK, _READERS, 1 + BLOCKS)


def _lock(fd: int, kind: int, start: int, length: int = 1) -> bool:
    request = struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: another one has it
        return False
    return True


def _is_locked(fd: int, start: int, length: int) -> bool:
    request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    return bool(
        struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_OFD_GETLK, request))[0] != fcntl.F_UNLCK
    )
