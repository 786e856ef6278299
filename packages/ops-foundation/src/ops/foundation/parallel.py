"""Maps on several threads, processes or machines, without losing an error or an order.

`parallel_map` runs on any `concurrent.futures.Executor`: threads by default, a process pool, or the
executor of a cluster's client. It hands out chunks that grow until one lasts a few milliseconds,
so handing out costs little beside the work, and takes no more from its input than it may have in
flight. Finished chunks announce themselves through a queue, so one slow item holds up no other.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import itertools
import os
import queue
import time
from collections.abc import Sized
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from ops.foundation.callables import refuse_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["parallel_map"]

T = TypeVar("T")
R = TypeVar("R")

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

    *max_workers* is how many run at once (default: those of *executor*, else the cores and 4, at
    most 32). *chunk_size* is how many items a worker takes at a time (default: learnt from how long
    the last took). With *errors* "raise" the first error stops the handing out and is raised once
    what runs has ended; of several, that of the earliest item. With "collect" the exception stands
    where its result would. *window* is the most items that are taken from *items* and not finished
    (default: a few chunks for each worker). *progress_callback* gets the number of finished items
    and the total (None for a generator), in this thread, after each chunk.

    A given *executor* is used and left running; do not pass the one whose worker is calling, since
    its workers would then wait for each other. Process pools need a *func* that can be pickled. In
    threads each call of *func* sees the context variables of the caller (its tenant, its trace, its
    deadline), and what it sets itself stays in its chunk. Raises ValueError for a number below 1,
    `ValidationError` (one too) for coroutine functions and generators, which no worker would run.

    >>> parallel_map(len, ["a", "bb", "ccc"], max_workers=2)
    [1, 2, 3]
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
    refuse_coroutine_function(func, "func", "use asyncio.gather")
    refuse_coroutine_function(progress_callback, "progress_callback")
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
            # Growing eightfold at most: one fast item does not predict the next.
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
        except Exception as error:  # noqa: BLE001 - the caller chose to collect
            results.append(error)
    return time.perf_counter() - start, results
