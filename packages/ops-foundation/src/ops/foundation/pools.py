"""A thread pool that counts what it does and waits for its work when the block ends."""

from __future__ import annotations

import concurrent.futures
import contextvars
import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.forks import in_children
from ops.foundation.parallel import parallel_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

__all__ = ["PoolStats", "ThreadPoolManager"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


@dataclasses.dataclass(frozen=True, slots=True)
class PoolStats:
    """Counts of tasks since the pool was made, and the time they ran in seconds, summed.

    *submitted* tasks are *completed*, *failed*, *cancelled*, *active* (running now) or waiting;
    *max_workers* run at once. *busy_seconds* is the time.
    """

    max_workers: int
    submitted: int
    completed: int
    failed: int
    cancelled: int
    active: int
    busy_seconds: float

    @property
    def pending(self) -> int:
        """Tasks that wait for a thread."""
        return self.submitted - self.completed - self.failed - self.cancelled - self.active

    def __getitem__(self, name: str) -> Any:
        if name in {*self.__slots__, "pending"}:
            return getattr(self, name)
        raise KeyError(name)


class ThreadPoolManager:
    """A pool of threads with statistics; leaving its block waits for everything submitted.

    When the block ends with an error, tasks that have not begun are cancelled. A forked child has an
    empty pool with threads of its own; its parent's tasks stay with the parent.
    """

    def __init__(self, max_workers: int | None = None, *, name: str = "ops-pool") -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers={max_workers} must be at least 1.")
        self.max_workers: int = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._name = name
        self._begin()
        in_children(self, ThreadPoolManager._begin)

    def _begin(self) -> None:
        """Start without threads and with counts of zero; a forked child has none of its parent's."""
        self._executor = concurrent.futures.ThreadPoolExecutor(self.max_workers, self._name)
        self._lock = threading.Lock()
        self._submitted = self._completed = self._failed = self._cancelled = self._active = 0
        self._busy = 0.0

    @property
    def executor(self) -> concurrent.futures.Executor:
        """The executor below, for `parallel_map(..., executor=pool.executor)` and others."""
        return self._executor

    def submit(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[R]:
        """Call *func* in the pool with *args* and *kwargs*; return a future of its result.

        The call sees the caller's context variables. After `shutdown` this is a RuntimeError. Raises
        `ValidationError` for coroutine functions and generators, which no thread would run.
        """
        refuse_coroutine_function(func, "func", "use run_async in a plain function")
        # Not under the lock: a done callback runs at once when the task has already ended.
        with self._lock:
            self._submitted += 1
        try:
            context = contextvars.copy_context()
            future = self._executor.submit(context.run, self._run, func, args, kwargs)
        except BaseException:
            with self._lock:
                self._submitted -= 1
            raise
        future.add_done_callback(self._count_cancelled)
        return future

    def map(self, func: Callable[[T], R], items: Iterable[T], **options: Any) -> list[R]:
        """Run `parallel_map` on this pool: `[func(item) for item in items]`, in the order of *items*.

        *func* is called with each item. *options* are those of `parallel_map`: *max_workers*
        (default: that of the pool), *chunk_size*, *progress_callback*, *errors* and *window*. Its
        errors are the same.
        """
        refuse_coroutine_function(func, "func", "use asyncio.gather")

        def counted(item: T) -> R:
            with self._lock:
                self._submitted += 1
            return self._run(func, (item,), {})

        options.setdefault("max_workers", self.max_workers)
        return parallel_map(counted, items, executor=self._executor, **options)

    def get_stats(self) -> PoolStats:
        """Return the current counts, which are consistent with each other."""
        with self._lock:
            return PoolStats(
                max_workers=self.max_workers,
                submitted=self._submitted,
                completed=self._completed,
                failed=self._failed,
                cancelled=self._cancelled,
                active=self._active,
                busy_seconds=self._busy,
            )

    def shutdown(self, *, wait: bool = True, cancel_futures: bool = False) -> None:
        """Accept no more tasks; *wait* for those there are, or cancel those not begun."""
        self._executor.shutdown(wait=wait, cancel_futures=cancel_futures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown(cancel_futures=exc_type is not None)

    def _run(self, func: Callable[..., R], args: Any, kwargs: Any) -> R:
        with self._lock:
            self._active += 1
        start = time.perf_counter()
        failed = True
        try:
            result = func(*args, **kwargs)
            failed = False
            return result
        finally:
            # Counted before the future is done, so a caller that has the result sees it counted.
            with self._lock:
                self._active -= 1
                self._busy += time.perf_counter() - start
                self._failed += failed
                self._completed += not failed

    def _count_cancelled(self, future: concurrent.futures.Future[Any]) -> None:
        if future.cancelled():
            with self._lock:
                self._cancelled += 1
