"""Who we are to Databricks: one header for the SQL connector and for the Files API.

A personal token is passed on as it is. Everything else is databricks-sdk's: OAuth of a service principal, profiles,
the CLIs of Databricks and Azure, managed identities and notebooks. It gets a token, and the next one before that
expires; both sides request the header before every request, so a long process never notices. `renew` is
for a token that the server refuses before its time. Headers that were issued are remembered, so that
`hidden` takes them out of messages too.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import MissingExtraError, OpsError
from ops.registry.databricks.config import SHORTEST_SECRET
from ops.registry.errors import BackendUnavailableError

if TYPE_CHECKING:
    from ops.registry.databricks.config import WarehouseAccess

__all__ = ["Credentials"]

_REMEMBERED = 8
#: Seconds that databricks-sdk may take for a request; on its own it tries for five minutes.
_TIMEOUT = 30


class Credentials:
    """Gives the Authorization header of an access; threads may share it."""

    def __init__(self, access: WarehouseAccess) -> None:
        self._access = access
        self._mutex = threading.Lock()
        self._client: Any = None
        self._issued: dict[str, None] = {}
        #: Why there was no token the last time, if there was none.
        self.failure: BackendUnavailableError | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers of a request now; it may wait for a token."""
        if self._access.token:
            return {"Authorization": f"Bearer {self._access.token}"}
        try:
            headers: dict[str, str] = self._config().authenticate()
        except Exception as error:
            if isinstance(error, OpsError):
                raise
            # databricks-sdk raises what its libraries do.
            self.failure = BackendUnavailableError(
                f"There is no token for {self._who()} to be had from "
                f"{self._access.hostname!r}: {self.hidden(str(error))[:300]}",
                suggestions=(self._advice(),),
            )
            raise self.failure from None
        self.failure = None
        self._remember(headers)
        return headers

    def renew(self) -> bool:
        """Forget a token that was refused; return whether another can be had."""
        with self._mutex:
            self._client = None
        return not self._access.token

    def hidden(self, text: str) -> str:
        """Return *text* without secrets: those of the access, and tokens that were issued."""
        for secret in tuple(self._issued):
            text = text.replace(secret, "***")
        return self._access.hidden(text)

    def _remember(self, headers: dict[str, str]) -> None:
        for value in headers.values():
            secret = value.removeprefix("Bearer ")
            if len(secret) >= SHORTEST_SECRET:
                self._issued[secret] = None
        while len(self._issued) > _REMEMBERED:
            self._issued.pop(next(iter(self._issued)), None)

    def _who(self) -> str:
        access = self._access
        if access.auth_type is None:
            return f"the client {access.client_id!r}"
        return f"the login ({access.credentials_kind})"

    def _advice(self) -> str:
        if self._access.auth_type is None:
            return "Look at DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET."
        return "Log in (`databricks auth login`, `az login`), or set DATABRICKS_TOKEN."

    def _config(self) -> Any:
        with self._mutex:
            if self._client is None:
                self._client = self._made()
            return self._client

    def _made(self) -> Any:
        try:
            from databricks.sdk.config import Config
        except ModuleNotFoundError as error:
            raise MissingExtraError("databricks-sdk", "ops-registry[databricks]") from error
        access = self._access
        if access.auth_type is None:
            # Named, so that a DATABRICKS_TOKEN of the environment does not come in between.
            named = {"client_id": access.client_id, "client_secret": access.client_secret}
            kind = "oauth-m2m"
        else:
            named, kind = {"profile": access.profile}, access.auth_type
        given: dict[str, Any] = {"auth_type": kind, **named}
        return Config(
            host=access.address,
            http_timeout_seconds=_TIMEOUT,
            retry_timeout_seconds=_TIMEOUT,
            **{key: value for key, value in given.items() if value},
        )
