"""Where the artifacts of MLflow are: found by the ids in an address, never by following the address.

A store that was moved still has the addresses of where it was: ``file:///data/mlruns/7/RUN/artifacts/model``, or ``/data/mlruns/…``,
``mlflow-artifacts:/7/RUN/artifacts/model``, ``runs:/RUN/model``, ``models:/m-…``. What counts is the id of the run, or
of the logged model, and the rest after it; the files are looked for below the folders that the caller named.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ops.registry.disk.checked_paths import is_relative

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["ArtifactPath", "artifact_path_of", "is_elsewhere"]

_LOGGED = re.compile(r"m-[0-9A-Za-z]{1,62}")
#: Schemes behind which there is a folder, or an id that is ours by now.
_LOCAL = {"", "file", "mlflow-artifacts", "runs", "models"}


@dataclasses.dataclass(frozen=True, slots=True)
class ArtifactPath:
    """A path below the artifacts of a run, or of a logged model (*kind*)."""

    kind: str
    owner: str
    path: str = ""


def is_elsewhere(uri: str) -> bool:
    """Whether an address is in no folder and in no MLflow, such as ``s3://…``."""
    return _scheme(uri) not in _LOCAL


def artifact_path_of(uri: str, runs: Container[str], logged: Container[str]) -> ArtifactPath | None:
    """Return which run's, or logged model's, artifacts an address means; None for any other."""
    scheme = _scheme(uri)
    if scheme not in _LOCAL:
        return None
    text = unquote(urlsplit(uri).path) if scheme in {"file", "mlflow-artifacts"} else uri
    if scheme in {"runs", "models"}:
        text = uri.partition(":")[2]
    parts = [part for part in text.replace("\\", "/").split("/") if part]
    if scheme == "models":
        return _checked("logged", parts[0], parts[1:], logged) if parts else None
    if scheme == "runs":
        return _checked("run", parts[0], parts[1:], runs) if parts else None
    for index, part in enumerate(parts[:-1]):
        if parts[index + 1] != "artifacts":
            continue
        kind, known = ("logged", logged) if _LOGGED.fullmatch(part) else ("run", runs)
        found = _checked(kind, part, parts[index + 2 :], known)
        if found is not None:
            return found
    return None


def _checked(kind: str, owner: str, path: list[str], known: Container[str]) -> ArtifactPath | None:
    rest = "/".join(path)
    if owner not in known or (rest and not is_relative(rest)):
        return None
    return ArtifactPath(kind, owner, rest)


def _scheme(uri: str) -> str:
    head, colon, _ = uri.partition(":")
    # A letter alone is a drive of Windows.
    return head.lower() if colon and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", head) else ""
