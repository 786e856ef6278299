"""What the policies that keep entries in one order share; the first in that order leaves first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, TypeVar

from ops.cache.memory import MISSING, MemoryCache

__all__ = ["OrderedCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class OrderedCache(MemoryCache[K, V]):
    """A `MemoryCache` whose entries are in the order in which they came; subclasses may change it.

    *max_size*, *default_ttl* and *options* are the arguments of `MemoryCache`: *max_memory*,
    *sizeof*, *on_evict* and *clock*.
    """

    def __init__(
        self, max_size: int | None = 1000, default_ttl: float | None = None, **options: Any
    ) -> None:
        super().__init__(max_size, default_ttl, **options)
        # An OrderedDict finds its first key at once also after many removals; a dict would search.
        # Only under the lock: one that is read while it is changed can lose its order.
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
