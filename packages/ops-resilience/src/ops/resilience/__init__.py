"""Retry, circuit breaker, rate limits and HTTP for calls that may fail."""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.resilience.backoff import (
        BackoffStrategy,
        RetryConfig,
    )
    from ops.resilience.breaker import (
        CircuitBreaker,
        CircuitBreakerStats,
        CircuitState,
    )
    from ops.resilience.errors import (
        CircuitOpenError,
        DownloadError,
        HTTPError,
        HTTPStatusError,
        RateLimitTimeout,
        ResilienceError,
        ResilienceErrorCode,
        RetryError,
    )
    from ops.resilience.fallbacks import (
        fallback,
    )
    from ops.resilience.http import (
        AsyncHTTPClient,
        ConnectionPool,
        HTTPClient,
    )
    from ops.resilience.limits import (
        RateLimiter,
        Semaphore,
        SemaphoreStats,
        timeout,
    )
    from ops.resilience.ports import (
        check_connectivity,
        get_free_port,
        is_port_available,
        wait_for_port,
    )
    from ops.resilience.retrying import (
        RetryStats,
        async_retry,
        exponential_backoff,
        fibonacci_backoff,
        linear_backoff,
        retry,
        retry_on_exception,
        retry_with_timeout,
        testing,
        with_retry,
    )
    from ops.resilience.transfers import (
        download_with_progress,
        upload_with_retry,
    )

__all__ = [
    "AsyncHTTPClient",
    "BackoffStrategy",
    "CircuitBreaker",
    "CircuitBreakerStats",
    "CircuitOpenError",
    "CircuitState",
    "ConnectionPool",
    "DownloadError",
    "HTTPClient",
    "HTTPError",
    "HTTPStatusError",
    "RateLimitTimeout",
    "RateLimiter",
    "ResilienceError",
    "ResilienceErrorCode",
    "RetryConfig",
    "RetryError",
    "RetryStats",
    "Semaphore",
    "SemaphoreStats",
    "async_retry",
    "check_connectivity",
    "download_with_progress",
    "exponential_backoff",
    "fallback",
    "fibonacci_backoff",
    "get_free_port",
    "is_port_available",
    "linear_backoff",
    "retry",
    "retry_on_exception",
    "retry_with_timeout",
    "testing",
    "timeout",
    "upload_with_retry",
    "wait_for_port",
    "with_retry",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".backoff": (
            "BackoffStrategy",
            "RetryConfig",
        ),
        ".breaker": (
            "CircuitBreaker",
            "CircuitBreakerStats",
            "CircuitState",
        ),
        ".errors": (
            "CircuitOpenError",
            "DownloadError",
            "HTTPError",
            "HTTPStatusError",
            "RateLimitTimeout",
            "ResilienceError",
            "ResilienceErrorCode",
            "RetryError",
        ),
        ".fallbacks": ("fallback",),
        ".http": (
            "AsyncHTTPClient",
            "ConnectionPool",
            "HTTPClient",
        ),
        ".limits": (
            "RateLimiter",
            "Semaphore",
            "SemaphoreStats",
            "timeout",
        ),
        ".ports": (
            "check_connectivity",
            "get_free_port",
            "is_port_available",
            "wait_for_port",
        ),
        ".retrying": (
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
        ),
        ".transfers": (
            "download_with_progress",
            "upload_with_retry",
        ),
    },
)
