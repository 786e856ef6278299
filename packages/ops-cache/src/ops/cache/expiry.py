"""TTLs: which entries are due, at the price of one comparison while none is.

`Expirations` keeps the deadline of each key and one shared `deadline`, the earliest of all. A cache
compares its clock with that one number; only when it has passed does anything look further. The
heap may hold outdated pairs (a key that was overwritten, touched or deleted); a pair counts only
while it is the one that the table of keys names, and the heap is rebuilt when most are outdated.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["Expirations", "Ttl", "TtlLike", "check_interval", "check_ttl"]

K = TypeVar("K", bound="Hashable")


class Ttl(Enum):
    """`Ttl.DEFAULT` stands for "the cache's own time to live"; None would mean "never"."""

    DEFAULT = "default"


TtlLike: TypeAlias = "float | dt.timedelta | Ttl | None"


def check_ttl(ttl: float | dt.timedelta | None) -> float | None:
    """Return *ttl* in seconds, or None for never.

    Raises `ValidationError` when it is negative, NaN or a bool.
    """
    if isinstance(ttl, dt.timedelta):
        ttl = ttl.total_seconds()
    if ttl is not None and (isinstance(ttl, bool) or not ttl >= 0):
        msg = f"A time to live must be zero or more seconds, not {ttl!r}."
        raise ValidationError(msg, suggestions=("Use None for entries that never expire.",))
    if ttl is None or ttl == inf:
        return None
    # A time since the epoch plus a number of less precision would be minutes off.
    return ttl if type(ttl) in {int, float} else float(ttl)


def check_interval(name: str, seconds: float) -> float:
    """Return *seconds*; raise `ValidationError` unless they are a time that can be waited for."""
    if not 0 < seconds < inf:
        raise ValidationError(f"{name} must be more than zero seconds, not {seconds!r}.")
    return seconds


class Expirations(Generic[K]):
    """The deadlines of keys. Not thread-safe: its cache calls it under its own lock."""

    __slots__ = ("_heap", "_order", "_pairs", "deadline")

    def __init__(self) -> None:
        self.deadline: float = inf
        self._pairs: dict[K, tuple[float, int, K]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()

    def __contains__(self, key: object) -> bool:
        return key in self._pairs

    def put(self, key: K, deadline: float) -> None:
        """Let *key* expire at *deadline*; replaces an earlier deadline of that key."""
        # The number in the middle breaks ties, so that keys are never compared with each other.
        pair = (deadline, next(self._order), key)
        self._pairs[key] = pair
        heapq.heappush(self._heap, pair)
        if len(self._heap) > 2 * len(self._pairs) + 64:
            self._heap = list(self._pairs.values())
            heapq.heapify(self._heap)
        self.deadline = min(deadline, self.deadline)

    def drop(self, key: K) -> None:
        """Forget *key*. The shared deadline may stay too early; it is corrected when it is due."""
        self._pairs.pop(key, None)

    def remaining(self, key: K, now: float) -> float | None:
        """Return the seconds that *key* has left, None when it never expires."""
        pair = self._pairs.get(key)
        return None if pair is None else pair[0] - now

    def pop_due(self, now: float) -> Iterator[K]:
        """Remove and yield each key whose deadline has come, then set the next shared deadline."""
        while (key := self.first()) is not None and self._heap[0][0] <= now:
            heapq.heappop(self._heap)
            del self._pairs[key[0]]
            yield key[0]
        self.deadline = self._heap[0][0] if self._heap else inf

    def first(self) -> tuple[K] | None:
        """Return the key that expires first, in a tuple because None may be a key."""
        while self._heap:
            pair = self._heap[0]
            if self._pairs.get(pair[2]) is pair:
                return (pair[2],)
            heapq.heappop(self._heap)
        return None

    def clear(self) -> None:
        """Forget all keys."""
        self._pairs.clear()
        self._heap.clear()
        self.deadline = inf
