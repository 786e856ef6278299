"""Who is notified of retries: hooks for the whole process, and one log line per retry by default.

A hook gets a `RetryDetails` before each wait. It runs in the thread or task that retries, so it should
be quick; what it raises is logged and changes nothing.

>>> from ops.resilience import get_retry_hooks, log_retry, set_retry_hooks
>>> set_retry_hooks([log_retry])  # None restores the default, which is this
>>> get_retry_hooks() == (log_retry,)
True
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation import tracing
from ops.foundation.callables import drop_coroutine, refuse_coroutine_function
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "RetryDetails",
    "get_retry_hooks",
    "log_retry",
    "opentelemetry_retry_hook",
    "prometheus_retry_hook",
    "set_retry_hooks",
    "structlog_retry_hook",
]

_logger = get_logger("ops.resilience")


@dataclass(frozen=True, slots=True)
class RetryDetails:
    """A call that failed and will be made again; times in seconds.

    *attempt* is the number of the attempt that failed, from 1; *wait_for* the delay that follows,
    *waited_so_far* the sum of those before. *args* and *kwargs* are the caller's: do not change them.

    *name* is that of the function, *caused_by* the error.
    """

    name: str
    attempt: int
    wait_for: float
    waited_so_far: float
    caused_by: Exception
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: dict[str, Any] = field(default_factory=dict, repr=False)


RetryHook: TypeAlias = Callable[[RetryDetails], object]


def log_retry(details: RetryDetails) -> None:
    """Log a retry to "ops.resilience" as a warning; the error by its type, as its text may hold a secret."""
    _logger.warning(
        "attempt %d of %s failed with %s; the next one is in %.3g s",
        details.attempt,
        details.name,
        type(details.caused_by).__name__,
        details.wait_for,
    )


def structlog_retry_hook(logger: Any) -> RetryHook:
    """Return a hook for a structlog *logger*: event "retry_scheduled" with the details as fields."""

    def log(details: RetryDetails) -> None:
        logger.warning(
            "retry_scheduled",
            name=details.name,
            attempt=details.attempt,
            wait_for=details.wait_for,
            waited_so_far=details.waited_so_far,
            caused_by=type(details.caused_by).__name__,
        )

    return log


def prometheus_retry_hook(counter: Any) -> RetryHook:
    """Return a hook that counts in a prometheus-client *counter* with the labels callable and error_type.

    For example `Counter("retries", "Retries.", ["callable", "error_type"])`.
    """

    def count(details: RetryDetails) -> None:
        error_type = type(details.caused_by).__name__
        counter.labels(callable=details.name, error_type=error_type).inc()

    return count


def opentelemetry_retry_hook(meter: Any) -> RetryHook:
    """Return a hook that counts `ops.retries` on an OpenTelemetry *meter*.

    Spans need no hook: they are made once the program has set a tracer provider.
    """
    counter = meter.create_counter("ops.retries", "1", "Retries that were scheduled.")

    def count(details: RetryDetails) -> None:
        counter.add(
            1,
            {
                "callable": details.name,
                "attempt": details.attempt,
                "error.type": type(details.caused_by).__name__,
            },
        )

    return count


_DEFAULT: tuple[RetryHook, ...] = (log_retry,)
_hooks: tuple[RetryHook, ...] = _DEFAULT


def set_retry_hooks(hooks: Iterable[RetryHook] | None) -> None:
    """Notify *hooks* of every retry in this process; none if empty, the default log line if None.

    Raises ValidationError for coroutine functions, which nothing would await.
    """
    global _hooks  # noqa: PLW0603 - one list for the process, replaced as a whole
    chosen = _DEFAULT if hooks is None else tuple(hooks)
    for hook in chosen:
        refuse_coroutine_function(hook, "hook")
    _hooks = chosen


def get_retry_hooks() -> tuple[RetryHook, ...]:
    """Return the hooks that are notified now."""
    return _hooks


def notify(
    name: str,
    attempt: int,
    wait_for: float,
    waited_so_far: float,
    caused_by: Exception,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Call the hooks, and note the retry in the current span."""
    if _hooks:
        details = RetryDetails(name, attempt, wait_for, waited_so_far, caused_by, args, kwargs)
        for hook in _hooks:
            try:
                drop_coroutine(hook(details), "a retry hook")
            except Exception as error:  # noqa: BLE001 - a hook must not change what the call does
                _logger.error("a retry hook failed with %s", type(error).__name__)  # noqa: TRY400
    if tracing.is_traced():
        tracing.add_event(
            "retry",
            {
                "attempt": attempt,
                "wait_seconds": wait_for,
                "error.type": type(caused_by).__qualname__,
            },
        )
