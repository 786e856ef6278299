"""HTTP clients for calls that may fail (extra `http`, httpx).

One pooled client, built when it is first needed (building one costs tens of milliseconds). Requests
that may be repeated are, on connection errors and 429, 502, 503 and 504, as long as the reply's
Retry-After says. `get`, `post`, … return the parsed content; `request` the whole response.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.errors import ValidationError
from ops.foundation.helpers import LazyImport
from ops.resilience import requests
from ops.resilience.retrying import with_retry

if TYPE_CHECKING:
    import httpx

    from ops.resilience.backoff import RetryConfig
    from ops.resilience.breaker import CircuitBreaker
    from ops.resilience.limits import RateLimiter

__all__ = ["AsyncHTTPClient", "ConnectionPool", "HTTPClient"]

_httpx: Any = LazyImport("httpx", extra="ops-resilience[http]")
Headers = Mapping[str, str]
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class ConnectionPool:
    """Connections that several clients share: `HTTPClient(url, client=pool.client)`.

    *max_connections* bounds all, *max_idle* those that are kept for the next request, *idle_seconds*
    for how long. Nothing is opened before the first request; `close`, or `with`, ends all.
    """

    def __init__(
        self,
        max_connections: int = 100,
        *,
        max_idle: int = 20,
        idle_seconds: float = 5.0,
        timeout: float = 30.0,
    ) -> None:
        if max_connections < 1 or not 0 <= max_idle <= max_connections:
            raise ValidationError(
                "A pool needs max_connections >= 1 and 0 <= max_idle <= max_connections, not "
                f"{max_connections} and {max_idle}."
            )
        self._limits = {
            "max_connections": max_connections,
            "max_keepalive_connections": max_idle,
            "keepalive_expiry": idle_seconds,
        }
        self._timeout = timeout
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def client(self) -> httpx.Client:
        """The httpx client that owns the connections."""
        with self._lock:
            if self._client is None:
                limits = _httpx.Limits(**self._limits)
                self._client = _httpx.Client(
                    limits=limits, timeout=self._timeout, follow_redirects=True
                )
            client: httpx.Client = self._client
            return client

    def close(self) -> None:
        """Close all connections; the next use of `client` opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Settings:
    """What both clients are made of."""

    def __init__(
        self,
        base_url: str = "",
        *,
        timeout: float = 30.0,
        retries: int | RetryConfig = 3,
        headers: Headers | None = None,
        auth: Any = None,
        rate_limiter: RateLimiter | None = None,
        breaker: CircuitBreaker | None = None,
        client: Any = None,
        verify: Any = True,
    ) -> None:
        self._options = {
            "base_url": base_url,
            "timeout": timeout,
            "headers": dict(headers or {}),
            "auth": auth,
            "verify": verify,
            "follow_redirects": True,
        }
        self._retry = with_retry(requests.retry_config(retries))
        self._limiter, self._breaker = rate_limiter, breaker
        self._own = client is None
        self._client = client
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {requests.redacted(str(self._options['base_url']))!r}>"

    def _address(self, path: str) -> str:
        """Return where a request goes; a client that was given does not know our base URL."""
        if self._own or _ABSOLUTE.match(path):
            return path
        return f"{str(self._options['base_url']).rstrip('/')}/{path.lstrip('/')}"

    def _built(self, kind: str) -> Any:
        with self._lock:
            if self._client is None:
                self._client = getattr(_httpx, kind)(**self._options)
            return self._client


class HTTPClient(_Settings):
    """A client for *base_url*, for use from any thread; close it, or use it with `with`.

    *timeout* is in seconds for each phase of a request. *retries* counts repetitions, or is a
    RetryConfig. *auth* is anything httpx takes, for example (user, password); it is dropped when a
    redirect leads to another host. *breaker* counts lost connections, 429 and 5xx: a service that says
    404 is there. *client* brings your own `httpx.Client`, which stays yours and has
    its own timeout, headers and auth.
    """

    def get(self, path: str, **options: Any) -> Any:
        """Return the content of a GET: parsed JSON, text or bytes. Raises HTTPError."""
        return requests.content(self.request("GET", path, **options))

    def post(self, path: str, **options: Any) -> Any:
        """Return the content of a POST; not repeated unless asked or an Idempotency-Key is given."""
        return requests.content(self.request("POST", path, **options))

    def put(self, path: str, **options: Any) -> Any:
        """Return the content of a PUT."""
        return requests.content(self.request("PUT", path, **options))

    def patch(self, path: str, **options: Any) -> Any:
        """Return the content of a PATCH; repeated like a POST."""
        return requests.content(self.request("PATCH", path, **options))

    def delete(self, path: str, **options: Any) -> Any:
        """Return the content of a DELETE."""
        return requests.content(self.request("DELETE", path, **options))

    def request(
        self, method: str, path: str, *, retry: bool | None = None, **options: Any
    ) -> httpx.Response:
        """Make a request with httpx's *options* and return the response, its status 2xx.

        *retry* says whether it may be repeated, where its method does not tell.
        Raises HTTPStatusError, HTTPError, CircuitOpenError.
        """
        repeatable = requests.may_repeat(method, options, retry)

        def attempt() -> httpx.Response:
            if self._limiter is not None:
                self._limiter.acquire()
            with requests.translating(method, path):
                response: httpx.Response = self._built("Client").request(
                    method, self._address(path), **options
                )
            if requests.is_failure(response):
                requests.checked(response)
            return response

        guarded = attempt if self._breaker is None else self._breaker(attempt)

        def once() -> httpx.Response:
            # Around the breaker, which is to see the error itself.
            with requests.offering(repeatable=repeatable):
                return requests.checked(guarded())

        with requests.giving_up():
            return self._retry(once)()

    def close(self) -> None:
        """Close the connections; a client that was given is left open."""
        with self._lock:
            client, self._client = self._client, self._client if not self._own else None
        if self._own and client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncHTTPClient(_Settings):
    """`HTTPClient` for asyncio; the same arguments, *client* being an `httpx.AsyncClient`."""

    async def get(self, path: str, **options: Any) -> Any:
        """Return the content of a GET: parsed JSON, text or bytes. Raises HTTPError."""
        return requests.content(await self.request("GET", path, **options))

    async def post(self, path: str, **options: Any) -> Any:
        """Return the content of a POST; not repeated unless asked or an Idempotency-Key is given."""
        return requests.content(await self.request("POST", path, **options))

    async def put(self, path: str, **options: Any) -> Any:
        """Return the content of a PUT."""
        return requests.content(await self.request("PUT", path, **options))

    async def patch(self, path: str, **options: Any) -> Any:
        """Return the content of a PATCH; repeated like a POST."""
        return requests.content(await self.request("PATCH", path, **options))

    async def delete(self, path: str, **options: Any) -> Any:
        """Return the content of a DELETE."""
        return requests.content(await self.request("DELETE", path, **options))

    async def request(
        self, method: str, path: str, *, retry: bool | None = None, **options: Any
    ) -> httpx.Response:
        """Make a request and return the response, its status 2xx; as `HTTPClient.request`."""
        repeatable = requests.may_repeat(method, options, retry)

        async def attempt() -> httpx.Response:
            if self._limiter is not None:
                await self._limiter.acquire_async()
            with requests.translating(method, path):
                response: httpx.Response = await self._built("AsyncClient").request(
                    method, self._address(path), **options
                )
            if requests.is_failure(response):
                requests.checked(response)
            return response

        guarded = attempt if self._breaker is None else self._breaker(attempt)

        async def once() -> httpx.Response:
            # Around the breaker, which is to see the error itself.
            with requests.offering(repeatable=repeatable):
                return requests.checked(await guarded())

        with requests.giving_up():
            return await self._retry(once)()

    async def aclose(self) -> None:
        """Close the connections; a client that was given is left open."""
        with self._lock:
            client, self._client = self._client, self._client if not self._own else None
        if self._own and client is not None:
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
