"""The recipes of diskcache: locks, semaphores, averages, throttles, on a `Cache` of this package.

A `Lock` is one of the kernel: it ends with its holder, and needs no time after which it counts as lost.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from ops.cache import stampede

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ops.cache.diskcache.stores import Cache

__all__ = [
    "Averager",
    "BoundedSemaphore",
    "Lock",
    "RLock",
    "barrier",
    "memoize_stampede",
    "throttle",
]

_PAUSE = 0.001


class Averager:
    """A running average that all processes share, at *key* of *cache*.

    It is kept for *expire* seconds after the last change (None: for ever), with *tag*.
    """

    def __init__(
        self, cache: Cache, key: Hashable, expire: float | None = None, tag: Any = None
    ) -> None:
        self._cache, self._key, self._expire, self._tag = cache, key, expire, tag

    def add(self, value: float) -> None:
        """Add *value*."""
        with self._cache.transact():
            total, count = self._cache.get(self._key, default=(0.0, 0))
            total, count = total + value, count + 1
            self._cache.set(self._key, (total, count), expire=self._expire, tag=self._tag)

    def get(self) -> float | None:
        """Return the average, None before the first value."""
        total, count = self._cache.get(self._key, default=(0.0, 0))
        return None if not count else float(total / count)

    def pop(self) -> float | None:
        """Return the average and start over."""
        total, count = self._cache.pop(self._key, default=(0.0, 0))
        return None if not count else float(total / count)


class Lock:
    """A lock between threads and processes, at *key* of *cache*; its holder's end frees it.

    *expire* and *tag* have no effect.
    """

    def __init__(
        self,
        cache: Cache,
        key: Hashable,
        expire: float | None = None,
        tag: Any = None,
    ) -> None:
        self._cache, self._key = cache, key
        self._held: contextlib.ExitStack | None = None

    def acquire(self) -> None:
        """Wait until no other object holds it, and hold it."""
        held = contextlib.ExitStack()
        held.enter_context(self._cache.store.lock(self._key))
        self._held = held

    def release(self) -> None:
        """Free it; raises `AssertionError` when this object does not hold it."""
        held, self._held = self._held, None
        if held is None:
            raise AssertionError("cannot release un-acquired lock")
        held.close()

    def locked(self) -> bool:
        """Say whether this object holds it."""
        return self._held is not None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_exc: object) -> None:
        self.release()


class RLock(Lock):
    """A `Lock` at *key* of *cache* that its thread may take several times; *expire* and *tag* have no effect."""

    def __init__(
        self, cache: Cache, key: Hashable, expire: float | None = None, tag: Any = None
    ) -> None:
        super().__init__(cache, key, expire, tag)
        self._depth = threading.local()

    def acquire(self) -> None:
        """Wait until no other thread holds it, and hold it once more."""
        depth = getattr(self._depth, "value", 0)
        if not depth:
            super().acquire()
        self._depth.value = depth + 1

    def release(self) -> None:
        """Free it once; raises `AssertionError` when this thread does not hold it."""
        depth = getattr(self._depth, "value", 0)
        if not depth:
            raise AssertionError("cannot release un-acquired lock")
        self._depth.value = depth - 1
        if depth == 1:
            super().release()


class BoundedSemaphore:
    """A semaphore of *value* holders, at *key* of *cache*.

    One whose holder is killed stays taken until *expire* seconds have passed (None: for ever); its
    entry has *tag*.
    """

    def __init__(
        self,
        cache: Cache,
        key: Hashable,
        value: int = 1,
        expire: float | None = None,
        tag: Any = None,
    ) -> None:
        self._cache, self._key, self._value = cache, key, value
        self._expire, self._tag = expire, tag

    def acquire(self) -> None:
        """Wait until there is one left, and take it."""
        while True:
            with self._cache.transact():
                left = self._cache.get(self._key, default=self._value)
                if left > 0:
                    self._cache.set(self._key, left - 1, expire=self._expire, tag=self._tag)
                    return
            time.sleep(_PAUSE)

    def release(self) -> None:
        """Give one back; raises `AssertionError` when none is taken."""
        with self._cache.transact():
            left = self._cache.get(self._key, default=self._value)
            if left >= self._value:
                raise AssertionError("cannot release un-acquired semaphore")
            self._cache.set(self._key, left + 1, expire=self._expire, tag=self._tag)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


def throttle(
    cache: Cache,
    count: int,
    seconds: float,
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
    time_func: Callable[[], float] = time.time,
    sleep_func: Callable[[float], object] = time.sleep,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function be called *count* times in *seconds*, of all processes; further calls wait.

    Args:
        cache: where the calls are counted.
        count: calls.
        seconds: for so many calls.
        name: the key, if not the name of the function.
        expire: seconds after which the count is forgotten.
        tag: of the entry.
        time_func: the clock.
        sleep_func: waits.
    """

    def decorator(func: Callable[..., Any]) -> Callable[..., Any]:
        rate, key = count / float(seconds), name or _full_name(func)
        cache.set(key, (time_func(), count), expire=expire, tag=tag)

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            while True:
                with cache.transact():
                    now = time_func()
                    last, tally = cache.get(key, (now, count))
                    tally = min(tally + (now - last) * rate, count)
                    delay = 0.0 if tally >= 1 else (1 - tally) / rate
                    if not delay:
                        cache.set(key, (now, tally - 1), expire=expire, tag=tag)
                if not delay:
                    return func(*args, **kwargs)
                sleep_func(delay)

        return wrapper

    return decorator


def barrier(
    cache: Cache,
    lock_factory: Callable[..., Any],
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let one call at a time run, of all processes: under a lock of *lock_factory* at *name*.

    *lock_factory* is `Lock`, `RLock` or another class that takes *cache*, a key, *expire* and
    *tag*. *name* None is the full name of the function.
    """

    def decorator(func: Callable[..., Any]) -> Callable[..., Any]:
        lock = lock_factory(cache, name or _full_name(func), expire=expire, tag=tag)

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return func(*args, **kwargs)

        return wrapper

    return decorator


def memoize_stampede(
    cache: Cache,
    expire: float,
    name: str | None = None,
    typed: bool = False,
    tag: Any = None,
    beta: float = 1,
    ignore: Any = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compute results early, in the background; see `ops.cache.memoize_stampede`.

    *cache* keeps the results for *expire* seconds; a *beta* above 1 computes earlier; *ignore*
    names parameters that do not change the result. *name*, *typed* and *tag* are taken for
    compatibility.
    """
    return stampede.memoize_stampede(cache.store, expire, beta=beta, ignore=ignore)


def _full_name(func: Callable[..., Any]) -> str:
    return f"{func.__module__}.{func.__qualname__}"
