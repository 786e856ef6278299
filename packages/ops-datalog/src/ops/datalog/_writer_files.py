"""The two files of a writer: the segment, which grows by write(2), and the tail, a locked map in front of it.

Both can be taken from a put that is still under way in this very thread: a signal handler that stops the
log, or that forks, runs in the middle of a put and returns into it. What the put then does has to reach
no file any more. For the segment its descriptor is made to lead to /dev/null, by number, as the C function
that was interrupted goes on with that number; the tail's map is replaced, and what it held is ignored.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import time
from typing import TYPE_CHECKING, Any

from ops.datalog._liveness import try_lock
from ops.datalog.frames import HEADER_SIZE
from ops.foundation.processes import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TAIL_BYTES = 256 * 1024
#: Offsets in the tail's header: an eighth word each for BUSY and the owner's identity.
BUSY, OWNER = 56, 48
#: A tail that is being made; it gets its name when it is whole and locked.
FRESH = ".fresh"


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give an OSError from inside the name of the file that it is about."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def refuse_scarce(folder: Path, size: int, min_free_bytes: int) -> None:
    """Raise OSError (ENOSPC) when *size* bytes more would leave users less of the disk than *min_free_bytes*."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free - size < min_free_bytes:
        raise OSError(
            errno.ENOSPC, f"only {free} bytes are free, of which {min_free_bytes} stay", str(folder)
        )


class ForkedError(Exception):
    """A handler has forked while a file was being made, which is the parent's: the child makes another."""


#: How often this process's line was forked; what a child goes on with that its parent began shows by it.
_forks = 0


def forks() -> int:
    """Return a number that is another one in every forked child."""
    return _forks


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - one number per process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Segment:
    """A segment that is written; `written` bytes of frames are complete."""

    __slots__ = ("_fd", "made_at", "path", "written")

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.written: int = 0
        self.made_at: float = time.monotonic()
        self._fd = -1

    def create(self, header: bytes, is_wanted: Callable[[], bool]) -> None:
        """Make the file; a full disk leaves none, nor does a handler behind which it is not wanted."""
        before = _forks
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o644)
        try:
            # From here on `silence` reaches it.
            if not is_wanted():
                raise OSError(errno.ECANCELED, "the log was stopped meanwhile")  # noqa: TRY301 - to clean up
            with naming(self.path):
                if os.write(self._fd, header) != len(header):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        except BaseException:
            self.close()
            if before == _forks:
                with contextlib.suppress(FileNotFoundError):
                    self.path.unlink()
            raise

    def append(self, parts: list[Any]) -> None:
        """Append *parts* as a whole; on a full disk, or interrupted, what was written is taken back."""
        size, done = sum(map(len, parts)), 0
        try:
            with naming(self.path):
                while done < size:
                    done += os.writev(self._fd, _rest(parts, done))
        except BaseException:
            os.ftruncate(self._fd, HEADER_SIZE + self.written)
            raise
        self.written += size

    def sync(self) -> None:
        """Bring it to the disk itself."""
        with naming(self.path):
            os.fdatasync(self._fd)

    def silence(self, *, take_back: bool) -> None:
        """Let what an interrupted put still writes reach no file; *take_back* what it wrote so far."""
        if self._fd < 0:
            return
        if take_back:
            os.ftruncate(self._fd, HEADER_SIZE + self.written)
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, self._fd, inheritable=False)
        os.close(null)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Tail:
    """A tail that this process writes through `map`; its lock shows others that the writer lives."""

    __slots__ = ("_fd", "map", "path")

    def __init__(self, folder: Path, stem: str, header: bytes) -> None:
        before = _forks
        self._fd = -1
        self.path: Path = folder / f"{stem}.tail"
        fresh = folder / f"{stem}{FRESH}"
        self._fd = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            if not try_lock(self._fd):
                raise BlockingIOError(errno.EAGAIN, "another process looks at it", str(fresh))  # noqa: TRY301 - to clean up
            with naming(fresh):
                os.posix_fallocate(self._fd, 0, TAIL_BYTES)
            self.map: mmap.mmap = mmap.mmap(self._fd, TAIL_BYTES)
            self.map[:HEADER_SIZE] = header
            self.map[OWNER : OWNER + 8] = this_process().to_bytes(8, "little")
            name, target = os.fspath(fresh), os.fspath(self.path)
            # No call between the two: where a handler forks, only one of both processes gets there.
            if before != _forks:
                raise ForkedError  # noqa: TRY301 - to clean up
            os.rename(name, target)  # noqa: PTH104 - see above
        except BaseException:
            self._close()
            if before == _forks:
                for path in (fresh, self.path):
                    with contextlib.suppress(FileNotFoundError):
                        path.unlink()
            raise

    def exists(self) -> bool:
        """Return whether its file still exists, and so no process has taken it over."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Remove the file."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def release(self) -> None:
        """Let others take it over."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._close()

    def leave_to_parent(self) -> None:
        """In a forked child: keep nothing of it, without ending the parent's lock."""
        self._close()
        # An interrupted flush may still read from it, which does no harm.
        with contextlib.suppress(BufferError):
            self.map.close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self._close()


def _rest(parts: list[Any], done: int) -> list[memoryview]:
    left = []
    for part in parts:
        view = memoryview(part)
        if done < len(view):
            left.append(view[done:])
        done = max(0, done - len(view))
    return left
