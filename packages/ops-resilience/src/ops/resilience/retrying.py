"""Try again: one engine behind every spelling.

The first attempt runs inline, so a call that succeeds costs a `try` and nothing else. Only when it
fails does tenacity take over: it is handed the captured error as attempt number one and does the
waiting. A fresh `tenacity.Retrying` state is made for each call; the decorator `tenacity.retry`
shares one statistics dict between threads (its issue 701) and is not used.

Order matters beside `fallback`: `@fallback` over `@retry` tries again and then falls back; the other
way round the retry never sees an error, so decorating that way warns.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

import tenacity

from ops.foundation.errors import ValidationError
from ops.resilience.backoff import BackoffStrategy, RetryConfig
from ops.resilience.calls import is_awaited
from ops.resilience.errors import RetryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.resilience._retried import Retried
    from ops.resilience.backoff import Exceptions

__all__ = [
    "RetryStats",
    "async_retry",
    "exponential_backoff",
    "fibonacci_backoff",
    "linear_backoff",
    "retry",
    "retry_on_exception",
    "retry_with_timeout",
    "testing",
    "with_retry",
]

P = ParamSpec("P")
R = TypeVar("R")
Observer = Callable[[Exception, int], object]

#: Set by `testing()`: the cap on attempts while nothing sleeps.
_testing_cap: int | None = None


@dataclass(slots=True)
class RetryStats:
    """What happened after first attempts had failed; successful first attempts are not counted."""

    retries: int = 0
    recovered: int = 0
    exhausted: int = 0


@overload
def retry(max_attempts: Callable[P, R], /) -> Retried[P, R]: ...
@overload
def retry(
    max_attempts: int = 3,
    *,
    on: Exceptions = Exception,
    backoff: BackoffStrategy = BackoffStrategy.EXPONENTIAL,
    initial_delay: float = 1.0,
    max_delay: float = 60.0,
    jitter: bool = True,
    timeout: float | None = None,
    on_retry: Observer | None = None,
    on_failure: Observer | None = None,
    config: RetryConfig | None = None,
) -> Callable[[Callable[P, R]], Retried[P, R]]: ...
def retry(max_attempts: Any = 3, **options: Any) -> Any:
    """Call the decorated function (or coroutine function) again when it fails.

    *on* says which errors count; others pass through at once. *on_retry* and *on_failure* get the
    error and the number of the attempt that raised it. *config* replaces all other settings.
    An error with a `retry_after` in seconds sets the wait itself, up to *max_delay*.

    Raises RetryError, whose cause is the last error. `get_stats()` of the result counts.
    """
    if callable(max_attempts):
        return retry()(max_attempts)
    on_retry, on_failure = options.pop("on_retry", None), options.pop("on_failure", None)
    config = options.pop("config", None)
    if config is None:
        names = {"on": "exceptions", "backoff": "backoff_strategy"}
        settings = {names.get(name, name): value for name, value in options.items()}
        config = RetryConfig(max_attempts=max_attempts, **settings)
    return lambda function: _decorate(function, _Policy(config, on_retry, on_failure))


def with_retry(
    config: RetryConfig | None = None,
    *,
    on_retry: Observer | None = None,
    on_failure: Observer | None = None,
) -> Callable[[Callable[P, R]], Retried[P, R]]:
    """Retry as *config* says."""
    return retry(config=config or RetryConfig(), on_retry=on_retry, on_failure=on_failure)


def exponential_backoff(
    initial: float = 1.0, maximum: float = 60.0, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Retry with delays that double, from *initial* up to *maximum* seconds."""
    return _spelled(BackoffStrategy.EXPONENTIAL, initial, maximum, max_attempts, options)


def linear_backoff(
    initial: float = 1.0, maximum: float = 60.0, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Retry with delays that grow by *initial* each time, up to *maximum* seconds."""
    return _spelled(BackoffStrategy.LINEAR, initial, maximum, max_attempts, options)


def fibonacci_backoff(
    initial: float = 1.0, maximum: float = 60.0, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Retry with delays of *initial* times 1, 1, 2, 3, 5, … up to *maximum* seconds."""
    return _spelled(BackoffStrategy.FIBONACCI, initial, maximum, max_attempts, options)


def retry_on_exception(
    exceptions: Exceptions, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Retry on these errors only."""
    return retry(max_attempts, on=exceptions, **options)


def retry_with_timeout(
    timeout: float, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Retry as long as the next attempt can start within *timeout* seconds of the first."""
    return retry(max_attempts, timeout=timeout, **options)


@overload
def async_retry(max_attempts: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def async_retry(
    max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def async_retry(max_attempts: Any = 3, **options: Any) -> Any:
    """Retry a coroutine function; `retry` does the same, this one insists on a coroutine function."""
    if callable(max_attempts):
        return async_retry()(max_attempts)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if not is_awaited(function):
            raise ValidationError(f"{function!r} is no coroutine function; use retry.")
        decorator: Any = retry(max_attempts, **options)
        return cast("Callable[P, R]", decorator(function))

    return decorate


@contextlib.contextmanager
def testing(attempts: int = 2) -> Iterator[None]:  # noqa: PT028 - no test, a tool for tests
    """Within the block nobody sleeps between attempts, and there are at most *attempts*."""
    global _testing_cap  # noqa: PLW0603 - one switch for the process, as in stamina
    before, _testing_cap = _testing_cap, attempts
    try:
        yield
    finally:
        _testing_cap = before


testing.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it by its name


def _spelled(
    strategy: BackoffStrategy,
    initial: float,
    maximum: float,
    attempts: int,
    options: dict[str, Any],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    decorator: Any = retry(
        attempts, backoff=strategy, initial_delay=initial, max_delay=maximum, **options
    )
    return cast("Callable[[Callable[P, R]], Callable[P, R]]", decorator)


class _Call:
    """One call whose first attempt has failed; tenacity gets that error as its attempt one."""

    __slots__ = ("args", "error", "function", "kwargs", "spent")

    def __init__(
        self, function: Any, args: Any, kwargs: Any, error: Exception, spent: float
    ) -> None:
        self.function: Any = function
        self.args, self.kwargs = args, kwargs
        self.error: Exception | None = error
        self.spent = spent

    def replay(self) -> None:
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame: a cycle would keep the call's data alive

    def release(self) -> None:
        """Let go of what the caller passed: tenacity's objects refer to each other and to this."""
        self.function, self.args, self.kwargs = None, (), {}

    def sync(self) -> Any:
        self.replay()
        return self.function(*self.args, **self.kwargs)

    async def awaited(self) -> Any:
        self.replay()
        return await self.function(*self.args, **self.kwargs)


class _Policy:
    """A RetryConfig with observers, in the terms of tenacity."""

    def __init__(
        self, config: RetryConfig, on_retry: Observer | None, on_failure: Observer | None
    ) -> None:
        self.config, self.on_retry, self.on_failure = config, on_retry, on_failure
        self.exceptions = config.retryable_exceptions
        self.stats = RetryStats()
        self._lock = threading.Lock()

    def options(self, call: _Call) -> dict[str, Any]:
        """Return the arguments of a `tenacity.Retrying` that continues *call*."""
        return {
            "stop": functools.partial(self._stop, call),
            "wait": self._wait,
            "retry": tenacity.retry_if_exception_type(self.exceptions),
            "before_sleep": self._before_sleep,
            "retry_error_callback": self._give_up,
        }

    def count(self, name: str) -> None:
        with self._lock:
            setattr(self.stats, name, getattr(self.stats, name) + 1)

    def _stop(self, call: _Call, state: tenacity.RetryCallState) -> bool:
        attempts = self.config.max_attempts
        if _testing_cap is not None:
            return state.attempt_number >= min(attempts, _testing_cap)
        limit = self.config.timeout
        if limit is not None:
            since_start = call.spent + (state.seconds_since_start or 0.0)
            if since_start + state.upcoming_sleep >= limit:
                return True
        return state.attempt_number >= attempts

    def _wait(self, state: tenacity.RetryCallState) -> float:
        if _testing_cap is not None:
            return 0.0
        asked = getattr(_error(state), "retry_after", None)
        # Anybody's attribute of that name: only a number of seconds is followed.
        if isinstance(asked, int | float) and 0 < asked < math.inf:
            return min(float(asked), self.config.max_delay)
        return self.config.delay(state.attempt_number)

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        self.count("retries")
        if self.on_retry is not None:
            self.on_retry(_error(state), state.attempt_number)

    def _give_up(self, state: tenacity.RetryCallState) -> None:
        error = _error(state)
        self.count("exhausted")
        if self.on_failure is not None:
            self.on_failure(error, state.attempt_number)
        if self.config.reraise:
            raise error
        raise RetryError(error, state.attempt_number) from error


def _error(state: tenacity.RetryCallState) -> Exception:
    return cast("Exception", cast("tenacity.Future", state.outcome).exception())


def _decorate(function: Callable[P, R], policy: _Policy) -> Callable[P, R]:
    if getattr(function, "__ops_fallback__", False):
        warnings.warn(
            f"retry over fallback never retries {getattr(function, '__name__', function)!r}: "
            "the fallback hides every error. Put @fallback above @retry.",
            stacklevel=4,
        )
    wrapper = (_wrap_async if is_awaited(function) else _wrap_sync)(function, policy)
    wrapper.get_stats = lambda: replace(policy.stats)  # type: ignore[attr-defined]
    return cast("Callable[P, R]", wrapper)


def _wrap_sync(function: Callable[..., Any], policy: _Policy) -> Callable[..., Any]:
    exceptions = policy.exceptions

    def resume(error: Exception, args: Any, kwargs: Any, spent: float) -> Any:
        call = _Call(function, args, kwargs, error, spent)
        del error  # as in `replay`
        try:
            result = tenacity.Retrying(**policy.options(call))(call.sync)
        finally:
            call.release()
        policy.count("recovered")
        return result

    if policy.config.timeout is None:

        @functools.wraps(function)
        def retried(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except exceptions as error:
                failed = error
            try:
                return resume(failed, args, kwargs, 0.0)
            finally:
                del failed  # as in `replay`

        return retried

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.monotonic()
        try:
            return function(*args, **kwargs)
        except exceptions as error:
            failed = error
        try:
            return resume(failed, args, kwargs, time.monotonic() - start)
        finally:
            del failed  # as in `replay`

    return timed


def _wrap_async(function: Callable[..., Any], policy: _Policy) -> Callable[..., Any]:
    exceptions = policy.exceptions

    @functools.wraps(function)
    async def retried(*args: Any, **kwargs: Any) -> Any:
        start = time.monotonic()
        try:
            return await function(*args, **kwargs)
        except exceptions as error:
            failed = error
        call = _Call(function, args, kwargs, failed, time.monotonic() - start)
        del failed  # as in `replay`
        try:
            result: Any = await tenacity.AsyncRetrying(**policy.options(call))(call.awaited)
        finally:
            call.release()
        policy.count("recovered")
        return result

    return retried
