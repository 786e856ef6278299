"""How long a statement waits for a warehouse that is starting: by time, with progress, and not by attempts.

A stopped warehouse of the types pro and classic takes minutes to start, and ten are not rare; a serverless
one takes seconds. Until then it answers 503 or rejects sessions (`failures`). Drivers that count attempts give
up long before (dbt-databricks#892 and #893); Databricks' own wait up to 900 seconds, "for cluster startup
> 10 mins" (databricks-sql-python, ``thrift_backend.py``). So does `Patience`, by its clock. Each wait is
reported: as a log line every half minute, and as an event and to hooks each time (`operations.retried`).

A thread in the background need not wait, since it tries again anyway: `at_most` shortens the wait of a block.
"""

from __future__ import annotations

import contextlib
import contextvars
import random
import time
from typing import TYPE_CHECKING

from ops.foundation.logs import get_logger
from ops.registry.errors import StorageError
from ops.registry.operations import retried

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator

__all__ = ["Patience", "StartWait", "at_most"]

logger: logging.Logger = get_logger("ops.registry")

#: Seconds: the first wait, the longest, and between two lines of the log.
_FIRST, _LONGEST, _LOGGED_EVERY = 0.5, 15.0, 30.0
_limit: contextvars.ContextVar[float | None] = contextvars.ContextVar("_limit", default=None)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Let statements of this block wait no longer than *seconds* for a warehouse, 0 for not at all."""
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)


class Patience:
    """Waits up to *seconds* for a warehouse, for each statement anew."""

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.seconds = seconds
        self.clock = clock
        self.sleep = sleep

    def begin(self) -> StartWait:
        """Return the wait of one statement, which has not begun."""
        limit = _limit.get()
        return StartWait(self, self.seconds if limit is None else min(limit, self.seconds))


class StartWait:
    """The wait of one statement: it begins with the first answer that the warehouse is not ready."""

    def __init__(self, patience: Patience, seconds: float) -> None:
        self._patience = patience
        self._seconds = seconds
        self._began: float | None = None
        self._logged = 0.0
        self._attempts = 0

    @property
    def waited_seconds(self) -> float:
        """How long ago the wait began, 0 when it did not."""
        return 0.0 if self._began is None else self._patience.clock() - self._began

    def goes_on(self, hostname: str, error: BaseException) -> bool:
        """Wait a while and return True, or return False when the time is up.

        Args:
            hostname: What is reported as starting.
            error: What the warehouse answered, without secrets.
        """
        if self._began is None:
            self._began = self._patience.clock()
        waited = self.waited_seconds
        left = self._seconds - waited
        if left <= 0:
            return False
        self._attempts += 1
        progress = (
            f"The warehouse at {hostname!r} is not ready yet; waited {waited:.0f} s of at most "
            f"{self._seconds:.0f} s: {str(error)[:200]}"
        )
        if self._attempts == 1 or waited - self._logged >= _LOGGED_EVERY:
            self._logged = waited
            logger.warning("%s", progress)
        retried(StorageError(progress), self._attempts)
        longest = min(_FIRST * 2 ** min(self._attempts - 1, 10), _LONGEST)
        self._patience.sleep(min(longest * random.uniform(0.5, 1.0), left))
        return True
