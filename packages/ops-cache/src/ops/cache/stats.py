"""What a cache has done so far, and why entries left it."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CacheStats", "EvictionCause"]


class EvictionCause(StrEnum):
    """Why an entry left a cache without a request."""

    SIZE = "size"
    MEMORY = "memory"
    EXPIRED = "expired"


@dataclasses.dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the cache was made, and its size now.

    `hits` is None where hits are served without any bookkeeping (`MemoryCache` with the S3-FIFO
    strategy, unless it is made with `count_hits=True`). `rejected` counts values larger than the
    cache. `memory_bytes` is None when the cache does not measure its values.

    *misses* counts reads that found nothing, *evictions* entries that went, by cause. *size* and
    *memory_bytes* are entries and bytes now, *max_size* and *max_memory* their limits (None: no
    limit).
    """

    hits: int | None
    misses: int
    evictions: Mapping[EvictionCause, int]
    rejected: int
    size: int
    max_size: int | None
    memory_bytes: int | None = None
    max_memory: int | None = None

    @property
    def hit_rate(self) -> float | None:
        """The share of lookups that hit, between 0 and 1; None when unknown."""
        if self.hits is None or not self.hits + self.misses:
            return None
        return self.hits / (self.hits + self.misses)
