"""Large files over HTTP: downloads that resume, uploads that start over (extra `http`).

A download grows in `NAME.part` and takes its name by an atomic rename when it is complete and its
checksum fits, so a file with the final name is always whole. The validator of the first reply (ETag
or Last-Modified) is kept in `NAME.part.tag`; a later call asks for the rest with If-Range, so a file
that has changed meanwhile is fetched from its beginning instead of being glued together. The second
line there is a digest of the address, as a validator tells apart versions of one address only.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from ops.foundation.errors import ValidationError
from ops.foundation.files import atomic_write
from ops.foundation.hashing import calculate_file_hash
from ops.foundation.helpers import LazyImport
from ops.resilience import _http_policy
from ops.resilience._http_policy import RetriedError
from ops.resilience.errors import DownloadError
from ops.resilience.retrying import with_retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from ops.resilience.backoff import RetryConfig

__all__ = ["download_with_progress", "upload_with_retry"]

_httpx: Any = LazyImport("httpx", extra="ops-resilience[http]")
Progress = Callable[[int, "int | None"], object]


def download_with_progress(
    url: str,
    destination: str | os.PathLike[str],
    progress_callback: Progress | None = None,
    *,
    resume: bool = True,
    checksum: str | None = None,
    chunk_size: int = 1 << 16,
    retries: int | RetryConfig = 3,
    timeout: float = 30.0,
    headers: dict[str, str] | None = None,
    client: httpx.Client | None = None,
) -> Path:
    """Fetch *url* into the file *destination* and return its path.

    *progress_callback* gets (bytes so far, total bytes or None), once per *chunk_size* bytes and at
    the end. *checksum* is the expected SHA-256 in hex. An interrupted download goes on where it
    stopped, in this call or the next, if the server can (*resume*). *timeout* in seconds bounds each
    read, not the whole. One *destination* is for one call at a time.

    Raises HTTPStatusError, HTTPError, DownloadError (cut short, or another checksum).
    """
    if checksum is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", checksum):
        raise ValidationError(f"checksum={checksum!r} is no SHA-256: 64 hexadecimal digits.")
    target = Path(destination)
    part = target.with_name(target.name + ".part")
    if not resume:
        _discard(part)
    download = _Download(url, part, progress_callback, chunk_size, dict(headers or {}))

    def attempt() -> None:
        with _client(client, timeout) as opened:
            download.run(opened)

    with _http_policy.giving_up():
        with_retry(_http_policy.retry_config(retries))(attempt)()
    if checksum is not None:
        found = calculate_file_hash(part)
        if found != checksum.lower():
            _discard(part)
            raise DownloadError(
                f"{_http_policy.redacted(url)} has SHA-256 {found}, expected {checksum}.",
                suggestions=("The partial file was removed; the next call starts over.",),
            )
    part.replace(target)
    _discard(part)
    return target


class _Download:
    """One file on its way; `run` makes one attempt and leaves on disk what has come."""

    def __init__(
        self,
        url: str,
        part: Path,
        progress: Progress | None,
        chunk_size: int,
        headers: dict[str, str],
    ) -> None:
        self.url, self.part, self.progress = url, part, progress
        self.chunk_size, self.headers = chunk_size, headers
        self.tag = part.with_name(part.name + ".tag")

    def run(self, client: httpx.Client) -> None:
        headers = dict(self.headers) | {"Accept-Encoding": "identity"}
        have = self.part.stat().st_size if self.part.exists() else 0
        tag = self._remembered() if have else ""
        if tag:
            headers |= {"Range": f"bytes={have}-", "If-Range": tag}
        with (
            _http_policy.offering(repeatable=True),
            _http_policy.translating("GET", self.url),
            client.stream("GET", self.url, headers=headers) as response,
        ):
            self._receive(response, have if tag else 0, tag)

    def _receive(self, response: httpx.Response, have: int, tag: str) -> None:
        if response.status_code == 416 and have:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # all had come when the last call was interrupted
            self._start_over("changed on the way")
        if not response.is_success:
            # Only the start: an error's body has any length.
            body = next(response.iter_bytes(1024), b"").decode(errors="replace")
            raise _http_policy.status_error(response, body)
        total = _total(response)
        start = have if response.status_code == 206 else 0
        if response.status_code == 206 and _range_start(response) != have:
            self._start_over("sent another range than asked for")
        etag = response.headers.get("ETag", tag)
        if start and tag.startswith('"') and etag != tag:
            self._start_over("sent the rest of another version, in spite of If-Range")
        if start == 0:
            self.part.unlink(missing_ok=True)  # before there is a tag that is not of these bytes
            self._remember(response)
        with self.part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            received = self._copy(response, file, start, total)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and received != total:
            raise RetriedError(
                DownloadError(
                    f"{_http_policy.redacted(self.url)} ended after {received} of {total} bytes."
                )
            )

    def _start_over(self, reason: str) -> NoReturn:
        _discard(self.part)
        raise RetriedError(DownloadError(f"{_http_policy.redacted(self.url)} {reason}."))

    def _copy(
        self, response: httpx.Response, file: BinaryIO, received: int, total: int | None
    ) -> int:
        told = -self.chunk_size
        # As it comes: httpx would lose up to a whole chunk of its own when the connection breaks.
        for chunk in response.iter_raw():
            file.write(chunk)
            received += len(chunk)
            if self.progress is not None and (
                received - told >= self.chunk_size or received == total
            ):
                told = received
                self.progress(received, total)
        if self.progress is not None and told != received:
            self.progress(received, total)
        return received

    def _remembered(self) -> str:
        """Return the validator of what has come, "" when it came from another address."""
        if not self.tag.exists():
            return ""
        tag, _, address = self.tag.read_text("ascii", "replace").partition("\n")
        return tag if address.strip() in {"", self._address(tag)} else ""

    def _address(self, tag: str) -> str:
        # Signed addresses have another query each time; two files often have one date.
        url = self.url.partition("?")[0] if tag.startswith('"') else self.url
        return hashlib.sha256(url.encode()).hexdigest()

    def _remember(self, response: httpx.Response) -> None:
        etag = response.headers.get("ETag", "")
        # A weak validator promises only that the meaning is the same, not the bytes (RFC 9110, 13.1.5).
        tag = response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
        tag = tag or response.headers.get("Last-Modified", "")
        # Bytes outside ASCII could not be sent back.
        if tag.isascii() and tag and response.headers.get("Accept-Ranges") != "none":
            with atomic_write(self.tag, durable="none") as file:
                file.write(f"{tag}\n{self._address(tag)}\n")
        else:
            self.tag.unlink(missing_ok=True)


def upload_with_retry(
    url: str,
    source: str | os.PathLike[str] | BinaryIO,
    *,
    method: str = "PUT",
    retries: int | RetryConfig = 3,
    timeout: float = 30.0,
    headers: dict[str, str] | None = None,
    client: httpx.Client | None = None,
) -> httpx.Response:
    """Send a file to *url*; each attempt starts from where the body began. Raises HTTPError.

    An open file must be seekable. A POST is repeated too: whoever calls this wants it there.
    """
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            return upload_with_retry(
                url,
                file,
                method=method,
                retries=retries,
                timeout=timeout,
                headers=headers,
                client=client,
            )
    body = _Rewound(source)

    def attempt() -> httpx.Response:
        with (
            _client(client, timeout) as opened,
            _http_policy.offering(repeatable=True),
            _http_policy.translating(method, url),
        ):
            response = opened.request(
                method,
                url,
                content=body,
                headers={"Content-Length": str(body.length)} | dict(headers or {}),
            )
            return _http_policy.checked(response)

    with _http_policy.giving_up():
        return with_retry(_http_policy.retry_config(retries))(attempt)()


class _Rewound:
    """A file's rest, from its beginning each time it is iterated: by a retry, or by a redirect."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._begin = file, file.tell()
        self.length = file.seek(0, os.SEEK_END) - self._begin

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._begin)
        while piece := self._file.read(1 << 16):
            yield piece


class _client:  # noqa: N801 - reads as a function
    """The given client, or one of our own that is closed at the end."""

    def __init__(self, client: httpx.Client | None, timeout: float) -> None:
        self._given, self._timeout = client, timeout

    def __enter__(self) -> httpx.Client:
        client: httpx.Client = self._given or _httpx.Client(
            timeout=self._timeout, follow_redirects=True
        )
        self._own = client if self._given is None else None
        return client

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.close()


def _total(response: httpx.Response) -> int | None:
    span = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if span:
        return int(span[1])
    if response.status_code == 206:
        return None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _range_start(response: httpx.Response) -> int | None:
    span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(span[1]) if span else None


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".tag").unlink(missing_ok=True)
