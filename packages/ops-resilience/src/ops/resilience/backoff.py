"""How long to wait before the next attempt: strategies as plain functions of the attempt's number.

The cap holds after the jitter, so `max_delay` is what nobody ever waits longer than.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from ops.foundation.errors import ValidationError

__all__ = ["BackoffStrategy", "RetryConfig"]


class BackoffStrategy(StrEnum):
    """How delays grow with the number of failed attempts n = 1, 2, 3, …."""

    CONSTANT = "constant"  # initial
    LINEAR = "linear"  # initial * n
    EXPONENTIAL = "exponential"  # initial * factor ** (n - 1)
    FIBONACCI = "fibonacci"  # initial * 1, 1, 2, 3, 5, …
    RANDOM = "random"  # uniform in [initial, max_delay]


Exceptions: TypeAlias = type[Exception] | tuple[type[Exception], ...]
Random: TypeAlias = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """When to try again and how long to wait; all times are in seconds.

    *jitter_range* multiplies each delay by a random factor. *timeout* bounds the whole, waiting
    included: an attempt that could only start after it is not made. *reraise* raises the last error
    itself instead of a RetryError. Raises ValidationError for values that make no sense.
    """

    max_attempts: int = 3
    initial_delay: float = 1.0
    max_delay: float = 60.0
    backoff_strategy: BackoffStrategy = BackoffStrategy.EXPONENTIAL
    backoff_factor: float = 2.0
    exceptions: Exceptions = Exception
    jitter: bool = True
    jitter_range: tuple[float, float] = (0.5, 1.5)
    timeout: float | None = None
    reraise: bool = False

    def __post_init__(self) -> None:
        if not self.max_attempts >= 1:  # so that NaN, which is neither, is refused
            raise ValidationError(f"max_attempts must be at least 1, not {self.max_attempts}.")
        for name in ("initial_delay", "max_delay", "backoff_factor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValidationError(f"{name} must be a number of seconds >= 0, not {value}.")
        if self.timeout is not None and not (math.isfinite(self.timeout) and self.timeout > 0):
            raise ValidationError(f"timeout must be a positive number of seconds: {self.timeout}.")
        if self.backoff_strategy not in set(BackoffStrategy):
            known = ", ".join(BackoffStrategy)
            raise ValidationError(f"backoff_strategy {self.backoff_strategy!r} is none of {known}.")
        low, high = self.jitter_range
        if not 0 <= low <= high < math.inf:
            raise ValidationError(f"jitter_range must be 0 <= low <= high, not {low}, {high}.")
        kinds = self.exceptions if isinstance(self.exceptions, tuple) else (self.exceptions,)
        if not kinds or not all(_is_exception_class(kind) for kind in kinds):
            raise ValidationError(f"exceptions must be Exception classes, not {self.exceptions!r}.")

    @property
    def exponential_base(self) -> float:
        """The same as `backoff_factor`."""
        return self.backoff_factor

    @property
    def retryable_exceptions(self) -> tuple[type[Exception], ...]:
        """`exceptions` as a tuple."""
        return self.exceptions if isinstance(self.exceptions, tuple) else (self.exceptions,)

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


def _is_exception_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _fibonacci(n: int) -> int:
    before, now = 0, 1
    for _ in range(min(n, 300) - 1):  # beyond any cap in seconds
        before, now = now, before + now
    return now
