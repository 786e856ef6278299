"""The segment files of one folder: appending to the current one, reading from all.

Nothing here knows what a record means; `log` does. The writer's descriptor is used for nothing but
appending, so that its position after a write is where the write ended.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any

from ops.cache.disk.hints import most_of_hint
from ops.cache.disk.index import OFFSET_MASK, SEGMENT_SHIFT
from ops.cache.disk.records import HEADER, KNOWN, group_seed, read_record, scan
from ops.cache.errors import CacheClosedError, CacheFullError, ReadOnlyCacheError
from ops.cache.own_files import open_own, open_own_to_read
from ops.foundation.paths import is_there

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from ops.cache.disk.records import Record

__all__ = ["FULL", "LARGEST", "Found", "Segments"]

Found = tuple[int, float, bytes]  # flags, expires, value
_REMAP_AFTER = 16 << 10
_MOST_TAIL_READS = 32  # a read costs a third of a microsecond more than the map, a new map ten
_PAGE = 4096
_MAPPED_FROM = 16 << 20
LARGEST = OFFSET_MASK  # bytes of a segment: records behind them have no position
_SEGMENT = re.compile(r"0*[1-9][0-9]{0,11}\.seg", re.ASCII)
HEADER_SIZE = HEADER.size
_unpack_known = KNOWN.unpack_from
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_write, _lseek, _CURRENT = os.write, os.lseek, os.SEEK_CUR  # local names, for every set


class Segments:
    """Files `00000001.seg` and so on. *current* is the number of the one that is appended to."""

    writer: int
    reader: int

    def __init__(self, folder: pathlib.Path, salt: bytes, *, read_only: bool) -> None:
        self.folder = folder
        self.read_only = read_only
        self.current: int = 0
        self.salt = salt
        self.writer = self.reader = -1
        self._maps: dict[int, mmap.mmap] = {}
        self._tail_reads = 0

    def numbers(self) -> list[int]:
        """Return the numbers of the segments there are, oldest first."""
        names = os.listdir(self.folder)  # noqa: PTH208
        return sorted(int(name[:-4]) for name in names if _SEGMENT.fullmatch(name))

    def path(self, number: int, suffix: str = ".seg") -> pathlib.Path:
        """Return the path of segment *number*, or of its hint."""
        return self.folder / f"{number:08d}{suffix}"

    def seed(self, number: int) -> int:
        """Return what the checksums of segment *number* start from."""
        return zlib.crc32(self.salt + number.to_bytes(8, "little"))

    def hint(self, number: int) -> bytes:
        """Return the hint of segment *number*; raises `OSError`.

        One that is larger than any writer makes is removed: its size would count, and entries go for it.
        """
        most = most_of_hint(self.size(number))
        descriptor = open_own_to_read(self.path(number, ".hint"))
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            data = file.read(most + 1)
        if len(data) <= most:
            return data
        if not self.read_only:
            self.path(number, ".hint").unlink(missing_ok=True)
        return b""

    def content(self, number: int) -> bytes | mmap.mmap:
        """Return all bytes of segment *number*, mapped; raises `FileNotFoundError`."""
        data = self._map(number)
        if data is None and not is_there(self.path(number)):
            raise FileNotFoundError(errno.ENOENT, "the segment is gone", str(self.path(number)))
        return b"" if data is None else data

    def size(self, number: int) -> int:
        """Return the bytes of segment *number*, 0 when it is gone."""
        try:
            return self.path(number).lstat().st_size
        except FileNotFoundError:
            return 0

    def open(self, number: int) -> bool:
        """Make *number* the current segment; it is created when it is missing.

        Returns False when it had been dropped: it is then new and empty, behind later ones.
        """
        self.close()
        self.current = number
        if not self.read_only:
            self.writer = open_own(self.path(number), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with contextlib.suppress(FileNotFoundError):  # read-only, and nothing was written yet
            self.reader = open_own_to_read(self.path(number))
        # In this order: a segment has its SEAL before there is a later one.
        is_last = self.numbers()[-1:] <= [number]
        return is_last or self.end() > 0

    def close(self) -> None:
        """Close the current segment; `end` and `write` then raise `CacheClosedError`."""
        for descriptor in (self.writer, self.reader):
            if descriptor >= 0:
                os.close(descriptor)
        self._maps.pop(self.current, None)  # it may end before the last record
        self.writer = self.reader = -1
        self.current = 0

    def end(self) -> int:
        """Return the size of the current segment."""
        if self.reader < 0:
            if not self.current:
                raise CacheClosedError(f"The cache in {self.folder} is closed.")
            return 0
        return os.lseek(self.reader, 0, os.SEEK_END)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes of the current segment."""
        return os.pread(self.reader, end - start, start)

    def records(self, start: int, end: int) -> Iterator[Record]:
        """Yield the records of the current segment that lie between these offsets."""
        seed = self.seed(self.current)
        if end - start < _MAPPED_FROM:
            return scan(self.read(start, end), seed, start)
        return scan(mmap.mmap(self.reader, end, access=mmap.ACCESS_READ), seed, 0, start)

    def write(self, data: bytes) -> int:
        """Append *data* to the current segment by one call and return the offset of its start.

        Raises `CacheFullError` when the disk takes no more, `ReadOnlyCacheError`, or
        `CacheClosedError`.
        """
        if self.writer < 0:
            if not self.current:
                raise CacheClosedError(f"The cache in {self.folder} is closed.")
            raise ReadOnlyCacheError(f"The folder {self.folder} cannot be written to.")
        try:
            written = _write(self.writer, data)
        except OSError as error:
            if error.errno not in FULL:
                raise
            written = 0
        if written != len(data):  # the front of a record, if anything: readers skip it
            raise CacheFullError(
                f"Only {written} of {len(data)} bytes could be written to {self.folder}.",
                suggestions=("Free space on the disk, or lower max_bytes.",),
            )
        return _lseek(self.writer, 0, _CURRENT) - written

    def value(self, position: int) -> Found | None:
        """Read a record whose checksum was seen before; None when its segment is gone."""
        number, start = position >> SEGMENT_SHIFT, position & OFFSET_MASK
        try:
            data = self._maps[number]
            flags, tag_size, key_size, size, expires = _unpack_known(data, start)
        except (KeyError, struct.error):  # not mapped, or not so far
            return self._value_unmapped(number, start)
        begin = start + HEADER_SIZE + key_size + tag_size
        value = data[begin : begin + size]
        if len(value) != size:
            return self._value_unmapped(number, start)
        return flags, expires, value

    def record(self, position: int) -> Record | None:
        """Read a record and check it; None when it is damaged or its segment is gone."""
        number, start = position >> SEGMENT_SHIFT, position & OFFSET_MASK
        data: Any
        seed, at, base = self.seed(number), start, 0
        if number == self.current:
            data, at, base = self._read_at(start), 0, start
        else:
            data = self._map(number)
        if data is None:
            return None
        record = read_record(data, at, seed, base)
        return record or read_record(data, at, group_seed(seed), base)

    def expires(self, position: int) -> float | None:
        """Return when a record expires, 0 for never, None when its segment is gone; nothing is checked."""
        number, start = position >> SEGMENT_SHIFT, position & OFFSET_MASK
        data: Any = self._maps.get(number)
        if data is None or len(data) < start + HEADER_SIZE:
            found = self._value_unmapped(number, start)
            return None if found is None else found[1]
        return float(_unpack_known(data, start)[4])

    def forget(self, before: int) -> None:
        """Give up the maps of segments older than *before*."""
        for number in [number for number in self._maps if number < before]:
            del self._maps[number]

    def _value_unmapped(self, number: int, start: int) -> Found | None:
        """Read a value through the map if that can be had, else from the file itself."""
        mapped = len(self._maps.get(number, b""))
        if number != self.current:
            if mapped or self._map(number) is None:
                return None
            return self.value(number << SEGMENT_SHIFT | start)
        self._tail_reads += 1
        if self._tail_reads > _MOST_TAIL_READS or self.end() - mapped > mapped // 8 + _REMAP_AFTER:
            self._tail_reads = 0
            self._maps.pop(number, None)
            self._map(number)
        data = self._read_at(start)
        if len(data) < HEADER.size:
            return None
        _, _, flags, tag_size, key_size, size, expires = HEADER.unpack_from(data)
        begin = HEADER.size + tag_size + key_size
        return flags, expires, data[begin : begin + size]

    def _read_at(self, start: int) -> bytes:
        """Return the record at *start* of the current segment."""
        data = os.pread(self.reader, _PAGE, start)
        if len(data) >= HEADER.size:
            _, _, _, tag_size, key_size, size, _ = HEADER.unpack_from(data)
            total = HEADER.size + tag_size + key_size + size
            if total > len(data):
                data += os.pread(self.reader, total - len(data), start + len(data))
        return data

    def _map(self, number: int) -> mmap.mmap | None:
        data = self._maps.get(number)
        if data is None:
            try:
                descriptor = open_own_to_read(self.path(number))
                try:
                    data = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
                finally:
                    os.close(descriptor)
            except (FileNotFoundError, ValueError):  # dropped by another process, or empty
                return None
            self._maps[number] = data
        return data
