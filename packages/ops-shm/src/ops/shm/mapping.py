"""How segments live in /dev/shm: created whole or not at all, mapped, listed and removed.

A segment is built in a file that has no name yet and linked under its name when it is complete, so
nobody ever attaches to half a header, and of two creators one wins. Its space is allocated up front:
a full /dev/shm is an OSError here, not a SIGBUS at some later write. Nothing here uses
`multiprocessing.shared_memory`, whose resource tracker (up to Python 3.12) removes segments that
other processes are still using when any attached process ends.

Linux is the tested platform. Elsewhere `directory()` refuses with a sentence.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import mmap
import os
import secrets
import sys
from pathlib import Path

from ops.foundation.errors import ResourceError
from ops.shm.errors import SegmentExistsError, SegmentNotFoundError
from ops.shm.layout import INSTANCE, MAGIC, PAGE, word

PREFIX = "ops-shm."
DRAFT = ".ops-shm-draft."
_LONGEST_NAME = 180


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
    """Return where the segment *name* lives; long or unusual names are hashed."""
    plain = name.isascii() and name.replace("_", "").replace("-", "").replace(".", "").isalnum()
    if not plain or len(name) > _LONGEST_NAME:
        name = (
            "~" + hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        )
    return directory() / (PREFIX + name)


def create(name: str, header: bytearray, size: int, *, replace: bool) -> tuple[int, mmap.mmap]:
    """Make the segment *name* of *size* bytes that starts with *header*, not yet visible.

    Returns its descriptor and mapping; `publish` gives it its name. The mode is 0600.
    """
    if not replace and path_of(name).exists():
        raise _taken(name)
    # Nameless until it is complete: a killed creator leaves nothing behind.
    fd = os.open(directory(), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OSError(
                    errno.ENOSPC, f"{directory()} has no room for {size} bytes of {name!r}"
                ) from error
            raise
        os.pwrite(fd, header, 0)
        return fd, mmap.mmap(fd, size)
    except BaseException:
        os.close(fd)
        raise


def publish(name: str, fd: int, *, replace: bool) -> None:
    """Give the segment behind *fd* its name in one step."""
    target = path_of(name)
    if not replace:
        try:
            _link(fd, target)
        except FileExistsError:
            raise _taken(name) from None
        return
    draft = directory() / f"{DRAFT}{os.getpid()}.{secrets.token_hex(4)}"
    _link(fd, draft)
    draft.replace(target)


def _link(fd: int, target: Path) -> None:
    # Only with a directory descriptor does os.link call linkat(AT_SYMLINK_FOLLOW); an absolute
    # source makes the kernel ignore which descriptor it is.
    os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd, follow_symlinks=True)


def attach(name: str) -> tuple[int, mmap.mmap]:
    """Open and map the segment *name* for reading and writing."""
    try:
        fd = os.open(path_of(name), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise SegmentNotFoundError(
            f"There is no shared array {name!r}.",
            suggestions=("`python -m ops.shm ls` lists those that exist.",),
        ) from None
    try:
        return fd, mmap.mmap(fd, 0)
    except ValueError:  # an empty file cannot be mapped
        os.close(fd)
        raise SegmentNotFoundError(f"The segment of {name!r} is empty.") from None
    except BaseException:
        os.close(fd)
        raise


def instance_of(name: str) -> int | None:
    """Return the random number of the segment *name*, None when there is none."""
    try:
        fd, mapped = attach(name)
    except OSError:  # nothing, or something that is no segment
        return None
    os.close(fd)
    ours = len(mapped) >= PAGE and word(mapped, 0) == MAGIC
    return word(mapped, INSTANCE) if ours else None


def remove(name: str) -> bool:
    """Take away the name; mappings live on until their last user lets go."""
    try:
        path_of(name).unlink()
    except FileNotFoundError:
        return False
    return True


def semaphore_name(instance: int, epoch: int) -> str:
    """Return the POSIX name of a segment's semaphore."""
    return f"/ops-shm-{instance:x}.{epoch}"


def semaphore_files(instance: int) -> list[Path]:
    """Return the files of all semaphores that belong to the segment *instance*."""
    return sorted(directory().glob(f"sem.ops-shm-{instance:x}.*"))


def remove_semaphores(instance: int, *, before: int | None = None) -> None:
    """Take away the semaphore names of the segment *instance*: all, or those of epochs *before* one."""
    for file in semaphore_files(instance):
        if before is None or int(file.name.rpartition(".")[2]) < before:
            file.unlink(missing_ok=True)


def _taken(name: str) -> SegmentExistsError:
    return SegmentExistsError(
        f"A shared array named {name!r} exists already.",
        suggestions=("Pass exist_ok=True to replace it, or attach to it.",),
    )
