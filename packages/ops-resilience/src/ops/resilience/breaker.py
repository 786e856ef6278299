"""A circuit breaker: after enough failures, calls are refused for a while instead of made.

While the circuit is closed a successful call takes no lock: it reads two attributes. The lock is held
for bookkeeping only, never during a call, so calls run side by side. After `recovery_timeout` the
circuit is half open: `success_threshold` probes are let through, however many threads arrive, and their
outcome decides; probes that have no outcome after another `recovery_timeout` are replaced. A call that
began before the circuit last changed cannot change it back: the time between two changes is a period
with a number of its own, and outcomes of another period are ignored. A forked child begins a new
period, as the probes of its parent's other threads never end there.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeAlias, TypeVar, cast

from ops.foundation import tracing
from ops.foundation.callables import drop_coroutine, is_awaited, refuse_coroutine_function
from ops.foundation.errors import ValidationError
from ops.foundation.forks import in_children, keep_over_forks
from ops.foundation.logs import get_logger
from ops.resilience.errors import CircuitOpenError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["BreakerEvent", "CircuitBreaker", "CircuitBreakerStats", "CircuitState"]

P = ParamSpec("P")
R = TypeVar("R")


class CircuitState(StrEnum):
    """The three states of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class CircuitBreakerStats:
    """What a breaker has seen since it was made; successes of a closed circuit are not counted.

    *state* is that of now. *failures* and *refused* count calls, *opened* how often the circuit
    opened; *consecutive_failures* are those since the last success; *retry_after* is in seconds.
    """

    state: CircuitState
    failures: int
    refused: int
    opened: int
    consecutive_failures: int
    retry_after: float


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """What listeners of a breaker get: "state" (*before* and *after*), "failure" (*error*), "refused".

    *kind* is the first word; *breaker* is the one that it happened to.
    """

    kind: Literal["state", "failure", "refused"]
    breaker: CircuitBreaker
    before: CircuitState
    after: CircuitState
    error: BaseException | None = None


Listener = Callable[[BreakerEvent], object]
Kinds: TypeAlias = type[Exception] | tuple[type[Exception], ...]
Exempt: TypeAlias = type[Exception] | Callable[[Exception], object]
Excluded: TypeAlias = Exempt | Iterable[Exempt]
StateObserver = Callable[[CircuitState, CircuitState], object]

# The blocks that are open here, innermost first, each with the period it belongs to. A context
# variable, as the tasks of a loop share their thread.
_Entered: TypeAlias = "tuple[_Entered | None, CircuitBreaker, int]"
_entered: ContextVar[_Entered | None] = ContextVar("ops.resilience.breaker", default=None)
_logger = get_logger("ops.resilience")


class CircuitBreaker:
    """Refuses calls for a while after too many have failed.

    Use it as a decorator (sync or async), with `with` or `async with`, or through `call`, from any
    thread and task. Raises CircuitOpenError (with `retry_after`) instead of making a call while the
    circuit is open.

    >>> breaker = CircuitBreaker(failure_threshold=2, recovery_timeout=30)
    >>> breaker.call(len, "abc"), breaker.state
    (3, <CircuitState.CLOSED: 'closed'>)
    """

    def __init__(
        self,
        failure_threshold: float | None = None,
        recovery_timeout: float = 60.0,
        expected_exception: Kinds = Exception,
        success_threshold: int = 1,
        on_state_change: StateObserver | None = None,
        name: str | None = None,
        window: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        exclude: Excluded = (),
        listeners: Iterable[Listener] = (),
    ) -> None:
        """Check and keep the settings.

        Args:
            failure_threshold: failures in a row that open the circuit (default 5); with *window* the
                share of failures that does, above 0 and up to 1 (default 0.5).
            recovery_timeout: seconds that an open circuit refuses calls.
            expected_exception: the classes that count as failures; another error counts as a success,
                as the service did answer.
            success_threshold: probes that must succeed before the circuit closes.
            on_state_change: called with the old and the new state, without a lock; what it raises is
                logged.
            name: shown in errors, logs and traces.
            window: how many of the last calls the share is of.
            clock: seconds that never go back.
            exclude: classes, or functions that return true for an error, that do not count as failures
                although *expected_exception* includes them.
            listeners: as `add_listener`.

        Raises:
            ValidationError: a value makes no sense, or a callback is a coroutine function.
        """
        if failure_threshold is None:
            failure_threshold = 5 if window is None else 0.5
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
        refuse_coroutine_function(on_state_change, "on_state_change")
        self._observer, self._clock = on_state_change, clock
        self._excluded, self._is_excluded = _split(exclude)
        self._listeners: tuple[Listener, ...] = ()
        for listener in listeners:
            self.add_listener(listener)
        self._outcomes: deque[bool] | None = None if window is None else deque(maxlen=window)
        # Re-entrant: a signal handler may use the breaker that it interrupts.
        self._lock = threading.RLock()
        self._state = CircuitState.CLOSED
        self._consecutive = self._admitted = self._successes = self._period = 0
        self._failures = self._refused = self._openings = 0
        self._since = 0.0
        keep_over_forks(self)
        in_children(self, CircuitBreaker._forget_probes)

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the counts; see `ops.foundation.forks`."""
        return self._lock

    # ------------------------------------------------------------------ use

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return *function*, guarded."""
        label = f"circuit {self.name or getattr(function, '__qualname__', 'call')}"
        if is_awaited(function):

            @functools.wraps(function)
            async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with tracing.span("ops.resilience", label):
                    return await plain_async(*args, **kwargs)

            async def plain_async(*args: P.args, **kwargs: P.kwargs) -> Any:
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

        def plain(*args: P.args, **kwargs: P.kwargs) -> R:
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

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if not tracing.is_traced():
                return plain(*args, **kwargs)
            with tracing.span("ops.resilience", label):
                return plain(*args, **kwargs)

        return guarded

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* with *args* and *kwargs*; what a coroutine function returns is to be awaited.

        Raises `CircuitOpenError` without calling while the circuit is open.
        """
        if is_awaited(function):
            return cast("R", self(function)(*args, **kwargs))
        with self:
            return function(*args, **kwargs)

    def __enter__(self) -> Self:
        _entered.set((_entered.get(), self, self._enter()))
        return self

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, _)

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

    def add_listener(self, listener: Listener) -> None:
        """Call *listener* with a `BreakerEvent` for each state change, failure and refused call.

        It runs in the thread of the call, without a lock; what it raises is logged. Raises
        ValidationError for a coroutine function, which nothing would await.
        """
        refuse_coroutine_function(listener, "listener")
        self._listeners = (*self._listeners, listener)

    def remove_listener(self, listener: Listener) -> bool:
        """Stop calling *listener*; return whether it was there."""
        rest = tuple(known for known in self._listeners if known != listener)
        found = len(rest) < len(self._listeners)
        self._listeners = rest
        return found

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
        self._changed(before, after)
        if period is not None:
            return period
        self._notify(BreakerEvent("refused", self, after, after))
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
        if isinstance(error, self.expected_exception) and not self._is_exempt(error):
            self._fail(period, error)
        elif isinstance(error, Exception):
            self._succeed(period)  # an error of the caller: the service did answer
        else:  # interrupted: no outcome, another probe may start
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
        self._changed(before, after)

    def _fail(self, period: int, error: BaseException) -> None:
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
        self._notify(BreakerEvent("failure", self, before, after, error))
        self._changed(before, after)

    def _is_exempt(self, error: BaseException) -> bool:
        return isinstance(error, self._excluded) or any(
            bool(is_one(cast("Exception", error))) for is_one in self._is_excluded
        )

    def _forget_probes(self) -> None:
        """In a forked child: the threads whose probes are under way are not here."""
        if self._state is CircuitState.HALF_OPEN:
            self._set(CircuitState.HALF_OPEN)

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
        self._changed(before, state)

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

    def _changed(self, before: CircuitState, after: CircuitState) -> None:
        # Outside the lock: an observer may use the breaker, or take its time.
        if before is after:
            return
        if self._observer is not None:
            try:
                drop_coroutine(self._observer(before, after), "on_state_change")
            except Exception as error:  # noqa: BLE001
                # Raised here, it would hide the call's own error, or keep a probe's permit for ever.
                self._observer_failed(error)
        self._notify(BreakerEvent("state", self, before, after))

    def _notify(self, event: BreakerEvent) -> None:
        for listener in self._listeners:
            try:
                drop_coroutine(listener(event), "a listener")
            except Exception as error:  # noqa: BLE001 - as in `_changed`
                self._observer_failed(error)
        if tracing.is_traced():
            tracing.add_event(
                f"circuit breaker {event.kind}",
                {"name": self.name or "", "before": event.before, "after": event.after},
            )

    def _observer_failed(self, error: Exception) -> None:
        # By its type only: its text may hold a secret.
        _logger.error("an observer of circuit %r failed with %s", self.name, type(error).__name__)


def _split(
    exclude: Excluded,
) -> tuple[tuple[type[Exception], ...], tuple[Callable[[Exception], object], ...]]:
    """Return the classes and the predicates of *exclude*."""
    given = (exclude,) if callable(exclude) else tuple(exclude)
    for each in given:
        refuse_coroutine_function(each, "exclude")
    classes = tuple(each for each in given if isinstance(each, type))
    if not all(issubclass(each, BaseException) for each in classes):
        raise ValidationError(f"exclude takes exception classes and functions, not {exclude!r}.")
    return classes, tuple(each for each in given if not isinstance(each, type))
