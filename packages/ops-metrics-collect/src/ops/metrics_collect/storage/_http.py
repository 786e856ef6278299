"""What storages behind HTTP services share: they take objects and give none back.

Retries, Retry-After and the total time are those of `ops.resilience.HTTPClient`. Repeating an upload
is harmless: names and message ids are the same, so the receiver knows what it has. Secrets are
struck from every message of an error, and no third-party error, which might hold them, is chained.
"""

from __future__ import annotations

import functools
import ssl
from typing import IO, TYPE_CHECKING, Any, NoReturn

from ops.foundation.helpers import LazyImport
from ops.metrics_collect.errors import ParameterError, PutOnlyError, StorageError
from ops.metrics_collect.secrets import proxy_with_scheme, redacted, secrets_in
from ops.metrics_collect.storage._base import BaseStorage, seekable
from ops.resilience import HTTPClient, HTTPError, RetryConfig

if TYPE_CHECKING:
    import contextlib

    from ops.foundation.files import StrPath

__all__ = ["RETRY", "HTTPStorage"]

httpx: Any = LazyImport("httpx", "ops-metrics-collect[http]")

RETRY = RetryConfig(max_attempts=6, initial_delay=0.5, max_delay=30.0, timeout=300.0)


class HTTPStorage(BaseStorage):
    """The base of put-only storages; subclasses define `send`."""

    def __init__(
        self,
        *,
        proxy_url: str | None = None,
        verify_cert_path: StrPath | None = None,
        session_cert: tuple[StrPath, StrPath] | None = None,
        timeout_seconds: float = 60.0,
        retry: RetryConfig = RETRY,
        secrets: tuple[str | None, ...] = (),
    ) -> None:
        self._proxy_url = proxy_with_scheme(proxy_url)
        self._verify_cert_path = verify_cert_path
        self._session_cert = session_cert
        self._timeout_seconds = timeout_seconds
        self._retry_config = retry
        self._secrets = [s for s in (*secrets, *secrets_in(self._proxy_url)) if s]

    def _put(
        self,
        name: str,
        source: IO[bytes],
        *,
        overwrite: bool,  # noqa: ARG002 - the receiver knows names that it has
    ) -> None:
        with seekable(source) as whole:
            try:
                self.send(name, whole)
            except HTTPError as error:
                raise StorageError(f"{self!r}: {self._redacted(str(error))}") from None

    def send(self, name: str, source: IO[bytes]) -> None:
        """Send an object."""
        raise NotImplementedError

    def get(self, name: str) -> contextlib.AbstractContextManager[str]:
        """Raise `PutOnlyError`."""
        self._refuse("get", name)

    def exists(self, name: str) -> bool:
        """Raise `PutOnlyError`."""
        self._refuse("exists", name)

    def remove(self, name: str) -> None:
        """Raise `PutOnlyError`."""
        self._refuse("remove", name)

    def glob(self, pattern: str) -> list[str]:
        """Raise `PutOnlyError`."""
        self._refuse("glob", pattern)

    def list(self, prefix: str = "") -> list[str]:
        """Raise `PutOnlyError`."""
        self._refuse("list", prefix)

    def close(self) -> None:
        """Close the connections; the next put opens new ones."""
        if "_http" in vars(self):
            self._http[1].close()
            del self._http

    @functools.cached_property
    def _http(self) -> tuple[HTTPClient, Any]:
        try:
            context = ssl.create_default_context(cafile=self._verify_cert_path)
            if self._session_cert:
                context.load_cert_chain(*self._session_cert)
        except OSError as error:
            paths = [p for p in (self._verify_cert_path, *(self._session_cert or ())) if p]
            raise StorageError(f"{self!r}: certificates {paths} are no use: {error}") from error
        try:
            client = httpx.Client(
                proxy=self._proxy_url, verify=context, timeout=self._timeout_seconds
            )
        except (ValueError, httpx.InvalidURL) as error:  # it quotes the proxy
            raise ParameterError(f"{self!r}: {self._redacted(str(error))}") from None
        return HTTPClient(client=client, retries=self._retry_config), client

    @property
    def client(self) -> HTTPClient:
        """The client of this storage."""
        return self._http[0]

    def _refuse(self, method: str, name: str) -> NoReturn:
        raise PutOnlyError(
            f"{type(self).__name__} takes objects only; {method}({name!r}) cannot be."
        )

    def _redacted(self, text: str) -> str:
        return redacted(text, self._secrets)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
