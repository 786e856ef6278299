"""A circuit breaker: after enough failures, calls are refused for a while instead of made.

While the circuit is closed a successful call takes no lock: it reads two attributes. The lock is held
for bookkeeping only, never during a call, so calls run side by side. After `recovery_timeout` the
circuit is half open: `success_threshold` probes are let through, however many threads ask, and their
outcome decides; probes that have no outcome after another `recovery_timeout` are replaced. A call that
began before the circuit last changed cannot change it back: the time between two changes is a period
with a number of its own, and outcomes of another period are ignored.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeAlias, TypeVar, cast

from ops.foundation.errors import ValidationError
from ops.foundation.logs import get_logger
from ops.resilience.calls import is_awaited
from ops.resilience.errors import CircuitOpenError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CircuitBreaker", "CircuitBreakerStats", "CircuitState"]

P = ParamSpec("P")
R = TypeVar("R")


class CircuitState(StrEnum):
    """The three states of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class CircuitBreakerStats:
    """What a breaker has seen since it was made; successes of a closed circuit are not counted."""

    state: CircuitState
    failures: int
    refused: int
    opened: int
    consecutive_failures: int
    retry_after: float


StateObserver = Callable[[CircuitState, CircuitState], object]

# The blocks that are open here, innermost first, each with the period it belongs to. A context
# variable, as the tasks of a loop share their thread.
_Entered: TypeAlias = "tuple[_Entered | None, CircuitBreaker, int]"
_entered: ContextVar[_Entered | None] = ContextVar("ops.resilience.breaker", default=None)
_logger = get_logger("ops.resilience")


class CircuitBreaker:
    """Use it as a decorator (sync or async), as a context manager, or through `call`.

    The circuit opens after *failure_threshold* failures in a row; with *window* it opens when at
    least that many calls were seen and the share of failures among the last *window* calls reaches
    *failure_threshold* (then between 0 and 1). Only *expected_exception* counts as a failure.
    *recovery_timeout* is in seconds. *on_state_change* gets the old and the new state; what it raises
    is logged.

    Raises CircuitOpenError (with `retry_after`) instead of making a call while the circuit is open.
    """

    def __init__(
        self,
        failure_threshold: float = 5,
        recovery_timeout: float = 60.0,
        expected_exception: type[Exception] | tuple[type[Exception], ...] = Exception,
        success_threshold: int = 1,
        on_state_change: StateObserver | None = None,
        name: str | None = None,
        window: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not failure_threshold > 0 or (window is not None and failure_threshold > 1):
            raise ValidationError(
                f"failure_threshold={failure_threshold} must be a count of at least 1, "
                "or with a window a share above 0 and up to 1."
            )
        if (
            success_threshold < 1
            or not recovery_timeout >= 0
            or (window is not None and window < 1)
        ):
            raise ValidationError(
                "success_threshold and window must be at least 1, recovery_timeout not negative: "
                f"{success_threshold}, {window}, {recovery_timeout}."
            )
        self.name = name
        self.expected_exception = expected_exception
        self._threshold, self._recovery, self._needed = (
            failure_threshold,
            recovery_timeout,
            success_threshold,
        )
        self._observer, self._clock = on_state_change, clock
        self._outcomes: deque[bool] | None = None if window is None else deque(maxlen=window)
        self._lock = threading.Lock()
        self._state = CircuitState.CLOSED
        self._consecutive = self._admitted = self._successes = self._period = 0
        self._failures = self._refused = self._openings = 0
        self._since = 0.0

    # ------------------------------------------------------------------ use

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return *function*, guarded."""
        if is_awaited(function):

            @functools.wraps(function)
            async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                period = self._enter()
                try:
                    result = await function(*args, **kwargs)
                except BaseException as error:
                    self._leave(period, error)
                    raise
                self._succeed(period)
                return result

            return cast("Callable[P, R]", guarded_async)

        closed, windowed = CircuitState.CLOSED, self._outcomes is not None

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            period = self._period  # first, as in `_enter`
            if self._state is not closed:
                period = self._enter()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                self._leave(period, error)
                raise
            if self._consecutive or windowed or self._state is not closed:
                self._succeed(period)
            return result

        return guarded

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* through the breaker; what a coroutine function returns is to be awaited."""
        if is_awaited(function):
            return cast("R", self(function)(*args, **kwargs))
        with self:
            return function(*args, **kwargs)

    def __enter__(self) -> Self:
        _entered.set((_entered.get(), self, self._enter()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        period = self._forget_entry()
        if error is None:
            self._succeed(period)
        else:
            self._leave(period, error)

    def _forget_entry(self) -> int:
        """Return the period of the last block of this breaker that the task or thread entered."""
        passed: list[_Entered] = []
        entered = _entered.get()
        while entered is not None and entered[1] is not self:
            passed.append(entered)
            entered = entered[0]
        if entered is None:
            raise RuntimeError("The block of a breaker ends in another context than it began.")
        rest = entered[0]
        for _, breaker, period in reversed(passed):
            rest = (rest, breaker, period)
        _entered.set(rest)
        return entered[2]

    # ------------------------------------------------------------------ facts and control

    @property
    def state(self) -> CircuitState:
        """The state now; an open circuit whose time is over becomes half open with its next call."""
        return self._state

    def get_stats(self) -> CircuitBreakerStats:
        """Return counts and state."""
        with self._lock:
            return CircuitBreakerStats(
                self._state,
                self._failures,
                self._refused,
                self._openings,
                self._consecutive,
                self._remaining() if self._state is CircuitState.OPEN else 0.0,
            )

    def reset(self) -> None:
        """Close the circuit and forget its failures."""
        self._change(CircuitState.CLOSED)

    def force_open(self) -> None:
        """Open the circuit now."""
        self._change(CircuitState.OPEN)

    # ------------------------------------------------------------------ bookkeeping

    def _enter(self) -> int:
        """Return the number of the period that the call belongs to."""
        period: int | None = self._period  # first: of a circuit that opens now it counts no more
        if self._state is CircuitState.CLOSED:
            return cast("int", period)
        with self._lock:
            before = self._state
            if before is CircuitState.OPEN and self._remaining() <= 0:
                self._set(CircuitState.HALF_OPEN)
            after, period = self._state, self._admit()
            is_open = after is CircuitState.OPEN
            retry_after = max(0.0, self._remaining()) if is_open else 0.0
        self._tell(before, after)
        if period is not None:
            return period
        name = f" {self.name!r}" if self.name else ""
        raise CircuitOpenError(
            f"The circuit{name} is open; try again in {retry_after:.3g} s."
            if is_open
            else f"The circuit{name} is half open, and its probes are under way.",
            retry_after=retry_after,
        )

    def _admit(self) -> int | None:
        """Count the call in, or return None; called under the lock."""
        if self._state is CircuitState.CLOSED:
            return self._period
        if self._state is CircuitState.HALF_OPEN:
            if self._admitted >= self._needed and self._recovery and self._remaining() <= 0:
                self._set(CircuitState.HALF_OPEN)  # those probes hang; they cannot hold it for ever
            if self._admitted < self._needed:
                self._admitted += 1
                return self._period
        self._refused += 1
        return None

    def _leave(self, period: int, error: BaseException) -> None:
        if isinstance(error, self.expected_exception):
            self._fail(period)
        elif isinstance(error, Exception):
            self._succeed(period)  # an error of the caller: the service did answer
        else:  # interrupted: no outcome, the probe's place is free again
            with self._lock:
                if self._state is CircuitState.HALF_OPEN and self._period == period:
                    self._admitted -= 1

    def _succeed(self, period: int) -> None:
        with self._lock:
            before = self._state
            counts = period == self._period
            if counts and before is CircuitState.CLOSED:
                self._consecutive = 0
                if self._outcomes is not None:
                    self._outcomes.append(True)
            elif counts and before is CircuitState.HALF_OPEN:
                self._successes += 1
                if self._successes >= self._needed:
                    self._set(CircuitState.CLOSED)
            after = self._state
        self._tell(before, after)

    def _fail(self, period: int) -> None:
        with self._lock:
            before = self._state
            self._failures += 1
            counts = period == self._period
            if counts and before is CircuitState.CLOSED:
                self._consecutive += 1
                if self._is_too_much():
                    self._set(CircuitState.OPEN)
            elif counts and before is CircuitState.HALF_OPEN:
                self._set(CircuitState.OPEN)
            after = self._state
        self._tell(before, after)

    def _is_too_much(self) -> bool:
        if self._outcomes is None:
            return self._consecutive >= self._threshold
        self._outcomes.append(False)
        full = len(self._outcomes) == self._outcomes.maxlen
        return full and self._outcomes.count(False) / len(self._outcomes) >= self._threshold

    def _change(self, state: CircuitState) -> None:
        with self._lock:
            before = self._state
            self._set(state)
        self._tell(before, state)

    def _set(self, state: CircuitState) -> None:
        self._state = state
        self._consecutive = self._admitted = self._successes = 0
        self._period += 1
        if self._outcomes is not None:
            self._outcomes.clear()
        self._since = self._clock()
        self._openings += state is CircuitState.OPEN

    def _remaining(self) -> float:
        return self._since + self._recovery - self._clock()

    def _tell(self, before: CircuitState, after: CircuitState) -> None:
        # Outside the lock: an observer may ask the breaker, or take its time.
        if before is after or self._observer is None:
            return
        try:
            self._observer(before, after)
        except Exception:
            # Raised here, it would hide the call's own error, or keep a probe's place for ever.
            _logger.exception("the observer of circuit %r failed", self.name)
