"""HTTP clients for calls that may fail (extra `http`, httpx).

One pooled client, built when it is first needed (building one costs tens of milliseconds). Requests
that may be repeated are, on connection errors and 429, 502, 503 and 504, after the delay of the reply's
Retry-After. `get`, `post`, … return the parsed content; `request` the whole response. Connections belong
to a process, and for asyncio to an event loop: a forked child, or another loop, opens its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from ops.foundation import tracing
from ops.foundation.deadlines import Deadline, current_deadline
from ops.foundation.errors import ValidationError
from ops.foundation.forks import in_children
from ops.foundation.helpers import LazyImport
from ops.resilience import _http_policy
from ops.resilience._building import building
from ops.resilience.errors import HTTPError, HTTPTimeoutError
from ops.resilience.retrying import with_retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx

    from ops.resilience.backoff import RetryConfig
    from ops.resilience.breaker import CircuitBreaker
    from ops.resilience.limits import RateLimiter, SlidingWindowLimiter

__all__ = ["AsyncHTTPClient", "ConnectionPool", "HTTPClient"]

_httpx: Any = LazyImport("httpx", extra="ops-resilience[http]")
Headers = Mapping[str, str]
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TIMEOUT = 30.0


class ConnectionPool:
    """Connections that several clients share: `HTTPClient(url, client=pool.client)`.

    Nothing is opened before the first request; `close`, or `with`, ends all. In a forked child the same
    pool opens connections of its own.
    """

    def __init__(
        self,
        max_connections: int = 100,
        *,
        max_idle: int | None = None,
        idle_seconds: float = 5.0,
        timeout: float = _TIMEOUT,
    ) -> None:
        """Check and keep the settings.

        Args:
            max_connections: the most at a time, at least 1.
            max_idle: how many are kept for the next request; by default 20, or *max_connections* if
                that is less.
            idle_seconds: for how long they are kept.
            timeout: seconds for each phase of a request.

        Raises:
            ValidationError: the numbers contradict.
        """
        max_idle = min(20, max_connections) if max_idle is None else max_idle
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
        self._timeout = _http_policy.checked_seconds("timeout", timeout)
        self._client: Any = None
        self._lock = threading.RLock()
        in_children(self, ConnectionPool._renew_lock)

    @property
    def client(self) -> httpx.Client:
        """The httpx client that owns the connections."""
        with self._lock:
            if self._client is None:
                self._client = _bound_client(
                    limits=_httpx.Limits(**self._limits),
                    timeout=self._timeout,
                    follow_redirects=True,
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

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()


class _Settings:
    """What both clients are made of."""

    def __init__(
        self,
        base_url: str = "",
        *,
        timeout: float | None = None,
        total_timeout: float | None = None,
        retries: int | RetryConfig = 3,
        headers: Headers | None = None,
        auth: Any = None,
        rate_limiter: RateLimiter | SlidingWindowLimiter | None = None,
        breaker: CircuitBreaker | None = None,
        client: Any = None,
        verify: Any = None,
    ) -> None:
        if client is not None and verify is not None:
            raise ValidationError("verify= belongs to the client that was given; set it there.")
        _http_policy.checked_seconds("timeout", timeout)
        _http_policy.checked_seconds("total_timeout", total_timeout)
        if total_timeout is not None and not total_timeout > 0:
            raise ValidationError(f"total_timeout must be positive seconds, not {total_timeout}.")
        self._base_url = base_url
        self._options = {
            "base_url": base_url,
            "timeout": _TIMEOUT if timeout is None else timeout,
            "headers": dict(headers or {}),
            "auth": auth,
            "verify": True if verify is None else verify,
            "follow_redirects": True,
        }
        # A client that was given has settings of its own; what is given beside it goes with each request.
        self._beside = {
            name: value
            for name, value in (("headers", headers), ("auth", auth), ("timeout", timeout))
            if value is not None and client is not None
        }
        config = _http_policy.retry_config(retries)
        self._retry: Any = with_retry(config)
        limits = [limit for limit in (total_timeout, config.timeout) if limit is not None]
        self._total = min(limits, default=None)
        self._limiter, self._breaker = rate_limiter, breaker
        self._own = client is None
        self._client = client
        self._is_used = self._is_inherited = False
        self._lock = threading.RLock()
        in_children(self, _Settings._leave_connections)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_http_policy.redacted(str(self._base_url))!r}>"

    def _address(self, path: str) -> str:
        """Return where a request goes; a client that was given does not know our base URL."""
        if self._own or _ABSOLUTE.match(path):
            return path
        return f"{str(self._base_url).rstrip('/')}/{path.lstrip('/')}"

    def _with_beside(self, options: dict[str, Any]) -> dict[str, Any]:
        options = {**self._beside, **options}
        if "headers" in self._beside:
            merged = _httpx.Headers(self._beside["headers"])
            merged.update(options["headers"])
            options["headers"] = merged
        return options

    def _deadline(self, total: float | None) -> Deadline | None:
        total = self._total if total is None else total
        return None if total is None else Deadline(total)

    def _check_process(self) -> None:
        if self._is_inherited:
            raise HTTPError(
                "The client was used before this process was forked, and both would read each "
                "other's replies. Make it in the child, or share a ConnectionPool."
            )

    def _leave_connections(self) -> None:
        """In a forked child: the parent's connections are not ours."""
        self._lock = threading.RLock()
        if self._own:
            self._drop()
        elif self._is_used and not hasattr(self._client, "_ops_settings"):
            # One that only pretends to connect (a mock) may go on.
            self._is_inherited = isinstance(
                getattr(self._client, "_transport", None),
                (_httpx.HTTPTransport, _httpx.AsyncHTTPTransport),
            )

    def _drop(self) -> None:
        self._client = None


class HTTPClient(_Settings):
    """A client for *base_url*, for use from any thread and in forked children; close it, or use `with`.

    Args:
        base_url: what paths are relative to.
        timeout: seconds for each phase of a request: connecting, each read, each write (default 30).
        total_timeout: seconds for a whole request, retries and waits included (default: no limit, or
            the `timeout` of a RetryConfig). Looking up the host name cannot be interrupted.
        retries: how many repetitions, or a RetryConfig, whose *exceptions*, *give_up_on* and
            *retry_if* see the HTTPError of an attempt. Only requests that may be repeated are.
        headers: sent with each request.
        auth: anything httpx takes, for example (user, password); it is dropped when a redirect leads
            to another host.
        rate_limiter: each attempt takes a token of it.
        breaker: counts lost connections, 429 and 5xx: a service that answers 404 is there.
        client: an `httpx.Client` or `ConnectionPool.client` of yours, which stays open; *headers*, *auth*
            and *timeout* are used beside its own.
        verify: as in httpx; not with *client*.

    Raises `ValidationError` for *verify* beside *client*, for timeouts that are no positive seconds,
    and for a RetryConfig with *if_result*, which has no effect here.
    """

    def get(self, path: str, **options: Any) -> Any:
        """Return the content of a GET: parsed JSON, text or bytes.

        *options* are those of `request` (as *params*, *headers*). Raises HTTPError.
        """
        return _http_policy.content(self.request("GET", path, **options))

    def post(self, path: str, **options: Any) -> Any:
        """Return the content of a POST; repeated only with `retry=True` or an Idempotency-Key.

        *options* are those of `request` (as *json*, *data*, *files*). Raises HTTPError.
        """
        return _http_policy.content(self.request("POST", path, **options))

    def put(self, path: str, **options: Any) -> Any:
        """Return the content of a PUT; *options* are those of `request`. Raises HTTPError."""
        return _http_policy.content(self.request("PUT", path, **options))

    def patch(self, path: str, **options: Any) -> Any:
        """Return the content of a PATCH, repeated like a POST; *options* are those of `request`."""
        return _http_policy.content(self.request("PATCH", path, **options))

    def delete(self, path: str, **options: Any) -> Any:
        """Return the content of a DELETE; *options* are those of `request`. Raises HTTPError."""
        return _http_policy.content(self.request("DELETE", path, **options))

    def request(
        self,
        method: str,
        path: str,
        *,
        retry: bool | None = None,
        total_timeout: float | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Make a request and return the response, its status 2xx.

        Args:
            method: GET, POST, ….
            path: relative to the base URL, or a whole URL.
            retry: whether it may be repeated, where its method does not decide.
            total_timeout: seconds for all of it, instead of the client's.
            options: those of `httpx.Client.request`: *params*, *headers*, *cookies*, *json*, *data*,
                *content*, *files*, *auth*, *follow_redirects*, *timeout* and *extensions*.

        Raises HTTPStatusError, HTTPTimeoutError, HTTPError, CircuitOpenError.
        """
        repeatable = _http_policy.may_repeat(method, options, retry)
        options = self._with_beside(options)
        deadline = self._deadline(total_timeout)

        def attempt() -> httpx.Response:
            if self._limiter is not None:
                self._limiter.acquire(timeout=None if deadline is None else deadline.remaining())
            with _http_policy.translating(method, path), _traced(method, path, options) as sent:
                response = self._sent(method, path, sent.options, deadline)
                sent.ended(response)
            if _http_policy.is_failure(response):
                _http_policy.checked(response)
            return response

        guarded = attempt if self._breaker is None else self._breaker(attempt)

        def once() -> httpx.Response:
            # Around the breaker, which is to see the error itself.
            with _http_policy.offering(repeatable=repeatable):
                return _http_policy.checked(guarded())

        with _http_policy.giving_up():
            response: httpx.Response = self._retry(once)()
            return response

    def _sent(
        self, method: str, path: str, options: dict[str, Any], deadline: Deadline | None
    ) -> httpx.Response:
        from ops.resilience._http_client import Checked, deadline_of

        client: httpx.Client = self._built()
        address = self._address(path)
        if deadline is None and current_deadline() is None:
            return client.request(method, address, **options)
        with deadline_of(deadline):
            if hasattr(client, "_ops_settings"):
                return client.request(method, address, **options)
            with client.stream(method, address, **options) as reply:
                reply.stream = Checked(reply.stream)
                reply.read()
            return reply

    def _built(self) -> Any:
        self._check_process()
        with self._lock:
            self._is_used = True
            if self._client is None:
                self._client = _bound_client(**self._options)
            return self._client

    def close(self) -> None:
        """Close the connections; a client that was given is left open."""
        if not self._own:
            return
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncHTTPClient(_Settings):
    """`HTTPClient` for asyncio.

    *base_url* and *settings* are the arguments of `HTTPClient` (*timeout*, *total_timeout*, *retries*,
    *headers*, *auth*, *rate_limiter*, *breaker*, *client*, *verify*), *client* being an
    `httpx.AsyncClient`. It may be used in one event loop after the other (and in several at a
    time): each has connections of its own. `aclose` closes those of the running loop.
    """

    def __init__(self, base_url: str = "", **settings: Any) -> None:
        super().__init__(base_url, **settings)
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any]
        self._by_loop = weakref.WeakKeyDictionary()

    async def get(self, path: str, **options: Any) -> Any:
        """Return the content of a GET: parsed JSON, text or bytes.

        *options* are those of `request` (as *params*, *headers*). Raises HTTPError.
        """
        return _http_policy.content(await self.request("GET", path, **options))

    async def post(self, path: str, **options: Any) -> Any:
        """Return the content of a POST; repeated only with `retry=True` or an Idempotency-Key.

        *options* are those of `request` (as *json*, *data*, *files*). Raises HTTPError.
        """
        return _http_policy.content(await self.request("POST", path, **options))

    async def put(self, path: str, **options: Any) -> Any:
        """Return the content of a PUT; *options* are those of `request`. Raises HTTPError."""
        return _http_policy.content(await self.request("PUT", path, **options))

    async def patch(self, path: str, **options: Any) -> Any:
        """Return the content of a PATCH, repeated like a POST; *options* are those of `request`."""
        return _http_policy.content(await self.request("PATCH", path, **options))

    async def delete(self, path: str, **options: Any) -> Any:
        """Return the content of a DELETE; *options* are those of `request`. Raises HTTPError."""
        return _http_policy.content(await self.request("DELETE", path, **options))

    async def request(
        self,
        method: str,
        path: str,
        *,
        retry: bool | None = None,
        total_timeout: float | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Make a request and return the response, its status 2xx.

        *method*, *path*, *retry*, *total_timeout* (seconds) and *options* (those of
        `httpx.AsyncClient.request`) are as in `HTTPClient.request`. Raises HTTPStatusError,
        HTTPTimeoutError, HTTPError, CircuitOpenError.
        """
        repeatable = _http_policy.may_repeat(method, options, retry)
        options = self._with_beside(options)

        async def attempt() -> httpx.Response:
            if self._limiter is not None:
                await self._limiter.acquire_async()
            with _http_policy.translating(method, path), _traced(method, path, options) as sent:
                response: httpx.Response = await self._built().request(
                    method, self._address(path), **sent.options
                )
                sent.ended(response)
            if _http_policy.is_failure(response):
                _http_policy.checked(response)
            return response

        guarded = attempt if self._breaker is None else self._breaker(attempt)

        async def once() -> httpx.Response:
            # Around the breaker, which is to see the error itself.
            with _http_policy.offering(repeatable=repeatable):
                return _http_policy.checked(await guarded())

        with _http_policy.giving_up():
            total = self._total if total_timeout is None else total_timeout
            with _http_policy.translating(method, path):
                async with _within(total):
                    response: httpx.Response = await self._retry(once)()
                    return response

    def _built(self) -> Any:
        self._check_process()
        self._is_used = True
        if not self._own:
            return self._client
        loop = asyncio.get_running_loop()
        with self._lock:
            client = self._by_loop.get(loop)
            if client is None:
                with building():
                    client = self._by_loop[loop] = _httpx.AsyncClient(**self._options)
            return client

    def _drop(self) -> None:
        self._by_loop = weakref.WeakKeyDictionary()

    async def aclose(self) -> None:
        """Close the connections of this event loop; a client that was given is left open."""
        with self._lock:
            client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _bound_client(**settings: Any) -> Any:
    with building():
        _httpx.import_module()  # so that a missing extra is named
        from ops.resilience._http_client import BoundClient

        return BoundClient(**settings)


@contextlib.asynccontextmanager
async def _within(seconds: float | None) -> AsyncIterator[None]:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise HTTPTimeoutError(f"The request did not end within {seconds:g} s.") from error


class _Sent:
    """One attempt in a trace: its options, with the headers that carry the trace on."""

    def __init__(self, options: dict[str, Any], span: Any) -> None:
        self.options, self._span = options, span

    def ended(self, response: httpx.Response) -> None:
        if self._span is not None:
            self._span.set_attribute("http.response.status_code", response.status_code)


@contextlib.contextmanager
def _traced(method: str, path: str, options: dict[str, Any]) -> Iterator[_Sent]:
    if not tracing.is_traced():
        yield _Sent(options, None)
        return
    attributes = {"http.request.method": method, "url.full": _http_policy.redacted(path)}
    with tracing.span("ops.resilience", method, attributes, kind="CLIENT") as span:
        headers = _httpx.Headers(options.get("headers"))
        tracing.inject(headers)
        yield _Sent({**options, "headers": headers}, span)
