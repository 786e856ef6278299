"""Try again: decorators, blocks and caller objects over one engine (`ops.resilience._retry_policy`).

Order matters beside `fallback`: `@fallback` over `@retry` tries again and then falls back; the other
way round the retry never sees an error, so decorating that way warns.
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from ops.foundation.callables import is_awaited
from ops.foundation.errors import ValidationError
from ops.resilience._retry_policy import Policy, RetryStats, TestMode
from ops.resilience.backoff import BackoffStrategy, RetryConfig
from ops.resilience.errors import ResultRefusedError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator

    from ops.resilience._retried import Retried
    from ops.resilience._retry_policy import Observer
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
_RENAMED = {"on": "exceptions", "backoff": "backoff_strategy"}
_OTHER_NAMES = {"exponential_base": "backoff_factor", "retryable_exceptions": "exceptions"}


@overload
def retry(max_attempts: Callable[P, R], /) -> Retried[P, R]: ...
@overload
def retry(
    max_attempts: int | None = None,
    *,
    on: Exceptions | Callable[[Exception], bool | float | dt.timedelta] | None = None,
    if_result: Callable[[Any], object] | None = None,
    give_up_on: Exceptions | None = None,
    backoff: BackoffStrategy | str = BackoffStrategy.EXPONENTIAL,
    initial_delay: float = 1.0,
    max_delay: float | None = None,
    backoff_factor: float | None = None,
    jitter: bool = True,
    jitter_range: tuple[float, float] = (0.5, 1.5),
    timeout: float | None = None,
    reraise: bool = False,
    wait_for_circuit: bool = False,
    on_retry: Observer | None = None,
    on_failure: Observer | None = None,
    config: RetryConfig | None = None,
    **names: Any,
) -> Callable[[Callable[P, R]], Retried[P, R]]: ...
def retry(max_attempts: Any = None, **options: Any) -> Any:
    """Call the decorated function (or coroutine function) again when it fails.

    Args:
        max_attempts: calls in total, the first included (default 3).
        options: settings of `RetryConfig`, by their names there or as
            *on*: the errors to retry: classes, or a predicate that returns True, or the delay in
            seconds. By default every Exception but `PROGRAMMING_ERRORS` (TypeError, NameError …);
            others are raised at once. *backoff*: a `BackoffStrategy`.
            *config*: a RetryConfig, of which the other options replace single settings.
            *on_retry*, *on_failure*: called with the error and the number of the attempt that
            raised it, before the wait and when no attempt is left; they may be coroutine functions
            if the decorated function is one.

    An error with a `retry_after` in seconds sets the delay itself, up to *max_delay*.
    A CircuitOpenError is raised at once unless *wait_for_circuit* is set.

    Raises RetryError, whose cause is the last error. `get_stats()` of the result counts.

    >>> attempts = iter([OSError(), "ready"])
    >>> @retry(max_attempts=2, initial_delay=0)
    ... def fetch():
    ...     if isinstance(outcome := next(attempts), Exception):
    ...         raise outcome
    ...     return outcome
    >>> fetch()
    'ready'
    """
    if callable(max_attempts):
        return retry()(max_attempts)
    if max_attempts is not None:
        options["max_attempts"] = max_attempts
    config, observers = settings_of(options)
    return lambda function: _decorate(function, config, observers)


def with_retry(
    config: RetryConfig | None = None,
    *,
    on_retry: Observer | None = None,
    on_failure: Observer | None = None,
) -> Callable[[Callable[P, R]], Retried[P, R]]:
    """Retry by *config* (default: `RetryConfig()`).

    *on_retry* and *on_failure* are called with the error and the number of the attempt, before each
    wait and when no attempt is left, as in `retry`. Raises `RetryError`, whose cause is the last
    error.

    >>> attempts = iter([OSError(), "ready"])
    >>> @with_retry(RetryConfig(max_attempts=2, initial_delay=0))
    ... def fetch():
    ...     if isinstance(outcome := next(attempts), Exception):
    ...         raise outcome
    ...     return outcome
    >>> fetch()
    'ready'
    """
    given: Any = config
    if callable(given):  # a bare decorator
        return cast("Callable[[Callable[P, R]], Retried[P, R]]", retry(given))
    return retry(config=config or RetryConfig(), on_retry=on_retry, on_failure=on_failure)


def exponential_backoff(
    initial: float = 1.0, maximum: float | None = None, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Retried[P, R]]:
    """Retry with delays that double, from *initial* up to *maximum* seconds (default 60).

    *max_attempts* counts the first call too. *options* are those of `retry`.

    >>> @exponential_backoff(initial=0.5, max_attempts=4)
    ... def fetch():
    ...     return "ready"
    >>> fetch()
    'ready'
    """
    return _spelled(BackoffStrategy.EXPONENTIAL, initial, maximum, max_attempts, options)


def linear_backoff(
    initial: float = 1.0, maximum: float | None = None, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Retried[P, R]]:
    """Retry with delays that grow by *initial* each time, up to *maximum* seconds (default 60).

    *max_attempts* counts the first call too. *options* are those of `retry`.
    """
    return _spelled(BackoffStrategy.LINEAR, initial, maximum, max_attempts, options)


def fibonacci_backoff(
    initial: float = 1.0, maximum: float | None = None, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Retried[P, R]]:
    """Retry with delays of *initial* times 1, 1, 2, 3, 5, … up to *maximum* seconds (default 60).

    *max_attempts* counts the first call too. *options* are those of `retry`.
    """
    return _spelled(BackoffStrategy.FIBONACCI, initial, maximum, max_attempts, options)


def retry_on_exception(
    exceptions: Exceptions, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Retried[P, R]]:
    """Retry on *exceptions* only, a class or several.

    *max_attempts* counts the first call too. *options* are those of `retry`.
    """
    return retry(max_attempts, on=exceptions, **options)


def retry_with_timeout(
    timeout: float, max_attempts: int = 3, **options: Any
) -> Callable[[Callable[P, R]], Retried[P, R]]:
    """Retry as long as the next attempt can start within *timeout* seconds of the first.

    *max_attempts* counts the first call too. *options* are those of `retry`.
    """
    return retry(max_attempts, timeout=timeout, **options)


@overload
def async_retry(max_attempts: Callable[P, R], /) -> Retried[P, R]: ...
@overload
def async_retry(
    max_attempts: int | None = None, **options: Any
) -> Callable[[Callable[P, R]], Retried[P, R]]: ...
def async_retry(max_attempts: Any = None, **options: Any) -> Any:
    """Retry a coroutine function; `retry` does the same, this one insists on a coroutine function.

    *max_attempts* and *options* are those of `retry`. Raises `ValidationError` for another
    function.
    """
    if callable(max_attempts):
        return async_retry()(max_attempts)

    def decorate(function: Callable[P, R]) -> Retried[P, R]:
        if not is_awaited(function):
            raise ValidationError(f"{function!r} is no coroutine function; use retry.")
        decorator: Any = retry(max_attempts, **options)
        return cast("Retried[P, R]", decorator(function))

    return decorate


@contextlib.contextmanager
def testing(attempts: int = 2) -> Iterator[None]:  # noqa: PT028 - no test, a tool for tests
    """Within the block nothing sleeps between attempts, and there are at most *attempts*."""
    before, TestMode.cap = TestMode.cap, attempts
    try:
        yield
    finally:
        TestMode.cap = before


testing.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it by its name


def settings_of(options: dict[str, Any]) -> tuple[RetryConfig, dict[str, Observer | None]]:
    """Return the configuration that *options* describe, and the observers among them."""
    given = dict(options)
    observers = {name: given.pop(name, None) for name in ("on_retry", "on_failure")}
    config = given.pop("config", None)
    for name, own in _RENAMED.items():
        if name in given:
            if given.get(own) is not None:
                raise ValidationError(f"{name} and {own} are two names of one setting; give one.")
            given[own] = given.pop(name)
    kinds = given.get("exceptions")
    if kinds is not None and not isinstance(kinds, type | tuple) and callable(kinds):
        given["retry_if"], given["exceptions"] = kinds, Exception
    if config is None:
        return RetryConfig(**given), observers
    if not isinstance(config, RetryConfig):
        raise ValidationError(f"config must be a RetryConfig, not {config!r}.")
    for name, own in _OTHER_NAMES.items():  # what they replace is in *config* by its own name
        if name in given:
            given.setdefault(own, given[name])
            if given.pop(name) != given[own]:
                raise ValidationError(f"{name} and {own} are two names of one setting; give one.")
    return (replace(config, **given) if given else config), observers


def _spelled(
    strategy: BackoffStrategy,
    initial: Any,
    maximum: float | None,
    attempts: int,
    options: dict[str, Any],
) -> Callable[[Callable[P, R]], Retried[P, R]]:
    decorator: Any
    if callable(initial):  # a bare decorator
        decorator = _spelled(strategy, 1.0, maximum, attempts, options)
        return cast("Callable[[Callable[P, R]], Retried[P, R]]", decorator(initial))
    decorator = retry(
        attempts, backoff=strategy, initial_delay=initial, max_delay=maximum, **options
    )
    return cast("Callable[[Callable[P, R]], Retried[P, R]]", decorator)


def _decorate(
    function: Callable[P, R], config: RetryConfig, observers: dict[str, Observer | None]
) -> Retried[P, R]:
    if getattr(function, "__ops_fallback__", False):
        warnings.warn(
            f"retry over fallback never retries {getattr(function, '__name__', function)!r}: "
            "the fallback hides every error. Put @fallback above @retry.",
            stacklevel=3,
        )
    awaited = is_awaited(function)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    policy = Policy(config, **observers, name=name, awaited=awaited)
    wrapper = (_wrap_async if awaited else _wrap_sync)(function, policy)
    wrapper.get_stats = policy.stats  # type: ignore[attr-defined]
    return cast("Retried[P, R]", wrapper)


def _wrap_sync(function: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    exceptions, decide = policy.exceptions, policy.config.decision

    if policy.config.timeout is None and policy.config.if_result is None:
        # The usual case: nothing is measured and no result looked at.
        @functools.wraps(function)
        def retried(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except exceptions as error:
                decision = decide(error)
                if decision is False:
                    raise
                failed = error
            try:
                return policy.resume(function, args, kwargs, failed, decision, 0.0)
            finally:
                del failed  # its traceback holds this frame

        return retried

    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        start = time.monotonic()
        decision: bool | float = True
        try:
            result = function(*args, **kwargs)
        except exceptions as error:
            decision = decide(error)
            if decision is False:
                raise
            failed: Exception = error
        else:
            if not policy.is_refused(result):
                return result
            failed = ResultRefusedError(result)
        try:
            return policy.resume(function, args, kwargs, failed, decision, start)
        finally:
            del failed  # its traceback holds this frame

    return watched


def _wrap_async(function: Callable[..., Any], policy: Policy) -> Callable[..., Any]:
    exceptions, decide = policy.exceptions, policy.config.decision

    @functools.wraps(function)
    async def retried(*args: Any, **kwargs: Any) -> Any:
        start = time.monotonic()
        decision: bool | float = True
        try:
            result = await function(*args, **kwargs)
        except exceptions as error:
            decision = decide(error)
            if decision is False:
                raise
            failed: Exception = error
        else:
            if not policy.is_refused(result):
                return result
            failed = ResultRefusedError(result)
        try:
            return await policy.resume_async(function, args, kwargs, failed, decision, start)
        finally:
            del failed  # its traceback holds this frame

    return retried
