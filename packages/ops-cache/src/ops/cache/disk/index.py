"""Where each key's newest record is, which keys carry a tag, and which values are files.

A position is `segment << 48 | size << 32 | offset`, with the size of the record in units of 8 bytes, and
`~position` until the record's checksum has been seen in this process (positions that come from a hint
file). The index is a function of the log: every process that has read the same records has the same
index. It also counts the bytes of the records that count, which is how much of the log is live.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from ops.cache.disk.prefixes import SortedKeys

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "OFFSET_MASK",
    "SEGMENT_SHIFT",
    "WITHIN_MASK",
    "BlobRef",
    "Index",
    "is_blob_name",
    "within",
]

_REFERENCE = struct.Struct("<12sQ")
_BLOB_NAME = re.compile(r"[0-9a-f]{24}", re.ASCII)
SEGMENT_SHIFT = 48
WITHIN_MASK = (1 << SEGMENT_SHIFT) - 1  # size and offset
_SIZE_SHIFT = 32
OFFSET_MASK = (1 << _SIZE_SHIFT) - 1
_SIZE_MASK = (1 << SEGMENT_SHIFT - _SIZE_SHIFT) - 1
_UNIT = 8
_FEW = 1024


def within(start: int, size: int) -> int:
    """Return the part of a position that is of the segment: a record of *size* bytes at *start*."""
    units = size + 7 >> 3
    return (min(_SIZE_MASK, units)) << 32 | start


def is_blob_name(name: str) -> bool:
    """Say whether *name* is 24 hex digits, as the names of all large values are."""
    return _BLOB_NAME.fullmatch(name) is not None


class BlobRef(NamedTuple):
    """A value that is a file of its own: its random name and its size in bytes."""

    name: str
    size: int

    def pack(self) -> bytes:
        """Return the value of a record that refers to this file."""
        return _REFERENCE.pack(bytes.fromhex(self.name), self.size)

    @classmethod
    def checked(cls, name: object, size: object) -> BlobRef:
        """Return the reference that a file of hints holds; raises `ValueError` for any other name."""
        if type(name) is not str or not is_blob_name(name):
            raise ValueError(f"{str(name)[:80]!r} is no name of a blob.")
        if type(size) is not int or not 0 <= size < 1 << 62:
            raise ValueError(f"{str(size)[:80]} is no size of a blob.")
        return cls(name, size)

    @classmethod
    def unpack(cls, value: bytes) -> BlobRef:
        """Read what `pack` made, at the end of *value*."""
        name, size = _REFERENCE.unpack(value[-_REFERENCE.size :])
        return cls(name.hex(), size)


class Index:
    """Keys to positions. Not thread-safe: the log calls it under its mutex."""

    def __init__(self) -> None:
        self.positions: dict[bytes, int] = {}
        self.blobs: dict[bytes, BlobRef] = {}
        self.blob_bytes: int = 0
        self.tag_of: dict[bytes, bytes] = {}
        self._tagged: dict[bytes, set[bytes]] = {}
        self._live = 0  # units of records that count
        self._is_counted = True
        self._sorted: SortedKeys | None = None  # made by the first search for a prefix

    @property
    def live_bytes(self) -> int:
        """The bytes of the records and files that count."""
        if not self._is_counted:
            every = self.positions.values()
            self._live = sum([(p if p >= 0 else ~p) >> _SIZE_SHIFT & _SIZE_MASK for p in every])
            self._is_counted = True
        return self._live * _UNIT + self.blob_bytes

    def update(self, positions: Iterable[tuple[bytes, int]]) -> None:
        """Set many keys at once that have neither tags nor files; their sizes are counted later."""
        if self._sorted is not None:
            positions = [*positions]
            self._sorted.extend([key for key, _ in positions])
        self.positions.update(positions)
        self._is_counted = False

    def set(self, key: bytes, position: int, tag: bytes, blob: BlobRef | None) -> BlobRef | None:
        """Let *key* be at *position*; return the blob that this made useless, if any."""
        replaced = None
        if key in self.blobs:
            replaced = self._forget_blob(key)
        if blob is not None:
            self.blobs[key] = blob
            self.blob_bytes += blob.size
            replaced = None if replaced == blob else replaced  # moved, not replaced
        if key in self.tag_of:
            self._forget_tag(key)
        if tag:
            self.tag_of[key] = tag
            self._tagged.setdefault(tag, set()).add(key)
        old = self.positions.get(key, 0)
        if not old and self._sorted is not None:
            self._sorted.append(key)
        self._live += ((position if position >= 0 else ~position) >> 32 & 0xFFFF) - (
            (old if old >= 0 else ~old) >> 32 & 0xFFFF
        )
        self.positions[key] = position
        return replaced

    def discard(self, key: bytes) -> BlobRef | None:
        """Forget *key*; return its blob, if it had one."""
        old = self.positions.pop(key, None)
        if old is not None:
            self._live -= (old if old >= 0 else ~old) >> _SIZE_SHIFT & _SIZE_MASK
        if key in self.tag_of:
            self._forget_tag(key)
        return self._forget_blob(key) if key in self.blobs else None

    def discard_all(self, keys: Iterable[bytes]) -> list[BlobRef]:
        """Forget *keys* and return their blobs."""
        return [blob for key in keys if (blob := self.discard(key)) is not None]

    def with_tag(self, tag: bytes) -> list[bytes]:
        """Return the keys that carry *tag*."""
        return list(self._tagged.get(tag, ()))

    def below(self, prefix: bytes) -> list[bytes]:
        """Return the keys that start with *prefix*, all of which the caller removes."""
        # Of keys that were removed one by one, what is sorted still has some.
        if self._sorted is None or len(self._sorted) > 2 * len(self.positions) + _FEW:
            self._sorted = SortedKeys(self.positions)
        return [key for key in dict.fromkeys(self._sorted.take(prefix)) if key in self.positions]

    def before(self, segment: int) -> list[bytes]:
        """Return the keys whose record is in a segment older than *segment*."""
        limit = segment << SEGMENT_SHIFT
        return [key for key, at in self.positions.items() if (at if at >= 0 else ~at) < limit]

    def _forget_blob(self, key: bytes) -> BlobRef:
        blob = self.blobs.pop(key)
        self.blob_bytes -= blob.size
        return blob

    def _forget_tag(self, key: bytes) -> None:
        tag = self.tag_of.pop(key)
        tagged = self._tagged[tag]
        tagged.discard(key)
        if not tagged:
            del self._tagged[tag]
