"""What one object of a disk cache has done, and how large the cache is."""

from __future__ import annotations

import dataclasses

__all__ = ["DiskCacheStats"]


@dataclasses.dataclass(frozen=True, slots=True)
class DiskCacheStats:
    """What this object has done, and what is on disk now.

    `evicted` counts entries that went with an old segment; `damaged_bytes` what was skipped because
    it made no whole record; `damaged` reads that found an entry unreadable. Sizes in bytes.

    *hits* and *misses* count reads of this object. *size* is the number of entries, *disk_bytes*
    what the folder takes, *max_bytes* its limit.
    """

    hits: int
    misses: int
    evicted: int
    damaged: int
    damaged_bytes: int
    size: int
    disk_bytes: int
    max_bytes: int

    @property
    def hit_rate(self) -> float | None:
        """The share of lookups that hit, between 0 and 1; None before the first."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None
