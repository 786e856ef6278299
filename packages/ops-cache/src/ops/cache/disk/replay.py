"""What the records of a log do to the index, one after the other, the same in every process.

A MOVED record names the offset up to which its writer knew the segment. It counts only if nothing in the
same segment set or deleted its key at or after that offset, so it never undoes what came between. With
it entries are moved, deleted when they have expired, and changed by those who first looked at them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ops.cache.disk.hints import Deletions
from ops.cache.disk.index import OFFSET_MASK, SEGMENT_SHIFT, BlobRef, Index, within
from ops.cache.disk.records import NO_VALUE, Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SINCE", "Replay"]

SINCE = struct.Struct("<Q")
_NONE: Sequence[BlobRef] = ()


class Replay:
    """The index, and what the segment that is read now has deleted so far."""

    deletions: Deletions
    blob_bytes_here: int

    def __init__(self) -> None:
        self.index: Index = Index()
        self.enter(0)

    def enter(self, number: int) -> None:
        """Make *number* the segment whose records come next."""
        self._number = number
        self._base = number << SEGMENT_SHIFT
        self.deletions = Deletions()
        self._last_bulk = -1
        self.blob_bytes_here = 0

    def apply(
        self, start: int, size: int, flags: int, key: bytes, tag: bytes, value: bytes
    ) -> Sequence[BlobRef]:
        """Apply the record of *size* bytes at *start*; return the files that no entry names any more."""
        if flags & Flag.MOVED and not self.counts(key, value):
            return _NONE
        if flags & NO_VALUE:
            return self._delete(start, flags, key)
        blob = None
        if flags & Flag.BLOB:
            blob = BlobRef.unpack(value)
            self.blob_bytes_here += blob.size
        useless = self.index.set(key, self._base | within(start, size), tag, blob)
        return _NONE if useless is None else (useless,)

    def _delete(self, start: int, flags: int, key: bytes) -> Sequence[BlobRef]:
        deleted, at = self.deletions, self.index.positions
        if flags & Flag.DELETE:
            deleted.keys[key] = start
            keys = [key]
        else:
            self._last_bulk = start
            by_tag = bool(flags & Flag.DELETE_TAG)
            deleted.bulk.append(("tag" if by_tag else "prefix", key))
            keys = self.index.with_tag(key) if by_tag else self.index.below(key)
            if by_tag:  # what got its tag here has another one, or none, where a hint is applied
                deleted.keys.update((k, start) for k in keys if at[k] >= self._base)
        return self.index.discard_all(keys)

    def counts(self, key: bytes, value: bytes) -> bool:
        """Record whether a MOVED record counts, for every process that applies it."""
        (since,) = SINCE.unpack_from(value)
        at = self.index.positions.get(key, -1)
        set_since = at >> SEGMENT_SHIFT == self._number and at & OFFSET_MASK >= since
        deleted = max(self._last_bulk, self.deletions.keys.get(key, -1))
        return not set_since and deleted < since
