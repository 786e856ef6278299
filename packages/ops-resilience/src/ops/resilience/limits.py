"""How often and how long: a token bucket, a sliding window, a time limit.

The bucket keeps one number, the time at which it would be full again (GCRA, the generic cell rate
algorithm of ITU-T I.371): a caller moves that time by what it takes and learns how long to wait, all
in one short step under a lock, and sleeps outside it. Callers are served in the order in which they came,
and nothing has to wake up to look. A wait that is cancelled leaves its slot in the schedule to the next
caller that fits; were the schedule moved instead, those who wait already and those who come would have
the same slots. A slot whose time has passed is lost, as using it late would break the rate.

The bulkhead is in `ops.resilience.bulkhead`.
"""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from ops.foundation.callables import is_awaited, refuse_coroutine_function
from ops.foundation.deadlines import current_deadline, timeout_context
from ops.foundation.errors import ValidationError
from ops.foundation.forks import in_children, keep_over_forks
from ops.resilience.bulkhead import Semaphore, SemaphoreStats
from ops.resilience.errors import RateLimitTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RateLimiter", "Semaphore", "SemaphoreStats", "SlidingWindowLimiter", "timeout"]

P = ParamSpec("P")
R = TypeVar("R")


class _Limiter:
    """What both limiters offer over `_reserve`, `_wait_of` and `_cancel`."""

    _clock: Callable[[], float]
    _sleep: Callable[[float], object]

    def _reserve(self, tokens: float, limit: float | None) -> Any:
        """Take *tokens* and return a ticket; None if that is beyond *limit* seconds from now."""
        raise NotImplementedError

    def _wait_of(self, ticket: Any) -> float:
        """Return the seconds that *ticket* has to wait from now; 0 or less when it is granted."""
        raise NotImplementedError

    def _wait_again(self, ticket: Any) -> float:
        """Return what is still to be waited after the wait."""
        raise NotImplementedError

    def _cancel(self, ticket: Any) -> None:
        """Give up a ticket whose wait was interrupted."""
        raise NotImplementedError

    def try_acquire(self, tokens: float = 1) -> bool:
        """Take *tokens* if they are there now, and return whether they were; never waits."""
        ticket = self._reserve(tokens, 0.0)
        if ticket is None:
            return False
        if self._wait_of(ticket) > 0:
            self._cancel(ticket)
            return False
        return True

    def acquire(self, tokens: float = 1, timeout: float | None = None) -> bool:
        """Take *tokens*, waiting for them, and return True.

        Raises RateLimitTimeout, at once and without taking any, when they cannot be there within
        *timeout* seconds (None: no limit); ValidationError when *tokens* can never be there at once.
        """
        timeout = _within_deadline(timeout)
        ticket = self._reserve(tokens, timeout)
        if ticket is None:
            raise _too_late(tokens, timeout)
        try:
            wait = self._wait_of(ticket)
            while wait > 0:
                self._sleep(wait)
                wait = self._wait_again(ticket)
        except BaseException:
            self._cancel(ticket)
            raise
        return True

    async def acquire_async(self, tokens: float = 1, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Take *tokens*, waiting without blocking the event loop.

        Raises `RateLimitTimeout` and `ValidationError` as `acquire` does.
        """
        timeout = _within_deadline(timeout)
        ticket = self._reserve(tokens, timeout)
        if ticket is None:
            raise _too_late(tokens, timeout)
        try:
            wait = self._wait_of(ticket)
            while wait > 0:
                await asyncio.sleep(wait)
                wait = self._wait_again(ticket)
        except BaseException:
            self._cancel(ticket)
            raise
        return True

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


class RateLimiter(_Limiter):
    """A token bucket: *rate* tokens per *per* seconds come in, *burst* of them are kept for later.

    A bucket that was idle is full, so in any *per* seconds up to *burst* + *rate* tokens pass: with
    the default burst (*rate*, at least 1), twice the rate in the first seconds. ``burst=1`` spaces
    calls evenly; `SlidingWindowLimiter` holds a strict limit. Use it with `with`, `async with`, as
    a decorator (sync or async), or through `acquire`, from any thread and task. *clock* counts
    seconds and *sleep* waits, for tests. Raises `ValidationError` when *rate* or *per* is not
    positive, or *burst* below 1.

    >>> limiter = RateLimiter(rate=10, per=1.0, burst=2)
    >>> [limiter.try_acquire() for _ in range(3)]
    [True, True, False]
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
        _refuse_async_sleep(sleep)
        self._interval, self._burst = per / rate, burst
        self._capacity = burst * self._interval
        self._clock, self._sleep = clock, sleep
        self._full_at = -math.inf
        self._freed: list[_Slot] = []  # of waits that were cancelled, by time
        # Re-entrant: a signal handler may use the limiter that it interrupts.
        self._lock = threading.RLock()
        keep_over_forks(self)

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the schedule; see `ops.foundation.forks`."""
        return self._lock

    def acquire(self, tokens: float = 1, timeout: float | None = None) -> bool:
        """Take *tokens*, waiting for them, and return True.

        Raises RateLimitTimeout, at once and without taking any, when they cannot be there within
        *timeout* seconds (None: no limit); ValidationError when *tokens* is more than the burst.
        """
        # Without a ticket where there is no wait: this is what nearly every call comes to.
        if not self._freed and self._take_now(tokens):
            return True
        return super().acquire(tokens, timeout)

    def try_acquire(self, tokens: float = 1) -> bool:
        """Take *tokens* if they are there now, and return whether they were; never waits."""
        return self._take_now(tokens)

    def _take_now(self, tokens: float) -> bool:
        if not 0 < tokens <= self._burst:
            raise self._too_many(tokens)
        with self._lock:
            while True:
                now, before = self._clock(), self._full_at
                full_at = (max(now, before)) + tokens * self._interval
                if full_at - self._capacity > now:
                    return False
                if self._full_at is before:  # no signal handler has taken any meanwhile
                    self._full_at = full_at
                    return True

    def _reserve(self, tokens: float, limit: float | None) -> _Slot | None:
        if not 0 < tokens <= self._burst:
            raise self._too_many(tokens)
        with self._lock:
            now = self._clock()
            slot = self._reuse(tokens, now, limit)
            while slot is None:
                now, before = self._clock(), self._full_at
                full_at = max(before, now) + tokens * self._interval
                wait = full_at - self._capacity - now
                if wait > 0 and limit is not None and not wait <= limit:
                    return None
                if self._full_at is before:
                    self._full_at = full_at
                    slot = _Slot(now + wait, tokens, full_at)
            return slot

    def _reuse(self, tokens: float, now: float, limit: float | None) -> _Slot | None:
        """Return a slot that a cancelled wait has left, if its tokens suffice."""
        if not self._freed:
            return None
        self._freed = [slot for slot in self._freed if slot.due > now]
        for slot in self._freed:
            if slot.tokens >= tokens and (limit is None or slot.due - now <= limit):
                self._freed.remove(slot)
                if slot.tokens > tokens:
                    rest = _Slot(slot.due, slot.tokens - tokens, slot.full_at)
                    self._freed.append(rest)
                    self._freed.sort(key=_due)
                return _Slot(slot.due, tokens, slot.full_at)
        return None

    def _wait_of(self, ticket: _Slot) -> float:
        return ticket.due - self._clock()

    def _wait_again(self, ticket: _Slot) -> float:  # noqa: ARG002 - its slot is fixed
        return 0.0

    def _cancel(self, ticket: _Slot) -> None:
        with self._lock:
            if self._full_at == ticket.full_at:  # the last one: nothing was planned behind it
                self._full_at -= ticket.tokens * self._interval
            else:
                self._freed.append(ticket)
                self._freed.sort(key=_due)

    def _too_many(self, tokens: float) -> ValidationError:
        return ValidationError(
            f"{tokens:g} tokens can never be there at once: the burst is {self._burst:g}."
        )


class _Slot:
    """When so many tokens are there, and what the bucket's `full_at` was with them."""

    __slots__ = ("due", "full_at", "tokens")

    def __init__(self, due: float, tokens: float, full_at: float) -> None:
        self.due, self.tokens, self.full_at = due, tokens, full_at


def _due(slot: _Slot) -> float:
    return slot.due


class SlidingWindowLimiter(_Limiter):
    """At most *limit* calls in any *per* seconds, however they are spread: a strict limit.

    A call counts from when it is let through, so one that wakes up late delays those a window
    behind it. Same use as `RateLimiter`; `acquire(tokens)` takes a whole number up to *limit*.
    Memory is in proportion to *limit*. *clock* counts seconds and *sleep* waits, for tests. Raises
    `ValidationError` for a *limit* that is no whole number of at least 1, and for a *per* that is
    not positive.

    >>> limiter = SlidingWindowLimiter(2, per=60)
    >>> [limiter.try_acquire() for _ in range(3)]
    [True, True, False]
    """

    def __init__(
        self,
        limit: int,
        per: float = 1.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if not (limit >= 1 and int(limit) == limit and 0 < per < math.inf):
            raise ValidationError(
                f"limit must be a whole number of at least 1, per positive: {limit}, {per}."
            )
        _refuse_async_sleep(sleep)
        self._limit, self._per = int(limit), per
        self._clock, self._sleep = clock, sleep
        self._calls: deque[_Call] = deque(maxlen=self._limit)  # the last ones, one entry a token
        self._lock = threading.RLock()
        keep_over_forks(self)
        in_children(self, SlidingWindowLimiter._forget_waits)

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the schedule; see `ops.foundation.forks`."""
        return self._lock

    def _forget_waits(self) -> None:
        """In a forked child: the other threads that wait are not here."""
        for call in self._calls:
            call.before = None

    def _reserve(self, tokens: float, limit: float | None) -> _Call | None:
        if not 0 < tokens <= self._limit or (count := int(tokens)) != tokens:
            raise ValidationError(
                f"tokens must be a whole number from 1 to the limit of {self._limit}, not {tokens}."
            )
        with self._lock:
            now = self._clock()
            after = len(self._calls) + count - self._limit
            before = self._calls[after - 1] if after > 0 else None
            call = _Call(now if before is None else max(now, before.at + self._per), before, count)
            if limit is not None and not call.at - now <= limit:
                return None
            self._calls.extend([call] * count)
            return call

    def _wait_of(self, ticket: _Call) -> float:
        with self._lock:
            now, before = self._clock(), ticket.before
            if before is not None:
                ticket.at = max(ticket.at, before.at + self._per)
                if ticket.at > now:
                    return ticket.at - now
                # It may be late itself, and counts from when it wakes up; after a whole window it is gone.
                if before.before is not None and now - before.at < self._per:
                    return min(0.001, self._per)
            ticket.at, ticket.before = max(now, ticket.at), None
            return 0.0

    _wait_again = _wait_of

    def _cancel(self, ticket: _Call) -> None:
        with self._lock:
            if self._calls and self._calls[-1] is ticket:
                for _ in range(ticket.count):
                    self._calls.pop()
            ticket.before = None  # else its slot passes unused: those behind it are planned already


class _Call:
    """When a call is, or will be, let through; *before* is the one a window ahead, until it has been."""

    __slots__ = ("at", "before", "count")

    def __init__(self, at: float, before: _Call | None, count: int) -> None:
        self.at, self.before, self.count = at, before, count


def _refuse_async_sleep(sleep: Callable[[float], object]) -> None:
    if sleep is not time.sleep:
        refuse_coroutine_function(sleep, "sleep", "acquire_async waits without it")


def _within_deadline(timeout: float | None) -> float | None:
    """Return the shorter of *timeout* and what a `timeout_context` around the caller leaves."""
    deadline = current_deadline()
    return timeout if deadline is None else deadline.clamp(timeout)


def _too_late(tokens: float, timeout: float | None) -> RateLimitTimeout:
    return RateLimitTimeout(f"{tokens:g} tokens are not to be had within {timeout:g} s.")


def timeout(seconds: float) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Limit each call to *seconds*; a TimeoutError is raised.

    Coroutine functions are cancelled. Plain functions are interrupted in the main thread; elsewhere
    Python cannot interrupt them, and the error is raised when the call ends. Raises
    `ValidationError` unless *seconds* is a positive number.
    """
    if callable(seconds) or not 0 < seconds < math.inf:
        raise ValidationError(f"seconds must be a positive number, not {seconds!r}.")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if is_awaited(function):

            @functools.wraps(function)
            async def bounded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with timeout_context(seconds):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", bounded_async)

        @functools.wraps(function)
        def bounded(*args: P.args, **kwargs: P.kwargs) -> R:
            with timeout_context(seconds):
                return function(*args, **kwargs)

        return bounded

    return decorate
