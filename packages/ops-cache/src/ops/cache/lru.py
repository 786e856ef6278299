"""Exact LRU: a full cache gives up the entry that was used longest ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, TypeVar

from ops.cache.memory import MISSING, MemoryCache
from ops.cache.strategies import CacheStrategy

__all__ = ["LRUCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRUCache(MemoryCache[K, V]):
    """A `MemoryCache` that gives up the entry that was read or set longest ago."""

    strategy = CacheStrategy.LRU

    def __init__(
        self, max_size: int | None = 1000, default_ttl: float | None = None, **options: Any
    ) -> None:
        super().__init__(max_size, default_ttl, **options)
        # Only under the lock: an OrderedDict read while it is changed can lose its order.
        self._data: OrderedDict[K, V] = OrderedDict()

    def _find(self, key: K) -> Any:
        return self._data.get(key, MISSING)

    def _use(self, key: K) -> Any:
        value: Any = self._data.get(key, MISSING)
        if value is not MISSING:
            self._data.move_to_end(key)
        return value

    def _store(self, key: K, value: V) -> None:
        self._data[key] = value
        self._data.move_to_end(key)

    def _remove(self, key: K) -> Any:
        return self._data.pop(key, MISSING)

    def _victim(self) -> K:
        return next(iter(self._data))

    def _keys(self) -> list[K]:
        return list(self._data)

    def _count(self) -> int:
        return len(self._data)
