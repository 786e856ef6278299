"""Models that go from one store to another: the frames that the target lacks, with the files of their versions.

A version that MLflow registered names an address. Files that are in the source store come along, wherever in it they are: between
stores of local files to the same path, or to the folder of the version where that path is not copied; to other
backends as an artifact of the registry. What is kept outside of the store stays there, and is reported.
"""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING, Any

from ops.foundation.files import temporary_directory
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.errors import AlreadyExistsError, ModelNotFoundError
from ops.registry.models.state import plain_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ops.registry.context import MLOpsContext
    from ops.registry.records import ModelVersion

__all__ = ["chosen_models", "copy_deletions", "copy_frames", "copy_model", "elsewhere"]


def chosen_models(source: MLOpsContext, names: Sequence[str] | None) -> list[str]:
    """Return the names of models, all without *names*; one that is not there is a `ModelNotFoundError`."""
    # The oldest first: one that was given another name comes before one that took its name.
    every = source.model_registry.by_age()
    for name in names or ():
        if name not in every:
            raise ModelNotFoundError(f"There is no model {name!r}.")
    return [name for name in every if names is None or name in names]


def copy_model(source: MLOpsContext, target: MLOpsContext, name: str) -> int:
    """Copy the frames of a model between stores of local files; return how many were new."""
    registry = source.model_registry
    return target.model_registry.adopt(name, registry.history(name), registry.root / "artifacts")


def copy_deletions(source: MLOpsContext, target: MLOpsContext) -> int:
    """Bring the models that were deleted, so that their numbers stay used; return how many frames were new.

    A model of the target that only has the name of one stays as it is.
    """
    registry = source.model_registry
    there = set(registry.by_age())
    count = 0
    for name in registry.by_age(include_deleted=True):
        if name not in there:
            with contextlib.suppress(AlreadyExistsError, ModelNotFoundError):
                count += copy_model(source, target, name)
    return count


def copy_frames(source: MLOpsContext, target: MLOpsContext, name: str) -> int:
    """Copy the frames of a model that the other side lacks, and its artifacts; return how many there were."""
    records = plain_frames(source.model_registry.history(name), name)
    known: Sequence[Mapping[str, Any]] = ()
    with contextlib.suppress(ModelNotFoundError):
        known = target.model_registry.history(name)
    there = {version.version: version for version in _versions(source, name)}
    for position, record in enumerate(records):
        if record["op"] == "register" and "file" not in record:
            here = known[position] if position < len(known) else {}
            records[position] = _with_files(source, record, there.get(record["version"]), here)
    with _artifacts_of(source, name, records[len(known) :]) as folder:
        return target.model_registry.adopt(name, records, folder)


def _with_files(
    source: MLOpsContext,
    record: dict[str, Any],
    version: ModelVersion | None,
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the frame of a version that MLflow registered, as one with files where those are in the source store.

    *known* is the frame of the target, if there is one: what was decided then is not decided again.
    """
    fields = ("file", "checksum", "size")
    if known:
        return record | {key: known[key] for key in fields if key in known}
    if (
        version is None
        or source.config.backend_type != "local"
        or not source.model_registry.is_here(version)
    ):
        return record
    path = pathlib.Path(version.artifact_uri)
    if not path.exists():
        return record
    files = [path] if path.is_file() else [path / name for name in artifacts.names(path)]
    content = {
        "file": path.name,
        "checksum": artifacts.checksum(path),
        "size": sum(file.stat().st_size for file in files),
    }
    return {key: value for key, value in record.items() if key != "source"} | content


@contextlib.contextmanager
def _artifacts_of(
    source: MLOpsContext, name: str, records: Sequence[Mapping[str, Any]]
) -> Iterator[pathlib.Path]:
    """Give a folder that has the artifacts which *records* register, as far as they are there."""
    registry = source.model_registry
    there = {version.version for version in _versions(source, name)}
    wanted = [r for r in records if r["op"] == "register" and "file" in r and r["version"] in there]
    with temporary_directory() as folder:
        for record in wanted:
            target = inside(folder, record["model_id"], f"v{record['version']}", record["file"])
            target.parent.mkdir(parents=True)
            registry.download_artifact(name, record["version"], target)
        yield folder


def elsewhere(source: MLOpsContext, names: Sequence[str]) -> list[str]:
    """Return sentences about versions whose files MLflow keeps outside of the store."""
    registry = source.model_registry
    if source.config.backend_type != "local":
        return []
    return [
        f"The files of {v.name}/{v.version} stay at {v.artifact_uri}."
        for name in names
        for v in _versions(source, name)
        if not registry.is_here(v)
    ]


def _versions(source: MLOpsContext, name: str) -> list[ModelVersion]:
    try:
        return source.model_registry.list_model_versions(name)
    except ModelNotFoundError:  # it has none
        return []
