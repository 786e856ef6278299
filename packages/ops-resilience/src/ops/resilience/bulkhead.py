"""How many at once: a semaphore for threads and tasks together, served in the order in which they came.

A permit is passed on directly: `release` gives it to the first that waits, so no newcomer can take it
in between, and a permit is never both free and owed. A wait that is interrupted gives back what
it may have got at that very time.
"""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from ops.foundation.callables import is_awaited
from ops.foundation.deadlines import current_deadline
from ops.foundation.errors import ValidationError
from ops.foundation.forks import in_children, keep_over_forks
from ops.foundation.waiting import checked_wait
from ops.resilience.errors import RateLimitTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Semaphore", "SemaphoreStats"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SemaphoreStats:
    """What a semaphore has seen; `waited_seconds` is the sum over all that waited.

    *limit* callers fit; *active* are inside now, *peak* were at most. *acquired* counts permits
    that were taken, *timeouts* those that were not free in time.
    """

    limit: int
    active: int
    peak: int
    acquired: int
    timeouts: int
    waited_seconds: float


class Semaphore:
    """A bulkhead: at most *limit* callers inside at once, threads and tasks together.

    Use it with `with`, `async with`, as a decorator (sync or async), or through `acquire` and
    `release`. *timeout* (seconds) is the longest wait where none is given; *clock* counts seconds,
    for tests. A forked child keeps the permits of the thread that forked; those of other threads,
    which do not exist there, are free. Raises `ValidationError` for a *limit* that is no whole
    number of at least 1.

    >>> bulkhead = Semaphore(1)
    >>> bulkhead.acquire(), bulkhead.acquire(blocking=False)
    (True, False)
    >>> bulkhead.release()
    """

    def __init__(
        self,
        limit: int,
        *,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(limit, bool) or not (limit >= 1 and limit % 1 == 0):
            raise ValidationError(f"limit must be a whole number of at least 1, not {limit}.")
        self._limit, self._timeout, self._clock = limit, _seconds(timeout), clock
        # Re-entrant: a signal handler may use the semaphore that it interrupts.
        self._lock = threading.RLock()
        self._waiting: deque[_Waiter] = deque()
        self._holders: dict[int, int] = {}  # permits by the thread that took them
        self._active = self._peak = self._acquired = self._timeouts = 0
        self._waited = 0.0
        keep_over_forks(self)
        in_children(self, Semaphore._keep_own)

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the counts; see `ops.foundation.forks`."""
        return self._lock

    def acquire(
        self,
        blocking: bool | float | None = True,  # noqa: FBT001, FBT002 - as threading.Semaphore
        timeout: float | None = None,
    ) -> bool:
        """Take a permit and return True.

        Args:
            blocking: False does not wait, and returns False when no permit is free, as
                `threading.Semaphore` does. A number other than True and False is a *timeout*.
            timeout: the longest wait in seconds; None is the semaphore's own.

        Raises `RateLimitTimeout` when no permit is free in time, `ValidationError` for a timeout
        that is no number.
        """
        blocking, timeout = checked_wait(blocking, timeout)
        limit = self._timeout if timeout is None else _seconds(timeout)
        if self._take():
            return True
        if not blocking:
            return self._refused()
        deadline = current_deadline()
        if deadline is not None:
            limit = deadline.clamp(limit)
        start, waiter = self._clock(), _ThreadWaiter()
        try:
            if self._enqueue(waiter) or waiter.wait(limit):
                self._granted(start)
                return True
        except BaseException:
            self._leave(waiter)
            raise
        return self._late(waiter, start, limit)

    async def acquire_async(
        self,
        blocking: bool | float | None = True,  # noqa: FBT001, FBT002 - as `acquire`
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bool:
        """Take a permit without blocking the event loop; raises as `acquire` does.

        *blocking* False does not wait, and returns False when no permit is free; a number is a
        *timeout*, the longest wait in seconds (None is the semaphore's own). `RateLimitTimeout` is
        raised when no permit is free in time, `ValidationError` for a timeout that is no number.
        """
        blocking, timeout = checked_wait(blocking, timeout)
        limit = self._timeout if timeout is None else _seconds(timeout)
        if self._take():
            return True
        if not blocking:
            return self._refused()
        start, waiter = self._clock(), _TaskWaiter()
        try:
            if self._enqueue(waiter) or await waiter.wait_async(limit):
                self._granted(start)
                return True
        except BaseException:
            self._leave(waiter)
            raise
        return self._late(waiter, start, limit)

    def release(self) -> None:
        """Give a permit back; raises ValidationError when none is taken."""
        with self._lock:
            if self._active == 0:
                raise ValidationError("release() without acquire().")
            self._drop_holder()
            self._pass_on()

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
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        await self.acquire_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return *function*, with a permit during each call."""
        if is_awaited(function):

            @functools.wraps(function)
            async def bounded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self:
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", bounded_async)

        @functools.wraps(function)
        def bounded(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return bounded

    # ------------------------------------------------------------------ bookkeeping

    def _take(self) -> bool:
        with self._lock:
            if self._active >= self._limit or self._waiting:
                return False
            self._active += 1
            self._peak = max(self._peak, self._active)
            self._acquired += 1
            self._add_holder()
            return True

    def _enqueue(self, waiter: _Waiter) -> bool:
        """Wait from now on; return True if a permit has become free meanwhile."""
        with self._lock:
            if self._active < self._limit and not self._waiting:
                self._active += 1
                self._peak = max(self._peak, self._active)
                waiter.is_granted = True
                return True
            self._waiting.append(waiter)
            return False

    def _refused(self) -> bool:
        with self._lock:
            self._timeouts += 1
        return False

    def _granted(self, start: float) -> None:
        with self._lock:
            self._acquired += 1
            self._waited += self._clock() - start
            self._add_holder()

    def _late(self, waiter: _Waiter, start: float, limit: float | None) -> bool:
        with self._lock:
            if waiter.is_granted:  # just as the time ended
                self._granted(start)
                return True
            self._waiting.remove(waiter)
            self._timeouts += 1
            self._waited += self._clock() - start
        raise RateLimitTimeout(f"All {self._limit} slots stayed taken for {limit:g} s.")

    def _leave(self, waiter: _Waiter) -> None:
        """Give up a wait that was interrupted."""
        with self._lock:
            if waiter.is_granted:
                self._pass_on()
            elif waiter in self._waiting:
                self._waiting.remove(waiter)

    def _pass_on(self) -> None:
        """Give one permit to the first that waits, or make it free; called under the lock."""
        while self._waiting:
            waiter = self._waiting.popleft()
            waiter.is_granted = True
            if waiter.wake():
                return
        self._active -= 1

    def _add_holder(self) -> None:
        me = threading.get_ident()
        self._holders[me] = self._holders.get(me, 0) + 1

    def _drop_holder(self) -> None:
        me = threading.get_ident()
        # Another thread may release what this one took: then any holder has one permit less.
        holder = me if me in self._holders else next(iter(self._holders), None)
        if holder is not None:
            self._holders[holder] -= 1
            if not self._holders[holder]:
                del self._holders[holder]

    def _keep_own(self) -> None:
        me = threading.get_ident()
        self._active = self._holders.get(me, 0)
        self._holders = {me: self._active} if self._active else {}
        self._waiting.clear()


class _Waiter:
    """One that waits for a permit; `is_granted` changes under the semaphore's lock."""

    is_granted = False

    def wake(self) -> bool:
        """Let it go on; return False if it is not there any more."""
        raise NotImplementedError


class _ThreadWaiter(_Waiter):
    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self, seconds: float | None) -> bool:
        return self._gate.acquire(timeout=-1 if seconds is None else max(0.0, seconds))

    def wake(self) -> bool:
        self._gate.release()
        return True


class _TaskWaiter(_Waiter):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    async def wait_async(self, seconds: float | None) -> bool:
        await asyncio.wait([self._future], timeout=seconds)
        return self._future.done()

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:  # its loop was closed while it waited
            return False
        return True

    def _finish(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


def _seconds(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or math.isnan(timeout):
        raise ValidationError(f"timeout={timeout} is no number of seconds; None waits for ever.")
    return None if timeout > threading.TIMEOUT_MAX else float(timeout)
