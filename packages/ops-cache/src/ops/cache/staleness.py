"""Results that may be given out after their time, while a new one is computed.

An entry is a pair of a value and the time until which it is fresh; the store never expires it. Of the calls
that find it stale, one computes: with "serve" that call itself, which waits, with "refresh" a thread
(or task) in the background. All others get the stale value at once. If computing fails, the stale
value stays; with "refresh" the error is logged.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.cache.memory import MISSING
from ops.foundation.forks import in_children
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Stale", "StaleStore"]

Stale: TypeAlias = Literal["block", "serve", "refresh"]
_log = get_logger("ops.cache")


class StaleStore:
    """A store of results, with the operations that `memoize` asks of a cache."""

    def __init__(
        self,
        store: Any,
        ttl: float,
        stale: Stale,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ttl = ttl
        self._in_background = stale == "refresh"
        self._clock = clock
        self._mutex = threading.Lock()
        self._computing: set[Any] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds them only weakly
        self.clear: Any = store.clear
        self.delete: Any = store.delete
        self.get_stats: Any = store.get_stats
        in_children(self, StaleStore.reset_after_fork)

    def reset_after_fork(self) -> None:
        """Let a forked child compute what other threads were computing: they are not there."""
        self._mutex = threading.Lock()
        self._computing = set()

    def __getitem__(self, key: Any) -> Any:
        """Return a fresh value; raises KeyError for a stale one too."""
        value, fresh_until = self._store[key]
        if fresh_until <= self._clock():
            raise KeyError(key)
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a fresh value, or *default*."""
        entry = self._store.get(key, MISSING)
        return default if entry is MISSING or entry[1] <= self._clock() else entry[0]

    def contains(self, key: Any) -> bool:
        """Say whether there is a fresh value."""
        entry = self._store.peek(key, MISSING)
        return entry is not MISSING and entry[1] > self._clock()

    def set(self, key: Any, value: Any, _ttl: object = None) -> None:
        """Store a value that is fresh from now on."""
        self._store.set(key, (value, self._clock() + self._ttl), None)

    def get_or_compute(self, key: Any, fn: Callable[[], Any], _ttl: object = None) -> Any:
        """Return the value, stale or fresh; compute what is missing, or stale without a computation under way."""
        entry = self._store.get(key, MISSING)
        if entry is MISSING:
            return self._store.get_or_compute(key, lambda: (fn(), self._clock() + self._ttl), None)[
                0
            ]
        if entry[1] > self._clock() or not self._begin(key):
            return entry[0]
        if not self._in_background:
            return self._renew(key, fn)
        name = "ops-cache-refresh"
        thread = threading.Thread(
            target=self._renew_quietly, args=(key, fn), name=name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the process ends: a later call begins again
            self._end(key)
        return entry[0]

    async def get_or_compute_async(
        self, key: Any, fn: Callable[[], Awaitable[Any]], missing: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Do as `get_or_compute` does for a coroutine function; *missing* computes at first."""
        entry = self._store.get(key, MISSING)
        if entry is MISSING:
            return await missing()
        if entry[1] > self._clock() or not self._begin(key):
            return entry[0]
        if not self._in_background:
            return await self._renew_async(key, fn)
        task = asyncio.create_task(self._renew_async_quietly(key, fn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._end(key))  # it may be cancelled before it began
        return entry[0]

    def _begin(self, key: Any) -> bool:
        with self._mutex:
            if key in self._computing:
                return False
            self._computing.add(key)
            return True

    def _end(self, key: Any) -> None:
        with self._mutex:
            self._computing.discard(key)

    def _renew(self, key: Any, fn: Callable[[], Any]) -> Any:
        try:
            value = fn()
            self.set(key, value)
            return value
        finally:
            self._end(key)

    async def _renew_async(self, key: Any, fn: Callable[[], Awaitable[Any]]) -> Any:
        try:
            value = await fn()
            self.set(key, value)
            return value
        finally:
            self._end(key)

    def _renew_quietly(self, key: Any, fn: Callable[[], Any]) -> None:
        try:
            self._renew(key, fn)
        except Exception:  # noqa: BLE001 - no caller waits for it
            _log.exception("Refreshing failed; the stale result stays")

    async def _renew_async_quietly(self, key: Any, fn: Callable[[], Awaitable[Any]]) -> None:
        try:
            await self._renew_async(key, fn)
        except Exception:  # noqa: BLE001 - no caller waits for it
            _log.exception("Refreshing failed; the stale result stays")
