"""Operations that are collected and processed many at a time.

A batch leaves the queue only after the function took it: one that fails is put back at the front,
in order, so nothing is lost and nothing overtakes. One thread processes at a time.
"""

from __future__ import annotations

import atexit
import dataclasses
import logging
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ops.cache.errors import CacheClosedError
from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BatchOperation", "BatchProcessor"]

T = TypeVar("T")
_log = logging.getLogger("ops.cache")


@dataclasses.dataclass(frozen=True, slots=True)
class BatchOperation:
    """One thing to do with a key, such as "write" or "delete"."""

    key: Any
    value: Any = None
    operation_type: str = "write"


class BatchProcessor(Generic[T]):
    """Calls *process_func* with lists of up to *batch_size* operations.

    A full batch is processed by the `add` that filled it, which slows producers down as needed; a
    smaller one after *flush_interval* seconds (None: only by `flush`), and at exit.
    """

    def __init__(
        self,
        process_func: Callable[[list[T]], object],
        batch_size: int = 100,
        flush_interval: float | None = None,
    ) -> None:
        if batch_size < 1:
            msg = f"batch_size must be at least 1, not {batch_size}."
            raise ValidationError(msg)
        self._process = process_func
        self._batch_size = batch_size
        self._pending: deque[T] = deque()
        self._working = threading.RLock()
        self._stop = threading.Event()
        if flush_interval is not None:
            threading.Thread(
                target=_flush_regularly,
                args=(weakref.ref(self), self._stop, flush_interval),
                name="ops-cache-batches",
                daemon=True,
            ).start()
        atexit.register(self.close)

    def add(self, operation: T) -> None:
        """Take one operation; raises what *process_func* raises when this one fills a batch."""
        if self._stop.is_set():
            msg = "This BatchProcessor is closed."
            raise CacheClosedError(msg)
        self._pending.append(operation)
        if len(self._pending) >= self._batch_size:
            self.flush()

    def flush(self) -> int:
        """Process everything that is pending and return how many; a failed batch stays pending."""
        done = 0
        with self._working:
            while self._pending:
                size = min(self._batch_size, len(self._pending))
                batch = [self._pending.popleft() for _ in range(size)]
                try:
                    self._process(batch)
                except BaseException:
                    self._pending.extendleft(reversed(batch))
                    raise
                done += len(batch)
        return done

    @property
    def pending_count(self) -> int:
        """How many operations wait."""
        return len(self._pending)

    def close(self) -> None:
        """Process what is pending and take nothing more. May be called again."""
        self._stop.set()
        atexit.unregister(self.close)
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _flush_regularly(owner: weakref.ref[Any], stop: threading.Event, interval: float) -> None:
    while not stop.wait(interval):
        processor = owner()
        if processor is None:
            return
        try:
            processor.flush()
        except Exception:  # noqa: BLE001 - the batch is kept, and tried again after the next interval
            _log.exception("A batch failed; %d operations are pending", processor.pending_count)
