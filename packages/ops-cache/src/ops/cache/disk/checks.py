"""Reading a whole disk cache to find what is damaged or unreferenced."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from ops.cache.disk.records import Flag, scan
from ops.cache.disk.transactions import TRANSACTIONS
from ops.cache.own_files import open_own_to_read
from ops.serialize.container import open_container
from ops.serialize.errors import SerializeError

if TYPE_CHECKING:
    import pathlib

    from ops.cache.disk.log import Log
    from ops.cache.key_locks import KeyLocks

__all__ = ["CheckReport", "check_cache"]

_WRITING_SECONDS = 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class CheckReport:
    """What `DiskCache.check` found; `repaired` is whether the finds were also removed.

    *entries* is how many are readable. *damaged_bytes* made no whole record, *damaged_entries* are
    records whose value cannot be read; *orphaned_files*, of *orphaned_bytes*, belong to no entry.
    """

    entries: int
    damaged_bytes: int
    damaged_entries: int
    orphaned_files: int
    orphaned_bytes: int
    repaired: bool

    @property
    def is_sound(self) -> bool:
        """Whether every entry can be read. Orphans and torn tails cost space, not entries."""
        return not self.damaged_entries


def check_cache(log: Log, locks: KeyLocks, *, repair: bool) -> CheckReport:
    """Check the records, files and hints of *log*; *locks* are those that its transactions hold.

    Raises OSError, or what reading for want of memory does, when an entry cannot be read now: it is not damaged.
    """
    with log.mutex:
        log.refresh()
        entries = dict(log.index.positions)
    damaged = [key for key in entries if not _is_whole(log, key)]
    gaps = sum(_gaps(log, number) for number in log.segments.numbers())
    orphans = _orphans(log, locks)
    size = sum(size for _, size in orphans)
    if repair:
        for key in damaged:
            with log.mutex:
                log.refresh()
                if not _is_whole(log, key):  # it may have been set again since
                    log.append_if_unchanged([(Flag.DELETE, key, b"", 0.0, b"")])
        for path, _ in orphans:
            path.unlink(missing_ok=True)
    return CheckReport(len(entries), gaps, len(damaged), len(orphans), size, repair)


def _is_whole(log: Log, key: bytes) -> bool:
    with log.mutex:
        position = log.index.positions.get(key)
        blob = log.index.blobs.get(key)
        if position is None:  # removed meanwhile
            return True
        record = log.segments.record(position if position >= 0 else ~position)
    if record is None:
        return False
    if blob is None:
        return True
    try:
        open_container(log.blobs.path(blob.name), verify=True, opener=open_own_to_read)
    except (SerializeError, FileNotFoundError) as error:
        if isinstance(error.__cause__, (MemoryError, OSError)):
            raise  # it was not looked at
        return False
    return True


def _gaps(log: Log, number: int) -> int:
    """Return how many bytes of a segment make no whole record."""
    try:
        data = log.segments.content(number)
    except FileNotFoundError:
        return 0
    return len(data) - sum(r.end - r.start for r in scan(data, log.segments.seed(number)))


def _orphans(log: Log, locks: KeyLocks) -> list[tuple[pathlib.Path, int]]:
    """Return the files that no record names, without those that may just be being written.

    A transaction writes large values at once, and names them when it ends, perhaps long afterwards: while there is any,
    none is known to be an orphan.
    """
    found = []
    for path in log.blobs.files():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if time.time() - status.st_mtime > _WRITING_SECONDS:
                found.append((path, status.st_size))
    if locks.is_any_held(TRANSACTIONS):
        return []
    with log.mutex:  # now: transactions that were there have named theirs, or removed them
        log.refresh()
        named = {blob.name for blob in log.index.blobs.values()}
    return [(path, size) for path, size in found if path.name not in named]
