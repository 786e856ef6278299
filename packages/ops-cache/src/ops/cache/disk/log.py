"""The log: append-only segments that many processes write and read at once, without a lock.

A record is appended by one `write` to a file that is open with O_APPEND. A local file system holds
the inode's lock for the whole call, so records never mix, and the position of the descriptor tells
afterwards where ours lies. Whatever lies between the end we knew and our record was written by
others: it is read first, so all processes apply the same records in the same order.

A full segment is closed by a SEAL record. The first SEAL counts; a record behind it does not exist,
and its writer, which sees the SEAL when it looks at what came before its record, writes it again
into the next segment. Nobody has to agree on anything beforehand.

The oldest segment is dropped when the cache exceeds its limit. An entry that is read while it is in
the oldest quarter is moved to the end first. A MOVED record names the offset up to which its writer
knew the log; it counts only if nothing in the same segment set or deleted the key after that, so a
move never brings back an older value, also for a process that opens the cache later. A deletion
that is MOVED takes away what has expired or is damaged, and never what was set after its writer
looked.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from typing import TYPE_CHECKING

from ops.cache.disk.blobs import BlobFolder
from ops.cache.disk.folder import open_folder
from ops.cache.disk.hints import Deletions, apply_hint, write_hint
from ops.cache.disk.index import OFFSET_BITS, OFFSET_MASK, BlobRef, Index
from ops.cache.disk.records import HEADER, NO_VALUE, Flag, pack, scan
from ops.cache.disk.segments import FULL, Segments
from ops.cache.disk.space import drop_oldest, look_at_space
from ops.cache.errors import CacheFullError, ReadOnlyCacheError
from ops.cache.own_files import refuse_link
from ops.foundation.forks import in_children, keep_over_forks
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Sequence

    from ops.cache.disk.records import Record
    from ops.cache.disk.segments import Found
    from ops.serialize.packing import Packed

__all__ = ["Item", "Log"]

Item = tuple[int, bytes, bytes, float, bytes]  # flags, key, value, expires, tag

_log = get_logger("ops.cache")
_SINCE = struct.Struct("<Q")
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

    def __init__(self, folder: pathlib.Path, max_bytes: int, segment_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.segment_bytes = segment_bytes
        self.mutex: threading.RLock = threading.RLock()
        self.blobs: BlobFolder = BlobFolder(folder / "blobs")
        self.seen_blobs: set[str] = set()  # files whose checksums this process has verified
        self.hits = self.misses = self.damaged = self.evicted = self.damaged_bytes = 0
        salt, read_only = open_folder(folder)
        self.segments: Segments = Segments(folder, salt, read_only=read_only)
        for name in ("evict.lock", "keys.lock", "blobs"):
            refuse_link(folder / name)
        self.evicting: FileLock = FileLock(folder / "evict.lock", timeout=0)
        self._load()
        keep_over_forks(self)
        in_children(self, Log.reopen)

    def close(self) -> None:
        """Close the files; every use after this raises `CacheClosedError`."""
        with self.mutex:
            self.segments.close()
            self.segments.forget(before=1 << 62)
            self.index = Index()
            self.tail = 0

    # Following

    def _load(self) -> None:
        """Read the folder from its start."""
        self.index = Index()
        self.rescue_below = 0
        self.segments.forget(before=1 << 62)
        numbers = self.segments.numbers() or [1]
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

    def _apply_hint(self, number: int) -> bool:
        try:
            return apply_hint(self.segments.content(number, ".hint"), self.index, number)
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
        self._deletions = Deletions()
        self._last_deletion = -1
        self._blob_bytes_here = 0

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
            data = self.segments.read(self.tail, end)
            if not self._apply_all(scan(data, self._seed, self.tail)):
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
            self._apply(record.start, record.flags, record.key, record.tag, record.value)
            self.tail = record.end
        return False

    def _apply(self, start: int, flags: int, key: bytes, tag: bytes, value: bytes) -> None:
        if flags & Flag.MOVED and not self._counts(key, value):
            return
        if flags & NO_VALUE:
            self._apply_deletion(start, flags, key)
        else:
            blob = None
            if flags & Flag.BLOB:
                blob = BlobRef.unpack(value)
                self._blob_bytes_here += blob.size
            useless = self.index.set(key, self.number << OFFSET_BITS | start, tag, blob)
            if useless is not None:
                self.remove(useless)

    def _apply_deletion(self, start: int, flags: int, key: bytes) -> None:
        self._last_deletion = start
        if flags & Flag.DELETE:
            self._deletions.keys.add(key)
            keys = [key]
        else:
            by_tag = bool(flags & Flag.DELETE_TAG)
            self._deletions.bulk.append(("tag" if by_tag else "prefix", key))
            keys = self.index.with_tag(key) if by_tag else self.index.below(key)
            if by_tag:  # what got its tag here has another one, or none, where a hint is applied
                here, at = self.number << OFFSET_BITS, self.index.positions
                self._deletions.keys.update(k for k in keys if at[k] >= here)
        self.remove(*self.index.discard_all(keys))

    def _counts(self, key: bytes, value: bytes) -> bool:
        """Say whether a MOVED record counts, to everybody who applies it."""
        (since,) = _SINCE.unpack_from(value)
        at = self.index.positions.get(key, -1)
        set_since = at >> OFFSET_BITS == self.number and at & OFFSET_MASK >= since
        return not set_since and self._last_deletion < since

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
                write_hint(hint, self.index, self.number, self._deletions)
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
            if found is None:  # dropped by another process
                self.index.discard(key)
                self.misses += 1
            else:
                self.hits += 1
            return found

    def peek(self, key: bytes) -> Found | None:
        """Do as `find` does, without counting it as a use."""
        with self.mutex:
            hits, misses = self.hits, self.misses
            found = self.find(key, keep=False)
            self.hits, self.misses = hits, misses
        return found

    def _find_with_care(self, key: bytes, position: int, *, keep: bool) -> Found | None:
        """Find a record that only a hint has told of so far, or that is to be dropped next."""
        if position < 0:
            record = self.segments.record(~position)
            if record is None or record.key != key:
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
            self._apply(start, flags, key, tag, value)
            self._reach(start + len(record))

    def append_many(self, items: Sequence[Item]) -> None:
        """Write records by one call; they count one after the other. Raises as `append` does."""
        with self.mutex:
            data = b"".join([pack(self._seed, *item) for item in items])
            start = self._write(data, *items)
            if start != self.tail and not self._apply_before(start):
                self.append_many(items)
                return
            for flags, key, value, _, tag in items:
                self._apply(start, flags, key, tag, value)
                start += HEADER.size + len(key) + len(tag) + len(value)
            self._reach(start)

    def _reach(self, end: int) -> None:
        self.tail = end
        if end + self._blob_bytes_here >= self.segment_bytes:
            with contextlib.suppress(CacheFullError):  # the record is there; a later one seals
                self.seal()

    def append_deletion(self, kind: int, name: bytes) -> None:
        """Write that a key, a tag or a namespace, as *kind* says, is deleted; see `append`."""
        self.append((kind, name, b"", 0.0, b""))

    def move(self, key: bytes, expires: float | None = None) -> bool | None:
        """Write an entry again, with another *expires* unless that is None.

        Returns False when somebody came between, and None when the entry cannot be read.
        """
        with self.mutex:
            position = self.index.positions[key]
            record = self.segments.record(position if position >= 0 else ~position)
            if record is None:
                return None
            until = record.expires if expires is None else expires
            return self._append_unless_changed(
                (record.flags, key, record.content, until, record.tag)
            )

    def delete_unchanged(self, key: bytes) -> bool:
        """Write that *key* is deleted as it is known here; False when somebody came between."""
        with self.mutex:
            return self._append_unless_changed((Flag.DELETE, key, b"", 0.0, b""))

    def _append_unless_changed(self, item: Item) -> bool:
        """Write a record that does not count once others have changed its key; say if it counts."""
        flags, key, content, expires, tag = item
        flags |= Flag.MOVED
        value = _SINCE.pack(self.tail) + content
        record = pack(self._seed, flags, key, value, expires, tag)
        try:
            start = self.segments.write(record)
        except CacheFullError:
            if not drop_oldest(self):
                raise
            return False  # the entry may have been dropped with it
        if start != self.tail and not self._apply_before(start):
            return False
        counts = self._counts(key, value)
        self._apply(start, flags, key, tag, value)
        self._reach(start + len(record))
        return counts

    def _write(self, data: bytes, *items: Item) -> int:
        try:
            try:
                return self.segments.write(data)
            except CacheFullError:
                if not drop_oldest(self):
                    raise
                return self.segments.write(data)
        except CacheFullError:
            self._remove_unnamed(items)
            raise

    def _remove_unnamed(self, items: Iterable[Item]) -> None:
        """Remove the files of *items* that came to no record: nobody would ever remove them."""
        self.refresh()  # some of the records may have been written
        for flags, key, value, _, _ in items:
            if flags & Flag.BLOB and self.index.blobs.get(key) != (blob := BlobRef.unpack(value)):
                self.remove(blob)

    def write_blob(self, packed: Packed) -> BlobRef:
        """Write a large value to a file of its own; raises `CacheFullError`."""
        if self.segments.read_only:
            raise ReadOnlyCacheError(f"The folder {self.segments.folder} cannot be written to.")
        while True:
            try:
                blob = self.blobs.write(packed)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                with self.mutex:
                    if not drop_oldest(self):
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
        if start < self.tail:
            self._load()
            return False
        data = self.segments.read(self.tail, start)
        if self._apply_all(scan(data, self._seed, self.tail)):
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

        The position of a descriptor that parent and child share would not tell where a write ended.
        """
        if self.segments.current:
            self._open(self.segments.current)
