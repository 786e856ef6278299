"""Files of any size in and out of a volume: the Files API of a workspace, streamed with httpx.

The connector's PUT and GET hold a file in memory; here only a piece of it is, whatever its size. An upload
that is cut off, or that the workspace has no time for (503 with Retry-After), starts over; a download
goes on where it stopped (`ops.resilience.transfers`). The digest of an upload is taken from the bytes as
they are sent. Tokens are in headers that no error quotes.
"""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import re
import ssl
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any, TypeVar

from ops.foundation.helpers import LazyImport
from ops.registry.databricks.failures import ADVICE, Failure, failure_of, is_absent_file
from ops.registry.errors import ArtifactNotFoundError, StorageError
from ops.resilience.backoff import RetryConfig
from ops.resilience.errors import HTTPError, HTTPStatusError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    import httpx

    from ops.registry.databricks.auth import Credentials
    from ops.registry.databricks.config import WarehouseAccess
    from ops.resilience.http import HTTPClient

__all__ = ["LARGEST", "FilesApi"]

T = TypeVar("T")

_httpx: Any = LazyImport("httpx", extra="ops-registry[databricks]")
#: What one upload may have, in bytes: Databricks takes no more.
LARGEST = 5 << 30
#: Seconds that one read or write may take; not the whole.
_TIMEOUT = 60.0
_RETRIES = RetryConfig(max_attempts=6, initial_delay=0.5, max_delay=15.0)
_REFUSED = re.compile(r"invalid access token|token is expired|invalid token", re.IGNORECASE)


class FilesApi:
    """``/api/2.0/fs`` of the host; paths are absolute (``/Volumes/…``). Threads may share it."""

    def __init__(
        self, access: WarehouseAccess, credentials: Credentials, *, retries: RetryConfig = _RETRIES
    ) -> None:
        self._access = access
        self._credentials = credentials
        self._retries = retries
        self._mutex = threading.Lock()
        self._opened: httpx.Client | None = None
        self._process = -1

    def put(self, source: pathlib.Path, path: str) -> tuple[int, str]:
        """Upload a file, whose folders are made; return its size and SHA-256 as they were sent."""
        from ops.resilience.transfers import upload_with_retry

        size = source.stat().st_size
        if size > LARGEST:
            raise StorageError(
                f"{str(source)!r} has {size} bytes, and the Files API takes {LARGEST} at the most."
            )
        address = f"{self._address('files', path)}?overwrite=true"
        kind = {"Content-Type": "application/octet-stream"}
        with _Hashed(source) as body:

            def send() -> None:
                self._make_folder(posixpath.dirname(path))
                body.seek(0)
                upload_with_retry(
                    address, body, headers=kind, client=self._client(), retries=self._retries
                )

            self._with_token(send, path)
        return body.size, body.digest.hexdigest()

    def get(self, path: str, target: pathlib.Path) -> None:
        """Download a file to *target*, which appears when all of it has come."""
        from ops.resilience.transfers import download_with_progress

        address = self._address("files", path)
        part = target.with_name(f"{target.name}.part")
        try:
            self._with_token(
                lambda: download_with_progress(
                    address, target, client=self._client(), retries=self._retries
                ),
                path,
            )
        finally:
            for left in (part, part.with_name(f"{part.name}.tag")):
                left.unlink(missing_ok=True)

    def files(self, path: str) -> Iterator[tuple[str, float]]:
        """Yield all files below a folder, each with the time of its last change in seconds."""
        query = ""
        while True:
            try:
                page = self._with_token(
                    lambda at=query: self._get_json("directories", path, at),  # type: ignore[misc]  # bound now
                    path,
                )
            except ArtifactNotFoundError:
                return
            for entry in page.get("contents", ()):
                if entry.get("is_directory"):
                    yield from self.files(entry["path"])
                else:
                    yield entry["path"], entry["last_modified"] / 1000
            if not page.get("next_page_token"):
                return
            query = f"?page_token={urllib.parse.quote(page['next_page_token'], safe='')}"

    def describe(self, path: str) -> dict[str, Any]:
        """Return what the REST API of the workspace answers for *path*, an object of JSON."""
        address = f"{self._access.address}{path}"
        found: dict[str, Any] = self._with_token(lambda: self._http().get(address), path)
        return found

    def close(self) -> None:
        """Close the connections; the next request opens others."""
        with self._mutex:
            client, self._opened = self._opened, None
        if client is not None:
            client.close()

    def _make_folder(self, path: str) -> None:
        self._http().put(self._address("directories", path))

    def _get_json(self, kind: str, path: str, query: str) -> dict[str, Any]:
        found: dict[str, Any] = self._http().get(f"{self._address(kind, path)}{query}")
        return found

    def _http(self) -> HTTPClient:
        from ops.resilience.http import HTTPClient

        return HTTPClient(retries=self._retries, client=self._client())

    def _address(self, kind: str, path: str) -> str:
        return f"{self._access.address}/api/2.0/fs/{kind}{urllib.parse.quote(path)}"

    def _client(self) -> httpx.Client:
        with self._mutex:
            opened = self._opened
            if opened is None or self._process != os.getpid():
                # httpx drops the Authorization header when a redirect leads to another host.
                opened = self._opened = _httpx.Client(
                    auth=self._authorized,
                    timeout=_TIMEOUT,
                    follow_redirects=True,
                    verify=ssl.create_default_context(cafile=self._access.ca_file),
                )
                self._process = os.getpid()  # a forked child has its own connections
            return opened

    def _authorized(self, request: httpx.Request) -> httpx.Request:
        request.headers.update(self._credentials.headers())
        return request

    def _with_token(self, ask: Callable[[], T], path: str) -> T:
        """Return what *ask* does, once more with another token where this one is refused."""
        try:
            try:
                return ask()
            except HTTPStatusError as error:
                if not (_is_refused(error) and self._credentials.renew()):
                    raise
                return ask()
        except HTTPError as error:
            raise self._translated(error, path) from None

    def _translated(self, error: HTTPError, path: str) -> Exception:
        message = self._credentials.hidden(str(error))[:500]
        failure = failure_of(error, str(error))
        if isinstance(error, HTTPStatusError):
            if _is_refused(error):
                return self._access.refused()
            if is_absent_file(error.status, str(error.body)):
                return ArtifactNotFoundError(f"The artifact {path!r} is not there any more.")
            if error.status == 403:
                failure = Failure.DENIED
        return StorageError(
            f"The Files API at {self._access.hostname!r} could not do it: {message}",
            suggestions=ADVICE.get(failure, ()),
        ).with_context(failure=failure)


class _Hashed(io.FileIO):
    """A file that is read from its beginning, as often as need be, and the SHA-256 of the last time."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(path, "rb")
        self.size = 0
        self.digest = hashlib.sha256()

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes."""
        piece = super().read(size) or b""
        self.digest.update(piece)
        self.size += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move; at the beginning the digest begins too."""
        at = super().seek(offset, whence)
        if at == 0:
            self.size, self.digest = 0, hashlib.sha256()
        return at


def _is_refused(error: HTTPStatusError) -> bool:
    return error.status == 401 or bool(_REFUSED.search(error.body))
