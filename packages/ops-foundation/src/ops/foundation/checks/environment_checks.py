"""Whether credentials and Docker are there, found out from the environment and files alone.

Nothing here talks to a network, except the ping of the Docker daemon when it is requested. A check
reports which of the known sources exist and are complete, never a secret; whether a service
accepts it only the service knows.
"""

from __future__ import annotations

import configparser
import json
import os
import pathlib
import shutil
import socket
import stat
import urllib.parse
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.foundation.checks.validation_result import (
    ValidationLevel,
    ValidationResult,
    failure,
    remark,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.foundation.checks.validation_result import (
        ValidationIssue,
    )

__all__ = ["CloudProvider", "validate_cloud_credentials", "validate_docker_environment"]

CloudProvider: TypeAlias = Literal["aws", "gcp", "azure", "databricks"]


def validate_cloud_credentials(
    provider: CloudProvider | str,
    *,
    environment: Mapping[str, str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> ValidationResult:
    """Check that *provider*'s own tools would find complete credentials, without a request to it.

    *environment* and *home* default to those of the process. Roles that a machine of the cloud gets
    from its metadata service cannot be seen from here; the suggestion mentions it.
    """
    check = _PROVIDERS.get(provider)
    if check is None:
        message = f"{provider!r} is no known provider; known are {', '.join(_PROVIDERS)}."
        return ValidationResult.of([failure(message, "provider", code="UNKNOWN_PROVIDER")])
    source = _Source(
        os.environ if environment is None else environment,
        pathlib.Path.home() if home is None else pathlib.Path(home),
    )
    check(source)
    if not source.found and not source.issues:
        message = f"No credentials for {provider} were found."
        hint = f"{_HINTS[provider]} On a machine with a role of its own none are needed."
        source.issues.append(failure(message, provider, hint, "NO_CREDENTIALS"))
    return ValidationResult.of(source.issues)


_HINTS = {
    "aws": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`.",
    "gcp": "Set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`.",
    "azure": "Set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run `az login`.",
    "databricks": "Set DATABRICKS_HOST and DATABRICKS_TOKEN, or run `databricks configure`.",
}


class _Source:
    """Where credentials are looked for, and what was found."""

    def __init__(self, environment: Mapping[str, str], home: pathlib.Path) -> None:
        self.environment = environment
        self.home = home
        self.found = False
        self.issues: list[ValidationIssue] = []

    def get(self, name: str) -> str:
        return self.environment.get(name, "").strip()

    def path(self, name: str, *default: str) -> pathlib.Path:
        """Return the file that the variable *name* gives, else the default below home."""
        given = self.get(name)
        return pathlib.Path(given) if given else self.home.joinpath(*default)

    def group(self, *names: str) -> bool:
        """Whether all variables are set; some without the others is an error."""
        missing = [n for n in names if not self.get(n)]
        if len(missing) < len(names):
            self.issues += [
                failure(
                    f"{n} is not set, and {names[0]} alone is not enough.", n, code="INCOMPLETE"
                )
                for n in missing
            ]
        self.found |= not missing
        return not missing

    def wants(self, *names: str, why: str) -> None:
        if not any(map(self.get, names)):
            message = f"{why} is not set."
            self.issues.append(remark(message, names[0], f"Set {' or '.join(names)}.", "NOT_SET"))

    def profile(self, file: pathlib.Path, section: str) -> Mapping[str, str] | None:
        """Return a section of an INI file, None when it is not there; a bad file is an error."""
        parser = configparser.ConfigParser(interpolation=None, default_section="\0")
        text = self.read(file)
        if text is None:
            return None
        try:
            parser.read_string(text)
        except configparser.Error:
            # The parser's message quotes the line, which may hold the secret.
            self.issues.append(failure(f"{file} is no INI file.", str(file), code="BAD_FILE"))
            return None
        return parser[section] if parser.has_section(section) else None

    def read(self, file: pathlib.Path) -> str | None:
        try:
            mode = file.stat().st_mode
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            message = f"{file} cannot be read ({type(error).__name__})."
            self.issues.append(failure(message, str(file), code="BAD_FILE"))
            return None
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            message = f"Other users may read {file}."
            self.issues.append(remark(message, str(file), f"chmod 600 {file}", "READABLE"))
        return text


# Environment AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: the keys that
# `validate_cloud_credentials("aws")` looks for.
# Environment AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE: the profile and the files
# that it reads (default: "default", `~/.aws/credentials`, `~/.aws/config`).
# Environment AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN: credentials by a token, both or none.
# Environment AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_CREDENTIALS_FULL_URI: set in
# containers of AWS; one is enough.
# Environment AWS_REGION, AWS_DEFAULT_REGION: the region; without one there is a remark.
def _aws(source: _Source) -> None:
    profile = source.get("AWS_PROFILE") or "default"
    keys = source.path("AWS_SHARED_CREDENTIALS_FILE", ".aws", "credentials")
    settings = source.path("AWS_CONFIG_FILE", ".aws", "config")
    section = profile if profile == "default" else f"profile {profile}"
    general = source.profile(settings, section) or {}
    if not source.group("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        stored = source.profile(keys, profile) or {}
        complete = {"aws_access_key_id", "aws_secret_access_key"}
        by_role = ("role_arn", "sso_session", "sso_start_url", "credential_process")
        source.found |= any(complete <= {*part} for part in (stored, general))
        source.found |= any(name in general for name in by_role)
        if source.get("AWS_PROFILE") and not source.found:
            message = f"The profile {profile!r} has no credentials in {keys} or {settings}."
            source.issues.append(failure(message, "AWS_PROFILE", code="NO_PROFILE"))
    source.group("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")
    source.found |= bool(
        source.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        or source.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    )
    if source.found and "region" not in general:
        source.wants("AWS_REGION", "AWS_DEFAULT_REGION", why="The region")


# Environment GOOGLE_APPLICATION_CREDENTIALS, CLOUDSDK_CONFIG: the file, or the folder with
# `application_default_credentials.json`, that `validate_cloud_credentials("gcp")` reads (default:
# `~/.config/gcloud`).
# Environment GOOGLE_CLOUD_PROJECT: the project; without one, here or in the file, there is a
# remark.
def _gcp(source: _Source) -> None:
    named = source.get("GOOGLE_APPLICATION_CREDENTIALS")
    folder = source.path("CLOUDSDK_CONFIG", ".config", "gcloud")
    file = pathlib.Path(named) if named else folder / "application_default_credentials.json"
    text = source.read(file)
    if text is None:
        if named and not source.issues:
            message = f"{file} is not there."
            field = "GOOGLE_APPLICATION_CREDENTIALS"
            source.issues.append(failure(message, field, code="NO_FILE"))
        return
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    kind = body.get("type") if isinstance(body, dict) else None
    if not isinstance(body, dict) or kind is None:
        message = f"{file} is no JSON file of credentials."
        source.issues.append(failure(message, str(file), code="BAD_FILE"))
        return
    missing = [name for name in _GCP_FIELDS.get(str(kind), ()) if not body.get(name)]
    source.issues += [
        failure(f"{name!r} is missing in {file}.", name, code="INCOMPLETE") for name in missing
    ]
    source.found = not missing
    if not body.get("project_id") and not body.get("quota_project_id"):
        source.wants("GOOGLE_CLOUD_PROJECT", why="The project")


_GCP_FIELDS = {
    "service_account": ("project_id", "private_key", "client_email"),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
    "external_account": ("audience", "credential_source"),
}


# Environment AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET,
# AZURE_CLIENT_CERTIFICATE_PATH, AZURE_FEDERATED_TOKEN_FILE: the service principal that
# `validate_cloud_credentials("azure")` looks for: the first two with one of the others.
# Environment IDENTITY_ENDPOINT, IDENTITY_HEADER: set where a managed identity is there.
# Environment AZURE_CONFIG_DIR: the folder of the Azure CLI (default: `~/.azure`).
def _azure(source: _Source) -> None:
    secrets = (
        "AZURE_CLIENT_SECRET",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "AZURE_FEDERATED_TOKEN_FILE",
    )
    given = next(filter(source.get, secrets), None)
    if given:
        source.group("AZURE_TENANT_ID", "AZURE_CLIENT_ID", given)
        if given != secrets[0] and not pathlib.Path(source.get(given)).is_file():
            message = f"{source.get(given)} is not there."
            source.issues.append(failure(message, given, code="NO_FILE"))
    source.found |= bool(source.get("IDENTITY_ENDPOINT") and source.get("IDENTITY_HEADER"))
    source.found |= (source.path("AZURE_CONFIG_DIR", ".azure") / "azureProfile.json").is_file()


# Environment DATABRICKS_CONFIG_FILE, DATABRICKS_CONFIG_PROFILE: the file and the profile that
# `validate_cloud_credentials("databricks")` reads (default: `~/.databrickscfg`, "DEFAULT").
# Environment DATABRICKS_HOST, DATABRICKS_TOKEN, DATABRICKS_CLIENT_ID, DATABRICKS_CLIENT_SECRET,
# DATABRICKS_AZURE_CLIENT_SECRET: the host and the secret that it looks for; they count before the
# profile.
def _databricks(source: _Source) -> None:
    section = source.get("DATABRICKS_CONFIG_PROFILE") or "DEFAULT"
    profile = source.profile(source.path("DATABRICKS_CONFIG_FILE", ".databrickscfg"), section) or {}

    def value(name: str) -> str:
        return source.get(f"DATABRICKS_{name.upper()}") or profile.get(name, "")

    by_secret = [n for n in ("token", "client_secret", "azure_client_secret") if value(n)]
    host = value("host")
    address = _split(host if "://" in host else f"https://{host}")
    if host and (address is None or address.scheme != "https"):
        source.issues.append(
            failure("The host must be reached by https.", "DATABRICKS_HOST", code="NOT_HTTPS")
        )
    if host and not by_secret and "auth_type" not in profile:
        message = "There is a host, and neither a token nor a client secret."
        source.issues.append(failure(message, "DATABRICKS_TOKEN", code="INCOMPLETE"))
    if by_secret and not host:
        message = "There is a secret, and no host."
        source.issues.append(failure(message, "DATABRICKS_HOST", code="INCOMPLETE"))
    if value("client_secret") and not value("client_id"):
        message = "There is a client secret, and no client id."
        source.issues.append(failure(message, "DATABRICKS_CLIENT_ID", code="INCOMPLETE"))
    source.found = bool(host)


_PROVIDERS: dict[str, Callable[[_Source], None]] = {
    "aws": _aws,
    "gcp": _gcp,
    "azure": _azure,
    "databricks": _databricks,
}


def validate_docker_environment(
    *,
    ping: bool = False,
    timeout: float = 2.0,
    environment: Mapping[str, str] | None = None,
    which: Callable[[str], str | None] = shutil.which,
) -> ValidationResult:
    """Check the Docker client, the daemon's socket and, with *ping*, that the daemon answers.

    *timeout* limits the ping in seconds. A daemon at DOCKER_HOST over ssh or TLS is not pinged.
    *environment* holds the variables (default: those of the process); *which* finds programs.
    """
    # Environment DOCKER_HOST: the daemon that `validate_docker_environment` examines (default:
    # the socket of this machine).
    # Environment DOCKER_TLS_VERIFY: any value: the daemon is reached by TLS, and is not pinged.
    variables = os.environ if environment is None else environment
    issues: list[ValidationIssue] = []
    if which("docker") is None:
        hint = "Install the Docker client and put it on the PATH."
        issues.append(failure("The program docker was not found.", "client", hint, "NO_CLIENT"))
    host = variables.get("DOCKER_HOST") or f"unix://{_default_socket(variables)}"
    parts = _split(host)
    if parts is None or parts.scheme not in {"unix", "tcp", "ssh", "npipe"}:
        issues.append(failure(f"{host!r} is no Docker host.", "DOCKER_HOST", code="BAD_HOST"))
        return ValidationResult.of(issues)
    if parts.scheme == "unix":
        issues += _socket_issues(parts.path)
    if ping and all(i.code == "NO_CLIENT" for i in issues):
        issues += _ping_issues(parts, timeout, tls=bool(variables.get("DOCKER_TLS_VERIFY")))
    return ValidationResult.of(issues)


def _split(address: str) -> urllib.parse.SplitResult | None:
    """Return the parts of a URL, None when it has no such parts or a port that is none."""
    try:
        parts = urllib.parse.urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _default_socket(variables: Mapping[str, str]) -> str:
    # Environment XDG_RUNTIME_DIR: the folder with the socket of a Docker daemon without root
    # (default: `/run/user/0`).
    rootless = pathlib.Path(variables.get("XDG_RUNTIME_DIR") or "/run/user/0", "docker.sock")
    return str(rootless) if rootless.exists() else "/var/run/docker.sock"


def _socket_issues(path: str) -> list[ValidationIssue]:
    try:
        mode = pathlib.Path(path).stat().st_mode
    except OSError:
        hint = "Start the Docker daemon, or set DOCKER_HOST."
        return [failure(f"There is no socket at {path!r}.", "socket", hint, "NO_SOCKET")]
    if not stat.S_ISSOCK(mode):
        return [failure(f"{path!r} is no socket.", "socket", code="NO_SOCKET")]
    if not os.access(path, os.R_OK | os.W_OK):
        hint = "Add the user to the group docker, or use rootless Docker."
        return [failure(f"{path!r} may not be used.", "socket", hint, "NO_PERMISSION")]
    return []


def _ping_issues(
    parts: urllib.parse.SplitResult, timeout: float, *, tls: bool
) -> list[ValidationIssue]:
    address: Any = parts.path
    family = getattr(socket, "AF_UNIX", None)
    if parts.scheme == "tcp" and not tls:
        address, family = (parts.hostname or "localhost", parts.port or 2375), socket.AF_INET
    elif parts.scheme != "unix" or family is None:
        message = f"A daemon at {parts.scheme}:// is not pinged."
        return [remark(message, "daemon", None, "NOT_PINGED", level=ValidationLevel.INFO)]
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(address)
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            status = connection.makefile("rb").readline(200).split()
    except OSError as error:
        message = f"The Docker daemon does not answer: {error}."
        return [failure(message, "daemon", code="NO_ANSWER")]
    if status[1:2] != [b"200"]:
        return [failure("What answers is no Docker daemon.", "daemon", code="NO_ANSWER")]
    return []
