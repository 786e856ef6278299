"""Single flight among the tasks of an event loop.

A coroutine that leads a computation marks its context with it; tasks that it starts inherit the
mark. A caller that wants to wait for a computation first checks whether that one waits, through however
many others, for one of its own: waiting would never end then, so it computes by itself.

A store outside this process is read and written in a thread, so that the loop is never blocked.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from ops.cache.errors import CacheFullError, ReadOnlyCacheError, ValueTooLargeError
from ops.cache.memory import MISSING, MemoryCache
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["TaskFlights"]

_log = get_logger("ops.cache")


class _Flight:
    """One computation that is under way, and those that its own computation waits for."""

    __slots__ = ("landed", "waits_for")

    def __init__(self, landed: asyncio.Future[Any]) -> None:
        self.landed = landed
        self.waits_for: list[_Flight] = []


_leading: contextvars.ContextVar[tuple[_Flight, ...]] = contextvars.ContextVar(
    "ops.cache.leading", default=()
)


class TaskFlights:
    """Computes each missing key once among the tasks of a loop, and stores it in *store*."""

    def __init__(self, store: Any, ttl: Any) -> None:
        self._store, self._ttl = store, ttl
        self._is_local = isinstance(store, MemoryCache)
        self._flights: dict[Any, _Flight] = {}

    async def run(self, key: Any, call: Callable[[], Awaitable[Any]], ttl: Any = None) -> Any:
        """Return the value of *key*: stored, computed by another task, or computed here.

        What is computed is stored for *ttl*, by default for that of these flights.
        """
        ttl = self._ttl if ttl is None else ttl
        loop, mine = asyncio.get_running_loop(), _leading.get()
        while True:
            flight = self._flights.get((loop, key))
            if flight is None:
                return await self._lead((loop, key), mine, call, ttl)
            if _leads_to(flight, mine):
                return await call()
            for own in mine:
                own.waits_for.append(flight)
            try:
                landed = await asyncio.shield(flight.landed)
            finally:
                for own in mine:
                    own.waits_for.remove(flight)
            if landed is not None:
                return landed[0]

    async def _lead(
        self, name: Any, mine: tuple[_Flight, ...], call: Callable[[], Awaitable[Any]], ttl: Any
    ) -> Any:
        flight = self._flights[name] = _Flight(name[0].create_future())
        mark = _leading.set((*mine, flight))
        landed = None
        try:
            value = await self._do(self._store.get, name[1], MISSING)
            if value is MISSING:
                value = await call()
                landed = (value,)
                await self._keep(name[1], value, ttl)
            landed = (value,)
            return value
        finally:  # also when cancelled: a waiter leads next
            _leading.reset(mark)
            del self._flights[name]
            if not flight.landed.done():
                flight.landed.set_result(landed)

    async def _keep(self, key: Any, value: Any, ttl: Any) -> None:
        try:
            await self._do(self._store.set, key, value, ttl)
        except (ValueTooLargeError, CacheFullError, ReadOnlyCacheError) as error:
            _log.warning("Returned, not cached: %s", error)

    async def _do(self, operation: Callable[..., Any], *args: Any) -> Any:
        if self._is_local:
            return operation(*args)
        return await asyncio.to_thread(operation, *args)


def _leads_to(flight: _Flight, mine: tuple[_Flight, ...]) -> bool:
    """Say whether *flight* waits for one of *mine*, or is one."""
    todo, seen = [flight], set[int]()
    while todo:
        step = todo.pop()
        if step in mine:
            return True
        if id(step) not in seen:
            seen.add(id(step))
            todo += step.waits_for
    return False
