"""Exact LFU: a full cache gives up the entry that was used least often.

Keys are grouped by how often they were used; a hit moves a key one group up, so each step takes
constant time. Among equals the one that was used longest ago goes. Counts leave with their entry.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, TypeVar

from ops.cache.memory import MISSING, MemoryCache
from ops.cache.strategies import CacheStrategy

__all__ = ["LFUCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LFUCache(MemoryCache[K, V]):
    """A `MemoryCache` that gives up the entry that was read least often.

    *max_size*, *default_ttl* and *options* are the arguments of `MemoryCache`: *max_memory*,
    *sizeof*, *on_evict* and *clock*.
    """

    strategy = CacheStrategy.LFU

    def __init__(
        self, max_size: int | None = 1000, default_ttl: float | None = None, **options: Any
    ) -> None:
        super().__init__(max_size, default_ttl, **options)
        self._data: dict[K, V] = {}
        self._uses: dict[K, int] = {}
        self._groups: dict[int, OrderedDict[K, None]] = {}
        self._least = 1

    def _find(self, key: K) -> Any:
        return self._data.get(key, MISSING)

    def _use(self, key: K) -> Any:
        value: Any = self._data.get(key, MISSING)
        if value is not MISSING:
            uses = self._leave_group(key)
            if self._least == uses and uses not in self._groups:
                self._least = uses + 1
            self._join_group(key, uses + 1)
        return value

    def _store(self, key: K, value: V) -> None:
        if key not in self._data:
            self._join_group(key, 1)
            self._least = 1
        self._data[key] = value

    def _remove(self, key: K) -> Any:
        value: Any = self._data.pop(key, MISSING)
        if value is not MISSING:
            self._leave_group(key)
        return value

    def _victim(self) -> K:
        if self._least not in self._groups:  # it was emptied by a removal
            self._least = min(self._groups)
        return next(iter(self._groups[self._least]))

    def _keys(self) -> list[K]:
        return list(self._data)

    def _count(self) -> int:
        return len(self._data)

    def _join_group(self, key: K, uses: int) -> None:
        self._uses[key] = uses
        self._groups.setdefault(uses, OrderedDict())[key] = None

    def _leave_group(self, key: K) -> int:
        uses = self._uses.pop(key)
        group = self._groups[uses]
        del group[key]
        if not group:
            del self._groups[uses]
        return uses
