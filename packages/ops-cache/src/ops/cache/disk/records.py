"""The bytes of one record, and how records are found again among damage.

    magic u32 | crc u32 | flags u16 | tag length u16 | key length u32 | value length u64 |
    expires f64 | key | tag | value                                  (little-endian, 32 + n bytes)

The CRC-32 covers everything behind it and starts from a seed that is random for each segment, so a
value that contains the bytes of another cache's records is not mistaken for records of this one.
`scan` yields whole records; where bytes make no record it goes on at the next one that is whole,
because a writer that was killed, or a disk that was full, leaves the front of a record behind. Such fronts
may claim all that follows, so the bytes that are looked at in vain are counted, and the search ends after
a few times what there is.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "BODY",
    "FRONT",
    "HEADER",
    "MAX_KEY",
    "MAX_TAG",
    "MOVED_FROM",
    "Flag",
    "Record",
    "group_seed",
    "pack",
    "pack_group",
    "read_record",
    "scan",
]

MAGIC = 0x314C504F  # "OPL1"
_MAGIC_BYTES = MAGIC.to_bytes(4, "little")
HEADER = struct.Struct("<IIHHIQd")
FRONT = struct.Struct("<II")
BODY = struct.Struct("<HHIQd")
KNOWN = struct.Struct("<8xHHIQd")  # the header of a record whose checksum was seen before
MAX_KEY = 65536
MAX_TAG = 65535
_MAX_VALUE = 1 << 32
_TIMES_IN_VAIN, _LEAST_IN_VAIN = 2, 32 << 20  # bytes of records that were none
_TRY = 1024  # looking at a header takes as long as the checksum of so many bytes
_VIEWED = 64 << 10  # from which on a view takes less than a copy
_CHUNK = 1 << 20
_COPIED_AT_ONCE = 4096  # copying a smaller value twice takes less than two checksums
_LEAST_OF_BLOB = 20  # its name and size
MOVED_FROM = 8  # bytes of the offset in front of a moved value


class Flag:
    """What a record is. Without any of the first four it stores a value.

    MOVED: it counts only if its key was neither set nor deleted since, see `replay`. GROUP: its value is
    records with the seed of `group_seed`, which all count or none.

    Plain integers, since an operation on an enum's flags takes longer than reading a record. The low
    four bits of the flags say how the value is encoded: see `values.Encoding`.
    """

    DELETE: Final = 0x10
    DELETE_TAG: Final = 0x20
    CLEAR: Final = 0x40
    SEAL: Final = 0x80
    MOVED: Final = 0x100
    BLOB: Final = 0x200
    GROUP: Final = 0x400


NO_VALUE: Final = Flag.DELETE | Flag.DELETE_TAG | Flag.CLEAR | Flag.SEAL


class Record(NamedTuple):
    """One record: its offset in the segment, where its value is, and its fields."""

    start: int
    end: int
    flags: int
    expires: float
    key: bytes
    tag: bytes
    value: bytes

    @property
    def content(self) -> bytes:
        """The value without the offset that a MOVED record has in front."""
        return self.value[MOVED_FROM:] if self.flags & Flag.MOVED else self.value


def pack(seed: int, flags: int, key: bytes, value: bytes, expires: float, tag: bytes) -> bytes:
    """Return the record as bytes."""
    body = BODY.pack(flags, len(tag), len(key), len(value), expires) + key + tag
    if len(value) < _COPIED_AT_ONCE:
        body += value
        return FRONT.pack(MAGIC, zlib.crc32(body, seed)) + body
    crc = zlib.crc32(value, zlib.crc32(body, seed))
    return b"".join((FRONT.pack(MAGIC, crc), body, value))


def group_seed(seed: int) -> int:
    """Return the seed of records within a group, so that those of a torn group are no records."""
    return seed ^ 0x5A5A5A5A


def pack_group(seed: int, items: Sequence[tuple[int, bytes, bytes, float, bytes]]) -> bytes:
    """Return records as one, which counts as a whole."""
    inner = b"".join([pack(group_seed(seed), *item) for item in items])
    return pack(seed, Flag.GROUP, b"", inner, 0.0, b"")


def read_record(buffer: Any, start: int, seed: int, base: int = 0) -> Record | None:
    """Return the record at *start* of *buffer*, or None where there is no whole one."""
    if start + HEADER.size > len(buffer):
        return None
    magic, crc, flags, tag_size, key_size, value_size, expires = HEADER.unpack_from(buffer, start)
    if magic != MAGIC or key_size > MAX_KEY or value_size > _MAX_VALUE:
        return None
    key_start = start + HEADER.size
    tag_start = key_start + key_size
    value_start = tag_start + tag_size
    end = value_start + value_size
    least = _LEAST_OF_BLOB * bool(flags & Flag.BLOB) + MOVED_FROM * bool(flags & Flag.MOVED)
    if value_size < least:  # no writer makes it
        return None
    if end > len(buffer) or _checksum(buffer, start + 8, end, seed) != crc:
        return None
    return Record(
        base + start,
        base + end,
        flags,
        expires,
        buffer[key_start:tag_start],
        buffer[tag_start:value_start],
        buffer[value_start:end],
    )


def _checksum(buffer: Any, start: int, end: int, seed: int) -> int:
    if end - start < _VIEWED:
        return zlib.crc32(buffer[start:end], seed)
    with memoryview(buffer) as view, view[start:end] as part:
        return zlib.crc32(part, seed)


def scan(buffer: Any, seed: int, base: int = 0, start: int = 0) -> Iterator[Record]:
    """Yield the whole records of *buffer* (bytes or a map), whose first byte is at offset *base*."""
    position, left = start, _LEAST_IN_VAIN + _TIMES_IN_VAIN * (len(buffer) - start)
    while position < len(buffer):
        record = read_record(buffer, position, seed, base)
        if record is None:
            left -= _TRY + _claimed(buffer, position)
            position = _next_magic(buffer, position + 1) if left >= 0 else -1
            if position < 0:
                return
        else:
            yield record
            position = record.end - base


def _claimed(buffer: Any, start: int) -> int:
    """Return the bytes of which a checksum was computed for the header at *start*."""
    if start + HEADER.size > len(buffer):
        return 0
    _, _, _, tag_size, key_size, value_size, _ = HEADER.unpack_from(buffer, start)
    size = int(tag_size + key_size + value_size)
    return size if start + HEADER.size + size <= len(buffer) else 0


def _next_magic(buffer: Any, at: int) -> int:
    """Return where a record may start from *at* on, -1 for nowhere."""
    if isinstance(buffer, bytes):
        return buffer.find(_MAGIC_BYTES, at)
    while at < len(buffer):  # a map looks at each byte by itself
        found = buffer[at : at + _CHUNK + 3].find(_MAGIC_BYTES)
        if found >= 0:
            return at + int(found)
        at += _CHUNK
    return -1
