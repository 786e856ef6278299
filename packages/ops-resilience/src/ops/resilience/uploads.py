"""Uploads that start over from where the body began (extra `http`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from ops.foundation.deadlines import Deadline
from ops.foundation.helpers import LazyImport
from ops.resilience import _http_policy
from ops.resilience.retrying import with_retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from ops.resilience.backoff import RetryConfig

__all__ = ["upload_with_retry"]

_httpx: Any = LazyImport("httpx", extra="ops-resilience[http]")
_TIMEOUT = 30.0


def upload_with_retry(
    url: str,
    source: str | os.PathLike[str] | BinaryIO,
    *,
    method: str = "PUT",
    retries: int | RetryConfig = 3,
    timeout: float | None = None,
    total_timeout: float | None = None,
    headers: dict[str, str] | None = None,
    client: httpx.Client | None = None,
) -> httpx.Response:
    """Send a file to *url* and return the response; each attempt starts from where the body began.

    Args:
        url: where to.
        source: a path, or an open file, which must be seekable.
        method: PUT by default. A POST is repeated too: who calls this wants it there.
        retries: how many repetitions, or a RetryConfig.
        timeout: seconds for each phase of a request (default: 30, or those of *client*).
        total_timeout: seconds for all of it, repetitions included (default: no limit).
        headers: sent with the request.
        client: an `httpx.Client` of yours; it stays open.

    Raises HTTPStatusError, HTTPTimeoutError, HTTPError; `ValidationError` for settings that make no
    sense.
    """
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            return upload_with_retry(
                url,
                file,
                method=method,
                retries=retries,
                timeout=timeout,
                total_timeout=total_timeout,
                headers=headers,
                client=client,
            )
    _httpx.import_module()  # so that a missing extra is named
    from ops.resilience._http_client import deadline_of

    deadline = None if total_timeout is None else Deadline(total_timeout)
    body = _Rewound(source)

    def attempt() -> httpx.Response:
        with (
            TransferClient(client, timeout) as opened,
            deadline_of(deadline),
            _http_policy.offering(repeatable=True),
            _http_policy.translating(method, url),
        ):
            response = opened.client.request(
                method,
                url,
                content=body,
                headers={"Content-Length": str(body.length)} | dict(headers or {}),
                **opened.options,
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


class TransferClient:
    """The given client, or one of our own that is closed at the end; `options` go with each request."""

    client: httpx.Client

    def __init__(self, client: httpx.Client | None, timeout: float | None) -> None:
        self._given, self._timeout = client, _http_policy.checked_seconds("timeout", timeout)
        # What is given beside a client goes before its own.
        self.options: dict[str, Any] = (
            {} if client is None or timeout is None else {"timeout": timeout}
        )

    def __enter__(self) -> Self:
        from ops.resilience._http_client import BoundClient

        seconds = _TIMEOUT if self._timeout is None else self._timeout
        self.client = self._given or BoundClient(timeout=seconds, follow_redirects=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._given is None:
            self.client.close()
