"""The space that a disk cache takes: what is there, what of it lives, and what goes when it is too much.

Space is live bytes. When the folder is full and a fifth of it or more is dead (replaced, deleted,
expired), the oldest segment is rewritten: what lives in it is moved to the end, and it is dropped. Only when
nearly all lives do entries go: those that have expired, then those of the oldest segment, except what
was read while it was in the oldest quarter, which is moved on. Large values fill a segment soon, and so
they go a few at a time, while small ones go many at a time.

A segment is dropped by one process, under a lock between all, which also removes the files of its
entries; the others see that it is gone and forget it. What lives is moved before the segment goes, so who
finds it gone finds the move. Killed in between, the move has happened or has not, and the segment is still
there. All of this is called under the log's mutex.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ops.cache.disk.index import SEGMENT_SHIFT
from ops.cache.disk.records import Flag
from ops.cache.errors import CacheFullError
from ops.foundation.errors import LockTimeout

if TYPE_CHECKING:
    from ops.cache.disk.index import BlobRef
    from ops.cache.disk.log import Item, Log

__all__ = [
    "bytes_on_disk",
    "drop_oldest",
    "free_space",
    "look_at_space",
    "reclaim",
    "remove_expired",
]

_DEAD_SHARE = 5  # one of so many parts is worth a rewriting
_LEAST_DEAD = 4096
_REWRITTEN_AT_ONCE = 1 << 20
_MOST_TRIES = 20


def bytes_on_disk(log: Log) -> int:
    """Return the bytes of all files of the folder, and of all values that are files."""
    with log.mutex:
        total = log.index.blob_bytes
        with os.scandir(log.segments.folder) as files:
            for file in files:
                if file.is_file(follow_symlinks=False):
                    try:
                        total += file.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:  # dropped by another process
                        continue
        return total


def dead_bytes(log: Log) -> int:
    """Return the bytes of segments that no entry lives in."""
    sizes = {number: log.segments.size(number) for number in log.segments.numbers()}
    log.sealed_bytes = sum(size for number, size in sizes.items() if number < log.number)
    return sum(sizes.values()) - (log.index.live_bytes - log.index.blob_bytes)


def look_at_space(log: Log) -> None:
    """Forget what other processes dropped, and free space where too much is taken."""
    numbers = log.segments.numbers()
    if numbers and numbers[0] > log.oldest:
        log.refresh()  # what lived there was moved before, perhaps after we last looked
        if numbers[0] > log.oldest:
            for blob in _forget_before(log, numbers[0]):  # who dropped them removes the files
                log.seen_blobs.discard(blob.name)
    if log.segments.read_only:
        return
    free_space(log)
    numbers = log.segments.numbers()
    # There is no segment at all in a folder that another process has emptied.
    evicts_soon = numbers and log.index.live_bytes > log.max_bytes * 5 // 8
    log.rescue_below = numbers[len(numbers) // 4] << SEGMENT_SHIFT if evicts_soon else 0


def free_space(log: Log, more: int = 0) -> None:
    """Shrink the folder until *more* bytes, a segment and a rewriting fit into `max_bytes`."""
    if log.is_shrinking or log.segments.read_only:
        return
    log.is_shrinking = True
    try:
        _free_space(log, more)
    finally:
        log.is_shrinking = False


def _free_space(log: Log, more: int) -> None:
    worth = log.max_bytes // _DEAD_SHARE
    limit = log.max_bytes - log.segment_bytes
    most_segments = 2 * log.max_bytes // log.segment_bytes + 32
    rewritten = 0
    while True:
        numbers = log.segments.numbers()
        if len(numbers) > most_segments:  # of large values that were replaced, for the most part
            if not rewrite_oldest(log):
                return
            continue
        dead = dead_bytes(log)
        if bytes_on_disk(log) + more <= limit:
            is_dead = dead > max(2 * log.index.live_bytes, 4 * log.segment_bytes)
            if not is_dead or rewritten > len(numbers):
                return  # it is small enough, and not for the most part dead
        elif dead < worth or rewritten > len(numbers):
            if _sweep(log):
                worth, rewritten = 2 * log.segment_bytes, 0
                continue
            if numbers[-1:] == numbers[:1] and log.tail and more:
                log.seal()
            if not drop_oldest(log):
                return
            continue
        rewritten += 1
        if not rewrite_oldest(log):
            return


def reclaim(log: Log) -> None:
    """Give back the disk that dead records take, if that is a quarter of what lives, or more."""
    if log.is_shrinking or log.segments.read_only or not _is_worth_reclaiming(log):
        return
    log.is_shrinking = True
    try:
        if log.tail:
            log.seal()
        last = log.number
        while _is_worth_reclaiming(log) and log.segments.numbers()[0] < last:
            if not rewrite_oldest(log):
                break
    except CacheFullError:  # nothing can be moved: it stays as it is
        pass
    finally:
        log.is_shrinking = False


def _is_worth_reclaiming(log: Log) -> bool:
    live = log.index.live_bytes - log.index.blob_bytes
    return dead_bytes(log) > max(_LEAST_DEAD, live // 4)


def rewrite_oldest(log: Log) -> bool:
    """Move what lives in the oldest segment to the end and drop it; False when that is not possible."""
    try:
        with log.evicting:
            numbers = log.segments.numbers()
            if not numbers or numbers[0] >= log.number or not _move_on(log, numbers[0]):
                return False
            _drop(log, numbers[0], evicts=False)
            return True
    except (LockTimeout, CacheFullError):
        return False


def _move_on(log: Log, segment: int) -> bool:
    """Move all that lives in *segment* and the ones before; False when others change it all the time."""
    for _ in range(_MOST_TRIES):
        unchanged = [_move(log, batch) for batch in _batches(log, segment)]
        if all(unchanged):
            return True
    return False


def _batches(log: Log, segment: int) -> list[list[bytes]]:
    keys = log.index.before(segment + 1)
    size = max(_REWRITTEN_AT_ONCE * max(len(keys), 1) // max(log.segment_bytes, 1), 1)
    return [keys[n : n + size] for n in range(0, len(keys), size)]


def _move(log: Log, keys: list[bytes]) -> bool:
    items: list[Item] = []
    now = log.clock()
    for key in keys:
        record = log.record(key)
        if record is None or 0 < record.expires <= now:
            continue  # it goes with its segment
        items.append((record.flags, key, record.content, record.expires, record.tag))
    return not items or all(log.append_if_unchanged(items))


def drop_oldest(log: Log) -> bool:
    """Drop the oldest segment, if it is not the current one and no other process drops it."""
    try:
        with log.evicting:
            numbers = log.segments.numbers()
            if not numbers or numbers[0] >= log.number:
                return False
            _drop(log, numbers[0], evicts=True)
            return True
    except LockTimeout:
        return False


def _drop(log: Log, number: int, *, evicts: bool) -> None:
    log.refresh()  # an entry that another process has moved lives, and has the same file
    evicted = log.evicted
    blobs = _forget_before(log, number + 1)
    if not evicts:
        log.evicted = evicted
    log.remove(*blobs)
    for suffix in (".hint", ".seg"):
        log.segments.path(number, suffix).unlink(missing_ok=True)


def _forget_before(log: Log, number: int) -> list[BlobRef]:
    keys = log.index.before(number)
    log.evicted += len(keys)
    log.segments.forget(before=number)
    log.oldest = number
    return log.index.discard_all(keys)


# Expired entries


def _sweep(log: Log) -> bool:
    """Remove expired entries before others have to go; return whether there were some.

    All entries are looked at, so where that brought little it waits until a quarter of the cache is new.
    """
    if not log.has_timed or log.number < log.sweep_from:
        return False
    live = log.index.live_bytes
    removed = remove_expired(log)
    if live - log.index.live_bytes < live // 8:
        log.sweep_from = log.number + max(log.max_bytes // log.segment_bytes // 4, 1)
    return removed > 0


def expired_keys(log: Log, now: float) -> list[bytes]:
    """Return the keys of all entries whose time has come."""
    return [
        key
        for key, at in log.index.positions.items()
        if (expires := log.segments.expires(at if at >= 0 else ~at)) is not None
        and 0 < expires <= now
    ]


def remove_expired(log: Log) -> int:
    """Remove all entries whose time has come; return how many."""
    now = log.clock()
    removed = 0
    for _ in range(_MOST_TRIES):
        due = expired_keys(log, now)
        counted = [
            counts
            for n in range(0, len(due), 1000)
            for counts in log.append_if_unchanged(
                [(Flag.DELETE, key, b"", 0.0, b"") for key in due[n : n + 1000]]
            )
        ]
        removed += sum(counted)
        if all(counted):  # none was set again, or removed, by another process
            break
    return removed
