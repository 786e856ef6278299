"""Large files over HTTP: downloads that resume (extra `http`).

A download grows in `NAME.part` and takes its name by an atomic rename when it is complete and its
checksum fits, so a file with the final name is always whole. `NAME.part.tag` holds what later answers are
compared with, a line each: the validator of the first reply (ETag or Last-Modified), a digest of the
address, as a validator distinguishes versions of one address only, and the size of the whole. A later
request asks for the rest with If-Range. What comes back is appended only if it is proven to be the rest
of the same version: many servers know Range and ignore If-Range. Everything else starts over.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from ops.foundation.atomic_files import keep_metadata
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.deadlines import Deadline
from ops.foundation.errors import ValidationError
from ops.foundation.files import atomic_write
from ops.foundation.hashing import calculate_file_hash
from ops.foundation.helpers import LazyImport
from ops.resilience import _http_policy
from ops.resilience._http_policy import RetriedError
from ops.resilience._retry_policy import Policy
from ops.resilience.errors import DownloadError
from ops.resilience.uploads import TransferClient, upload_with_retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from ops.resilience.backoff import RetryConfig

__all__ = ["download_with_progress", "upload_with_retry"]

_httpx: Any = LazyImport("httpx", extra="ops-resilience[http]")
Progress = Callable[[int, "int | None"], object]
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_DECODED = frozenset({"gzip", "deflate"})  # what httpx decodes without further packages


def download_with_progress(
    url: str,
    destination: str | os.PathLike[str],
    progress_callback: Progress | None = None,
    *,
    resume: bool = True,
    checksum: str | None = None,
    chunk_size: int = 1 << 16,
    retries: int | RetryConfig = 3,
    timeout: float | None = None,
    total_timeout: float | None = None,
    headers: dict[str, str] | None = None,
    client: httpx.Client | None = None,
) -> Path:
    """Fetch *url* into the file *destination* and return its path.

    An existing file keeps its mode, owner and attributes, a link what it points to. One *destination* is
    for one call at a time.

    Args:
        url: what to fetch.
        destination: a regular file, or a name in an existing folder.
        progress_callback: called with (bytes so far, total bytes or None), once per *chunk_size* bytes
            and at the end.
        resume: whether what an earlier call has left is continued, if the server can.
        checksum: the expected SHA-256 in hex.
        chunk_size: bytes between two calls of *progress_callback*.
        retries: how many repetitions without progress, or a RetryConfig. An attempt that brought bytes
            does not count.
        timeout: seconds for each phase of a request: connecting, each read (default: 30, or those of
            *client*).
        total_timeout: seconds for all of it (default: no limit, or the `timeout` of a RetryConfig).
        headers: sent with each request.
        client: an `httpx.Client` of yours; it stays open.

    Raises:
        HTTPStatusError: the server answers with another status.
        HTTPTimeoutError: a phase, or all of it, took too long.
        HTTPError: there was no answer.
        DownloadError: the file was cut short, has another checksum, or comes in an unknown encoding.
        OSError: *destination* cannot be such a file; nothing is fetched then.

    Raises `ValidationError` for a *checksum* that is no SHA-256, for a coroutine function, and for
    settings that make no sense.
    """
    refuse_coroutine_function(progress_callback, "progress_callback")
    if checksum is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", checksum):
        raise ValidationError(f"checksum={checksum!r} is no SHA-256: 64 hexadecimal digits.")
    target = _checked_target(Path(destination))
    part = target.with_name(target.name + ".part")
    if not resume:
        _discard(part)
    policy = Policy(_http_policy.retry_config(retries), name="download")
    limits = [s for s in (total_timeout, policy.config.timeout) if s is not None]
    download = _Download(url, part, progress_callback, chunk_size, dict(headers or {}))
    with TransferClient(client, timeout) as opened:
        _run(download, opened, policy, Deadline(min(limits)) if limits else None)
    if checksum is not None:
        found = calculate_file_hash(part)
        if found != checksum.lower():
            _discard(part)
            raise DownloadError(
                f"{_http_policy.redacted(url)} has SHA-256 {found}, expected {checksum}.",
                suggestions=("The partial file was removed; the next call starts over.",),
            )
    _take_over(target, part)
    part.replace(target)
    _discard(part)
    return Path(destination)


def _run(
    download: _Download, client: TransferClient, policy: Policy, deadline: Deadline | None
) -> None:
    """Make attempts until the part is whole; only those in a row without progress use up the retries.

    Progress is a part that is longer than ever: a server that cannot resume has it start over.
    """
    from ops.resilience._http_client import deadline_of

    failures, waited, start = 0, 0.0, time.monotonic()
    longest = download.size()
    while True:
        try:
            with deadline_of(deadline):
                download.run(client)
        except RetriedError as failed:
            size = download.size()
            failures, longest = (1, size) if size > longest else (failures + 1, longest)
            decision = policy.config.decision(failed)
            if decision is False:
                raise failed.error from failed.error.__cause__
            seconds = policy.next_delay(failed, decision, failures, start)
            if seconds is None or (deadline is not None and deadline.remaining() <= seconds):
                policy.failing(failed, failures)
                raise failed.error from failed.error.__cause__
            policy.retrying(failed, failures, seconds, waited, (), {})
        else:
            return
        time.sleep(seconds)
        waited += seconds


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of the version that the part belongs to."""

    tag: str
    total: int | None


@dataclass(frozen=True, slots=True)
class _Range:
    """A Content-Range: the bytes from *start* to *end*, which counts, of *total*."""

    start: int
    end: int
    total: int | None


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

    def size(self) -> int:
        """Return how many bytes are on disk."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def run(self, opened: TransferClient) -> None:
        headers = dict(self.headers) | {"Accept-Encoding": "identity"}
        have = self.size()
        known = self._remembered() if have else None
        if known is not None:
            headers |= {"Range": f"bytes={have}-", "If-Range": known.tag}
        with (
            _http_policy.offering(repeatable=True),
            _http_policy.translating("GET", self.url),
            opened.client.stream("GET", self.url, headers=headers, **opened.options) as response,
        ):
            self._receive(response, have, known)

    def _receive(self, response: httpx.Response, have: int, known: _Known | None) -> None:
        """Decide what *response* is, and write it; *known* is None when the whole was requested."""
        status, span = response.status_code, _span(response)
        if status == 416 and known is not None:
            if self._is_complete(response, have, known):
                return  # all had come when the last call was interrupted
            self._start_over("changed on the way")
        if not response.is_success:
            # Only the start: an error's body has any length.
            body = next(response.iter_bytes(1024), b"").decode(errors="replace")
            raise _http_policy.status_error(response, body)
        if status not in {200, 203, 206}:
            raise DownloadError(
                f"{_http_policy.redacted(self.url)} answered {status}, which brings no file."
            )
        if status == 206 and known is not None:
            self._check_rest(response, span, have, known)
            total = known.total if span is None or span.total is None else span.total
            self._write(response, have, total, None if span is None else span.end + 1)
            return
        if status == 206 and span is None:
            self._start_over("sent a part of unknown position")
        if span is not None and (span.start, span.end + 1) != (0, span.total):
            # Also of a 200: some servers send the range with it, and then that is all they send.
            self._start_over(f"sent bytes {span.start} to {span.end} where the whole was due")
        # Before there is a tag that is not of these bytes.
        self.part.unlink(missing_ok=True)
        self._remember(response)
        total = None if _encoding(response) else _length(response)
        self._write(response, 0, total, total)

    def _check_rest(
        self, response: httpx.Response, span: _Range | None, have: int, known: _Known
    ) -> None:
        """Start over unless *response* is proven to be the rest of the version that is *known*."""
        if span is None or span.start != have:
            self._start_over("sent another range than requested")
        if _encoding(response):
            self._start_over("encoded the rest of a file that it had sent plain")
        if _validator(response) != known.tag:
            self._start_over("sent the rest of another version, in spite of If-Range")
        if None not in {span.total, known.total} and span.total != known.total:
            self._start_over("sent the rest of a file of another size")
        if span.total is None and known.total is None:
            self._start_over("does not name the size of the whole")

    def _is_complete(self, response: httpx.Response, have: int, known: _Known) -> bool:
        """Return whether there is no rest because the part is the whole *known* version."""
        if response.headers.get("Content-Range") != f"bytes */{have}":
            return False
        if _validator(response) not in {"", known.tag}:
            return False
        # Without a size from the start, only a strong validator speaks for it.
        return known.total == have or (known.total is None and known.tag.startswith('"'))

    def _write(
        self, response: httpx.Response, start: int, total: int | None, end: int | None
    ) -> None:
        """Write the body from *start*; it must end at *end*, and the file at *total*."""
        with _opened(self.part, start) as file:
            received = self._copy(response, file, start, total)
            file.flush()
            os.fsync(file.fileno())
        if end is not None and received > end:
            self._start_over("sent more than it had announced")
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
        from ops.resilience._http_client import check_deadline

        shown = -self.chunk_size
        # As it comes: httpx would lose up to a whole chunk of its own when the connection breaks.
        # What a transport for tests answers with is read already, and decoded.
        is_read = self._is_decoded(response) or response.is_stream_consumed
        chunks = response.iter_bytes() if is_read else response.iter_raw()
        for chunk in chunks:
            file.write(chunk)
            received += len(chunk)
            if self.progress is not None and (
                received - shown >= self.chunk_size or received == total
            ):
                shown = received
                self.progress(received, total)
            check_deadline()  # a client that was given does not
        if self.progress is not None and shown != received:
            self.progress(received, total)
        return received

    def _is_decoded(self, response: httpx.Response) -> bool:
        encoding = _encoding(response)
        path = self.url.partition("?")[0].lower()
        if not encoding or (encoding.endswith("gzip") and path.endswith((".gz", ".tgz"))):
            return False  # servers label archives so that they send as they are
        if encoding not in _DECODED:
            raise DownloadError(
                f"{_http_policy.redacted(self.url)} comes in the encoding {encoding!r}, although "
                "none was accepted."
            )
        return True

    def _remembered(self) -> _Known | None:
        """Return what the part is of, None when that is unknown or another address."""
        if not self.tag.exists():
            return None
        lines = [*self.tag.read_text("ascii", "replace").split("\n"), "", ""]
        tag, address, total = (line.strip() for line in lines[:3])
        if not tag or address not in {"", self._address(tag)}:
            return None
        return _Known(tag, int(total) if total.isdigit() else None)

    def _address(self, tag: str) -> str:
        # Signed addresses have another query each time; two files often have one date.
        url = self.url.partition("?")[0] if tag.startswith('"') else self.url
        return hashlib.sha256(url.encode()).hexdigest()

    def _remember(self, response: httpx.Response) -> None:
        tag = _validator(response)
        # Bytes outside ASCII could not be sent back; the length of what is encoded is not the file's.
        may_resume = response.headers.get("Accept-Ranges") != "none" and not _encoding(response)
        if tag.isascii() and tag and may_resume:
            with atomic_write(self.tag, durable="none") as file:
                file.write(f"{tag}\n{self._address(tag)}\n{_length(response) or ''}\n")
        else:
            self.tag.unlink(missing_ok=True)


def _checked_target(destination: Path) -> Path:
    """Return where the file really is; raises OSError for what cannot be replaced by a file."""
    target = Path(os.path.realpath(destination))  # a link stays, and what it points to is replaced
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise FileNotFoundError(
                errno.ENOENT, "the folder of the destination does not exist", str(target.parent)
            ) from None
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "the destination is a folder", str(destination))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "the destination is no regular file", str(destination))
    return target


@contextlib.contextmanager
def _opened(part: Path, start: int) -> Iterator[BinaryIO]:
    """Open *part* for writing at *start*; private while it replaces a file that may be."""
    target = part.with_name(part.name.removesuffix(".part"))
    mode = 0o600 if target.exists() else 0o666
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), mode)
    with os.fdopen(descriptor, "r+b") as file:
        file.seek(start)
        file.truncate()
        yield file


def _take_over(target: Path, part: Path) -> None:
    """Give *part* the owner, mode and attributes (an ACL is one) of the file that it replaces."""
    try:
        before = target.stat()
    except FileNotFoundError:
        return
    with part.open("rb+") as file:
        keep_metadata(file.fileno(), os.fspath(part), os.fspath(target), before)


def _span(response: httpx.Response) -> _Range | None:
    found = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if not found:
        return None
    return _Range(int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3]))


def _length(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _encoding(response: httpx.Response) -> str:
    """Return the content coding, "" when there is none."""
    encoding: str = response.headers.get("Content-Encoding", "").strip().lower()
    return "" if encoding == "identity" else encoding


def _validator(response: httpx.Response) -> str:
    """Return what identifies the version of a file: a strong ETag, else Last-Modified, else ""."""
    etag: str = response.headers.get("ETag", "")
    # A weak one means that the meaning is the same, not the bytes (RFC 9110, 13.1.5).
    modified: str = response.headers.get("Last-Modified", "")
    return modified if not etag or etag.startswith("W/") else etag


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".tag").unlink(missing_ok=True)
