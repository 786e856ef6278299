"""What both HTTP clients share: which replies may be retried, how errors read, what is hidden.

Third-party errors are translated here and nowhere else: httpx's transport errors and statuses that are
not 2xx become `HTTPError`, `HTTPTimeoutError` and `HTTPStatusError`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ops.foundation.errors import ValidationError
from ops.foundation.helpers import LazyImport
from ops.resilience.backoff import RetryConfig
from ops.resilience.errors import (
    CircuitOpenError,
    HTTPError,
    HTTPStatusError,
    HTTPTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

_httpx: Any = LazyImport("httpx", extra="ops-resilience[http]")
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_SECRET = re.compile(r"(?i)(token|secret|key|pass|pwd|sig|auth|credential|code|session|jwt)")
_BODY_SHOWN = 300


class RetriedError(Exception):
    """Carries an HTTPError whose request may be made again; never leaves the client."""

    def __init__(self, error: HTTPError) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after: Any | None = getattr(error, "retry_after", None)


def retry_config(retries: int | RetryConfig) -> RetryConfig:
    """Return *retries* as a RetryConfig for RetriedError, of which it sees the error that is carried.

    Raises ValidationError for what is neither a RetryConfig nor a number of repetitions.
    """
    given: Any = retries
    if isinstance(given, RetryConfig):
        config = given
    elif isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValidationError(
            f"retries is a number of repetitions or a RetryConfig, not {given!r}."
        )
    else:
        config = RetryConfig(max_attempts=given + 1, initial_delay=0.5, max_delay=30.0)
    if config.if_result is not None:
        raise ValidationError("if_result has no effect here; put `retry` around the call for it.")

    def decision(error: Exception) -> bool | float:
        return config.decision(error.error if isinstance(error, RetriedError) else error)

    return replace(
        config,
        exceptions=(RetriedError, CircuitOpenError) if config.wait_for_circuit else RetriedError,
        retry_if=decision,
        give_up_on=(),
        reraise=True,
    )


def checked_seconds(name: str, value: Any) -> Any:
    """Return *value*, a number of seconds or what httpx takes for a timeout.

    Raises ValidationError naming *name* for what would fail, or mean nothing, at the first request.
    """
    if isinstance(value, bool | str | bytes | dt.timedelta) or (
        isinstance(value, int | float) and not value >= 0
    ):
        raise ValidationError(f"{name} is a number of seconds, not {value!r}.")
    return value


def may_repeat(method: str, options: Mapping[str, Any], wanted: bool | None) -> bool:  # noqa: FBT001
    """Return whether sending the request twice is harmless, or the caller wants it.

    A body that can be read once is never sent twice: there would be nothing left to send.
    """
    if any(isinstance(options.get(name), Iterator | AsyncIterator) for name in ("content", "data")):
        return False
    if wanted is not None:
        return wanted
    return "Idempotency-Key" in _httpx.Headers(options.get("headers")) or (
        method.upper() in _IDEMPOTENT
    )


def is_failure(response: httpx.Response) -> bool:
    """Return whether the service failed, or wants fewer calls: what a breaker should count."""
    return response.status_code >= 500 or response.status_code == 429


def checked(response: httpx.Response) -> httpx.Response:
    """Return *response* if its status is 2xx; raises HTTPStatusError."""
    if response.is_success:
        return response
    raise status_error(response, response.text)


def status_error(response: httpx.Response, body: str) -> HTTPStatusError:
    """Return the error that a status is, with the start of the *body*."""
    return HTTPStatusError(
        response.status_code,
        redacted(str(response.request.url)),
        body[:_BODY_SHOWN],
        retry_after=retry_after(response.headers.get("Retry-After")),
    )


@contextlib.contextmanager
def translating(method: str, url: str) -> Iterator[None]:
    """Raise an error of httpx as ours, whose cause it is."""
    try:
        yield
    except (_httpx.HTTPError, _httpx.InvalidURL) as error:
        message = f"{method} {redacted(url)} failed: {type(error).__name__}: {error}"
        late = isinstance(error, _httpx.TimeoutException)
        raise (HTTPTimeoutError if late else HTTPError)(message) from error
    except HTTPTimeoutError as error:  # of a total deadline, which does not know the request
        raise HTTPTimeoutError(f"{method} {redacted(url)} failed: {error.message}") from error


@contextlib.contextmanager
def offering(*, repeatable: bool) -> Iterator[None]:
    """Raise an HTTPError in a RetriedError, if its request may be made again."""
    try:
        yield
    except HTTPError as error:
        if not _may_pass(error, repeatable=repeatable):
            raise
        raise RetriedError(error) from error.__cause__


@contextlib.contextmanager
def giving_up() -> Iterator[None]:
    """Raise, where no attempt is left, what a RetriedError carries."""
    try:
        yield
    except RetriedError as exhausted:
        raise exhausted.error from exhausted.error.__cause__


def _may_pass(error: HTTPError, *, repeatable: bool) -> bool:
    if isinstance(error, HTTPStatusError):
        return repeatable and error.status in _RETRIED_STATUSES
    cause = error.__cause__
    # A connection that was never made cannot have done anything, whatever the method.
    unmade = isinstance(cause, (_httpx.ConnectError, _httpx.ConnectTimeout, _httpx.PoolTimeout))
    # Our own mistakes stay mistakes.
    ours = isinstance(cause, (_httpx.UnsupportedProtocol, _httpx.LocalProtocolError))
    return isinstance(cause, _httpx.TransportError) and not ours and (repeatable or unmade)


def content(response: httpx.Response) -> Any:
    """Return parsed JSON, text, or bytes, by the reply's Content-Type; None when it is empty."""
    if not response.content:
        return None
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return response.json()
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or too deep
            where = redacted(str(response.request.url))
            raise HTTPError(f"{where} declares JSON and sends something else: {error}") from error
    return response.text if kind.startswith("text/") else response.content


def retry_after(value: str | None, now: dt.datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header in either form (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,15}", value.strip()):
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - (now or dt.datetime.now(dt.UTC))).total_seconds())


def redacted(url: str) -> str:
    """Return *url* without credentials, and without values of query fields that look secret."""
    try:
        parts = urlsplit(url)
    except ValueError:  # in a message about it, its parts are unknown
        return "(no valid URL)"
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(
        f"{name}=***" if equals and _SECRET.search(name) else f"{name}{equals}{value}"
        for name, equals, value in (field.partition("=") for field in parts.query.split("&"))
    )
    return urlunsplit((parts.scheme, host, parts.path, query, ""))
