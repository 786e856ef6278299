"""Who we are to Databricks: one header for the SQL connector and for the Files API.

A personal token is said as it is. For a client id and secret (OAuth M2M) databricks-sdk finds the
token endpoint of the host, gets a token, and gets the next one before it expires; both sides ask for the
header before every request, so a long process never notices. `renew` is for a token that the server
refuses before its time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import MissingExtraError, OpsError
from ops.registry.errors import BackendUnavailableError

if TYPE_CHECKING:
    from ops.registry.databricks.access import WarehouseAccess

__all__ = ["Credentials"]


class Credentials:
    """Says the Authorization header of an access; threads may share it."""

    def __init__(self, access: WarehouseAccess) -> None:
        self._access = access
        self._turn = threading.Lock()
        self._client: Any = None
        #: Why there was no token the last time, if there was none.
        self.failure: BackendUnavailableError | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers of a request now; it may wait for a token."""
        if self._access.token:
            return {"Authorization": f"Bearer {self._access.token}"}
        try:
            headers: dict[str, str] = self._config().authenticate()
            self.failure = None
        except Exception as error:
            if isinstance(error, OpsError):
                raise
            # databricks-sdk raises what its libraries do.
            self.failure = BackendUnavailableError(
                f"There is no token for the client {self._access.client_id!r} to be had from "
                f"{self._access.hostname!r}: {self._access.hidden(str(error))[:300]}",
                suggestions=("Look at DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET.",),
            )
            raise self.failure from None
        return headers

    def renew(self) -> bool:
        """Forget a token that was refused; say whether another can be had."""
        with self._turn:
            self._client = None
        return not self._access.token

    def _config(self) -> Any:
        with self._turn:
            if self._client is None:
                self._client = self._made()
            return self._client

    def _made(self) -> Any:
        try:
            from databricks.sdk.config import Config
        except ModuleNotFoundError as error:
            raise MissingExtraError("databricks-sdk", "ops-registry[databricks]") from error
        # Named, so that a DATABRICKS_TOKEN of the environment does not come in between.
        return Config(
            host=self._access.address,
            client_id=self._access.client_id,
            client_secret=self._access.client_secret,
            auth_type="oauth-m2m",
        )
