"""How to reach a SQL warehouse: from the environment, complete or refused, and never printed.

DATABRICKS_HOST, DATABRICKS_HTTP_PATH and DATABRICKS_TOKEN are what a personal token needs; with
DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET in place of the token, tokens of a service principal
(OAuth M2M) are got and renewed by `ops.registry.databricks.credentials`. Secrets are in fields that no repr shows.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.errors import MissingExtraError
from ops.registry.errors import BackendUnavailableError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.registry.databricks.credentials import Credentials

__all__ = ["WarehouseAccess"]

# All of it: what stands before an @ is no host.
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?/?")
_BEARER = re.compile(r"Bearer [^\s'\"]+")


@dataclasses.dataclass(frozen=True, slots=True)
class WarehouseAccess:
    """Host, HTTP path, and a token or a client with its secret.

    *host* is a name, with or without ``https://``. ``http://`` would send the token in the clear and is
    refused, except to this machine, where stand-ins for tests are.
    """

    host: str
    http_path: str
    token: str | None = dataclasses.field(default=None, repr=False)
    client_id: str | None = None
    client_secret: str | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.host.startswith("http://") and not self.is_local:
            raise ConfigurationError(
                "DATABRICKS_HOST begins with http://, which would send the token unencrypted.",
                suggestions=("Use https://.",),
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the DATABRICKS_* variables; those that are missing are named in the error."""
        found = os.environ if environ is None else environ
        values = {
            name: found.get(f"DATABRICKS_{name.upper()}", "").strip()
            for name in ("host", "http_path", "token", "client_id", "client_secret")
        }
        missing = [name for name in ("host", "http_path") if not values[name]]
        if not values["token"] and not (values["client_id"] and values["client_secret"]):
            missing.append("token")
        if missing:
            names = ", ".join(f"DATABRICKS_{name.upper()}" for name in missing)
            raise BackendUnavailableError(
                f"The Databricks backend needs {names} in the environment; "
                "nothing else is used in its place.",
                suggestions=(
                    "DATABRICKS_CLIENT_ID and _CLIENT_SECRET stand in for DATABRICKS_TOKEN.",
                ),
            )
        return cls(
            values["host"],
            values["http_path"],
            values["token"] or None,
            values["client_id"] or None,
            values["client_secret"] or None,
        )

    @property
    def is_local(self) -> bool:
        """Whether this is a stand-in on this machine."""
        return _LOOPBACK.fullmatch(self.host) is not None

    @property
    def hostname(self) -> str:
        """The name of the host alone."""
        return self.host.split("://")[-1].strip("/")

    @property
    def address(self) -> str:
        """The beginning of the host's addresses."""
        return self.host.rstrip("/") if self.is_local else f"https://{self.hostname}"

    def hidden(self, text: str) -> str:
        """Return *text* without the secrets, whoever put them there."""
        for secret in (self.token, self.client_secret):
            if secret:
                text = text.replace(secret, "***")
        return _BEARER.sub("Bearer ***", text)

    def refused(self) -> BackendUnavailableError:
        """Return what to raise when the host takes neither token nor client."""
        names = "DATABRICKS_TOKEN" if self.token else "DATABRICKS_CLIENT_ID and _CLIENT_SECRET"
        return BackendUnavailableError(
            f"Databricks at {self.hostname!r} refused the credentials: they are wrong "
            "or have expired.",
            suggestions=(f"Set {names} to what is valid and make the context again.",),
        )

    def connect(self, staging: str, credentials: Credentials) -> Any:
        """Open a connection that may move files in and out of the folder *staging* only."""
        try:
            from databricks import sql
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "databricks-sql-connector", "ops-registry[databricks]"
            ) from error
        path = "/" + self.http_path.strip("/")
        options: dict[str, Any] = {
            "server_hostname": self.hostname,
            "http_path": path,
            "staging_allowed_local_path": staging,
            "enable_telemetry": False,  # without this it phones out
            # One 503 sleeps for a minute with the connector's defaults.
            "_retry_delay_min": 0.1 if self.is_local else 1,
            "_retry_delay_max": 5,
            "_retry_stop_after_attempts_count": 5,
            "user_agent_entry": "ops-registry",
        }
        if self.is_local:
            options["_connection_uri"] = f"{self.host.rstrip('/')}{path}"
        if self.token:
            options["access_token"] = self.token
        else:
            options["credentials_provider"] = lambda: credentials.headers
        return sql.connect(**options)
