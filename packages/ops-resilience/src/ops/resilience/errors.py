"""The errors of ops.resilience.

OpsError
└── ResilienceError
    ├── RetryError                          every attempt failed; the last error is its cause
    ├── ResultRefusedError                  a result that the retry's `if_result` does not accept
    ├── CircuitOpenError  (ConnectionError) the breaker does not let calls through now
    ├── RateLimitTimeout  (TimeoutError)    no token, or no permit, within the time allowed
    └── HTTPError         (OSError)         the request got no usable reply
        ├── HTTPStatusError                 the reply's status is not 2xx
        ├── HTTPTimeoutError (TimeoutError) no reply within the time allowed
        └── DownloadError                   a download is incomplete or not what was expected
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from ops.foundation.errors import OpsError, text_of

__all__ = [
    "CircuitOpenError",
    "DownloadError",
    "HTTPError",
    "HTTPStatusError",
    "HTTPTimeoutError",
    "RateLimitTimeout",
    "ResilienceError",
    "ResilienceErrorCode",
    "ResultRefusedError",
    "RetryError",
]


class ResilienceErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    RESILIENCE_ERROR = "RESILIENCE_ERROR"
    RETRIES_EXHAUSTED = "RETRIES_EXHAUSTED"
    RESULT_REFUSED = "RESULT_REFUSED"
    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    RATE_LIMIT_TIMEOUT = "RATE_LIMIT_TIMEOUT"
    HTTP_ERROR = "HTTP_ERROR"
    HTTP_STATUS = "HTTP_STATUS"
    HTTP_TIMEOUT = "HTTP_TIMEOUT"
    DOWNLOAD_FAILED = "DOWNLOAD_FAILED"


class ResilienceError(OpsError):
    """The base of all errors of ops.resilience."""

    default_code: StrEnum = ResilienceErrorCode.RESILIENCE_ERROR


class RetryError(ResilienceError):
    """Every attempt failed; `last_exception` is also the cause, `attempts` their number."""

    default_code: StrEnum = ResilienceErrorCode.RETRIES_EXHAUSTED

    def __init__(self, last_exception: BaseException, attempts: int, **kwargs: Any) -> None:
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        shown = f"{type(last_exception).__name__}: {text_of(last_exception)}"
        super().__init__(f"Gave up after {times}; the last error was {shown}", **kwargs)
        self.last_exception = last_exception
        self.attempts = attempts
        self.__cause__: BaseException | None = last_exception


class ResultRefusedError(ResilienceError):
    """A call returned a `result` for which the retry's `if_result` is true."""

    default_code: StrEnum = ResilienceErrorCode.RESULT_REFUSED

    def __init__(self, result: Any = None, **kwargs: Any) -> None:
        super().__init__("The call returned a result that is retried.", **kwargs)
        self.result = result


class CircuitOpenError(ResilienceError, ConnectionError):
    """The circuit is open: the call was not made.

    *message* names the circuit; *retry_after* is the number of seconds until it lets a call
    through. Other keywords are those of `OpsError`.
    """

    default_code: StrEnum = ResilienceErrorCode.CIRCUIT_OPEN

    def __init__(self, message: str, *, retry_after: float = 0.0, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.retry_after = retry_after


class RateLimitTimeout(ResilienceError, TimeoutError):  # noqa: N818 - the field's name
    """There was no token, or no free permit, within the time that was allowed."""

    default_code: StrEnum = ResilienceErrorCode.RATE_LIMIT_TIMEOUT


class HTTPError(ResilienceError, OSError):
    """A request got no usable reply."""

    default_code: StrEnum = ResilienceErrorCode.HTTP_ERROR


class HTTPStatusError(HTTPError):
    """The reply's status is not 2xx.

    *status* is its number; *url* has no credentials; *body* is the start of the reply;
    *retry_after* is what the server asks to wait, in seconds (None: it does not). Other keywords
    are those of `OpsError`.
    """

    default_code: StrEnum = ResilienceErrorCode.HTTP_STATUS

    def __init__(
        self,
        status: int,
        url: str,
        body: str = "",
        *,
        retry_after: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(f"{url} answered {status}: {body}".rstrip(": "), **kwargs)
        self.status = status
        self.url = url
        self.body = body
        self.retry_after = retry_after


class HTTPTimeoutError(HTTPError, TimeoutError):
    """There was no whole reply within the time for a phase of the request, or for all of it."""

    default_code: StrEnum = ResilienceErrorCode.HTTP_TIMEOUT


class DownloadError(HTTPError):
    """A download ended early, changed on the way, or has another checksum than expected."""

    default_code: StrEnum = ResilienceErrorCode.DOWNLOAD_FAILED
