"""Tokens and the cookies that remember them, where several servers share one host."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from ops.registry.ui.app import create_app
from ops.registry.ui.server import serve


def _browser(store: Any, token: str, port: int = 5066, **options: Any) -> TestClient:
    app = create_app(store.context, token=token)
    return TestClient(app, base_url=f"http://127.0.0.1:{port}", **options)


def test_one_browser_is_logged_in_to_several_servers_of_a_host(store: Any) -> None:
    """A browser has one set of cookies for all ports of a host."""
    servers = {token: _browser(store, token, port) for port, token in enumerate(["a", "b", "c"], 1)}
    cookies: dict[str, str] = {}
    for token, server in servers.items():
        server.cookies.update(cookies)
        server.get("/", params={"token": token})
        cookies.update(server.cookies)
    for server in servers.values():
        server.cookies.update(cookies)
        assert server.get("/").status_code == 200


def test_a_cookie_gives_its_token_to_no_other_server(store: Any) -> None:
    """What is sent to each port of a host may be read by whatever listens there."""
    server = _browser(store, "a-long-secret")
    answer = server.get("/?token=a-long-secret", follow_redirects=False)
    cookies = answer.headers.get_list("set-cookie")
    assert cookies
    assert not any("a-long-secret" in cookie for cookie in cookies)
    assert all("HttpOnly" in cookie and "SameSite=Strict" in cookie for cookie in cookies)
    other = _browser(store, "another-secret")
    other.cookies.update(server.cookies)
    assert other.get("/").status_code == 401


def test_each_credential_of_a_request_counts_by_itself(store: Any) -> None:
    """One that is outdated or wrong hides none that is right."""
    server = _browser(store, "right")
    server.get("/?token=right")
    (name,) = (name for name in server.cookies if "login" in name)
    stale = _browser(store, "right", cookies={name: "old"})
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert stale.get("/", headers={"authorization": f"{scheme} right"}).status_code == 200
    for wrong in ("Basic right", "right", "Bearer", "Bearer wrong", ""):
        assert stale.get("/", headers={"authorization": wrong}).status_code == 401
        assert server.get("/", headers={"authorization": wrong}).status_code == 200


@pytest.mark.parametrize("token", ["a#b", "a&b=c", "a b+c", "ü/?%41"])
def test_the_address_that_is_printed_opens_whatever_the_token(
    store: Any, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Uvicorn:
        def __init__(self, *_: Any) -> None:
            pass

        def run(self, **_: Any) -> None:
            pass

    monkeypatch.setattr("uvicorn.Server", Uvicorn)
    addresses: list[str] = []
    serve(store.context, port=0, token=token, ready=addresses.append)
    parts = urlsplit(addresses[0])
    server = _browser(store, token)
    assert server.get(f"{parts.path}?{parts.query}").status_code == 200
    assert not parts.fragment


def test_a_login_leads_to_the_page_that_was_asked_for_and_to_no_other_site(store: Any) -> None:
    server = _browser(store, "t")
    for path, leads_to in (
        ("/models/a%23b?filter=x&token=t", "/models/a%23b?filter=x"),
        ("//evil.example/?token=t", "/evil.example/"),
    ):
        answer = server.get(f"http://127.0.0.1:5066{path}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, leads_to)
