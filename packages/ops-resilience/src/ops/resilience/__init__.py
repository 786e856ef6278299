"""Retry, circuit breaker, rate limits and HTTP for calls that may fail."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.resilience.backoff import PROGRAMMING_ERRORS as PROGRAMMING_ERRORS
    from ops.resilience.backoff import BackoffStrategy as BackoffStrategy
    from ops.resilience.backoff import RetryConfig as RetryConfig
    from ops.resilience.breaker import BreakerEvent as BreakerEvent
    from ops.resilience.breaker import CircuitBreaker as CircuitBreaker
    from ops.resilience.breaker import CircuitBreakerStats as CircuitBreakerStats
    from ops.resilience.breaker import CircuitState as CircuitState
    from ops.resilience.bulkhead import Semaphore as Semaphore
    from ops.resilience.bulkhead import SemaphoreStats as SemaphoreStats
    from ops.resilience.errors import CircuitOpenError as CircuitOpenError
    from ops.resilience.errors import DownloadError as DownloadError
    from ops.resilience.errors import HTTPError as HTTPError
    from ops.resilience.errors import HTTPStatusError as HTTPStatusError
    from ops.resilience.errors import HTTPTimeoutError as HTTPTimeoutError
    from ops.resilience.errors import RateLimitTimeout as RateLimitTimeout
    from ops.resilience.errors import ResilienceError as ResilienceError
    from ops.resilience.errors import ResilienceErrorCode as ResilienceErrorCode
    from ops.resilience.errors import ResultRefusedError as ResultRefusedError
    from ops.resilience.errors import RetryError as RetryError
    from ops.resilience.fallbacks import fallback as fallback
    from ops.resilience.http import AsyncHTTPClient as AsyncHTTPClient
    from ops.resilience.http import ConnectionPool as ConnectionPool
    from ops.resilience.http import HTTPClient as HTTPClient
    from ops.resilience.instrumentation import RetryDetails as RetryDetails
    from ops.resilience.instrumentation import get_retry_hooks as get_retry_hooks
    from ops.resilience.instrumentation import log_retry as log_retry
    from ops.resilience.instrumentation import opentelemetry_retry_hook as opentelemetry_retry_hook
    from ops.resilience.instrumentation import prometheus_retry_hook as prometheus_retry_hook
    from ops.resilience.instrumentation import set_retry_hooks as set_retry_hooks
    from ops.resilience.instrumentation import structlog_retry_hook as structlog_retry_hook
    from ops.resilience.limits import RateLimiter as RateLimiter
    from ops.resilience.limits import SlidingWindowLimiter as SlidingWindowLimiter
    from ops.resilience.limits import timeout as timeout
    from ops.resilience.ports import check_connectivity as check_connectivity
    from ops.resilience.ports import get_free_port as get_free_port
    from ops.resilience.ports import is_port_available as is_port_available
    from ops.resilience.ports import wait_for_port as wait_for_port
    from ops.resilience.retry_blocks import RetryingCaller as RetryingCaller
    from ops.resilience.retry_blocks import retry_context as retry_context
    from ops.resilience.retrying import RetryStats as RetryStats
    from ops.resilience.retrying import async_retry as async_retry
    from ops.resilience.retrying import exponential_backoff as exponential_backoff
    from ops.resilience.retrying import fibonacci_backoff as fibonacci_backoff
    from ops.resilience.retrying import linear_backoff as linear_backoff
    from ops.resilience.retrying import retry as retry
    from ops.resilience.retrying import retry_on_exception as retry_on_exception
    from ops.resilience.retrying import retry_with_timeout as retry_with_timeout
    from ops.resilience.retrying import testing as testing
    from ops.resilience.retrying import with_retry as with_retry
    from ops.resilience.transfers import download_with_progress as download_with_progress
    from ops.resilience.uploads import upload_with_retry as upload_with_retry
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".backoff": "BackoffStrategy PROGRAMMING_ERRORS RetryConfig",
            ".breaker": "BreakerEvent CircuitBreaker CircuitBreakerStats CircuitState",
            ".bulkhead": "Semaphore SemaphoreStats",
            ".errors": (
                "CircuitOpenError DownloadError HTTPError HTTPStatusError HTTPTimeoutError "
                "RateLimitTimeout ResilienceError ResilienceErrorCode ResultRefusedError RetryError"
            ),
            ".fallbacks": "fallback",
            ".http": "AsyncHTTPClient ConnectionPool HTTPClient",
            ".instrumentation": (
                "RetryDetails get_retry_hooks log_retry opentelemetry_retry_hook "
                "prometheus_retry_hook set_retry_hooks structlog_retry_hook"
            ),
            ".limits": "RateLimiter SlidingWindowLimiter timeout",
            ".ports": "check_connectivity get_free_port is_port_available wait_for_port",
            ".retry_blocks": "RetryingCaller retry_context",
            ".retrying": (
                "RetryStats async_retry exponential_backoff fibonacci_backoff linear_backoff retry "
                "retry_on_exception retry_with_timeout testing with_retry"
            ),
            ".transfers": "download_with_progress",
            ".uploads": "upload_with_retry",
        },
    )
