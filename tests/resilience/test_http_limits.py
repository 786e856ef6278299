"""Requests end in time, use what their client was given, and live in any event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ops.foundation import timeout_context
from ops.foundation.errors import ValidationError
from ops.resilience import (
    AsyncHTTPClient,
    ConnectionPool,
    HTTPClient,
    HTTPError,
    HTTPTimeoutError,
    RetryConfig,
)

httpx = pytest.importorskip("httpx")


@pytest.fixture
def dripping() -> Iterator[Callable[[bytes, bytes], str]]:
    """A server that sends *begin* at once and then *drop* again and again until its client leaves."""
    opened: list[socket.socket] = []

    def start(begin: bytes, drop: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=drip, args=(connection,), daemon=True).start()

        def drip(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(65536)
                    connection.sendall(begin)
                    while True:
                        connection.sendall(drop)
                        time.sleep(0.02)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in opened:
        listener.close()


DRIPS = {
    "header": (b"HTTP/1.1 200 OK\r\n", b"X-Slow: 1\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("part", DRIPS)
@pytest.mark.parametrize("bound", ["client", "request", "retry config", "block"])
def test_a_server_that_drips_cannot_outlast_the_total_time(dripping, part, bound) -> None:
    url = dripping(*DRIPS[part])
    settings = {"total_timeout": 0.2} if bound == "client" else {}
    if bound == "retry config":
        settings = {"retries": RetryConfig(timeout=0.2)}
    options = {"total_timeout": 0.2} if bound == "request" else {}
    start = time.monotonic()
    block = timeout_context(0.2) if bound == "block" else contextlib.nullcontext()
    with (
        HTTPClient(url, timeout=30, **settings) as client,
        pytest.raises(TimeoutError) as caught,
        block,
    ):
        client.get("/", **options)
    assert time.monotonic() - start < 25
    if bound != "block":
        assert isinstance(caught.value, HTTPError)
        assert "0.2 s" in str(caught.value)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), HTTPTimeoutError)


def test_a_deadline_bounds_a_request_in_a_thread_too(dripping) -> None:
    url = dripping(*DRIPS["header"])
    caught: list[BaseException] = []

    def run() -> None:
        try:
            with timeout_context(0.2), HTTPClient(url, timeout=30) as client:
                client.get("/")
        except TimeoutError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(25)
    assert caught


@pytest.mark.parametrize("part", DRIPS)
def test_the_async_client_has_a_total_time_too(dripping, part) -> None:
    async def main() -> None:
        async with AsyncHTTPClient(dripping(*DRIPS[part]), total_timeout=0.2) as client:
            await client.get("/")

    with pytest.raises(HTTPTimeoutError, match=r"GET .*0\.2 s"):
        asyncio.run(main())


def test_a_client_of_others_is_bounded_between_the_parts_of_a_body(dripping) -> None:
    with httpx.Client(timeout=30) as given:
        client = HTTPClient(dripping(*DRIPS["body"]), client=given, total_timeout=0.2)
        with pytest.raises(HTTPTimeoutError):
            client.get("/")


def test_the_total_time_leaves_a_quick_reply_alone(server, reply) -> None:
    server.replies(reply(200, b"ok", {"Content-Type": "text/plain"}))
    with httpx.Client() as given:
        for client in (
            HTTPClient(server.url, total_timeout=60),
            HTTPClient(server.url, client=given, total_timeout=60),
        ):
            assert client.get("/") == "ok"
            assert client.post("/", content=b"x" * 100_000) == "ok"
            client.close()
    assert server.asked[1][3] == b"x" * 100_000


def test_a_phase_that_takes_too_long_is_a_timeout_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with HTTPClient(url, timeout=0.05, retries=0) as client, pytest.raises(TimeoutError):
            client.get("/")


@pytest.mark.parametrize("total", [0, -1, float("nan")])
def test_a_total_time_that_is_none_is_refused(total) -> None:
    with pytest.raises(ValidationError, match="total_timeout"):
        HTTPClient(total_timeout=total)


def test_what_is_given_beside_a_client_is_sent_with_it(server, reply) -> None:
    server.replies(reply(204))
    with ConnectionPool() as pool:
        client = HTTPClient(
            server.url,
            client=pool.client,
            headers={"X-Tenant": "a", "X-Other": "b"},
            auth=("user", "password"),
            timeout=7,
        )
        client.get("/", headers={"X-Other": "c"})
        with pytest.raises(ValidationError, match="verify"):
            HTTPClient(client=pool.client, verify=False)
    sent = server.asked[0][2]
    assert (sent["x-tenant"], sent["x-other"]) == ("a", "c")
    assert sent["authorization"].startswith("Basic ")


def test_a_default_follows_what_was_given() -> None:
    assert ConnectionPool(5)._limits["max_keepalive_connections"] == 5
    assert ConnectionPool()._limits["max_keepalive_connections"] == 20
    with pytest.raises(ValidationError, match="max_idle"):
        ConnectionPool(5, max_idle=20)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the first loop leaves its own open
def test_an_async_client_works_in_one_loop_after_the_other(server, reply) -> None:
    server.replies(reply(200, b"ok", {"Content-Type": "text/plain"}))

    def use() -> list[object]:
        client = AsyncHTTPClient(server.url, retries=0)

        async def get() -> object:
            return await client.get("/")

        async def get_and_close() -> object:
            async with client:
                return await client.get("/")

        return [asyncio.run(get()), asyncio.run(get_and_close()), asyncio.run(get_and_close())]

    assert use() == ["ok", "ok", "ok"]
    gc.collect()
