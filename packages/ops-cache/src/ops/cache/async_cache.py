"""The awaitable twin of a cache outside this process: no call makes the event loop wait for a disk, a server or a lock.

Each operation is the one of the cache itself, run in a thread of the loop's default executor, so what holds for the
cache (atomic steps, trust, limits) holds here. That costs some 50 µs a call; a MemoryCache needs no twin, since
its calls are quicker than a switch of threads.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ops.cache.async_single_flight import TaskFlights
from ops.cache.expiry import Ttl

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
    from typing import Self

    from ops.cache.disk.store import DiskCache
    from ops.cache.expiry import TtlLike
    from ops.cache.remote import RedisCache

__all__ = ["AsyncCache"]

C = TypeVar("C", bound="DiskCache | RedisCache")


class AsyncCache(Generic[C]):
    """The operations of *cache*, a DiskCache or RedisCache, to be awaited; `cache` is the cache itself.

    ::

        async with AsyncCache(DiskCache("answers")) as answers:
            await answers.get_or_compute(question, lambda: ask(question), ttl=3600)
    """

    __slots__ = ("_flights", "cache")
    cache: C

    def __init__(self, cache: C) -> None:
        self.cache = cache
        self._flights = TaskFlights(cache, Ttl.DEFAULT)

    async def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of *key*, or *default*."""
        return await asyncio.to_thread(self.cache.get, key, default)

    async def get_with_ttl(self, key: Hashable, default: Any = None) -> tuple[Any, float | None]:
        """Return the value of *key*, or *default*, and the seconds that it has left (None: no limit)."""
        return await asyncio.to_thread(self.cache.get_with_ttl, key, default)

    async def get_many(self, keys: Iterable[Hashable]) -> dict[Any, Any]:
        """Return the values of those *keys* that are there."""
        return await asyncio.to_thread(self.cache.get_many, list(keys))

    async def contains(self, key: Hashable) -> bool:
        """Return whether *key* is there; reading it could still find it damaged."""
        return await asyncio.to_thread(self.cache.contains, key)

    async def set(
        self, key: Hashable, value: Any, ttl: TtlLike = Ttl.DEFAULT, *, tag: str | None = None
    ) -> None:
        """Store *value* under *key* for *ttl* seconds (default: that of the cache), with *tag* for `delete_tag`.

        Raises what the `set` of the cache raises, such as `ValueTooLargeError`.
        """
        await asyncio.to_thread(self.cache.set, key, value, ttl, tag=tag)

    async def set_many(
        self,
        values: Mapping[Any, Any],
        ttl: TtlLike = Ttl.DEFAULT,
        *,
        tag: str | None = None,
    ) -> None:
        """Store all *values* for *ttl* seconds, with *tag*."""
        await asyncio.to_thread(self.cache.set_many, values, ttl, tag=tag)

    async def add(self, key: Hashable, value: Any, ttl: TtlLike = Ttl.DEFAULT) -> bool:
        """Store *value* for *ttl* seconds unless *key* is there; return whether it was stored."""
        return await asyncio.to_thread(self.cache.add, key, value, ttl)

    async def incr(self, key: Hashable, delta: float = 1, default: float | None = 0) -> Any:
        """Add *delta* to the number of *key*, which begins at *default*, in one step; return the sum."""
        return await asyncio.to_thread(self.cache.incr, key, delta, default)

    async def decr(self, key: Hashable, delta: float = 1, default: float | None = 0) -> Any:
        """Subtract *delta* from the number of *key*, which begins at *default*; return the rest."""
        return await asyncio.to_thread(self.cache.decr, key, delta, default)

    async def pop(self, key: Hashable, *default: Any) -> Any:
        """Remove *key* and return its value, which no other caller gets; or *default*, or raise KeyError."""
        return await asyncio.to_thread(self.cache.pop, key, *default)

    async def touch(self, key: Hashable, ttl: TtlLike = Ttl.DEFAULT) -> bool:
        """Let *key* expire *ttl* seconds from now; return whether it was there."""
        return await asyncio.to_thread(self.cache.touch, key, ttl)

    async def delete(self, key: Hashable) -> bool:
        """Remove *key*; return whether it was there."""
        return await asyncio.to_thread(self.cache.delete, key)

    async def delete_tag(self, tag: str) -> int:
        """Remove all entries that were stored with *tag*; return how many."""
        return await asyncio.to_thread(self.cache.delete_tag, tag)

    async def clear(self) -> None:
        """Remove all entries of the cache's namespace."""
        await asyncio.to_thread(self.cache.clear)

    async def get_or_compute(
        self, key: Hashable, fn: Callable[[], Awaitable[Any]], ttl: TtlLike = Ttl.DEFAULT
    ) -> Any:
        """Return the value of *key*; where it is missing, await *fn* and store its result for *ttl* seconds.

        Tasks of one loop that ask for the same key compute it once; a task that is cancelled hands over to one
        that waits. Other loops and processes may compute at the same time, and the last result stays.
        """
        return await self._flights.run(key, fn, ttl)

    async def close(self) -> None:
        """Close the cache; what was stored stays."""
        await asyncio.to_thread(self.cache.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncCache({self.cache!r})"
