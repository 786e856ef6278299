"""How segments live in /dev/shm: created whole or not at all, mapped, listed and removed.

A segment is built in a file that has no name yet and linked under its name when it is complete, so
no process ever attaches to half a header, and of two creators one wins. Its space is allocated up
front: a full /dev/shm is an OSError here, not a SIGBUS at some later write. Nothing here uses
`multiprocessing.shared_memory`, whose resource tracker (up to Python 3.12) removes segments that
other processes are still using when any attached process ends; and not `mmap.mmap`, which keeps a
second descriptor for each array (up to Python 3.12).

Linux is the tested platform. Elsewhere `directory()` refuses with a sentence.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import mmap
import os
import secrets
import sys
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ops.foundation.errors import ResourceError
from ops.shm.errors import SegmentExistsError, SegmentFormatError, SegmentNotFoundError
from ops.shm.layout import DESCRIPTION, FLAGS, FLAGS_OFFSET, PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "ops-shm."
DRAFT = ".ops-shm-draft."
_LONGEST_NAME = 180
_NAMING_SECONDS, _PAUSE_SECONDS = 1.0, 0.0005
_MAP_FAILED = ctypes.c_void_p(-1).value


class Mapped:
    """The memory of one segment; unmapped when the last array or memoryview of it is gone."""

    memory: memoryview

    def __init__(self, fd: int, size: int, *, readonly: bool) -> None:
        protection = mmap.PROT_READ if readonly else mmap.PROT_READ | mmap.PROT_WRITE
        # Through an open file of its own: a mapping keeps the open file, and a forked child keeps
        # the mapping, so the locks of `members` on *fd* would outlive the process that has them.
        own = reopened(fd, readonly=readonly)
        try:
            address = _libc().mmap(None, size, protection, mmap.MAP_SHARED, own, 0)
        finally:
            os.close(own)
        if address == _MAP_FAILED:
            code = ctypes.get_errno()
            raise OSError(code, f"A segment of {size} bytes cannot be mapped: {os.strerror(code)}")
        bytes_there = (ctypes.c_ubyte * size).from_address(address)
        # At exit the process itself unmaps; before that, a thread may still be reading.
        weakref.finalize(bytes_there, _libc().munmap, address, size).atexit = False
        whole = memoryview(cast("Any", np.frombuffer(cast("Any", bytes_there), np.uint8)))
        self.memory = whole.toreadonly() if readonly else whole

    @functools.cached_property
    def words(self) -> memoryview:
        """The fixed part of the header as unsigned 64-bit words."""
        return self.memory[:DESCRIPTION].cast("Q")

    @property
    def flags(self) -> memoryview:
        """One byte for each thread that may try for the lock; of a segment that was parsed."""
        start = self.words[FLAGS_OFFSET]
        return self.memory[start : start + FLAGS]


@functools.cache
def directory() -> Path:
    """Return the folder of segments; raises ResourceError where there is none."""
    if sys.platform != "linux" or not Path("/dev/shm").is_dir():  # noqa: S108 - its one home
        raise ResourceError(
            f"ops-shm needs /dev/shm of Linux; this is {sys.platform}.",
            suggestions=("In a container, mount a tmpfs on /dev/shm.",),
        )
    return Path("/dev/shm")  # noqa: S108


def path_of(name: str) -> Path:
    """Return the file of the segment *name*; long or unusual names are hashed."""
    plain = name.isascii() and name.replace("_", "").replace("-", "").replace(".", "").isalnum()
    if not plain or len(name) > _LONGEST_NAME:
        name = (
            "~" + hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        )
    return directory() / (PREFIX + name)


def create(name: str, header: bytearray, size: int, mode: int) -> tuple[int, Mapped]:
    """Make the segment *name* of *size* bytes that starts with *header*, not yet visible.

    Returns its descriptor and mapping; `publish` gives it its name.
    """
    # Nameless until it is complete: a killed creator leaves nothing behind.
    fd = os.open(directory(), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OSError(
                    errno.ENOSPC, f"{directory()} has no space for {size} bytes of {name!r}"
                ) from error
            raise
        os.pwrite(fd, header, 0)
        os.fchmod(fd, mode)
        return fd, Mapped(fd, size, readonly=False)
    except BaseException:
        os.close(fd)
        raise


@contextlib.contextmanager
def naming() -> Iterator[None]:
    """Let no other caller give, replace or remove a name in the block, which is to be short.

    So that a name is only removed from the segment that was looked at. It is a lock (flock) on the folder; where another
    program holds that for longer than a second, the block runs without.
    """
    fd = os.open(directory(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    import fcntl  # here, so that other systems get to `directory`

    try:
        deadline = time.monotonic() + _NAMING_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        # Explicitly: a child that is just being forked may still share it.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def publish(name: str, fd: int, *, replace: bool) -> None:
    """Give the segment behind *fd* its name in one step; raises SegmentExistsError."""
    target = path_of(name)
    if not replace:
        try:
            _link(fd, target)
        except FileExistsError:
            raise taken(name) from None
        return
    draft = directory() / f"{DRAFT}{os.getpid()}.{secrets.token_hex(4)}"
    _link(fd, draft)
    draft.replace(target)


def _link(fd: int, target: Path) -> None:
    # Only with a directory descriptor does os.link call linkat(AT_SYMLINK_FOLLOW); an absolute
    # source makes the kernel ignore which descriptor it is.
    os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd, follow_symlinks=True)


def attach(name: str, *, readonly: bool = False) -> tuple[int, Mapped]:
    """Open and map the segment *name*; raises SegmentNotFoundError, OSError."""
    access = os.O_RDONLY if readonly else os.O_RDWR
    try:
        fd = os.open(path_of(name), access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SegmentNotFoundError(
            f"There is no shared array {name!r}.",
            suggestions=("`python -m ops.shm ls` lists those that exist.",),
        ) from None
    try:
        return fd, Mapped(fd, _size(name, fd), readonly=readonly)
    except BaseException:
        os.close(fd)
        raise


def _size(name: str, fd: int) -> int:
    size = os.fstat(fd).st_size
    if not size:
        raise SegmentNotFoundError(f"The segment of {name!r} is empty.")
    if size < PAGE:
        raise SegmentFormatError(f"{path_of(name)} is no segment of ops.shm: {size} bytes.")
    return size


def reopened(fd: int, *, readonly: bool) -> int:
    """Return a descriptor of a new open file of the segment behind *fd*, named or not."""
    access = os.O_RDONLY if readonly else os.O_RDWR
    return os.open(f"/proc/self/fd/{fd}", access | os.O_CLOEXEC)


def is_linked(name: str, fd: int) -> bool:
    """Return whether *name* still is the name of the segment behind *fd*."""
    return _leads_to(path_of(name), fd)


def unlink(path: Path, fd: int) -> None:
    """Remove the name *path* from the segment behind *fd*; another one that has it by now keeps it."""
    with naming():
        if _leads_to(path, fd):
            path.unlink()


def _leads_to(path: Path, fd: int) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)


def remove(name: str) -> bool:
    """Unlink the name; mappings live on until their last user lets go."""
    try:
        path_of(name).unlink()
    except FileNotFoundError:
        return False
    return True


def semaphore_name(instance: int) -> str:
    """Return the POSIX name of a segment's semaphore."""
    return f"/ops-shm-{instance:x}"


def semaphore_file(instance: int) -> Path:
    """Return the file of the semaphore that belongs to the segment *instance*."""
    return directory() / f"sem.ops-shm-{instance:x}"


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
    ]  # fmt: skip
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def taken(name: str) -> SegmentExistsError:
    """Return the error of a name that a segment in use has."""
    return SegmentExistsError(
        f"A shared array named {name!r} exists already.",
        suggestions=("Pass exist_ok=True to replace it, or attach to it.",),
    )
