"""Policies for which a hit changes nothing: first in first out, and first to expire first out."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

from ops.cache.ordered import OrderedCache
from ops.cache.strategies import CacheStrategy

__all__ = ["FIFOCache", "TTLCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FIFOCache(OrderedCache[K, V]):
    """A `MemoryCache` that gives up the entry that came first; a new value keeps the old position.

    *max_size*, *default_ttl* and *options* are the arguments of `MemoryCache`: *max_memory*,
    *sizeof*, *on_evict* and *clock*.
    """

    strategy = CacheStrategy.FIFO


class TTLCache(OrderedCache[K, V]):
    """A `MemoryCache` that gives up the entry that expires first; those that never do, last.

    *max_size*, *default_ttl* and *options* are the arguments of `MemoryCache`: *max_memory*,
    *sizeof*, *on_evict* and *clock*.
    """

    strategy = CacheStrategy.TTL

    def _victim(self) -> K:
        first = self._expirations.first()
        return super()._victim() if first is None else first[0]
