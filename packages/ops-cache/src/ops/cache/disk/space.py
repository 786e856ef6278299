"""The space that a disk cache takes: what is there, and the dropping of the oldest segments.

A segment is dropped by one process, under a lock between all, which also removes the files of its
entries; the others see that it is gone and forget it. All of this is called under the log's mutex.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.cache.disk.index import OFFSET_BITS
from ops.foundation.errors import LockTimeout

if TYPE_CHECKING:
    from ops.cache.disk.index import BlobRef
    from ops.cache.disk.log import Log

__all__ = ["bytes_on_disk", "drop_oldest", "look_at_space"]


def bytes_on_disk(log: Log) -> int:
    """Return the bytes of all segments and of all values that are files."""
    with log.mutex:
        numbers = log.segments.numbers()
        return sum(map(log.segments.size, numbers)) + log.index.blob_bytes


def look_at_space(log: Log) -> None:
    """Forget what other processes dropped; drop the oldest segments if there is too much."""
    numbers = log.segments.numbers()
    if numbers and numbers[0] > log.oldest:
        for blob in _forget_before(log, numbers[0]):  # who dropped them removes the files
            log.seen_blobs.discard(blob.name)
    if log.segments.read_only:
        return
    while len(numbers) > 1 and bytes_on_disk(log) > log.max_bytes and drop_oldest(log):
        numbers = log.segments.numbers()
    # There is no segment at all in a folder that somebody has emptied.
    nearly_full = numbers and bytes_on_disk(log) > log.max_bytes * 3 // 4
    log.rescue_below = numbers[len(numbers) // 4] << OFFSET_BITS if nearly_full else 0


def drop_oldest(log: Log) -> bool:
    """Drop the oldest segment, if it is not the current one and nobody else drops it."""
    try:
        with log.evicting:
            numbers = log.segments.numbers()
            if not numbers or numbers[0] >= log.number:
                return False
            blobs = _forget_before(log, numbers[0] + 1)
            log.remove(*blobs)
            for suffix in (".hint", ".seg"):
                log.segments.path(numbers[0], suffix).unlink(missing_ok=True)
            return True
    except LockTimeout:
        return False


def _forget_before(log: Log, number: int) -> list[BlobRef]:
    keys = log.index.before(number)
    log.evicted += len(keys)
    log.segments.forget(before=number)
    log.oldest = number
    return log.index.discard_all(keys)
