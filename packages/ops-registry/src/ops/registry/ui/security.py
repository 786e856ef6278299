"""Who may ask: the gate in front of every request.

The server listens on loopback, where any page in the user's browser can send it requests. So the
Host header must be a name of this server (no DNS rebinding), nothing is answered to other origins
(no CORS), and a change needs `--allow-writes`, a form that this server made (a token in the form
that equals the one in a strict cookie) and a request from the same origin. Beyond loopback a token is required:
as `Authorization: Bearer`, or once as `?token=`, which becomes a cookie.

A browser sends the cookies of a host to every port of it. So each server's cookie has a name of its own, or a second
server would end the login of the first, and holds a value derived from the token, or the token would reach the other
servers. Every credential of a request is tried: one that is stale does not hide one that is right.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from starlette.datastructures import MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CSRF_COOKIE", "Gate", "is_loopback"]

CSRF_COOKIE = "ops_registry_csrf"
_LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
_READING = frozenset(("GET", "HEAD"))
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "media-src 'self'; frame-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with "no-referrer" our own forms come from "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Say whether *host* can be reached from this machine only."""
    return host in _LOOPBACK


class Gate:
    """ASGI middleware: checks a request, then adds the headers that keep a browser careful."""

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str], token: str | None, allow_writes: bool
    ) -> None:
        self._app = app
        self._hosts = frozenset(hosts) | _LOOPBACK
        self._any_host = token is not None  # a token cannot be guessed by a rebound name
        self._login = None if token is None else _Login(token)
        self._allow_writes = allow_writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        csrf = request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(24)
        scope.setdefault("state", {})["csrf"] = csrf
        fresh = CSRF_COOKIE not in request.cookies

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if not request.url.path.startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
                if fresh:
                    headers.append("Set-Cookie", _cookie(CSRF_COOKIE, csrf))
            await send(message)

        answer = self._refusal(request) or await self._refused_change(request, csrf)
        await (answer or self._app)(scope, request.receive, send_with_headers)

    def _refusal(self, request: Request) -> PlainTextResponse | RedirectResponse | None:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        if not self._any_host and host not in self._hosts:
            return PlainTextResponse(f"This server is not called {host!r}.", 421)
        if self._login is None:
            return None
        if self._login.opens(request.query_params.get("token")):
            rest = [(k, v) for k, v in request.query_params.multi_items() if k != "token"]
            query = f"?{urlencode(rest)}" if rest else ""
            # One slash at the front: two would be an address on another host.
            path = "/" + quote(request.scope["path"].lstrip("/"))
            answer = RedirectResponse(path + query, 303)
            answer.headers.append("Set-Cookie", self._login.cookie())
            return answer
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._login.opens(bearer.strip()):
            return None
        if self._login.is_in(request.cookies):
            return None
        return PlainTextResponse("A token is needed: open the address with ?token=...", 401)

    async def _refused_change(self, request: Request, csrf: str) -> PlainTextResponse | None:
        if request.method in _READING:
            return None
        if not self._allow_writes:
            return PlainTextResponse("Read only: start the server with --allow-writes.", 403)
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return PlainTextResponse("The request comes from another site.", 403)
        body = await request.body()
        if len(body) > 65536:
            return PlainTextResponse("The form is too large.", 413)
        request._receive = _again(body)  # noqa: SLF001 - the handler reads the body too
        given = QueryParams(body.decode("utf-8", "replace")).get("csrf", "")
        cookie = request.cookies.get(CSRF_COOKIE, "")
        if not cookie or not hmac.compare_digest(given.encode(), csrf.encode()):
            return PlainTextResponse("The form is outdated: load the page again.", 403)
        return None


class _Login:
    """The token of a server, and the cookie by which a browser that has shown it comes back."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._name = f"ops_registry_login_{self._derived('name')[:12]}"
        self._value = self._derived("value")

    def opens(self, given: str | None) -> bool:
        """Whether *given* is the token."""
        return given is not None and hmac.compare_digest(given.encode(), self._token)

    def is_in(self, cookies: Mapping[str, str]) -> bool:
        """Whether *cookies* have the one of this server."""
        given = cookies.get(self._name, "").encode("utf-8", "replace")
        return hmac.compare_digest(given, self._value.encode())

    def cookie(self) -> str:
        """Return the header that gives a browser the cookie."""
        return _cookie(self._name, self._value)

    def _derived(self, purpose: str) -> str:
        return hmac.digest(self._token, f"ops-registry ui {purpose}".encode(), "sha256").hex()


def _again(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _cookie(name: str, value: str) -> str:
    return f"{name}={value}; Path=/; SameSite=Strict; HttpOnly"
