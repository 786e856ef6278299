"""A lock for each key, between processes, that ends with its holder.

On Linux all keys share one file and lock one byte of it each, at an offset that is a digest of the
key. The lock belongs to the open file description, so threads exclude each other too, nothing is
left behind, and the kernel frees it when the process is killed. Elsewhere each key has a lock file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import struct
import sys
from hashlib import blake2b
from typing import TYPE_CHECKING

from ops.cache.own_files import open_own
from ops.foundation.locks import FileLock

if sys.platform == "linux":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.files import StrPath

__all__ = ["KeyLocks"]

_NO_LOCK = {errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ENOSPC}
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of Linux on 64 bits: type, whence, start, length


class KeyLocks:
    """The locks of one folder: the file *path*, or files beside it where that is not possible."""

    def __init__(self, path: StrPath) -> None:
        self._path = os.fspath(path)

    @contextlib.contextmanager
    def hold(self, key: bytes, *, among: bytes | None = None) -> Iterator[None]:
        """Wait until no other caller holds *key*, and hold it in the block.

        Where no lock can be had, in a folder that is read-only or missing, the block runs without. Those that hold
        different keys *among* others do not wait for each other; `is_any_held` sees that there are such.
        """
        if sys.platform != "linux":
            digest = blake2b(key, digest_size=8)
            with FileLock(pathlib.Path(f"{self._path}.keys") / digest.hexdigest()):
                yield
            return
        descriptor, process = self._open(), os.getpid()
        try:
            if descriptor >= 0:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, _request(fcntl.F_WRLCK, key))
                if among is not None:
                    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, _request(fcntl.F_RDLCK, among))
            yield
        finally:
            if descriptor >= 0:
                # Not by closing alone: a child forked in the block still has the description open.
                # It may leave the block too, and must not give away the lock of its parent.
                if process == os.getpid():
                    with contextlib.suppress(OSError):
                        free = _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
                        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, free)
                os.close(descriptor)

    def is_any_held(self, among: bytes) -> bool:
        """Say whether any caller holds a key *among* others; only Linux shows that."""
        if sys.platform != "linux":
            return False
        descriptor = self._open()
        if descriptor < 0:
            return False
        try:
            found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _request(fcntl.F_WRLCK, among))
            return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            return open_own(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if error.errno in _NO_LOCK:
                return -1
            raise


def _request(kind: int, key: bytes) -> bytes:
    offset = int.from_bytes(blake2b(key, digest_size=8).digest(), "little") >> 2
    return _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0)
