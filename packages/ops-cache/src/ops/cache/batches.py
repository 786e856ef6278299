"""Operations that are collected and processed many at a time.

An operation leaves only after the function took it: a batch that fails is kept aside, with its
error, while those behind it go on, and each `flush` tries it once more. One thread processes at a
time. Taking an operation and closing exclude each other, so what `add` accepted is processed.
"""

from __future__ import annotations

import atexit
import dataclasses
import sys
import threading
import warnings
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ops.cache.errors import CacheClosedError
from ops.cache.expiry import check_interval
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import ValidationError
from ops.foundation.forks import in_children
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BatchOperation", "BatchProcessor", "FailedBatch"]

T = TypeVar("T")
_log = get_logger("ops.cache")
_open: weakref.WeakSet[Any] = weakref.WeakSet()  # weak: exit alone keeps no processor alive


@dataclasses.dataclass(frozen=True, slots=True)
class BatchOperation:
    """One thing to do with a key.

    *operation_type* names it ("write", "delete", or a word of yours); *value* is what to write to
    *key*.
    """

    key: Any
    value: Any = None
    operation_type: str = "write"


@dataclasses.dataclass(frozen=True, slots=True)
class FailedBatch(Generic[T]):
    """Operations that *process_func* raised *error* for, kept until it takes them."""

    operations: list[T]
    error: Exception


class BatchProcessor(Generic[T]):
    """Calls *process_func* with lists of up to *batch_size* operations.

    A full batch is processed by the `add` that filled it, which slows producers down as needed; a
    smaller one after *flush_interval* seconds (None: only by `flush`), by `close`, and at exit. A
    processor that is dropped without `close` warns how many operations are lost with it. A forked
    child leaves what was pending to its parent.

    Raises `ValidationError` for a *batch_size* below 1, an interval that is not positive, and a
    coroutine function.

    >>> with BatchProcessor(print, batch_size=2) as processor:
    ...     processor.add("a")
    ...     processor.add("b")
    ...     processor.add("c")
    ['a', 'b']
    ['c']
    """

    def __init__(
        self,
        process_func: Callable[[list[T]], object],
        batch_size: int = 100,
        flush_interval: float | None = None,
    ) -> None:
        refuse_coroutine_function(process_func, "process_func")
        if not batch_size >= 1:
            msg = f"batch_size must be at least 1, not {batch_size}."
            raise ValidationError(msg)
        if flush_interval is not None:
            check_interval("flush_interval", flush_interval)
        self._process = process_func
        self._batch_size = batch_size
        self._pending: deque[T] = deque()
        self._failed: deque[FailedBatch[T]] = deque()
        self._working = threading.RLock()
        self._gate = threading.Lock()
        self._stop = threading.Event()
        self._interval = flush_interval
        self._start_thread()
        in_children(self, BatchProcessor.leave_to_parent)
        _open.add(self)

    def _start_thread(self) -> None:
        if self._interval is not None and not self._stop.is_set():
            threading.Thread(
                target=_flush_regularly,
                args=(weakref.ref(self), self._stop, self._interval),
                name="ops-cache-batches",
                daemon=True,
            ).start()

    def add(self, operation: T) -> None:
        """Take one operation; raises what *process_func* raises when this one fills a batch.

        Raises `CacheClosedError` after `close`.
        """
        with self._gate:
            if self._stop.is_set():
                msg = "This BatchProcessor is closed."
                raise CacheClosedError(msg)
            self._pending.append(operation)
        if len(self._pending) >= self._batch_size:
            self._run(again=False)

    def flush(self) -> int:
        """Process what failed before and all that is pending, and return how many operations.

        Every batch is tried once. When some failed, the first error is raised at the end.
        """
        return self._run(again=True)

    def _run(self, *, again: bool) -> int:
        done, errors = 0, list[Exception]()
        with self._working:
            for _ in range(len(self._failed) if again else 0):
                if self._failed:  # a flush within process_func may have been here
                    done += self._attempt(self._failed.popleft().operations, errors)
            while self._pending:
                size = min(self._batch_size, len(self._pending))
                done += self._attempt([self._pending.popleft() for _ in range(size)], errors)
        if errors:
            errors[0].add_note(f"{len(errors)} batches failed; `failed` has their operations.")
            raise errors[0]
        return done

    def _attempt(self, batch: list[T], errors: list[Exception]) -> int:
        try:
            self._process(batch)
        except Exception as error:  # noqa: BLE001 - kept with its batch, and raised by `_run`
            self._failed.append(FailedBatch(batch, error))
            errors.append(error)
            return 0
        except BaseException:  # an interrupt is no fault of the batch
            self._pending.extendleft(reversed(batch))
            raise
        return len(batch)

    @property
    def pending_count(self) -> int:
        """How many operations wait, those of failed batches included."""
        return len(self._pending) + sum(len(batch.operations) for batch in tuple(self._failed))

    @property
    def failed(self) -> tuple[FailedBatch[T], ...]:
        """The batches that failed, each with its last error, oldest first."""
        return tuple(self._failed)

    def close(self) -> None:
        """Take nothing more, and flush. May be called again, also to retry what failed."""
        with self._gate:
            self._stop.set()
        _open.discard(self)
        self.flush()

    def leave_to_parent(self) -> None:
        """Forget, in a forked child, what the parent has taken and will process."""
        self._working, self._gate = threading.RLock(), threading.Lock()
        self._pending, self._failed = deque(), deque()
        self._start_thread()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Not weakref.finalize: it would hold the errors, whose tracebacks hold this object. After
        # `close` its caller knows; else no caller does, so it does not depend on configured logging.
        closed = not hasattr(self, "_stop") or self._stop.is_set()
        if not closed and (number := self.pending_count):
            warnings.warn(
                f"A BatchProcessor was dropped; operations lost: {number}",
                RuntimeWarning,
                stacklevel=2,
            )


def _flush_regularly(owner: weakref.ref[Any], stop: threading.Event, interval: float) -> None:
    while not stop.wait(interval):
        processor = owner()
        if processor is None:
            return
        try:
            processor.flush()
        except Exception:  # noqa: BLE001 - kept aside, and tried again after the next interval
            _log.exception("A batch failed; %d operations are pending", processor.pending_count)
        del processor  # while waiting, this thread keeps nothing alive


@atexit.register
def _close_all() -> None:
    for processor in list(_open):
        try:
            processor.close()
        except Exception as error:  # noqa: BLE001 - shown; the others must still be closed
            error.add_note(f"At exit, {processor.pending_count} operations could not be processed.")
            # Data are lost, which has to be seen whether or not the program configures logging.
            sys.excepthook(type(error), error, error.__traceback__)
