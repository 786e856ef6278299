# mypy: disable-error-code="no-untyped-call"
"""The files of model versions that are in no run and no logged model: they come along with a copy.

Into a store of ours they go as an artifact of the registry. Another store has no folder of its own for them: they become an artifact
of the run that made the version if it was copied, else a logged model of the default experiment.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

from ops.foundation.files import temporary_directory
from ops.registry.disk.artifacts import names
from ops.registry.disk.store_addresses import local_path
from ops.registry.errors import MLOpsException

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from mlflow.entities.model_registry import ModelVersion

    from ops.registry.mlflow.copy_endpoint import End

__all__ = ["fetched", "sent"]

#: The tag of a logged model that has the files of a version.
_VERSION = "ops.version"
_DEFAULT_EXPERIMENT = "0"
_REFUSED = re.compile(r"[/:.%\"']")


@contextlib.contextmanager
def fetched(source: End, version: ModelVersion) -> Iterator[pathlib.Path | None]:
    """Give a copy of the files of a version, as a file or folder; None where they cannot be had."""
    with temporary_directory() as folder:
        yield _fetch(source, version, folder)


def _fetch(source: End, version: ModelVersion, folder: pathlib.Path) -> pathlib.Path | None:
    name, number = version.name, int(version.version)
    if source.our_models is not None:
        book = source.our_models.book
        known = book.get_model_version(name, number)
        if book.is_here(known):
            try:
                return book.download_artifact(name, number, folder)
            except MLOpsException:
                return None
        return None
    uri = source.client.get_model_version_download_uri(name, str(number))
    if not uri or local_path(uri) is not None:
        return None  # an address in a database is no reason to read files of this machine; prompts have none
    path = folder / "model"
    path.mkdir()
    try:
        source.files(uri).download_artifacts("", str(path))
    except (MlflowException, OSError):
        return None
    return path if names(path) else None


def sent(
    source: End, target: End, version: ModelVersion, run_id: str | None, path: pathlib.Path
) -> tuple[str, str | None]:
    """Bring the file or folder at *path* to another store; return the version's source there, and its logged model."""
    if run_id is not None:
        uri = str(target.client.get_run(run_id).info.artifact_uri)
        below = f"registered_models/{version.name}/v{version.version}"
        _upload(target.files(uri), path, below)
        return f"{uri.rstrip('/')}/{below}/{path.name}", None
    origin = f"{source.public_uri}#{version.name}/{version.version}"
    model_id = _logged_model(target, version, origin)
    location = str(target.client.get_logged_model(model_id).artifact_location)
    _upload(target.files(location), path, None)
    target.client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    return f"models:/{model_id}", model_id


def _logged_model(target: End, version: ModelVersion, origin: str) -> str:
    """Return the logged model with a version's files, of an interrupted copy or a new one."""
    for known in target.logged_models(_DEFAULT_EXPERIMENT):
        if known.tags.get(_VERSION) == origin:
            return str(known.model_id)
    name = _REFUSED.sub("-", f"{version.name}-v{version.version}")
    made = target.client.create_logged_model(_DEFAULT_EXPERIMENT, name, tags={_VERSION: origin})
    return str(made.model_id)


def _upload(repository: object, path: pathlib.Path, below: str | None) -> None:
    if path.is_file():
        repository.log_artifact(str(path), below)  # type: ignore[attr-defined]
    else:
        inner = path.name if below is None else f"{below}/{path.name}"
        repository.log_artifacts(str(path), inner)  # type: ignore[attr-defined]
