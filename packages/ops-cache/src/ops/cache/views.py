"""Views of a memory cache: each iteration takes a snapshot, which other threads cannot disturb."""

from __future__ import annotations

from collections.abc import Hashable, ItemsView, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.cache.memory import MemoryCache

__all__ = ["SnapshotItems", "SnapshotValues"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SnapshotItems(ItemsView[K, V]):
    """The entries of a cache."""

    _mapping: MemoryCache[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return iter(self._mapping.snapshot())


class SnapshotValues(ValuesView[V]):
    """The values of a cache."""

    _mapping: MemoryCache[Any, V]

    def __iter__(self) -> Iterator[V]:
        return iter([value for _, value in self._mapping.snapshot()])
