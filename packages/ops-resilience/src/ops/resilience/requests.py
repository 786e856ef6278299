"""What both HTTP clients share: which replies may be retried, how errors tell, what is hidden.

Foreign errors are translated here and nowhere else: httpx's transport errors and statuses that are
not 2xx become `HTTPError` and `HTTPStatusError`.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ops.resilience.backoff import RetryConfig
from ops.resilience.errors import HTTPError, HTTPStatusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_SECRET = re.compile(r"(?i)(token|secret|key|password|signature|sig|auth|credential|code)")
_BODY_SHOWN = 300


class RetriedError(Exception):
    """Carries an HTTPError whose request may be made again; never leaves the client."""

    def __init__(self, error: HTTPError) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = getattr(error, "retry_after", None)


def retry_config(retries: int | RetryConfig) -> RetryConfig:
    """Return *retries* as a RetryConfig for RetriedError alone."""
    config = (
        retries
        if isinstance(retries, RetryConfig)
        else RetryConfig(max_attempts=retries + 1, initial_delay=0.5, max_delay=30.0)
    )
    return replace(config, exceptions=RetriedError, reraise=True)


def may_repeat(method: str, headers: Mapping[str, str] | None, asked: bool | None) -> bool:  # noqa: FBT001
    """Tell whether sending the request twice is harmless, or the caller says so."""
    if asked is not None:
        return asked
    keyed = any(name.lower() == "idempotency-key" for name in headers or {})
    return keyed or method.upper() in _IDEMPOTENT


def checked(response: httpx.Response, *, repeatable: bool) -> httpx.Response:
    """Return *response* if its status is 2xx; raises HTTPStatusError, or RetriedError around it."""
    if response.is_success:
        return response
    error = HTTPStatusError(
        response.status_code,
        redacted(str(response.request.url)),
        response.text[:_BODY_SHOWN],
        retry_after=retry_after(response.headers.get("Retry-After")),
    )
    if repeatable and response.status_code in _RETRIED_STATUSES:
        raise RetriedError(error)
    raise error


def translated(error: httpx.HTTPError, method: str, url: str, *, repeatable: bool) -> Exception:
    """Return what to raise for a transport error of httpx."""
    import httpx

    own = HTTPError(f"{method} {redacted(url)} failed: {type(error).__name__}: {error}")
    own.__cause__ = error
    # A connection that was never made cannot have done anything, whatever the method.
    never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    retriable = isinstance(error, httpx.TransportError) and (repeatable or never_sent)
    return RetriedError(own) if retriable else own


def content(response: httpx.Response) -> Any:
    """Return parsed JSON, text, or bytes, by the reply's Content-Type; None when it is empty."""
    if not response.content:
        return None
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return response.json()
        except json.JSONDecodeError as error:
            where = redacted(str(response.request.url))
            raise HTTPError(f"{where} says JSON and sends something else: {error}") from error
    return response.text if kind.startswith("text/") else response.content


def retry_after(value: str | None, now: dt.datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header in either form (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return max(0.0, (moment - (now or dt.datetime.now(dt.UTC))).total_seconds())


def redacted(url: str) -> str:
    """Return *url* without credentials, and without values of query fields that look secret."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(
        f"{name}=***" if equals and _SECRET.search(name) else f"{name}{equals}{value}"
        for name, equals, value in (field.partition("=") for field in parts.query.split("&"))
    )
    return urlunsplit((parts.scheme, host, parts.path, query, ""))
