"""All segments of this machine: their names, the processes that map them, and which are unused."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from typing import TYPE_CHECKING

from ops.foundation.paths import listed
from ops.foundation.processes import pid_namespace
from ops.shm import layout, mapping
from ops.shm.errors import SegmentFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SegmentInfo", "cleanup_stale", "list_segments"]


@dataclasses.dataclass(frozen=True, slots=True)
class SegmentInfo:
    """The header of one segment, and the processes that have it mapped.

    `users` can name only processes of the PID namespace that asks.

    *name* is that of the array and *path* the file; *dtype*, *shape* and *nbytes* (of the data, in
    bytes) are as in NumPy. *writes* counts writes, *recoveries* holders that died; *interrupted* is
    whether one died within a write and that was not acknowledged yet. *instance* distinguishes one segment
    of a name from the next; *pid_namespace* is that of its creator.
    """

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    writes: int
    recoveries: int
    interrupted: bool
    instance: int
    pid_namespace: int
    users: tuple[int, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON-ready values."""
        fields = dataclasses.asdict(self)
        return fields | {
            "path": str(self.path),
            "shape": list(self.shape),
            "users": list(self.users),
        }


def list_segments() -> list[SegmentInfo]:
    """Read the header of every segment that this user may read, ordered by name."""
    return sorted(_readable(_users_by_inode()), key=lambda info: info.name)


def _readable(users: dict[int, set[int]]) -> Iterator[SegmentInfo]:
    for path in listed(mapping.directory(), mapping.PREFIX + "*"):
        found = None
        # Gone by now, another user's, or no segment. For want of a descriptor none is left out.
        with contextlib.suppress(
            FileNotFoundError, PermissionError, ValueError, SegmentFormatError
        ):
            if stat.S_ISREG(path.lstat().st_mode):  # opening a pipe would wait for ever
                found = _read(path, users)
        if found is not None:
            yield found


def cleanup_stale(*, dry_run: bool = False) -> list[str]:
    """Remove segments that no process uses; return their names. With *dry_run* remove nothing.

    Removed is what no process is connected to, in whatever container, and none has mapped. Meant for
    after a crash: a segment that only waits for its next user looks the same as a forgotten one.
    Segments that were made in another PID namespace, whose processes may hold views that cannot be
    seen from here, are left alone. Semaphores whose segment is gone are removed too. Raises OSError, and removes
    nothing more, when it cannot be found out what is used, as without a descriptor left.
    """
    infos, ours = list_segments(), pid_namespace()
    stale = [i for i in infos if not i.users and i.pid_namespace == ours and _is_unused(i.path)]
    if dry_run:
        return [info.name for info in stale]
    removed = [info.name for info in stale if _removed(info)]
    users = _users_by_inode()
    with (
        mapping.naming()
    ):  # none is being made meanwhile, whose semaphore is there and which is not
        living = {f"{instance:x}" for instance in _instances()}
        for file in listed(mapping.directory(), "sem.ops-shm-*"):
            if file.name.removeprefix("sem.ops-shm-") not in living:
                with contextlib.suppress(PermissionError, FileNotFoundError):  # of another user
                    if file.stat().st_ino not in users:
                        file.unlink()
    return removed


def _removed(info: SegmentInfo) -> bool:
    """Remove a segment unless it is used, or another one, since it was looked at."""
    from ops.shm.members import close_to_others

    try:
        fd = os.open(info.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        mapped = mapping.Mapped(fd, os.fstat(fd).st_size, readonly=False)
        if mapped.words[layout.INSTANCE] != info.instance or not close_to_others(fd):
            return False
        mapped.words[layout.RETIRED] = layout.DESTROYED  # for those that have opened it already
        mapping.unlink(info.path, fd)  # not by name: a copy has the name of its original
    except OSError:  # another user's
        return False
    finally:
        os.close(fd)
    return True


def _instances() -> Iterator[int]:
    """Return which segments have a name now."""
    return (info.instance for info in _readable({}))


def _is_unused(path: Path) -> bool:
    from ops.shm.members import anyone_connected

    try:
        with path.open("rb") as file:
            return not anyone_connected(file.fileno())
    except OSError:  # gone by now
        return False


def _read(path: Path, users: dict[int, set[int]]) -> SegmentInfo:
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < layout.PAGE:
            raise SegmentFormatError(f"{path} is no segment of ops.shm: {size} bytes.")
        mapped = mapping.Mapped(file.fileno(), size, readonly=True)
    described = layout.parse(mapped.memory, str(path))
    words = memoryview(bytes(mapped.words)).cast("Q")
    return SegmentInfo(
        name=described.name,
        path=path,
        dtype=str(described.dtype),
        shape=described.shape,
        nbytes=described.nbytes,
        writes=words[layout.SEQ] >> 1,
        recoveries=words[layout.RECOVERIES],
        interrupted=words[layout.INTERRUPTED] != words[layout.ACKNOWLEDGED],
        instance=words[layout.INSTANCE],
        pid_namespace=words[layout.PID_NAMESPACE],
        users=tuple(sorted(users.get(path.stat().st_ino, ()))),
    )


def _users_by_inode() -> dict[int, set[int]]:
    """Return which processes have which files of /dev/shm mapped, as far as we may look."""
    users: dict[int, set[int]] = {}
    root = str(mapping.directory())
    for process in listed("/proc", "[0-9]*"):
        maps = process / "maps"
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            for line in maps.read_text(errors="replace").splitlines():
                if root in line:
                    users.setdefault(int(line.split()[4]), set()).add(int(process.name))
    return users
