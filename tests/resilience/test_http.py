"""HTTP against a real server that misbehaves in every way it can."""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import hashlib
import math
import subprocess
import sys

import pytest

from ops.foundation.errors import ValidationError
from ops.resilience import (
    AsyncHTTPClient,
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    ConnectionPool,
    DownloadError,
    HTTPClient,
    HTTPError,
    HTTPStatusError,
    RateLimiter,
    check_connectivity,
    download_with_progress,
    get_free_port,
    is_port_available,
    upload_with_retry,
    wait_for_port,
)
from ops.resilience._http_policy import redacted, retry_after

pytest.importorskip("httpx")
BODY = bytes(range(256)) * 40
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    naps: list[float] = []
    monkeypatch.setattr("ops.resilience._retry_policy.time.sleep", naps.append)
    return naps


@pytest.fixture
def client(server, slept):
    with HTTPClient(server.url, retries=3) as client:
        yield client


def test_contents_come_parsed(client, server, reply) -> None:
    server.replies(
        reply(200, b'{"a": 1}', {"Content-Type": "application/json; charset=utf-8"}),
        reply(200, b"hello", {"Content-Type": "text/plain"}),
        reply(200, b"\0\1", {"Content-Type": "application/octet-stream"}),
        reply(204),
        reply(200, b"{", {"Content-Type": "application/json"}),
    )
    assert client.get("/a", params={"x": 1}) == {"a": 1}
    assert server.asked[0][1] == "/a?x=1"
    assert client.get("/") == "hello"
    assert client.get("/") == b"\0\1"
    assert client.delete("/") is None
    with pytest.raises(HTTPError, match="declares JSON"):
        client.get("/")


def test_a_storm_of_503_is_waited_out_as_long_as_the_server_says(
    client, server, reply, slept
) -> None:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    server.replies(
        reply(503, headers={"Retry-After": "7"}),
        reply(503, headers={"Retry-After": email.utils.format_datetime(moment, usegmt=True)}),
        reply(429),
        reply(200, b"ok", {"Content-Type": "text/plain"}),
    )
    assert client.get("/") == "ok"
    assert slept[0] == 7
    assert 25 < slept[1] <= 30
    assert 0 < slept[2] < 10


def test_a_status_that_will_not_change_is_not_retried(client, server, reply) -> None:
    server.replies(reply(404, b"no such thing"))
    with pytest.raises(HTTPStatusError, match="404") as caught:
        client.get("/x?token=hunter2&page=2")
    assert caught.value.status == 404
    assert caught.value.body == "no such thing"
    assert "hunter2" not in str(caught.value)
    assert "page=2" in caught.value.url
    assert len(server.asked) == 1


def test_a_post_is_repeated_only_when_that_is_safe(client, server, reply) -> None:
    server.replies(reply(503))
    with pytest.raises(HTTPStatusError):
        client.post("/", json={})
    assert len(server.asked) == 1
    with pytest.raises(HTTPStatusError):
        client.post("/", json={}, headers={"Idempotency-Key": "k"})
    assert len(server.asked) == 5
    with pytest.raises(HTTPStatusError):
        client.post("/", json={}, retry=True)
    assert len(server.asked) == 9


def test_a_connection_that_was_never_made_is_always_retried(slept) -> None:
    url = f"http://127.0.0.1:{get_free_port()}"
    with HTTPClient(url, retries=2) as client, pytest.raises(HTTPError, match="ConnectError"):
        client.post("/")
    assert len(slept) == 2


def test_credentials_never_show_and_never_reach_another_host(server, reply, slept) -> None:
    server.answer = lambda asked: (
        reply(302, headers={"Location": f"http://localhost:{server.port}/moved"})
        if asked[1] == "/start"
        else reply(200, b"here", {"Content-Type": "text/plain"})
    )
    with HTTPClient(server.url, auth=("user", "hunter2")) as client:
        assert client.get("/start") == "here"
        assert "hunter2" not in repr(client)
    assert "authorization" in server.asked[0][2]
    assert "authorization" not in server.asked[1][2]


def test_limits_and_breakers_apply_to_each_attempt(server, reply, slept) -> None:
    server.replies(reply(500))
    breaker = CircuitBreaker(2, 60)
    with HTTPClient(server.url, rate_limiter=RateLimiter(100), breaker=breaker) as client:
        for _ in range(2):
            with pytest.raises(HTTPStatusError):
                client.get("/")
        with pytest.raises(CircuitOpenError):
            client.get("/")
    assert len(server.asked) == 2


def test_the_async_client_does_the_same(server, reply) -> None:
    from ops.resilience import RetryConfig

    server.replies(reply(503), reply(200, b"[1]", {"Content-Type": "application/json"}))

    async def main() -> object:
        config = RetryConfig(max_attempts=3, initial_delay=0)
        async with AsyncHTTPClient(server.url, retries=config) as client:
            return await client.get("/")

    assert asyncio.run(main()) == [1]


def test_clients_may_share_a_pool_of_connections(server, reply) -> None:
    server.replies(reply(200, b"ok", {"Content-Type": "text/plain"}))
    with ConnectionPool(2, max_idle=1) as pool:
        first = HTTPClient(server.url, client=pool.client)
        second = HTTPClient(server.url, client=pool.client)
        assert first.get("/a") == second.get(f"{server.url}/b") == "ok"
        first.close()
        assert second.get("c") == "ok", "a client that was given stays open"
    with pytest.raises(ValidationError):
        ConnectionPool(0)


def ranged(reply, body=BODY, etag='"v1"', cut=None):
    """A server function for one file with Range and If-Range."""

    def answer(asked):
        wanted = asked[2].get("range")
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        if wanted and asked[2].get("if-range") == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return reply(206, body[start:], headers, cut=cut)
        return reply(200, body, headers, cut=cut)

    return answer


def test_a_download_is_whole_checked_and_shows_progress(server, reply, tmp_path) -> None:
    server.answer = ranged(reply)
    seen = []
    path = download_with_progress(
        f"{server.url}/f",
        tmp_path / "f",
        lambda c, t: seen.append((c, t)),
        checksum=SHA,
        chunk_size=999,
    )
    assert path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("cut", [0, 1, 999, 5000, len(BODY) - 1])
def test_a_download_cut_at_any_byte_goes_on_where_it_stopped(server, reply, tmp_path, slept, cut):
    server.answer = ranged(reply, cut=cut)
    with pytest.raises(HTTPError):
        download_with_progress(f"{server.url}/f", tmp_path / "f", retries=0)
    assert not (tmp_path / "f").exists()
    server.answer = ranged(reply)
    path = download_with_progress(f"{server.url}/f", tmp_path / "f", checksum=SHA)
    assert path.read_bytes() == BODY
    if cut > 900:
        assert server.asked[-1][2]["range"].startswith("bytes=")


def test_a_small_download_may_be_dropped_at_every_byte(server, reply, tmp_path, slept) -> None:
    body = bytes(range(97))
    for cut in range(len(body)):
        path = tmp_path / f"f{cut}"
        server.answer = ranged(reply, body=body, cut=cut)
        with pytest.raises(HTTPError):
            download_with_progress(f"{server.url}/f", path, retries=0)
        server.answer = ranged(reply, body=body)
        assert download_with_progress(f"{server.url}/f", path).read_bytes() == body
    assert all(p.suffix == "" for p in tmp_path.iterdir()), "no partial file is left"


def test_within_one_call_an_interrupted_download_resumes(server, reply, tmp_path, slept) -> None:
    server.answer = ranged(reply, cut=4000)
    download_with_progress(f"{server.url}/f", tmp_path / "f", checksum=SHA, retries=5)
    assert [a[2].get("range") for a in server.asked] == [None, "bytes=4000-", "bytes=8000-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, reply, tmp_path, slept) -> None:
    server.answer = ranged(reply, cut=4000)
    with pytest.raises(HTTPError):
        download_with_progress(f"{server.url}/f", tmp_path / "f", retries=0)
    other = BODY[::-1]
    server.answer = ranged(reply, body=other, etag='"v2"')
    assert download_with_progress(f"{server.url}/f", tmp_path / "f").read_bytes() == other


@pytest.mark.fault
def test_a_killed_download_never_keeps_old_bytes_with_a_new_tag(server, reply, tmp_path) -> None:
    """The file has changed, and the process is killed as soon as the new tag is written."""
    program = """
import os, sys
from ops.resilience import download_with_progress, transfers
real = transfers._Download._remember
def killed(self, response):
    real(self, response)
    os.kill(os.getpid(), 9)
transfers._Download._remember = killed
download_with_progress(*sys.argv[1:])
"""
    target = tmp_path / "f"
    (tmp_path / "f.part").write_bytes(b"old!" * 10)
    (tmp_path / "f.part.tag").write_text('"v0"')
    server.answer = ranged(reply)
    command = [sys.executable, "-c", program, f"{server.url}/f", str(target)]
    assert subprocess.run(command, check=False).returncode == -9
    assert download_with_progress(f"{server.url}/f", target).read_bytes() == BODY


@pytest.mark.parametrize("tag", ["ETag", "Last-Modified"])
def test_two_addresses_are_never_glued_together(server, reply, tmp_path, slept, tag) -> None:
    """Two files of one server may well have the same date, or the same number as their ETag."""
    etag = '"1"' if tag == "ETag" else "Sat, 21 Nov 2026 00:00:00 GMT"
    served = {"/one": BODY, "/two": BODY[::-1]}

    def answer(asked):
        cut = 4000 if asked[1] == "/one" else None
        found = ranged(reply, body=served[asked[1]], cut=cut, etag=etag)(asked)
        found.headers = {tag if k == "ETag" else k: v for k, v in found.headers.items()}
        return found

    server.answer = answer
    with pytest.raises(HTTPError):
        download_with_progress(f"{server.url}/one", tmp_path / "f", retries=0)
    done = download_with_progress(f"{server.url}/two", tmp_path / "f")
    assert done.read_bytes() == served["/two"]


def test_a_signed_address_resumes_with_another_signature(server, reply, tmp_path, slept) -> None:
    server.answer = ranged(reply, cut=4000)
    with pytest.raises(HTTPError):
        download_with_progress(f"{server.url}/f?signature=1", tmp_path / "f", retries=0)
    server.answer = ranged(reply)
    download_with_progress(f"{server.url}/f?signature=2", tmp_path / "f", checksum=SHA)
    assert [a[2].get("range") for a in server.asked] == [None, "bytes=4000-"]


def test_a_wrong_checksum_leaves_no_file(server, reply, tmp_path) -> None:
    server.answer = ranged(reply)
    with pytest.raises(DownloadError, match="SHA-256"):
        download_with_progress(f"{server.url}/f", tmp_path / "f", checksum="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_lies_about_the_length_is_not_believed(
    server, reply, tmp_path, slept
) -> None:
    server.replies(reply(200, BODY, length=len(BODY) + 10))
    with pytest.raises(HTTPError):
        download_with_progress(f"{server.url}/f", tmp_path / "f", retries=1)
    assert not (tmp_path / "f").exists()


def test_an_upload_starts_over_from_its_beginning(server, reply, tmp_path, slept) -> None:
    server.replies(reply(503), reply(200))
    source = tmp_path / "s"
    source.write_bytes(BODY)
    upload_with_retry(f"{server.url}/u", source, method="POST")
    assert [a[3] == BODY for a in server.asked] == [True, True]
    with source.open("rb") as file:
        file.seek(100)
        upload_with_retry(f"{server.url}/u", file)
    assert server.asked[-1][3] == BODY[100:]


def test_ports(server) -> None:
    free = get_free_port()
    assert is_port_available(free)
    assert not is_port_available(server.port)
    wait_for_port(server.port, timeout=5)
    with pytest.raises(TimeoutError, match=str(free)):
        wait_for_port(free, timeout=0)
    assert check_connectivity(server.url)
    assert not check_connectivity(f"http://127.0.0.1:{free}")
    for nonsense in ("", "just-a-name"):
        with pytest.raises(ValidationError):
            check_connectivity(nonsense)
    with pytest.raises(ValidationError):
        is_port_available(0)


def test_both_forms_of_retry_after() -> None:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert retry_after("120") == 120
    assert retry_after("Thu, 01 Jan 2026 00:00:30 GMT", now) == 30
    assert retry_after("Wed, 31 Dec 2025 00:00:00 GMT", now) == 0
    assert retry_after("soon") is None
    assert retry_after(None) is None


def test_urls_are_shown_without_secrets() -> None:
    shown = redacted("https://user:pw@host/p?api_key=1&X-Amz-Signature=2&page=3#frag")
    assert shown == "https://host/p?api_key=***&X-Amz-Signature=***&page=3"


@pytest.mark.parametrize("url", ["http://[x", "//[", "h?pwd=1&passwd=2&session_id=3"])
def test_what_is_no_url_or_names_its_secrets_otherwise_is_shown_without_them(url) -> None:
    assert redacted(url) in {"(no valid URL)", "h?pwd=***&passwd=***&session_id=***"}


def test_without_the_extra_the_error_names_it() -> None:
    program = (
        "import sys; sys.modules['httpx'] = None\n"
        "from ops.resilience import HTTPClient\n"
        "try: HTTPClient('http://127.0.0.1:9').get('/')\n"
        "except ImportError as error: print(error)"
    )
    text = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert 'pip install "ops-resilience[http]"' in text


def test_a_breaker_sees_the_errors_themselves_and_no_404(server, reply, slept) -> None:
    breaker = CircuitBreaker(2, expected_exception=HTTPError)
    with HTTPClient(server.url, retries=1, breaker=breaker) as client:
        server.replies(reply(404))
        for _ in range(3):
            with pytest.raises(HTTPStatusError):
                client.get("/")
        assert breaker.state is CircuitState.CLOSED
        server.replies(reply(503))
        with pytest.raises(HTTPStatusError):
            client.get("/")
        assert breaker.state is CircuitState.OPEN


def test_an_address_in_the_query_does_not_make_a_path_absolute(server, reply) -> None:
    server.replies(reply(body=b"x"))
    with ConnectionPool() as pool:
        HTTPClient(server.url, client=pool.client).get("/go?to=http://elsewhere.test")
    assert server.asked[0][1] == "/go?to=http://elsewhere.test"


def test_headers_may_be_pairs(client, server, reply, slept) -> None:
    server.replies(reply(503), reply(body=b"ok"))
    assert client.post("/", headers=[("idempotency-key", "1")]) == b"ok"


def test_a_body_that_can_be_read_once_is_sent_once(client, server, reply) -> None:
    server.replies(reply(503))
    with pytest.raises(HTTPStatusError):
        client.put("/", content=iter([b"a"]), headers={"Content-Length": "1"}, retry=True)
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["ftp://host/", "http://user:hunter2@host:port/"])
def test_an_address_that_is_none_is_our_error_at_once(slept, url) -> None:
    with HTTPClient() as client, pytest.raises(HTTPError) as caught:
        client.get(url)
    assert "hunter2" not in str(caught.value)
    assert slept == []


@pytest.mark.parametrize("body", [b"\xff\xfe\xff", b"[" * 100_000, b"{"])
def test_json_that_is_none_is_our_error(client, server, reply, body) -> None:
    server.replies(reply(body=body, headers={"Content-Type": "application/json"}))
    with pytest.raises(HTTPError, match="declares JSON"):
        client.get("/")


@pytest.mark.parametrize("value", ["\u00b2", "9" * 400, "-1", "Fri, 31 Dec 9999 23:59:59 -9999"])
def test_a_hostile_retry_after_is_no_crash_and_no_eternity(value) -> None:
    asked = retry_after(value)
    assert asked is None or asked < math.inf


def test_a_part_that_is_complete_is_not_fetched_again(server, reply, tmp_path, slept) -> None:
    target = tmp_path / "f"
    (tmp_path / "f.part").write_bytes(BODY)
    (tmp_path / "f.part.tag").write_text('"v1"')

    def answer(asked):
        assert asked[2]["range"] == f"bytes={len(BODY)}-"
        return reply(416, headers={"Content-Range": f"bytes */{len(BODY)}"})

    server.answer = answer
    download_with_progress(f"{server.url}/f", target)
    assert target.read_bytes() == BODY
    assert len(server.asked) == 1


def test_a_server_that_ignores_if_range_cannot_glue_two_versions(
    server, reply, tmp_path, slept
) -> None:
    target = tmp_path / "f"
    (tmp_path / "f.part").write_bytes(b"old!")
    (tmp_path / "f.part.tag").write_text('"v0"')
    asked_for = ranged(reply)

    def answer(asked):
        headers = {k: v for k, v in asked[2].items() if k != "if-range"}
        if "range" in headers:
            headers["if-range"] = '"v1"'
        return asked_for((*asked[:2], headers, asked[3]))

    server.answer = answer
    download_with_progress(f"{server.url}/f", target)
    assert target.read_bytes() == BODY


def test_a_validator_that_could_not_be_sent_back_is_not_kept(
    server, reply, tmp_path, slept
) -> None:
    server.replies(
        reply(body=BODY, headers={"ETag": '"\u00e9"'}, cut=10),
        reply(body=BODY, headers={"ETag": '"\u00e9"'}),
    )
    download_with_progress(f"{server.url}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_checksum_that_is_none_is_refused_before_anything_is_fetched(tmp_path) -> None:
    (tmp_path / "f.part").write_bytes(b"kept")
    with pytest.raises(ValidationError, match="no SHA-256"):
        download_with_progress("http://127.0.0.1:9/f", tmp_path / "f", checksum="sha256:ab")
    assert (tmp_path / "f.part").exists()


def test_progress_ends_with_all_that_came(server, reply, tmp_path) -> None:
    server.replies(reply(body=b"abc"))
    seen = []
    download_with_progress(
        server.url, tmp_path / "f", lambda *now: seen.append(now), chunk_size=1 << 30
    )
    assert seen[-1] == (3, 3)
    server.replies(reply(body=b""))
    download_with_progress(server.url, tmp_path / "g", lambda *now: seen.append(now))
    assert seen[-1] == (0, 0)


def test_an_upload_follows_a_redirect_with_its_whole_body(server, reply, tmp_path) -> None:
    source = tmp_path / "f"
    source.write_bytes(BODY)
    server.replies(reply(307, headers={"Location": "/there"}), reply(201))
    assert upload_with_retry(f"{server.url}/here", source).status_code == 201
    assert [asked[3] for asked in server.asked] == [BODY, BODY]


def test_what_is_no_address_is_refused_without_showing_its_password() -> None:
    for url in ("db", "gopher://user:hunter2@host/", "http://user:hunter2@host:port"):
        with pytest.raises(ValidationError) as caught:
            check_connectivity(url)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(ValidationError, match="nan"):
        wait_for_port(9, timeout=math.nan)
