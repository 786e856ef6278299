"""How to reach a SQL warehouse: from the environment, complete or refused, and never printed.

DATABRICKS_HOST and DATABRICKS_HTTP_PATH (or DATABRICKS_WAREHOUSE_ID) say where it is. A personal token
(DATABRICKS_TOKEN), or the id and secret of a service principal (DATABRICKS_CLIENT_ID and _CLIENT_SECRET), is
used as it is given. Everything else is Databricks' unified authentication
(https://docs.databricks.com/aws/en/dev-tools/auth/unified-auth): profiles of ``~/.databrickscfg``, the Azure
and the Databricks CLI, managed identities, notebooks and jobs. It is used when the environment names it
(`UNIFIED`) or a profile is there; then databricks-sdk finds the credentials (`credentials`). Secrets are in fields
that no repr shows, and `hidden` takes them out of texts.
"""

from __future__ import annotations

import configparser
import dataclasses
import os
import pathlib
import re
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.errors import MissingExtraError
from ops.registry.errors import BackendUnavailableError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.registry.databricks.auth import Credentials

__all__ = ["SHORTEST_SECRET", "UNIFIED", "WarehouseAccess"]

# Environment DATABRICKS_RUNTIME_VERSION: set in notebooks and jobs, whose own credentials are
# used.
# Environment DATABRICKS_METADATA_SERVICE_URL, DATABRICKS_OIDC_TOKEN_FILEPATH,
# DATABRICKS_GOOGLE_SERVICE_ACCOUNT, GOOGLE_CREDENTIALS, ARM_CLIENT_ID, ARM_USE_MSI: read by
# databricks-sdk; one of them is enough to leave authentication to it.
#: Variables that name unified authentication; databricks-sdk reads them itself.
UNIFIED = (
    "DATABRICKS_AUTH_TYPE",
    "DATABRICKS_CONFIG_PROFILE",
    "DATABRICKS_RUNTIME_VERSION",  # a notebook or a job
    "DATABRICKS_METADATA_SERVICE_URL",
    "DATABRICKS_OIDC_TOKEN_FILEPATH",
    "DATABRICKS_GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_CREDENTIALS",
    "ARM_CLIENT_ID",
    "ARM_USE_MSI",
)
_OTHERS = (
    "DATABRICKS_CLIENT_ID and _CLIENT_SECRET, DATABRICKS_CONFIG_PROFILE or DATABRICKS_AUTH_TYPE "
    "(azure-cli, databricks-cli, …) stand in for DATABRICKS_TOKEN."
)
#: How names of workspaces end; the first cloud that fits.
_CLOUDS = {
    "azure": (".azuredatabricks.net", ".databricks.azure.us", ".databricks.azure.cn"),
    "gcp": (".gcp.databricks.com",),
    "aws": (".databricks.com", ".databricks.us"),
}
#: What is shorter is no secret, and hiding it would take letters out of messages.
SHORTEST_SECRET = 4
_OWN_TYPES = {"", "pat", "oauth-m2m"}
# All of it: what stands before an @ is no host.
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?/?")
#: What looks like a secret: headers, personal tokens, JSON web tokens, signatures of presigned addresses.
_SECRETS = re.compile(
    r"(Bearer )[^\s'\",]+|\bdapi[0-9a-f]{8,}(?:-\d+)?|\bdose[0-9a-f]{16,}"
    r"|\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"
    r"|\b((?:X-Amz-|X-Goog-)(?:Signature|Credential|Security-Token)=|sig=|AWSAccessKeyId=|Signature=)[^&\s'\")]+"
)


@dataclasses.dataclass(frozen=True, slots=True)
class WarehouseAccess:
    """Where a warehouse is, and with which credentials.

    ``http://`` would send the token in the clear and is refused, except to this machine, where stand-ins for tests
    are.

    Args:
        host: A name, with or without ``https://`` and a port.
        http_path: The path of the warehouse, such as ``/sql/1.0/warehouses/abc``.
        token: A personal token.
        client_id: The id of a service principal.
        client_secret: Its secret.
        auth_type: The kind of unified authentication; "" lets databricks-sdk find one. None is a token or a client.
        profile: The profile of ``~/.databrickscfg``.
        ca_file: Certificates to trust in place of the system's, as PEM.

    Raises `ConfigurationError` for a *host* that begins with ``http://``.
    """

    host: str
    http_path: str
    token: str | None = dataclasses.field(default=None, repr=False)
    client_id: str | None = None
    client_secret: str | None = dataclasses.field(default=None, repr=False)
    auth_type: str | None = None
    profile: str | None = None
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if self.host.startswith("http://") and not self.is_local:
            raise ConfigurationError(
                "DATABRICKS_HOST begins with http://, which would send the token unencrypted.",
                suggestions=("Use https://.",),
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the variables of *environ* (default: the process's) and the profile.

        In a notebook databricks-sdk finds the workspace.

        Raises:
            BackendUnavailableError: some are missing; the message names them.
            ConfigurationError: the file of profiles cannot be read, or the host begins with ``http://``.
        """
        found = os.environ if environ is None else environ
        values = {name: found.get(f"DATABRICKS_{name}", "").strip() for name in _NAMES}
        named = values["CONFIG_PROFILE"] or "DEFAULT"
        profile = _profile(found, named)
        if not values["CONFIG_PROFILE"] and values["HOST"] not in {"", profile.get("host")}:
            profile = {}  # the default one is of another workspace
        kind = values["AUTH_TYPE"]
        has_client = bool(values["CLIENT_ID"] and values["CLIENT_SECRET"])
        is_own = kind in _OWN_TYPES and (bool(values["TOKEN"]) or has_client)
        is_unified = not is_own and bool(profile or any(found.get(name) for name in UNIFIED))
        host = values["HOST"] or (profile.get("host", "") if is_unified else "")
        warehouse_id = values["WAREHOUSE_ID"] or (
            profile.get("warehouse_id", "") if is_unified else ""
        )
        path = values["HTTP_PATH"] or (warehouse_id and f"/sql/1.0/warehouses/{warehouse_id}")
        if not host and found.get("DATABRICKS_RUNTIME_VERSION"):
            host = _host_of_runtime()
        given = (("HOST", host), ("HTTP_PATH", path), ("TOKEN", is_own or is_unified))
        missing = [f"DATABRICKS_{name}" for name, value in given if not value]
        if missing:
            raise BackendUnavailableError(
                f"The Databricks backend needs {', '.join(missing)} in the environment; "
                "nothing else is used instead.",
                suggestions=(_OTHERS,),
            )
        return cls(
            host,
            path,
            (values["TOKEN"] or None) if is_own else None,
            (values["CLIENT_ID"] or None) if is_own else None,
            (values["CLIENT_SECRET"] or None) if is_own else None,
            kind if is_unified else None,
            named if is_unified and profile else None,
            # Environment REQUESTS_CA_BUNDLE, SSL_CERT_FILE: a file of certificates for the
            # connection to Databricks (default: those of the system).
            found.get("REQUESTS_CA_BUNDLE") or found.get("SSL_CERT_FILE") or None,
        )

    @property
    def is_local(self) -> bool:
        """Whether this is a stand-in on this machine without TLS."""
        return _LOOPBACK.fullmatch(self.host) is not None

    @property
    def hostname(self) -> str:
        """The name of the host, with its port if one was given."""
        return self.host.split("://")[-1].strip("/")

    @property
    def address(self) -> str:
        """The beginning of the host's addresses."""
        return self.host.rstrip("/") if self.is_local else f"https://{self.hostname}"

    @property
    def cloud(self) -> str:
        """The cloud of the host, by its name: azure, gcp, aws or other."""
        name = self.hostname.split(":")[0]
        return next((cloud for cloud, ends in _CLOUDS.items() if name.endswith(ends)), "other")

    @property
    def credentials_kind(self) -> str:
        """What stands for a caller, in words that are no secret."""
        if self.auth_type is not None:
            kind = self.auth_type or "found by databricks-sdk"
            return f"{kind}, profile {self.profile}" if self.profile else kind
        return "DATABRICKS_TOKEN" if self.token else "DATABRICKS_CLIENT_ID and _CLIENT_SECRET"

    def hidden(self, text: str) -> str:
        """Return *text* without the secrets that are given here, and without what looks like one."""
        for secret in (self.token, self.client_secret):
            if secret and len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return _SECRETS.sub(lambda match: f"{match[1] or match[2] or ''}***", text)

    def refused(self) -> BackendUnavailableError:
        """Return what to raise when the host does not take the credentials."""
        advice = (
            "Log in again, or set DATABRICKS_TOKEN."
            if self.auth_type is not None
            else f"Set {self.credentials_kind} to what is valid and make the context again."
        )
        return BackendUnavailableError(
            f"Databricks at {self.hostname!r} refused the credentials ({self.credentials_kind}): "
            "they are wrong or have expired.",
            suggestions=(advice,),
        )

    def connect(self, staging: str, credentials: Credentials) -> Any:
        """Open a connection that may move files in and out of the folder *staging* only.

        *credentials* are those of the host. Raises `MissingExtraError` without the extra
        `databricks`.
        """
        try:
            from databricks import sql
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "databricks-sql-connector", "ops-registry[databricks]"
            ) from error
        return sql.connect(**self._options(staging, credentials))

    def _options(self, staging: str, credentials: Credentials) -> dict[str, Any]:
        path = "/" + self.http_path.strip("/")
        name, _, port = self.hostname.partition(":")
        options: dict[str, Any] = {
            "server_hostname": name,
            "http_path": path,
            "staging_allowed_local_path": staging,
            "enable_telemetry": False,  # without this it phones out
            # The connector waits in silence, a minute for one 503 (databricks-sql-python#860). It asks
            # again once; the rest, with progress, is `patience`'s.
            "_retry_delay_min": 0.1 if self.is_local else 1,
            "_retry_delay_max": 5,
            "_retry_stop_after_attempts_count": 1,
            "_retry_stop_after_attempts_duration": 30,
            "user_agent_entry": "ops-registry",
        }
        if self.is_local:
            options["_connection_uri"] = f"{self.host.rstrip('/')}{path}"
        elif port:
            options["_port"] = int(port)
        if self.ca_file:
            options["_tls_trusted_ca_file"] = self.ca_file
        if self.token:
            options["access_token"] = self.token
        else:
            options["credentials_provider"] = lambda: credentials.headers
        return options


# Environment DATABRICKS_HOST, DATABRICKS_HTTP_PATH, DATABRICKS_WAREHOUSE_ID: the workspace and
# its SQL warehouse, by path or by id; needed by the Databricks backend.
# Environment DATABRICKS_TOKEN: a personal token.
# Environment DATABRICKS_CLIENT_ID, DATABRICKS_CLIENT_SECRET: a service principal, in place of a
# token.
# Environment DATABRICKS_AUTH_TYPE, DATABRICKS_CONFIG_PROFILE, DATABRICKS_CONFIG_FILE: the kind,
# the profile and the file of unified authentication, in place of both (default: what
# databricks-sdk finds, "DEFAULT", `~/.databrickscfg`).
_NAMES = (
    "HOST",
    "HTTP_PATH",
    "WAREHOUSE_ID",
    "TOKEN",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "AUTH_TYPE",
    "CONFIG_PROFILE",
)


def _profile(environ: Mapping[str, str], name: str) -> Mapping[str, str]:
    """Return the profile of Databricks' configuration file, empty where there is none."""
    given = environ.get("DATABRICKS_CONFIG_FILE")
    path = pathlib.Path(given) if given else pathlib.Path.home() / ".databrickscfg"
    # Without a default section: databricks-sdk's profiles inherit nothing from DEFAULT.
    parser = configparser.ConfigParser(default_section="", interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        # Not chained: its text quotes a line of the file, which may have a token.
        raise ConfigurationError(
            f"{str(path)!r} is no configuration file of Databricks: {type(error).__name__}."
        ) from None
    return dict(parser[name]) if parser.has_section(name) else {}


def _host_of_runtime() -> str:
    """Return the host of the workspace whose notebook or job this process is."""
    try:
        from databricks.sdk.config import Config

        return str(Config().host or "")
    except Exception:  # noqa: BLE001 - databricks-sdk raises what its libraries do; the host is missing then
        return ""
