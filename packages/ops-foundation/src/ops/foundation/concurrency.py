"""Work in other threads and loops: `run_in_thread`, `run_async`, `synchronized`.

`parallel_map` is in `ops.foundation.parallel`, `ThreadPoolManager` in `ops.foundation.pools`, limits of time
in `ops.foundation.deadlines`; their names are importable from here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import threading
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from ops.foundation.callables import refuse_coroutine_function, runs_later
from ops.foundation.deadlines import Deadline, timeout_context
from ops.foundation.parallel import parallel_map
from ops.foundation.pools import PoolStats, ThreadPoolManager

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = [
    "Deadline",
    "PoolStats",
    "ThreadPoolManager",
    "parallel_map",
    "run_async",
    "run_in_thread",
    "synchronized",
    "timeout_context",
]

R = TypeVar("R")
P = ParamSpec("P")


def run_in_thread(
    func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> concurrent.futures.Future[R]:
    """Call *func* with *args* and *kwargs* in a daemon thread of its own; return a future of its result.

    Context variables are those of the caller. `await asyncio.wrap_future(...)` waits in a
    coroutine. Raises `ValidationError` for coroutine functions and generators, which the thread
    would not run.

    >>> run_in_thread(pow, 2, 10).result()
    1024
    """
    refuse_coroutine_function(func, "func", "use run_async")
    future: concurrent.futures.Future[R] = concurrent.futures.Future()
    context = contextvars.copy_context()

    def call() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = context.run(func, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - handed to the caller of `result`
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=call, name=f"ops-{_name_of(func)}", daemon=True).start()
    return future


def run_async(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run *coroutine* to its end and return its result, also where a loop is already running.

    In a running loop (a notebook, a callback) it runs in a loop of its own in another thread, and
    this thread, and so its loop, waits. When the wait is interrupted (Ctrl-C, a time limit) or the
    calling task is cancelled, the coroutine is cancelled, and its clean-up is waited for.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _OwnLoop(coroutine).result()


class _OwnLoop(Generic[R]):
    """A coroutine in a loop of another thread, for a caller whose own loop stands still meanwhile."""

    # How often the caller looks whether its task was cancelled: asyncio's handler of Ctrl-C only
    # marks the task, for a loop that is not running now.
    _LOOK_SECONDS = 0.05

    def __init__(self, coroutine: Coroutine[Any, Any, R]) -> None:
        self._started: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, Any]] = (
            concurrent.futures.Future()
        )
        self._future = run_in_thread(asyncio.run, self._main(coroutine))

    async def _main(self, coroutine: Coroutine[Any, Any, R]) -> R:
        self._started.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await coroutine

    def result(self) -> R:
        caller = asyncio.current_task()  # none in a callback of the loop
        cancellations = 0 if caller is None else caller.cancelling()
        try:
            while not self._future.done():
                concurrent.futures.wait([self._future], self._LOOK_SECONDS)
                if caller is not None:
                    _raise_if_cancelled(caller, cancellations)
        except BaseException:
            self._cancel()
            raise
        return self._future.result()

    def _cancel(self) -> None:
        waited: list[concurrent.futures.Future[Any]] = [self._started, self._future]
        concurrent.futures.wait(waited, return_when=concurrent.futures.FIRST_COMPLETED)
        if self._future.done():
            return
        loop, task = self._started.result()
        with contextlib.suppress(RuntimeError):  # it has just ended, and its loop is closed
            loop.call_soon_threadsafe(task.cancel)
        concurrent.futures.wait([self._future])


def _raise_if_cancelled(task: asyncio.Task[Any], known: int) -> None:
    if task.cancelling() > known:
        raise asyncio.CancelledError


@overload
def synchronized(target: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def synchronized(
    target: contextlib.AbstractContextManager[Any] | None = None, /
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def synchronized(target: Any = None, /) -> Any:
    """Let one thread at a time into a function: `@synchronized`, or `@synchronized(lock)`.

    Without a lock each function has a re-entrant one of its own, shared by all instances when it
    is a method; functions that share state share a lock that is given. Raises TypeError for
    coroutine functions and generators, whose body runs after the lock was given back.
    """
    if callable(target) and not hasattr(target, "__exit__"):
        return synchronized()(target)
    lock: Any = threading.RLock() if target is None else target

    def decorate(func: Callable[P, R]) -> Callable[P, R]:
        if runs_later(func):
            raise TypeError(
                f"{_name_of(func)} runs after its call has returned, so no lock would be held; "
                "use asyncio.Lock, or `with` inside."
            )

        @functools.wraps(func)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            with lock:
                return func(*args, **kwargs)

        return guarded

    return decorate


def _name_of(func: Callable[..., Any]) -> str:
    return getattr(func, "__name__", type(func).__name__)
