"""Retries without a decorated function: a block that is run again, and a caller that retries any function.

A block is retried by a loop, as Python cannot run a block twice by itself:

>>> from ops.resilience import retry_context
>>> outcomes = iter([OSError("busy"), None])
>>> for attempt in retry_context(max_attempts=3, initial_delay=0):
...     with attempt:
...         if error := next(outcomes):
...             raise error
>>> attempt.number
2
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, final

from ops.foundation.callables import drop_coroutine, refuse_coroutine_function
from ops.foundation.errors import ValidationError
from ops.resilience._retry_policy import Policy
from ops.resilience.errors import RetryError
from ops.resilience.retrying import retry, settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

__all__ = ["Attempt", "RetryingCaller", "retry_context"]

P = ParamSpec("P")
R = TypeVar("R")


def retry_context(max_attempts: int | None = None, **options: Any) -> _Attempts:
    """Return an iterable (also for `async for`) of attempts: `with` blocks that end at the first success.

    *max_attempts* and *options* are those of `retry`; *if_result* has no meaning here: it raises
    `ValidationError`. The last error leaves the block as a RetryError.
    """
    if max_attempts is not None:
        options["max_attempts"] = max_attempts
    config, observers = settings_of(options)
    if config.if_result is not None:
        raise ValidationError("A block has no result: raise an error in it instead of if_result.")
    refuse_coroutine_function(observers["on_failure"], "on_failure")
    return _Attempts(Policy(config, **observers, name="block", awaited=True))


@final
class Attempt:
    """One run of a block; `number` counts from 1."""

    __slots__ = ("_attempts", "number")

    def __init__(self, attempts: _Attempts, number: int) -> None:
        self._attempts = attempts
        self.number: int = number

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        return self._attempts.ended(self.number, error)


class _Attempts:
    """The runs of one block; iterating again starts over."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._start = 0.0
        self._waited = 0.0
        self._done = False
        self._wait: float | None = None
        self._outcome: Any = None  # what the observer of the last failure returned

    def ended(self, number: int, error: BaseException | None) -> bool:
        """Decide what follows the run *number*; return whether *error* is kept from the caller."""
        policy = self._policy
        self._done, self._wait = True, None
        if error is None:
            if number > 1:
                policy.count("recovered")
            return False
        if not isinstance(error, policy.exceptions):
            return False
        decision = policy.config.decision(error)
        if decision is False:
            return False
        seconds = policy.next_delay(error, decision, number, self._start)
        if seconds is None:
            drop_coroutine(policy.failing(error, number), "on_failure")
            if policy.config.reraise:
                return False
            raise RetryError(error, number) from error
        self._outcome = policy.retrying(error, number, seconds, self._waited, (), {})
        self._done, self._wait = False, seconds
        self._waited += seconds
        return True

    def __iter__(self) -> Iterator[Attempt]:
        refuse_coroutine_function(self._policy.on_retry, "on_retry")
        self._begin()
        number = 0
        while not self._done:
            number += 1
            self._done = True  # unless the block runs and fails
            yield Attempt(self, number)
            if self._wait is not None:
                drop_coroutine(self._outcome, "on_retry")
                time.sleep(self._wait)

    async def __aiter__(self) -> AsyncIterator[Attempt]:
        self._begin()
        number = 0
        while not self._done:
            number += 1
            self._done = True
            yield Attempt(self, number)
            if self._wait is not None:
                if inspect.isawaitable(self._outcome):
                    await self._outcome
                await asyncio.sleep(self._wait)

    def _begin(self) -> None:
        self._start, self._waited, self._done, self._wait = time.monotonic(), 0.0, False, None


@final
class RetryingCaller:
    """Calls any function with retries: `RetryingCaller(max_attempts=5, on=OSError)(fetch, url)`.

    *max_attempts* and *options* are the arguments of `retry`. A coroutine function's call is to be
    awaited. Raises `ValidationError` at once for options that make no sense.
    """

    def __init__(self, max_attempts: int | None = None, **options: Any) -> None:
        if max_attempts is not None:
            options["max_attempts"] = max_attempts
        self._options = options
        settings_of(options)  # what makes no sense is refused here

    def on(self, errors: Any) -> RetryingCaller:
        """Return a caller with the same settings that retries *errors*: classes, or a predicate."""
        return RetryingCaller(**(self._options | {"on": errors}))

    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result of *function*; raises as `retry` does."""
        decorated: Any = retry(**self._options)(function)
        result: R = decorated(*args, **kwargs)
        return result
