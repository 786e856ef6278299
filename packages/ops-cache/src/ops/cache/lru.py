"""Exact LRU: a full cache gives up the entry that was used longest ago."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

from ops.cache.memory import MISSING
from ops.cache.ordered import OrderedCache
from ops.cache.strategies import CacheStrategy

__all__ = ["LRUCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRUCache(OrderedCache[K, V]):
    """A `MemoryCache` that gives up the entry that was read or set longest ago.

    *max_size*, *default_ttl* and *options* are the arguments of `MemoryCache`: *max_memory*,
    *sizeof*, *on_evict* and *clock*.

    >>> recent = LRUCache(max_size=2)
    >>> for key in "abc":
    ...     recent.set(key, key.upper())
    >>> recent.get("a"), recent.get("c")
    (None, 'C')
    """

    strategy = CacheStrategy.LRU

    def _use(self, key: K) -> Any:
        value: Any = self._data.get(key, MISSING)
        if value is not MISSING:
            self._data.move_to_end(key)
        return value

    def _store(self, key: K, value: V) -> None:
        self._data[key] = value
        self._data.move_to_end(key)
