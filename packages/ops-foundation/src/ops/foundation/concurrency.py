"""Work on several threads, processes or machines, without losing an error or an order.

`parallel_map` runs on any `concurrent.futures.Executor`: threads by default, a process pool, or the
executor of a cluster's client. It hands out chunks that grow until one lasts a few milliseconds,
so handing out costs little beside the work, and takes no more from its input than it may have in
flight. Finished chunks announce themselves through a queue, so one slow item holds up nobody.

`ThreadPoolManager` is in `ops.foundation.pools`, limits of time in `ops.foundation.deadlines`; their
names are importable from here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import inspect
import itertools
import os
import queue
import threading
import time
from collections.abc import Sized
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, overload

from ops.foundation.deadlines import Deadline, timeout_context
from ops.foundation.pools import PoolStats, ThreadPoolManager

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence

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

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

# Handing out a chunk costs about 20 µs to a thread and 300 µs to a process.
_CHUNK_SECONDS = 0.005
_MOST_PER_CHUNK = 65_536
_CHUNKS_PER_WORKER = 4


@overload
def parallel_map(
    func: Callable[[T], R],
    items: Iterable[T],
    max_workers: int | None = None,
    *,
    chunk_size: int | None = None,
    progress_callback: Callable[[int, int | None], object] | None = None,
    executor: concurrent.futures.Executor | None = None,
    errors: Literal["raise"] = "raise",
    window: int | None = None,
) -> list[R]: ...
@overload
def parallel_map(
    func: Callable[[T], R],
    items: Iterable[T],
    max_workers: int | None = None,
    *,
    chunk_size: int | None = None,
    progress_callback: Callable[[int, int | None], object] | None = None,
    executor: concurrent.futures.Executor | None = None,
    errors: Literal["collect"],
    window: int | None = None,
) -> list[R | BaseException]: ...
def parallel_map(
    func: Callable[[T], R],
    items: Iterable[T],
    max_workers: int | None = None,
    *,
    chunk_size: int | None = None,
    progress_callback: Callable[[int, int | None], object] | None = None,
    executor: concurrent.futures.Executor | None = None,
    errors: Literal["raise", "collect"] = "raise",
    window: int | None = None,
) -> list[Any]:
    """Return `[func(item) for item in items]`, computed by several workers, in the order of *items*.

    With errors="raise" the first error stops the handing out and is raised once what runs has
    ended; of several, that of the earliest item. With "collect" the exception stands in the place
    of its result. *window* is the most items that are taken from *items* and not finished (default:
    a few chunks for each worker). *progress_callback* gets the number of finished items and the
    total (None for a generator), in this thread, after each chunk.

    A given *executor* is used and left running; do not pass the one whose worker is calling, since
    its workers would then wait for each other. Process pools need a *func* that can be pickled.
    In threads each call of *func* sees the context variables of the caller (its tenant, its trace,
    its deadline), and what it sets itself stays in its chunk.
    """
    if errors not in {"raise", "collect"}:
        raise ValueError(f"errors={errors!r} is unknown; use 'raise' or 'collect'.")
    for name, value in (
        ("max_workers", max_workers),
        ("chunk_size", chunk_size),
        ("window", window),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    total = len(items) if isinstance(items, Sized) else None
    workers = _worker_count(max_workers, executor)
    if executor is None and total is not None:
        workers = max(1, min(workers, total))
    sizes = _ChunkSizes(chunk_size, workers, total, window)
    run = _MapRun(func, iter(items), total, sizes, progress_callback, collect=errors == "collect")
    if executor is not None:
        return run.on(executor)
    with concurrent.futures.ThreadPoolExecutor(workers, "ops-map") as threads:
        return run.on(threads)


def _worker_count(max_workers: int | None, executor: concurrent.futures.Executor | None) -> int:
    if max_workers is not None:
        return max_workers
    known = getattr(executor, "_max_workers", None)
    if isinstance(known, int):
        return known
    return min(32, (os.cpu_count() or 1) + 4)


class _ChunkSizes:
    """How many items the next chunk has, learnt from how long the last ones took."""

    def __init__(
        self, fixed: int | None, workers: int, total: int | None, window: int | None
    ) -> None:
        self.in_flight = workers * _CHUNKS_PER_WORKER
        self._fixed = fixed
        self._most = _MOST_PER_CHUNK
        if total is not None:
            # Every worker gets several chunks, so that they end together.
            self._most = min(self._most, max(1, total // self.in_flight))
        if window is not None:
            self.in_flight = min(self.in_flight, window)
            self._most = min(self._most, max(1, window // self.in_flight))
            self._fixed = None if fixed is None else min(fixed, self._most)
        self._size = 1

    def next(self) -> int:
        return self._fixed or self._size

    def learn(self, count: int, seconds: float) -> None:
        if seconds < _CHUNK_SECONDS / 2 and count >= self._size:
            # Growing eightfold at most: one fast item says little about the next.
            self._size = min(self._most, self._size * 8)
        elif seconds > _CHUNK_SECONDS * 2:
            self._size = max(1, int(count * _CHUNK_SECONDS / seconds))


class _MapRun:
    """One call of `parallel_map`: hands out chunks, takes them back, keeps the order."""

    def __init__(
        self,
        func: Callable[[Any], Any],
        items: Iterator[Any],
        total: int | None,
        sizes: _ChunkSizes,
        progress: Callable[[int, int | None], object] | None,
        *,
        collect: bool,
    ) -> None:
        self._call: Callable[..., Any] = functools.partial(
            _collect_chunk if collect else _run_chunk, func
        )
        self._collect = collect
        self._items = items
        self._total = total
        self._sizes = sizes
        self._progress = progress
        self._finished: queue.SimpleQueue[concurrent.futures.Future[Any]] = queue.SimpleQueue()
        self._running: dict[concurrent.futures.Future[Any], tuple[int, int]] = {}
        self._results: dict[int, Sequence[Any]] = {}
        self._failures: dict[int, BaseException] = {}
        self._done = 0

    def on(self, executor: concurrent.futures.Executor) -> list[Any]:
        try:
            if isinstance(executor, concurrent.futures.ThreadPoolExecutor):
                # Other executors may pickle the call, and a context cannot be pickled.
                context = contextvars.copy_context()
                self._call = functools.partial(_run_in_copy, context, self._call)
            number = self._hand_out(executor, 0)
            while self._running:
                self._take_back(self._finished.get())
                if not self._failures:
                    number = self._hand_out(executor, number)
        except BaseException:
            self._cancel()
            raise
        if self._failures:
            raise self._failures[min(self._failures)]
        return list(itertools.chain.from_iterable(self._results[i] for i in range(number)))

    def _hand_out(self, executor: concurrent.futures.Executor, number: int) -> int:
        while len(self._running) < self._sizes.in_flight:
            chunk = list(itertools.islice(self._items, self._sizes.next()))
            if not chunk:
                break
            future = executor.submit(self._call, chunk)
            self._running[future] = number, len(chunk)
            # Called at once, in this thread, when the task is already done: the queue takes it.
            future.add_done_callback(self._finished.put)
            number += 1
        return number

    def _take_back(self, future: concurrent.futures.Future[Any]) -> None:
        number, count = self._running.pop(future)
        if future.cancelled():
            if not self._failures:  # not by us: its executor was shut down
                self._failures[number] = concurrent.futures.CancelledError(
                    "The executor was shut down before the work had ended."
                )
            return
        error = future.exception()
        if error is None:
            seconds, self._results[number] = future.result()
            self._sizes.learn(count, seconds)
        elif self._collect and isinstance(error, Exception):
            # Not the function's error but the worker's: it died, or the result does not pickle.
            self._results[number] = [error] * count
        else:
            self._failures[number] = error
            self._cancel()
            return
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _cancel(self) -> None:
        for future in self._running:
            future.cancel()


def _run_in_copy(context: contextvars.Context, *call: Any) -> Any:
    """Run a call in a copy: one context cannot be entered by two threads at once."""
    return context.copy().run(*call)


def _run_chunk(func: Callable[[Any], Any], chunk: list[Any]) -> tuple[float, list[Any]]:
    start = time.perf_counter()
    results = [func(item) for item in chunk]
    return time.perf_counter() - start, results


def _collect_chunk(func: Callable[[Any], Any], chunk: list[Any]) -> tuple[float, list[Any]]:
    start = time.perf_counter()
    results: list[Any] = []
    for item in chunk:
        try:
            results.append(func(item))
        except Exception as error:  # noqa: BLE001 - collecting is what was asked for
            results.append(error)
    return time.perf_counter() - start, results


def run_in_thread(
    func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> concurrent.futures.Future[R]:
    """Call *func* in a daemon thread of its own and return a future of its result.

    Context variables are those of the caller. `await asyncio.wrap_future(...)` waits in a coroutine.
    """
    future: concurrent.futures.Future[R] = concurrent.futures.Future()
    context = contextvars.copy_context()

    def call() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = context.run(func, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
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
        if any(is_kind(func) for is_kind in _RUNS_LATER):
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


_RUNS_LATER = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def _name_of(func: Callable[..., Any]) -> str:
    return getattr(func, "__name__", type(func).__name__)
