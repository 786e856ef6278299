"""The log: append-only segments that many processes write and read at once, without a lock.

A record is appended by one `write` to a file that is open with O_APPEND. A local file system holds
the inode's lock for the whole call, so records never mix, and the position of the descriptor is
afterwards where ours lies. Whatever lies between the end we knew and our record was written by
others: it is read first, so all processes apply the same records in the same order.

A full segment is closed by a SEAL record. The first SEAL counts; a record behind it does not exist,
and its writer, which sees the SEAL when it looks at what came before its record, writes it again
into the next segment. No process has to agree on anything beforehand.

`replay` is what records do to the index, `space` what goes when the folder is full.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from ops.cache.disk.blobs import BlobFolder
from ops.cache.disk.cache_directory import open_folder
from ops.cache.disk.hints import apply_hint, write_hint
from ops.cache.disk.index import BlobRef
from ops.cache.disk.records import Flag, group_seed, pack, pack_group, scan
from ops.cache.disk.replay import SINCE, Replay
from ops.cache.disk.segments import FULL, LARGEST, Segments
from ops.cache.disk.space import drop_oldest, free_space, look_at_space, reclaim
from ops.cache.errors import CacheFullError, ReadOnlyCacheError
from ops.cache.own_files import refuse_link
from ops.foundation.forks import in_children, keep_over_forks
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterable, Sequence

    from ops.cache.disk.index import Index
    from ops.cache.disk.records import Record
    from ops.cache.disk.segments import Found
    from ops.serialize.packing import Packed

__all__ = ["Item", "Log"]

Item = tuple[int, bytes, bytes, float, bytes]  # flags, key, value, expires, tag

_log = get_logger("ops.cache")
_MUCH_DEAD = 1 << 20
_lseek, _END = os.lseek, os.SEEK_END  # local names: every read asks for the end


class Log:
    """The records of one folder, and the index of what they say.

    Every public method takes the mutex, so threads may share a log; each process has its own.
    """

    index: Index
    tail: int
    oldest: int
    hits: int
    misses: int
    damaged_bytes: int

    def __init__(
        self,
        folder: pathlib.Path,
        max_bytes: int,
        segment_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self.clock = clock
        self.has_timed: bool = False  # whether an entry may expire
        self.sweep_from = 0  # the segment from which on it is worth to look for expired entries
        self.is_shrinking = False
        self.transactions: set[tuple[int, bytes]] = set()  # threads, and what they hold
        self.sealed_bytes = 0  # of the segments before the current one, when last looked at
        self.max_bytes = max_bytes
        self.segment_bytes = segment_bytes
        self.mutex: threading.RLock = threading.RLock()
        self.blobs: BlobFolder = BlobFolder(folder / "blobs")
        self.seen_blobs: set[str] = set()  # files whose checksums this process has verified
        self.hits = self.misses = self.damaged = self.evicted = self.damaged_bytes = 0
        salt, read_only, was_moved = open_folder(folder)
        self.was_moved: bool = was_moved
        self.segments: Segments = Segments(folder, salt, read_only=read_only)
        for name in ("evict.lock", "keys.lock", "blobs"):
            refuse_link(folder / name)
        self.evicting: FileLock = FileLock(folder / "evict.lock", timeout=0)
        self.replay: Replay  # made by _load
        self._load()
        keep_over_forks(self)
        in_children(self, Log.reopen)

    def close(self) -> None:
        """Close the files; every use after this raises `CacheClosedError`."""
        with self.mutex:
            self.segments.close()
            self.segments.forget(before=1 << 62)
            self.replay = Replay()
            self.index = self.replay.index
            self.tail = 0

    # Following

    def _load(self) -> None:
        """Read the folder from its start."""
        self.replay = Replay()
        self.index = self.replay.index
        self.rescue_below = 0
        self.segments.forget(before=1 << 62)
        numbers = self._usable() or [1]
        self.oldest = numbers[0]
        for number in numbers[:-1]:
            self._enter(number)
            with contextlib.suppress(FileNotFoundError):  # dropped by another process
                if not self._apply_hint(number):
                    data = self.segments.content(number)
                    self._apply_all(scan(data, self._seed))
        self._enter(numbers[-1])
        self._open(numbers[-1])
        self.refresh()
        look_at_space(self)

    def _usable(self) -> list[int]:
        """Return the numbers of the segments, without those that are larger than any writer makes."""
        numbers = self.segments.numbers()
        for number in [n for n in numbers if self.segments.size(n) > LARGEST]:
            path = self.segments.path(number)
            _log.warning("%s is too large for a segment: nothing in it counts", path)
            numbers.remove(number)
            if not self.segments.read_only:
                path.unlink(missing_ok=True)
        return numbers

    def _apply_hint(self, number: int) -> bool:
        self.has_timed = True  # perhaps: a hint does not record it
        try:
            return apply_hint(self.segments.hint(number), self.index, number)
        except OSError:  # there is none, or none that we may read
            return False

    def _open(self, number: int) -> None:
        """Follow and append to segment *number*, or to a later one when others have dropped it."""
        if not self.segments.open(number):
            if not self.segments.read_only:
                self.segments.path(number).unlink(missing_ok=True)
            self._load()

    def _enter(self, number: int) -> None:
        """Make *number* the segment whose records are applied next."""
        self.number = number
        self._seed = self.segments.seed(number)
        self.tail = self._torn_to = 0
        self.replay.enter(number)

    def refresh(self) -> None:
        """Apply what other processes have appended; one call of the system when nothing is new."""
        advanced = False
        if self.segments.reader < 0 and self.segments.current:
            self._open(self.segments.current)  # read-only, and nothing had been written
        while (end := self.segments.end()) not in (self.tail, self._torn_to):
            if end < self.tail:
                _log.warning("%s was cut from outside; reading all again", self.segments.folder)
                self._load()
                return
            if end > LARGEST:
                if self.segments.read_only:  # nothing counts that has no position
                    return
                self._load()
                return
            if not self._apply_all(self.segments.records(self.tail, end)):
                self._torn_to = end  # looked at in vain, and again only when more is written
                break
            self._advance()
            advanced = True
        if advanced:  # only now: a move that we had not seen yet may have saved an entry
            look_at_space(self)

    def _apply_all(self, records: Iterable[Record]) -> bool:
        """Apply records until the first SEAL; True when there was one."""
        for record in records:
            self.damaged_bytes += record.start - self.tail
            if record.flags & Flag.SEAL:
                return True
            self._apply(record)
            self.tail = record.end
        return False

    def _apply(self, record: Record) -> None:
        start, end, flags, expires, key, tag, value = record
        if flags & Flag.GROUP:
            for inner in scan(value, group_seed(self._seed), end - len(value)):
                if not inner.flags & Flag.GROUP:  # no writer puts one into another
                    self._apply(inner)
            return
        if expires:
            self.has_timed = True
        if useless := self.replay.apply(start, end - start, flags, key, tag, value):
            self.remove(*useless)

    def remove(self, *blobs: BlobRef) -> None:
        """Remove the files of large values that no entry names any more."""
        for blob in blobs:
            if not self.segments.read_only:
                self.blobs.remove(blob)
                self.seen_blobs.discard(blob.name)

    def _advance(self) -> None:
        """Go on in the segment after one that was sealed."""
        hint = self.segments.path(self.number, ".hint")
        wanted = self.segments.size(self.number) and not hint.exists()
        if wanted and not self.segments.read_only:
            with contextlib.suppress(OSError):  # it is only a shortcut
                size = self.segments.size(self.number)
                write_hint(hint, self.index, self.number, self.replay.deletions, size)
        self._enter(self.number + 1)
        numbers = self.segments.numbers()
        if self.number not in numbers and numbers and numbers[-1] > self.number:
            self._load()  # so far behind that the others have dropped this segment already
        else:
            self._open(self.number)

    # Reading and writing

    def find(self, key: bytes, *, keep: bool = True) -> Found | None:
        """Return flags, expiry and value of the newest record of *key*, or None.

        With *keep* an entry that would be dropped next is moved away from there.
        """
        with self.mutex:
            segments = self.segments
            if segments.reader < 0 or _lseek(segments.reader, 0, _END) != self.tail:
                self.refresh()
            position = self.index.positions.get(key)
            if position is None:
                self.misses += 1
                return None
            if position < self.rescue_below:
                return self._find_with_care(key, position, keep=keep)
            found = segments.value(position)
            if found is None:
                return self._find_moved(key, position, keep=keep)
            self.hits += 1
            return found

    def _find_moved(self, key: bytes, position: int, *, keep: bool) -> Found | None:
        """Find an entry whose segment another process has dropped: what lives was moved before."""
        self.refresh()
        if self.index.positions.get(key, position) != position:
            return self.find(key, keep=keep)
        self.index.discard(key)
        self.misses += 1
        return None

    def peek(self, key: bytes) -> Found | None:
        """Do as `find` does, without counting it as a use."""
        with self.mutex:
            hits, misses = self.hits, self.misses
            found = self.find(key, keep=False)
            self.hits, self.misses = hits, misses
        return found

    def _find_with_care(self, key: bytes, position: int, *, keep: bool) -> Found | None:
        """Find a record that is known only from a hint so far, or that is to be dropped next."""
        if position < 0:
            record = self.segments.record(~position)
            if record is None or record.key != key:
                self.refresh()  # another process may have moved it
                if self.index.positions.get(key, position) != position:
                    return self.find(key, keep=keep)
                self.misses += 1
                return None
            self.index.positions[key] = ~position
        if keep and self.index.positions[key] < self.rescue_below:
            with contextlib.suppress(CacheFullError):
                self.move(key)
        at = self.index.positions.get(key)  # the move may have met its deletion by another
        found = None if at is None else self.segments.value(at)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found

    def append(self, item: Item) -> None:
        """Write one record by one call, after which it is there.

        Raises `CacheFullError` when the disk takes no more, `ReadOnlyCacheError`, or
        `CacheClosedError`.
        """
        flags, key, value, expires, tag = item
        with self.mutex:
            record = pack(self._seed, flags, key, value, expires, tag)
            start = self._write(record, item)
            if start != self.tail and not self._apply_before(start):
                self.append(item)  # it came behind a SEAL, where it does not count
                return
            if expires:
                self.has_timed = True
            useless = self.replay.apply(start, len(record), flags, key, tag, value)
            if useless:
                self.remove(*useless)
            self._reach(start + len(record))

    def append_many(self, items: Sequence[Item], *, as_one: bool = False) -> None:
        """Write records by one call; they count one after the other. Raises as `append` does.

        With *as_one* they all count or none of them, wherever the writer is killed.
        """
        with self.mutex:
            records = [] if as_one else [pack(self._seed, *item) for item in items]
            data = pack_group(self._seed, items) if as_one else b"".join(records)
            start = self._write(data, *items)
            if start != self.tail and not self._apply_before(start):
                self.append_many(items, as_one=as_one)
                return
            if as_one:
                for record in scan(data, self._seed, start):
                    self._apply(record)
            else:
                self._apply_own(start, records, items)
            self._reach(start + len(data))

    def _apply_own(self, start: int, records: Sequence[bytes], items: Sequence[Item]) -> None:
        """Apply what was just written from *start* on, without reading it again."""
        for record, (flags, key, value, expires, tag) in zip(records, items, strict=True):
            self.has_timed = self.has_timed or expires > 0
            self.remove(*self.replay.apply(start, len(record), flags, key, tag, value))
            start += len(record)

    def _reach(self, end: int) -> None:
        self.tail = end
        if end + self.replay.blob_bytes_here >= self.segment_bytes:
            with contextlib.suppress(CacheFullError):  # the record is there; a later one seals
                self.seal()

    def append_deletion(self, kind: int, name: bytes) -> None:
        """Record the deletion of a key, a tag or a namespace, by *kind*; see `append`."""
        self.append((kind, name, b"", 0.0, b""))

    def append_if_unchanged(self, items: Sequence[Item]) -> list[bool]:
        """Write records by one call; say for each whether it counts.

        One whose key others have set or deleted since this log was last read does not. Raises as
        `append` does.
        """
        with self.mutex:
            since = SINCE.pack(self.tail)
            moved = [(f | Flag.MOVED, k, since + v, e, t) for f, k, v, e, t in items]
            data = b"".join([pack(self._seed, *item) for item in moved])
            try:
                start = self.segments.write(data)
            except CacheFullError:
                if self.is_shrinking or not drop_oldest(self):
                    raise
                return [False] * len(items)  # the entries may have been dropped with it
            if start != self.tail and not self._apply_before(start):
                return [False] * len(items)
            counted = []
            for record in scan(data, self._seed, start):
                counted.append(self.replay.counts(record.key, record.value))
                self._apply(record)
            self._reach(start + len(data))
            return counted

    def reclaim_if_mostly_dead(self) -> None:
        """Give disk back after deletions, when there is much more dead than alive."""
        live = self.index.live_bytes - self.index.blob_bytes
        if self.sealed_bytes + self.tail - live > max(_MUCH_DEAD, 2 * live):
            reclaim(self)

    def record(self, key: bytes) -> Record | None:
        """Return the newest record of *key*, checked; None when there is none, or a damaged one."""
        with self.mutex:
            position = self.index.positions.get(key)
            if position is None:
                return None
            record = self.segments.record(position if position >= 0 else ~position)
            return record if record is not None and record.key == key else None

    def move(self, key: bytes, expires: float | None = None) -> bool | None:
        """Write an entry again, with another *expires* unless that is None.

        Returns False when another process came between, and None when the entry cannot be read.
        """
        with self.mutex:
            record = self.record(key)
            if record is None:
                return None
            until = record.expires if expires is None else expires
            item = (record.flags, key, record.content, until, record.tag)
            return self.append_if_unchanged([item])[0]

    def _write(self, data: bytes, *items: Item) -> int:
        """Append *data* and return where it is, or -1 when it was made for a segment that is full by now."""
        seed = self._seed
        try:
            try:
                return self.segments.write(data)
            except CacheFullError:
                if self.is_shrinking or not drop_oldest(self):
                    raise
                return self.segments.write(data) if seed == self._seed else -1
        except CacheFullError:
            self._remove_unnamed(items)
            raise

    def _remove_unnamed(self, items: Iterable[Item]) -> None:
        """Remove the files of *items* that got no record: no process would ever remove them."""
        self.refresh()  # some of the records may have been written
        for flags, key, value, _, _ in items:
            if flags & Flag.BLOB and self.index.blobs.get(key) != (blob := BlobRef.unpack(value)):
                self.remove(blob)

    def write_blob(self, packed: Packed, key: bytes) -> BlobRef:
        """Write a large value of *key* to a file of its own; raises `CacheFullError`."""
        if self.segments.read_only:
            raise ReadOnlyCacheError(f"The folder {self.segments.folder} cannot be written to.")
        with self.mutex:
            replaced = self.index.blobs.get(key)  # it goes as soon as the new one is there
            free_space(self, packed.size - (replaced.size if replaced else 0))
        while True:
            try:
                blob = self.blobs.write(packed)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                with self.mutex:
                    if self.is_shrinking or not drop_oldest(self):
                        raise CacheFullError(
                            f"A value of {packed.size} bytes does not fit on the disk of "
                            f"{self.segments.folder}.",
                            suggestions=("Free space on the disk, or lower max_bytes.",),
                        ) from error
            else:
                self.seen_blobs.add(blob.name)
                return blob

    def _apply_before(self, start: int) -> bool:
        """Apply what others wrote before our record at *start*; False when a SEAL was among it."""
        if start < 0:
            return False
        if start < self.tail:
            self._load()
            return False
        if self._apply_all(self.segments.records(self.tail, start)):
            self._advance()
            self.refresh()
            look_at_space(self)
            return False
        self.damaged_bytes += start - self.tail
        self.tail = start
        return True

    def seal(self) -> None:
        """Close the current segment and go on in the next."""
        with self.mutex:
            start = self.segments.write(pack(self._seed, Flag.SEAL, b"", b"", 0.0, b""))
            if start == self.tail or self._apply_before(start):
                self.refresh()

    def reopen(self) -> None:
        """Open the current segment again, in a child that was forked.

        The position of a descriptor that parent and child share is not where a write ended.
        """
        if self.segments.current:
            self._open(self.segments.current)
