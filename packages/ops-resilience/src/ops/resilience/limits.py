"""How often and how many at once: a token bucket, a bulkhead, a time limit.

The bucket keeps one number, the moment at which it would be full again (GCRA, the generic cell rate
algorithm of ITU-T I.371): a caller moves that moment by what it takes and learns how long to wait, all
in one short step under a lock, and sleeps outside it. Places are given in the order of asking, so
threads are served fairly, and nobody has to wake up to look.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from ops.foundation.concurrency import timeout_context
from ops.foundation.errors import ValidationError
from ops.resilience.calls import is_awaited
from ops.resilience.errors import RateLimitTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["RateLimiter", "Semaphore", "SemaphoreStats", "timeout"]

P = ParamSpec("P")
R = TypeVar("R")


class RateLimiter:
    """At most *rate* tokens per *per* seconds, *burst* of them at once (default: *rate*, at least 1).

    Use it with `with`, `async with`, as a decorator (sync or async), or through `acquire`.
    """

    def __init__(
        self,
        rate: float,
        per: float = 1.0,
        burst: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        burst = max(1.0, rate) if burst is None else burst
        if not (0 < rate < math.inf and 0 < per < math.inf and 1 <= burst < math.inf):
            raise ValidationError(
                f"rate and per must be positive, burst at least 1: {rate}, {per}, {burst}."
            )
        self._interval, self._burst = per / rate, burst
        self._capacity = burst * self._interval
        self._clock, self._sleep = clock, sleep
        self._full_at = -math.inf
        self._lock = threading.Lock()

    def try_acquire(self, tokens: float = 1) -> bool:
        """Take *tokens* if they are there now; never waits."""
        return self._reserve(tokens, 0.0) is not None

    def acquire(self, tokens: float = 1, timeout: float | None = None) -> None:
        """Take *tokens*, waiting for them.

        Raises RateLimitTimeout, at once and without taking any, when they cannot be there within
        *timeout* seconds; ValidationError when *tokens* is more than the burst.
        """
        wait = self._reserve(tokens, timeout)
        if wait is None:
            raise RateLimitTimeout(f"{tokens:g} tokens are not to be had within {timeout:g} s.")
        if wait > 0:
            with self._given_back_if_interrupted(tokens):
                self._sleep(wait)

    async def acquire_async(self, tokens: float = 1, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Take *tokens*, waiting without blocking the event loop; raises as `acquire` does."""
        wait = self._reserve(tokens, timeout)
        if wait is None:
            raise RateLimitTimeout(f"{tokens:g} tokens are not to be had within {timeout:g} s.")
        if wait > 0:
            with self._given_back_if_interrupted(tokens):
                await asyncio.sleep(wait)

    def _reserve(self, tokens: float, limit: float | None) -> float | None:
        """Take *tokens* and return the seconds to wait for them; None if that is beyond *limit*."""
        if not 0 < tokens <= self._burst:
            raise ValidationError(
                f"{tokens:g} tokens can never be there at once: the burst is {self._burst:g}."
            )
        with self._lock:
            now = self._clock()
            full_at = max(self._full_at, now) + tokens * self._interval
            wait = full_at - self._capacity - now
            if wait > 0 and limit is not None and not wait <= limit:
                return None
            self._full_at = full_at
            return wait

    @contextlib.contextmanager
    def _given_back_if_interrupted(self, tokens: float) -> Iterator[None]:
        """Give *tokens* back when the wait for them is cancelled: a later caller gets their place."""
        try:
            yield
        except BaseException:
            with self._lock:
                self._full_at -= tokens * self._interval
            raise

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        await self.acquire_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return *function*, one token a call."""
        if is_awaited(function):

            @functools.wraps(function)
            async def limited_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                await self.acquire_async()
                return await function(*args, **kwargs)

            return cast("Callable[P, R]", limited_async)

        @functools.wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            self.acquire()
            return function(*args, **kwargs)

        return limited


@dataclass(frozen=True, slots=True)
class SemaphoreStats:
    """What a semaphore has seen; `waited_seconds` is the sum over all that waited."""

    limit: int
    active: int
    peak: int
    acquired: int
    timeouts: int
    waited_seconds: float


class Semaphore:
    """A bulkhead: at most *limit* callers inside at once. *timeout* (seconds) is for `with`."""

    def __init__(
        self,
        limit: int,
        *,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if limit < 1:
            raise ValidationError(f"limit must be at least 1, not {limit}.")
        self._limit, self._timeout, self._clock = limit, timeout, clock
        self._semaphore = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self._active = self._peak = self._acquired = self._timeouts = 0
        self._waited = 0.0

    def acquire(self, timeout: float | None = None) -> None:
        """Take a place; raises RateLimitTimeout after *timeout* seconds."""
        if timeout is not None and math.isnan(timeout):
            raise ValidationError("timeout=nan is no number of seconds; None waits for ever.")
        if timeout is not None and timeout > threading.TIMEOUT_MAX:
            timeout = None
        start = self._clock()
        got = self._semaphore.acquire(timeout=timeout)
        with self._lock:
            self._waited += self._clock() - start
            if got:
                self._acquired += 1
                self._active += 1
                self._peak = max(self._peak, self._active)
            else:
                self._timeouts += 1
        if not got:
            raise RateLimitTimeout(f"All {self._limit} places stayed taken for {timeout:g} s.")

    def release(self) -> None:
        """Give a place back; raises ValidationError when none is taken."""
        with self._lock:
            if self._active == 0:
                raise ValidationError("release() without acquire().")
            self._active -= 1
        self._semaphore.release()

    def get_stats(self) -> SemaphoreStats:
        """Return counts so far."""
        with self._lock:
            return SemaphoreStats(
                self._limit,
                self._active,
                self._peak,
                self._acquired,
                self._timeouts,
                self._waited,
            )

    def __enter__(self) -> Self:
        self.acquire(self._timeout)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def timeout(seconds: float) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Limit each call to *seconds*; a TimeoutError is raised.

    Coroutine functions are cancelled. Plain functions are interrupted in the main thread; elsewhere
    Python cannot interrupt them, and the error is raised when the call ends.
    """
    if not 0 < seconds < math.inf:
        raise ValidationError(f"seconds must be positive, not {seconds}.")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if is_awaited(function):

            @functools.wraps(function)
            async def bounded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with asyncio.timeout(seconds):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", bounded_async)

        @functools.wraps(function)
        def bounded(*args: P.args, **kwargs: P.kwargs) -> R:
            with timeout_context(seconds):
                return function(*args, **kwargs)

        return bounded

    return decorate
