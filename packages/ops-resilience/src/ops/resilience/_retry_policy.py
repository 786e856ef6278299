"""The loop behind every spelling of a retry: decide, notify, wait, call again.

The first attempt is made by the caller of `resume`, inline, so a call that succeeds costs a `try` and
nothing else. The loop is our own, as making a `tenacity.Retrying` for a failed call costs more than the whole
loop; docs/resilience.md lists which of tenacity's semantics it shares. An error's traceback holds
the frames of this module, so they drop their references before they return: a cycle would keep what
the caller passed alive until the collector runs.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation import tracing
from ops.foundation.callables import drop_coroutine, refuse_coroutine_function
from ops.foundation.deadlines import current_deadline
from ops.foundation.forks import keep_over_forks
from ops.foundation.logs import get_logger
from ops.resilience import instrumentation
from ops.resilience.errors import CircuitOpenError, ResultRefusedError, RetryError

if TYPE_CHECKING:
    from ops.resilience.backoff import RetryConfig

__all__ = ["Observer", "Policy", "RetryStats", "TestMode"]

Observer = Callable[[Exception, int], object]
Decision: TypeAlias = bool | float
"""Whether an error is retried; a number is the delay in seconds that it sets."""
_logger = get_logger("ops.resilience")


@dataclass(slots=True)
class RetryStats:
    """What happened after first attempts had failed; successful first attempts are not counted.

    *retries* counts further attempts, *recovered* calls that succeeded in the end, *exhausted*
    those that did not.
    """

    retries: int = 0
    recovered: int = 0
    exhausted: int = 0


class TestMode:
    """Set by `ops.resilience.testing`: the cap on attempts while nothing sleeps, or None."""

    __test__ = False
    cap: int | None = None


class Policy:
    """A RetryConfig with its observers and counts; one for each decorated function."""

    def __init__(
        self,
        config: RetryConfig,
        on_retry: Observer | None = None,
        on_failure: Observer | None = None,
        *,
        name: str = "block",
        awaited: bool = False,
    ) -> None:
        if not awaited:
            refuse_coroutine_function(on_retry, "on_retry")
            refuse_coroutine_function(on_failure, "on_failure")
        self.config, self.name = config, name
        self.on_retry, self.on_failure = on_retry, on_failure
        self.exceptions = config.retryable_exceptions
        self._stats = RetryStats()
        self._lock = threading.RLock()
        keep_over_forks(self)

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the counts; see `ops.foundation.forks`."""
        return self._lock

    def stats(self) -> RetryStats:
        """Return a copy of the counts."""
        with self._lock:
            return replace(self._stats)

    # ------------------------------------------------------------------ decisions

    def is_refused(self, result: Any) -> bool:
        """Return whether *result* is one that is retried."""
        if self.config.if_result is None:
            return False
        answer = self.config.if_result(result)
        drop_coroutine(answer, "if_result")
        return bool(answer)

    def next_delay(
        self, error: Exception, decision: Decision, attempt: int, start: float
    ) -> float | None:
        """Return the seconds to wait after *attempt*, None when there is no further one."""
        config = self.config
        cap = TestMode.cap
        if cap is not None:
            return None if attempt >= min(cap, config.max_attempts) else 0.0
        if attempt >= config.max_attempts:
            return None
        seconds = self._delay(error, decision, attempt)
        if config.timeout is not None and time.monotonic() - start + seconds >= config.timeout:
            return None
        return seconds

    def _delay(self, error: Exception, decision: Decision, attempt: int) -> float:
        if decision is not True:
            return min(float(decision), self.config.max_delay)
        wanted = getattr(error, "retry_after", None)
        # Any object may have an attribute of that name: only a number of seconds is followed.
        if (
            isinstance(wanted, int | float)
            and not isinstance(wanted, bool)
            and 0 < wanted < math.inf
        ):
            return min(float(wanted), self.config.max_delay)
        return self.config.delay(attempt)

    # ------------------------------------------------------------------ notifications

    def count(self, name: str) -> None:
        with self._lock:
            setattr(self._stats, name, getattr(self._stats, name) + 1)

    def retrying(
        self,
        error: Exception,
        attempt: int,
        seconds: float,
        waited: float,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Count and notify; return what the observer returned."""
        self.count("retries")
        instrumentation.notify(self.name, attempt, seconds, waited, error, args, kwargs)
        return None if self.on_retry is None else self.on_retry(error, attempt)

    def failing(self, error: Exception, attempt: int) -> Any:
        """Count and notify that attempts are used up; return what the observer returned."""
        self.count("exhausted")
        return None if self.on_failure is None else self.on_failure(error, attempt)

    # ------------------------------------------------------------------ the loop

    def resume(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        failed: Exception,
        decision: Decision,
        start: float,
    ) -> Any:
        """Continue a call whose first attempt has *failed*, and return its result."""
        attempt, waited = 1, 0.0
        try:
            with tracing.span("ops.resilience", f"retry {self.name}") as span:
                while True:
                    seconds = self.next_delay(failed, decision, attempt, start)
                    if seconds is None:
                        drop_coroutine(self.failing(failed, attempt), "on_failure")
                        if self.config.reraise:
                            raise failed
                        raise RetryError(failed, attempt) from failed
                    outcome = self.retrying(failed, attempt, seconds, waited, args, kwargs)
                    drop_coroutine(outcome, "on_retry")
                    deadline = current_deadline()
                    if seconds > 0:
                        time.sleep(seconds if deadline is None else deadline.clamp(seconds))
                    if deadline is not None:
                        deadline.check()  # in threads that nothing interrupts
                    attempt, waited = attempt + 1, waited + seconds
                    if span is not None:
                        span.set_attribute("attempts", attempt)
                    try:
                        result = function(*args, **kwargs)
                    except self.exceptions as error:
                        decision = self.config.decision(error)
                        if decision is False:
                            _raise_after(error, failed)
                        failed = error
                    else:
                        if not self.is_refused(result):
                            self.count("recovered")
                            return result
                        failed, decision = ResultRefusedError(result), True
        finally:
            del failed, args, kwargs, function

    async def resume_async(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        failed: Exception,
        decision: Decision,
        start: float,
    ) -> Any:
        """Continue as `resume` does; observers that return an awaitable are awaited."""
        attempt, waited = 1, 0.0
        try:
            with tracing.span("ops.resilience", f"retry {self.name}") as span:
                while True:
                    seconds = self.next_delay(failed, decision, attempt, start)
                    if seconds is None:
                        await _settled(self.failing(failed, attempt))
                        if self.config.reraise:
                            raise failed
                        raise RetryError(failed, attempt) from failed
                    await _settled(self.retrying(failed, attempt, seconds, waited, args, kwargs))
                    await asyncio.sleep(seconds)
                    attempt, waited = attempt + 1, waited + seconds
                    if span is not None:
                        span.set_attribute("attempts", attempt)
                    try:
                        result = await function(*args, **kwargs)
                    except self.exceptions as error:
                        decision = self.config.decision(error)
                        if decision is False:
                            _raise_after(error, failed)
                        failed = error
                    else:
                        if not self.is_refused(result):
                            self.count("recovered")
                            return result
                        failed, decision = ResultRefusedError(result), True
        finally:
            del failed, args, kwargs, function


async def _settled(outcome: Any) -> None:
    if inspect.isawaitable(outcome):
        await outcome


def _raise_after(error: Exception, before: Exception) -> None:
    """Raise *error* as it is; a circuit that opened during a retry names the failure as its cause."""
    if isinstance(error, CircuitOpenError) and error.__cause__ is None:
        raise error from before
    raise error
