"""S3-FIFO with one bit of frequency (Yang et al., SOSP 2023), the bit being membership of a dict.

`hot` holds the entries read since they were queued or last examined and serves hits: a subscript is
a C-level dict lookup with no bookkeeping. `cold` holds the others; the first read of a cold entry
moves it to `hot` under the lock. New keys queue in `small` (10 %); hot ones move on to `main`, the
rest leave and are remembered as ghosts, whose return goes straight to `main`. A key that is deleted
or expires leaves its slot in the queue behind, marked in `dead`; half of the slots at most.

`OpenS3FIFOCache` shows `hot`, a plain dict, to who can live with its misses, as `memoize` does.
`S3FIFOCache` has a `__getitem__` per instance, the bound method of a dict that calls back for what
it misses; it is exchanged for one that looks at the clock when the first entry that can expire is set.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from ops.cache.memory import MISSING, MemoryCache
from ops.cache.strategies import CacheStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CountingS3FIFOCache", "OpenS3FIFOCache", "S3FIFOCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SLACK = 64  # slots of removed keys that a queue may hold, however small the cache


class _Hot(dict[Any, Any]):
    __slots__ = ("cache",)
    cache: weakref.ref[CountingS3FIFOCache[Any, Any]]

    def __missing__(self, key: Any) -> Any:
        cache = self.cache()
        if cache is None:
            raise KeyError(key)
        value = cache._read(key)  # noqa: SLF001 - a part of the cache
        return cache._missing(key) if value is MISSING else value  # noqa: SLF001 - as above


class CountingS3FIFOCache(MemoryCache[K, V]):
    """S3-FIFO with reads that take the lock and count hits."""

    strategy = CacheStrategy.S3FIFO

    def __init__(
        self, max_size: int | None = 1000, default_ttl: float | None = None, **options: Any
    ) -> None:
        super().__init__(max_size, default_ttl, **options)
        self._hot: dict[K, V] = {}
        self._cold: dict[K, V] = {}
        self._small: deque[K] = deque()
        self._main: deque[K] = deque()
        self._ghosts: dict[K, None] = {}
        self._dead: set[K] = set()

    def _find(self, key: K) -> Any:
        value: Any = self._cold.get(key, MISSING)
        if value is MISSING:
            value = dict.get(self._hot, key, MISSING)
        return value

    def _use(self, key: K) -> Any:
        value: Any = self._cold.pop(key, MISSING)
        if value is MISSING:
            return dict.get(self._hot, key, MISSING)
        self._hot[key] = value
        return value

    def _store(self, key: K, value: V) -> None:
        if key in self._hot:
            self._hot[key] = value
            return
        if key not in self._cold:
            if key in self._dead:
                self._dead.remove(key)  # back to the slot it still has
            elif key in self._ghosts:
                del self._ghosts[key]
                self._main.append(key)
            else:
                self._small.append(key)
        self._cold[key] = value

    def _remove(self, key: K) -> Any:
        value: Any = self._cold.pop(key, MISSING)
        if value is MISSING:
            value = self._hot.pop(key, MISSING)
        if value is not MISSING:
            self._unqueue(key)
        return value

    def _unqueue(self, key: K) -> None:
        # A victim is at the head of its queue. Searching for any other key would take time in
        # proportion to the size of the cache, so its slot stays, and is skipped when it comes up.
        for queue in (self._small, self._main):
            if queue and queue[0] == key:
                queue.popleft()
                return
        self._dead.add(key)
        if len(self._dead) > max(_SLACK, self._count()):
            self._small = deque(k for k in self._small if k not in self._dead)
            self._main = deque(k for k in self._main if k not in self._dead)
            self._dead.clear()

    def _victim(self) -> K:
        while True:
            total = len(self._small) + len(self._main)
            from_small = not self._main or len(self._small) >= max(1, total // 10)
            queue = self._small if from_small else self._main
            key = queue[0]
            if key in self._dead:
                queue.popleft()
                self._dead.remove(key)
                continue
            if key not in self._hot:
                if from_small:
                    self._remember(key, total)
                return key
            queue.popleft()
            self._cold[key] = self._hot.pop(key)
            self._main.append(key)

    def _remember(self, key: K, limit: int) -> None:
        self._ghosts[key] = None
        while len(self._ghosts) > limit:
            del self._ghosts[next(iter(self._ghosts))]

    def _keys(self) -> list[K]:
        return [*self._cold, *self._hot]

    def _count(self) -> int:
        return len(self._cold) + len(self._hot)


class OpenS3FIFOCache(CountingS3FIFOCache[K, V]):
    """S3-FIFO whose hits may be read from `hot` itself, as long as no entry can expire."""

    @property
    def hot(self) -> Mapping[K, V]:
        """The entries that were read lately; the same object for ever."""
        return self._hot

    def get_stats(self) -> Any:
        """Return the counters; `hits` is None because hits leave no trace."""
        return dataclasses.replace(super().get_stats(), hits=None)


class S3FIFOCache(OpenS3FIFOCache[K, V]):
    """S3-FIFO whose hits take no lock and, without TTLs, run no Python code at all.

    *max_size*, *default_ttl* and *options* are the arguments of `MemoryCache`: *max_memory*,
    *sizeof*, *on_evict* and *clock*. The policy is that
    of Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023).
    """

    __slots__ = ("__getitem__", "get")  # one pair per instance: see the module's paragraph

    def __init__(
        self, max_size: int | None = 1000, default_ttl: float | None = None, **options: Any
    ) -> None:
        super().__init__(max_size, default_ttl, **options)
        self._hot = hot = _Hot()
        hot.cache = weakref.ref(self)
        self._install(hot.__getitem__, _plain_get(hot, hot.cache))

    def _become_timed(self) -> None:
        self._install(*_timed_readers(self))

    def _install(self, subscript: Callable[[Any], Any], get: Callable[..., Any]) -> None:
        object.__setattr__(self, "__getitem__", subscript)
        object.__setattr__(self, "get", get)


def _plain_get(hot: _Hot, owner: weakref.ref[CountingS3FIFOCache[Any, Any]]) -> Callable[..., Any]:
    find = hot.get

    def get(key: Any, default: Any = None) -> Any:
        value = find(key, MISSING)
        if value is MISSING:
            value = owner()._read(key)  # type: ignore[union-attr] # noqa: SLF001 - the caller holds it
            return default if value is MISSING else value
        return value

    return get


def _timed_readers(cache: S3FIFOCache[Any, Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    owner = weakref.ref(
        cache
    )  # not the cache: a cycle would keep dropped caches until a collection
    expirations, clock = cache._expirations, cache._clock  # noqa: SLF001 - methods of the cache
    find, subscript = cache._hot.get, cache._hot.__getitem__  # noqa: SLF001

    def get(key: Any, default: Any = None) -> Any:
        if clock() >= expirations.deadline:
            owner().expire()  # type: ignore[union-attr] # the caller holds the cache
        value = find(key, MISSING)
        if value is MISSING:
            value = owner()._read(key)  # type: ignore[union-attr] # noqa: SLF001 - as above
            return default if value is MISSING else value
        return value

    def getitem(key: Any) -> Any:
        if clock() >= expirations.deadline:
            owner().expire()  # type: ignore[union-attr] # as above
        return subscript(key)

    return getitem, get
