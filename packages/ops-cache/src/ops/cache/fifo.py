"""Policies for which a hit changes nothing: first in first out, and first to expire first out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, TypeVar

from ops.cache.memory import MISSING, MemoryCache
from ops.cache.strategies import CacheStrategy

__all__ = ["FIFOCache", "TTLCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FIFOCache(MemoryCache[K, V]):
    """A `MemoryCache` that gives up the entry that came first; a new value keeps the old place."""

    strategy = CacheStrategy.FIFO

    def __init__(
        self, max_size: int | None = 1000, default_ttl: float | None = None, **options: Any
    ) -> None:
        super().__init__(max_size, default_ttl, **options)
        # An OrderedDict finds its first key at once also after many removals; a dict would search.
        self._data: OrderedDict[K, V] = OrderedDict()

    def _find(self, key: K) -> Any:
        return self._data.get(key, MISSING)

    def _use(self, key: K) -> Any:
        return self._data.get(key, MISSING)

    def _store(self, key: K, value: V) -> None:
        self._data[key] = value

    def _remove(self, key: K) -> Any:
        return self._data.pop(key, MISSING)

    def _victim(self) -> K:
        return next(iter(self._data))

    def _keys(self) -> list[K]:
        return list(self._data)

    def _count(self) -> int:
        return len(self._data)


class TTLCache(FIFOCache[K, V]):
    """A `MemoryCache` that gives up the entry that expires first; those that never do, last."""

    strategy = CacheStrategy.TTL

    def _victim(self) -> K:
        first = self._expirations.first()
        return super()._victim() if first is None else first[0]
