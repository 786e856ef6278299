"""Every answer to every question of a download: the file is one version, whole, or there is none.

The questions are what a download sends: nothing, or a Range with If-Range by ETag or by date. The answers
are what servers send back, right and wrong. After the first answer the server is honest.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.resilience import (
    DownloadError,
    HTTPError,
    HTTPStatusError,
    HTTPTimeoutError,
    RetryConfig,
    download_with_progress,
)

pytest.importorskip("httpx")

# Each byte shows its version and, nearly, its position.
OLD, NEW = bytes(i % 127 for i in range(1000)), bytes(128 + i % 127 for i in range(1000))
HAVE = 400
ETAG = {"ETag": '"v1"'}
DATE = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
OTHER = {"ETag": '"v2"', "Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}
QUICK = RetryConfig(max_attempts=4, initial_delay=0)


def rest(
    body: bytes, start: int, end: int | None = None, total: object = None, **changes: str
) -> tuple[int, bytes, dict[str, str]]:
    end = len(body) if end is None else end
    total = len(body) if total is None else total
    headers = {"Content-Range": f"bytes {start}-{end - 1}/{total}"} | changes
    return 206, body[start:end], headers


# name: (first answer, which version the file then is; None for the same). "V" stands for the validator of
# the first version, "W" for that of the second.
ANSWERS: dict[str, tuple[tuple[int, bytes, dict[str, str]], str, bytes]] = {
    "the rest": (rest(OLD, HAVE), "V", OLD),
    "the rest in two parts": (rest(OLD, HAVE, 700), "V", OLD),
    "the rest of unknown total": (rest(OLD, HAVE, total="*"), "V", OLD),
    "the whole": ((200, OLD, {}), "V", OLD),
    "the whole of another version": ((200, NEW, {}), "W", NEW),
    "a shorter whole": ((200, NEW[:100], {}), "W", NEW[:100]),
    "an empty whole": ((200, b"", {}), "W", b""),
    "the rest of another version": (rest(NEW, HAVE), "W", NEW),
    "the rest of another version without a validator": (rest(NEW, HAVE), "", NEW),
    "the rest of a longer file with the same validator": (rest(NEW + NEW, HAVE), "V", NEW + NEW),
    "a part that starts earlier": (rest(OLD, HAVE - 100), "V", OLD),
    "a part that starts later": (rest(OLD, HAVE + 100), "V", OLD),
    "a part that starts elsewhere in another version": (rest(NEW, HAVE + 1), "W", NEW),
    "a part of unknown position": ((206, OLD[HAVE:], {}), "V", OLD),
    "several parts": (
        (206, b"--x\r\n", {"Content-Type": "multipart/byteranges; boundary=x"}),
        "V",
        OLD,
    ),
    "a whole that is called a part": ((206, OLD, {}), "V", OLD),
    "a part that is called a whole": ((200, *rest(OLD, HAVE)[1:]), "V", OLD),
    "a part of another version that is called a whole": ((200, *rest(NEW, HAVE)[1:]), "W", NEW),
    "a whole with its range": ((200, *rest(NEW, 0)[1:]), "W", NEW),
    "more than announced": ((206, OLD[HAVE:], rest(OLD, HAVE, 700)[2]), "V", OLD),
    "no such range": ((416, b"", {"Content-Range": "bytes */1000"}), "V", OLD),
    "no such range, as the file is as long now": (
        (416, b"", {"Content-Range": f"bytes */{HAVE}"}),
        "",
        NEW[:HAVE],
    ),
    "no such range of unknown length": ((416, b"", {}), "V", OLD),
    "the rest, encoded": (
        (206, gzip.compress(OLD[HAVE:]), rest(OLD, HAVE, **{"Content-Encoding": "gzip"})[2]),
        "V",
        OLD,
    ),
    "the whole, encoded": ((200, gzip.compress(NEW), {"Content-Encoding": "gzip"}), "W", NEW),
    "the whole, as is": ((200, NEW, {"Content-Encoding": "identity"}), "W", NEW),
    "busy": ((503, b"", {"Retry-After": "0"}), "", OLD),
}


@pytest.mark.parametrize("question", ["nothing", "etag", "date"])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_download_is_one_whole_version_whatever_the_server_answers(
    server, reply, tmp_path, question, name
) -> None:
    (status, body, headers), version, current = ANSWERS[name]
    validator = DATE if question == "date" else ETAG
    versions = {"V": validator, "W": {k: OTHER[k] for k in validator}, "": {}}
    now = validator if current is OLD else versions["W"]
    target = tmp_path / "f"
    if question != "nothing":
        _leave_part(server, reply, target, validator)
    first = [reply(status, body, headers | versions[version])]

    def answer(request: tuple) -> object:
        if first:
            return first.pop()
        return _honest(reply, request[2], current, now)

    server.answer = answer
    if status == 416 and question == "nothing":
        with pytest.raises(HTTPStatusError, match="416"):
            download_with_progress(f"{server.url}/f", target, retries=QUICK)
        return
    download_with_progress(f"{server.url}/f", target, retries=QUICK)
    got = target.read_bytes()
    assert got == current, f"{sum(b < 128 for b in got)} of {len(got)} bytes are old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def _leave_part(server, reply, target: Path, validator: dict[str, str]) -> None:
    server.answer = lambda _: reply(200, OLD, validator, cut=HAVE)
    with pytest.raises(HTTPError):
        download_with_progress(f"{server.url}/f", target, retries=0)
    assert target.with_name("f.part").stat().st_size == HAVE


def _honest(reply, headers: dict[str, str], body: bytes, validator: dict[str, str]) -> object:
    wanted = headers.get("range")
    if wanted and headers.get("if-range") in validator.values():
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            return reply(416, b"", validator | {"Content-Range": f"bytes */{len(body)}"})
        status, part, span = rest(body, start)
        return reply(status, part, span | validator)
    return reply(200, body, validator)


def test_each_question_is_really_asked(server, reply, tmp_path) -> None:
    for validator in (ETAG, DATE):
        target = tmp_path / next(iter(validator))
        server.answer = lambda _, v=validator: reply(200, OLD, v, cut=HAVE)
        with pytest.raises(HTTPError):
            download_with_progress(f"{server.url}/f", target, retries=0)
        server.answer = lambda r, v=validator: _honest(reply, r[2], OLD, v)
        download_with_progress(f"{server.url}/f", target, retries=0)
        headers = server.asked[-1][2]
        assert headers["range"] == f"bytes={HAVE}-"
        assert headers["if-range"] in validator.values()


def test_attempts_that_get_on_do_not_use_up_the_retries(
    server, reply, tmp_path, monkeypatch
) -> None:
    body = os.urandom(5000)

    def answer(request: tuple) -> object:
        start = int(request[2].get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        status, part, span = rest(body, start)
        if start == 0:
            return reply(200, body, ETAG, cut=500)
        return reply(status, part, span | ETAG, cut=500)

    server.answer = answer
    done = download_with_progress(f"{server.url}/f", tmp_path / "f", retries=QUICK)
    assert done.read_bytes() == body
    assert len(server.asked) == 10


def test_a_server_that_cannot_resume_uses_up_the_retries(server, reply, tmp_path) -> None:
    cuts = [500] * 100
    server.answer = lambda _: reply(200, OLD, ETAG, cut=cuts.pop())
    with pytest.raises(HTTPError):
        download_with_progress(f"{server.url}/f", tmp_path / "f", retries=QUICK)
    assert len(server.asked) == 4


@pytest.mark.parametrize("status", [202, 204])
def test_a_success_that_brings_no_file_is_an_error(server, reply, tmp_path, status) -> None:
    server.replies(reply(status))
    with pytest.raises(DownloadError, match=f"answered {status}"):
        download_with_progress(f"{server.url}/f", tmp_path / "f", retries=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_an_encoding_that_cannot_be_undone_is_refused(server, reply, tmp_path) -> None:
    server.replies(reply(200, b"?", {"Content-Encoding": "sdch"}))
    with pytest.raises(DownloadError, match="sdch"):
        download_with_progress(f"{server.url}/f", tmp_path / "f", retries=QUICK)
    assert not (tmp_path / "f").exists()


def test_an_archive_that_is_labelled_as_encoded_is_kept_as_it_is(server, reply, tmp_path) -> None:
    archive = gzip.compress(OLD)
    server.replies(reply(200, archive, {"Content-Encoding": "x-gzip"}))
    digest = hashlib.sha256(archive).hexdigest()
    download_with_progress(f"{server.url}/f.tar.gz?x=1", tmp_path / "f", checksum=digest)


def test_a_download_ends_after_its_total_time(server, reply, tmp_path) -> None:
    import threading

    leave = threading.Event()

    def answer(_: tuple) -> object:
        leave.wait(60)
        return reply(200, OLD)

    server.answer = answer
    with pytest.raises(HTTPTimeoutError, match=r"0\.1 s"):
        download_with_progress(f"{server.url}/f", tmp_path / "f", total_timeout=0.1, timeout=60)
    leave.set()


# ---------------------------------------------------------------------- what a destination is


def test_an_existing_file_keeps_its_mode_and_attributes(server, reply, tmp_path) -> None:
    server.replies(reply(200, b"new"))
    target = tmp_path / "key"
    target.write_text("old")
    target.chmod(0o600)
    try:
        os.setxattr(target, "user.origin", b"here")
        attributes = {"user.origin": b"here"}
    except (AttributeError, OSError):
        attributes = {}
    seen: list[int] = []
    part = tmp_path / "key.part"
    download_with_progress(
        server.url, target, lambda *_: seen.append(stat.S_IMODE(part.stat().st_mode))
    )
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert set(seen) == {0o600}
    for name, value in attributes.items():
        assert os.getxattr(target, name) == value


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="needs extended attributes")
def test_where_an_acl_cannot_be_set_the_group_does_not_get_in(
    server, reply, tmp_path, monkeypatch
) -> None:
    server.replies(reply(200, b"new"))
    target = tmp_path / "secret"
    target.write_text("old")
    # Owner rw; user 1002 rw; the owning group nothing; mask rw; others nothing (linux/posix_acl_xattr.h).
    entries = [(1, 6, -1), (2, 6, 1002), (4, 0, -1), (16, 6, -1), (32, 0, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(target, "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("needs a file system with ACLs")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "setxattr", refuse)
    download_with_progress(server.url, target)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_link_stays_and_what_it_points_to_is_replaced(server, reply, tmp_path) -> None:
    server.replies(reply(200, b"new"))
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    assert download_with_progress(server.url, tmp_path / "link") == tmp_path / "link"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def _folder(path: Path) -> None:
    path.mkdir()


def _nothing(path: Path) -> None:
    """Its folder is missing."""


@pytest.mark.parametrize(
    ("make", "name"), [(_folder, "d"), (os.mkfifo, "fifo"), (_nothing, "no/such")]
)
def test_a_destination_that_can_be_no_file_is_refused_before_anything_is_fetched(
    server, reply, tmp_path, make: Callable[[Path], None], name
) -> None:
    server.replies(reply(200, b"new"))
    make(tmp_path / name)
    with pytest.raises(OSError, match="destination"):
        download_with_progress(server.url, tmp_path / name)
    assert server.asked == []
