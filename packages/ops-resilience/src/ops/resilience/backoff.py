"""When to retry and how long to wait: `RetryConfig`, whose strategies are functions of the attempt's number.

The cap is applied after the jitter, so no delay is longer than `max_delay`. What is retried is decided in
one function, `RetryConfig.decision`, for every spelling of a retry.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from numbers import Real
from typing import Any, TypeAlias

from ops.foundation.callables import drop_coroutine, refuse_coroutine_function
from ops.foundation.errors import ValidationError
from ops.resilience.errors import CircuitOpenError

__all__ = ["PROGRAMMING_ERRORS", "BackoffStrategy", "RetryConfig"]


class BackoffStrategy(StrEnum):
    """How delays grow with the number of failed attempts n = 1, 2, 3, …."""

    CONSTANT = "constant"  # initial
    LINEAR = "linear"  # initial * n
    EXPONENTIAL = "exponential"  # initial * factor ** (n - 1)
    FIBONACCI = "fibonacci"  # initial * 1, 1, 2, 3, 5, …
    RANDOM = "random"  # uniform in [initial, max_delay]


Exceptions: TypeAlias = type[Exception] | tuple[type[Exception], ...]
Random: TypeAlias = Callable[[float, float], float]
Predicate: TypeAlias = Callable[[Exception], "bool | float | dt.timedelta"]

PROGRAMMING_ERRORS: tuple[type[Exception], ...] = (
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    ValidationError,
)
"""Errors that repeating a call does not cure; not retried unless they are named."""

_DEFAULT_CAP = 60.0


@dataclass(frozen=True, slots=True, init=False)
class RetryConfig:
    """When to try again and how long to wait; all times are in seconds.

    >>> RetryConfig(initial_delay=0.5, jitter=False).delay(3)
    2.0
    """

    max_attempts: int
    initial_delay: float
    max_delay: float
    backoff_strategy: BackoffStrategy
    backoff_factor: float
    exceptions: Exceptions
    jitter: bool
    jitter_range: tuple[float, float]
    timeout: float | None
    reraise: bool
    retry_if: Predicate | None
    if_result: Callable[[Any], object] | None
    give_up_on: tuple[type[Exception], ...]
    wait_for_circuit: bool

    def __init__(
        self,
        max_attempts: int = 3,
        initial_delay: float = 1.0,
        max_delay: float | None = None,
        backoff_strategy: BackoffStrategy | str = BackoffStrategy.EXPONENTIAL,
        backoff_factor: float | None = None,
        exceptions: Exceptions | None = None,
        jitter: bool = True,  # noqa: FBT001, FBT002 - a setting like the others
        jitter_range: tuple[float, float] = (0.5, 1.5),
        timeout: float | None = None,
        reraise: bool = False,  # noqa: FBT001, FBT002 - a setting like the others
        *,
        retry_if: Predicate | None = None,
        if_result: Callable[[Any], object] | None = None,
        give_up_on: Exceptions | None = None,
        wait_for_circuit: bool = False,
        exponential_base: float | None = None,
        retryable_exceptions: Exceptions | None = None,
    ) -> None:
        """Check and keep the settings.

        Args:
            max_attempts: calls in total, the first included; at least 1.
            initial_delay: the delay after the first failure.
            max_delay: the cap of each delay, jitter included; by default 60, or *initial_delay* if
                that is longer.
            backoff_strategy: how delays grow; see `BackoffStrategy`.
            backoff_factor: the base of exponential growth, 2 by default.
            exceptions: the classes that are retried; by default every Exception but
                `PROGRAMMING_ERRORS`.
            jitter: whether a delay is multiplied by a random factor of *jitter_range*.
            jitter_range: the lowest and the highest factor.
            timeout: bounds the whole, waiting included: an attempt that could only start after it is
                not made. A time limit for a single call is `ops.resilience.timeout`.
            reraise: raise the last error itself instead of a RetryError.
            retry_if: called with an error of *exceptions*; retried if it returns True. A number of
                seconds or a timedelta sets the delay as well.
            if_result: called with each result; a result for which it returns true is retried.
            give_up_on: classes that are not retried, although *exceptions* includes them. A class
                that *exceptions* names itself is retried.
            wait_for_circuit: retry a CircuitOpenError after its `retry_after`. By default it is
                raised at once, unless *exceptions* names it.
            exponential_base: another name of *backoff_factor*.
            retryable_exceptions: another name of *exceptions*.

        Raises:
            ValidationError: a value makes no sense, or two names of one setting contradict.
        """
        store = object.__setattr__
        base = _either("backoff_factor", backoff_factor, "exponential_base", exponential_base)
        kinds = _either("exceptions", exceptions, "retryable_exceptions", retryable_exceptions)
        if give_up_on is None:
            give_up_on = PROGRAMMING_ERRORS if kinds is None else ()
        kinds = Exception if kinds is None else kinds
        store(self, "max_attempts", max_attempts)
        store(self, "initial_delay", initial_delay)
        store(self, "max_delay", _default_cap(initial_delay) if max_delay is None else max_delay)
        store(self, "backoff_strategy", _strategy(backoff_strategy))
        store(self, "backoff_factor", 2.0 if base is None else base)
        store(self, "exceptions", kinds)
        store(self, "jitter", jitter)
        store(self, "jitter_range", jitter_range)
        store(self, "timeout", timeout)
        store(self, "reraise", reraise)
        store(self, "retry_if", retry_if)
        store(self, "if_result", if_result)
        store(self, "give_up_on", _classes("give_up_on", give_up_on, least=0))
        store(self, "wait_for_circuit", wait_for_circuit)
        self._check()

    def _check(self) -> None:
        attempts: Any = self.max_attempts
        if not _is_number(attempts) or not attempts >= 1 or (attempts < math.inf and attempts % 1):
            raise ValidationError(f"max_attempts must be a whole number >= 1, not {attempts!r}.")
        for name in ("initial_delay", "max_delay", "backoff_factor"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < math.inf:
                raise ValidationError(f"{name} must be a number of seconds >= 0, not {value!r}.")
        limit: Any = self.timeout
        if limit is not None and not (_is_number(limit) and 0 < limit < math.inf):
            raise ValidationError(f"timeout must be a positive number of seconds: {limit!r}.")
        for name in ("jitter", "reraise", "wait_for_circuit"):
            if not isinstance(getattr(self, name), bool):
                # Such as jitter=0.1 or jitter=(0, 1), which would be true, and no more.
                raise ValidationError(f"{name} is True or False, not {getattr(self, name)!r}.")
        _check_range(self.jitter_range)
        _classes("exceptions", self.exceptions, least=1)
        for name in ("retry_if", "if_result"):
            refuse_coroutine_function(getattr(self, name), name)

    @property
    def exponential_base(self) -> float:
        """The same as `backoff_factor`."""
        return self.backoff_factor

    @property
    def retryable_exceptions(self) -> tuple[type[Exception], ...]:
        """`exceptions` as a tuple."""
        return self.exceptions if isinstance(self.exceptions, tuple) else (self.exceptions,)

    def decision(self, error: Exception) -> bool | float:
        """Return whether *error* is retried; a number is the delay in seconds that it sets."""
        if not isinstance(error, self.exceptions):
            return False
        if isinstance(error, self.give_up_on) and not self._names(error, self.give_up_on):
            return False
        if (
            isinstance(error, CircuitOpenError)
            and not self.wait_for_circuit
            and not self._names(error, (CircuitOpenError,))
        ):
            return False
        if self.retry_if is None:
            return True
        answer = self.retry_if(error)
        drop_coroutine(answer, "retry_if")
        if isinstance(answer, dt.timedelta):
            answer = answer.total_seconds()
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return bool(answer)
        return float(answer) if 0 <= answer < math.inf else True

    def _names(self, error: Exception, refused: tuple[type[Exception], ...]) -> bool:
        """Return whether `exceptions` names the class of *error* more closely than *refused* does."""
        return any(
            isinstance(error, kind) and issubclass(kind, refused)
            for kind in self.retryable_exceptions
        )

    def delay(self, attempt: int, uniform: Random = random.uniform) -> float:
        """Return the seconds to wait after failed attempt number *attempt* (from 1)."""
        seconds = self._base_delay(attempt, uniform)
        if self.jitter and self.backoff_strategy is not BackoffStrategy.RANDOM:
            seconds *= uniform(*self.jitter_range)
        return min(self.max_delay, seconds)

    def _base_delay(self, attempt: int, uniform: Random) -> float:
        initial = self.initial_delay
        match self.backoff_strategy:
            case BackoffStrategy.CONSTANT:
                return initial
            case BackoffStrategy.LINEAR:
                return initial * attempt
            case BackoffStrategy.FIBONACCI:
                return initial * _fibonacci(attempt)
            case BackoffStrategy.RANDOM:
                return uniform(min(initial, self.max_delay), self.max_delay)
            case BackoffStrategy.EXPONENTIAL:
                try:
                    return initial * self.backoff_factor ** (attempt - 1)
                except OverflowError:
                    return self.max_delay


def _either(first: str, one: Any, second: str, other: Any) -> Any:
    if one is not None and other is not None and one != other:
        raise ValidationError(
            f"{first} and {second} are two names of one setting, and differ: {one!r}, {other!r}."
        )
    return other if one is None else one


def _is_number(value: object) -> bool:
    """Return whether *value* is a number of any type; a bool is meant as something else."""
    return isinstance(value, Real | Decimal) and not isinstance(value, bool)


def _check_range(given: Any) -> None:
    pair = tuple(given) if isinstance(given, tuple | list) else ()
    if len(pair) != 2 or not all(map(_is_number, pair)) or not 0 <= pair[0] <= pair[1] < math.inf:
        raise ValidationError(f"jitter_range must be 0 <= low <= high, not {given!r}.")


def _default_cap(initial_delay: float) -> float:
    is_usable = _is_number(initial_delay) and initial_delay < math.inf
    return max(_DEFAULT_CAP, initial_delay) if is_usable else _DEFAULT_CAP


def _strategy(given: BackoffStrategy | str) -> BackoffStrategy:
    try:
        return BackoffStrategy(given)
    except ValueError as error:
        known = ", ".join(BackoffStrategy)
        raise ValidationError(f"backoff_strategy {given!r} is none of {known}.") from error


def _classes(name: str, given: Any, *, least: int) -> tuple[type[Exception], ...]:
    kinds = given if isinstance(given, tuple) else (given,)
    if len(kinds) < least or not all(
        isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds
    ):
        raise ValidationError(f"{name} must be Exception classes, not {given!r}.")
    return kinds


def _fibonacci(n: int) -> int:
    before, now = 0, 1
    for _ in range(min(n, 300) - 1):  # beyond any cap in seconds
        before, now = now, before + now
    return now
