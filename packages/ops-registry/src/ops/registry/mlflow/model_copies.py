# mypy: disable-error-code="no-untyped-call"
"""A registered model copied with its versions, stages and aliases.

Versions keep their numbers, and the gaps between them: a pinned ``models:/credit/2`` stays the same model. MLflow's stores give
the next number to each version, so a gap is filled with versions that are removed again; those that a kill left there have a
tag, and the next copy removes them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException

from ops.registry.errors import AlreadyExistsError
from ops.registry.mlflow.copy_endpoint import COMPLETE, ORIGIN
from ops.registry.mlflow.version_files import fetched, sent

if TYPE_CHECKING:
    import pathlib

    from mlflow.entities.model_registry import ModelVersion

    from ops.registry.mlflow.copy_endpoint import End, MLflowCopy, Progress

__all__ = ["copy_model"]

#: The tag of a version that only fills a gap between numbers.
_GAP = "ops.gap"

#: Ids of runs, and of logged models, in the source and in the target.
Known = tuple[dict[str, str], dict[str, str]]


def copy_model(
    source: End, target: End, name: str, known: Known, report: MLflowCopy, steps: Progress
) -> None:
    """Copy a model and the versions that the target lacks; then let the aliases point as there."""
    model = source.client.get_registered_model(name)
    try:
        target.client.create_registered_model(name, dict(model.tags), model.description)
        report.models += 1
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known_here = target.versions(name)
    there = {v.tags[ORIGIN]: v for v in known_here if ORIGIN in v.tags}
    gaps = [str(v.version) for v in known_here if _GAP in v.tags]
    numbers = {}
    for version in source.versions(name):
        copy = there.get(_origin(source, version))
        if copy is None:
            gaps += [] if target.ours else _fill_gap(target, name, int(version.version))
            copy = _create(source, target, version, known, report)
            report.versions += 1
            if int(copy.version) != int(version.version):
                report.renumbered.append(f"{name}/{version.version} is {copy.version}")
        elif COMPLETE in copy.tags:
            report.there += 1
        if COMPLETE not in copy.tags:
            _finish(source, target, version, copy)
        numbers[int(version.version)] = copy.version
        steps.step()
    for number in gaps:
        target.client.delete_model_version(name, number)
    pointing = target.client.get_registered_model(name).aliases
    for alias, number in model.aliases.items():
        copied = numbers.get(int(number))
        if copied is not None and str(pointing.get(alias)) != str(copied):
            target.client.set_registered_model_alias(name, alias, str(copied))


def _origin(source: End, version: ModelVersion) -> str:
    return f"{source.public_uri}#{version.version}"


def _fill_gap(target: End, name: str, number: int) -> list[str]:
    """Create versions so that the next one gets *number*; return their numbers."""
    last = max((int(v.version) for v in target.versions(name)), default=0)
    made = []
    while last + 1 < number:
        gap = target.client.create_model_version(
            name, "gap", tags={_GAP: "true"}, await_creation_for=0
        )
        made.append(str(gap.version))
        if int(gap.version) <= last:
            break
        last = int(gap.version)
    return made


def _create(
    source: End, target: End, version: ModelVersion, known: Known, report: MLflowCopy
) -> ModelVersion:
    address = _address(source, target, version, known)
    if address is not None:
        return _register(source, target, version, known, address)
    with fetched(source, version) as path:
        if path is not None and target.our_models is not None:
            return _register(source, target, version, known, str(version.source), path)
        if path is not None:
            run_id = known[0].get(version.run_id or "")
            address, model_id = sent(source, target, version, run_id, path)
            return _register(source, target, version, known, address, model_id=model_id)
    report.unresolved.append(f"{version.name}/{version.version}")
    address = source.client.get_model_version_download_uri(version.name, version.version)
    return _register(source, target, version, known, address)


def _register(
    source: End,
    target: End,
    version: ModelVersion,
    known: Known,
    address: str,
    path: pathlib.Path | None = None,
    model_id: str | None = None,
) -> ModelVersion:
    """Create the version in the target, with its number where that can be chosen."""
    tags = {key: value for key, value in version.tags.items() if key not in {ORIGIN, COMPLETE}}
    tags |= {ORIGIN: _origin(source, version)}
    run_id = known[0].get(version.run_id or "")
    model_id = model_id or known[1].get(version.model_id or "")
    store = target.our_models
    if store is None:
        return target.client.create_model_version(
            version.name,
            address,
            run_id,
            tags,
            version.run_link or None,
            version.description,
            model_id=model_id,
        )
    recorded = [ModelVersionTag(key, value) for key, value in tags.items()]
    number: int | None = int(version.version)
    requested: dict[str, Any] = {
        "run_id": run_id,
        "tags": recorded,
        "run_link": version.run_link or None,
        "description": version.description,
        "model_id": model_id,
        "copied": path,
    }
    try:
        return store.create_model_version(version.name, address, number=number, **requested)
    except AlreadyExistsError:  # of another version, here
        number = store.book.model(version.name).highest + 1
        return store.create_model_version(version.name, address, number=number, **requested)


def _address(source: End, target: End, version: ModelVersion, known: Known) -> str | None:
    """Return where the target has the files of a version, None when they were not copied."""
    runs, logged = known
    if version.model_id in logged:
        return str(target.client.get_logged_model(logged[version.model_id]).artifact_location)
    if version.run_id not in runs:
        return None
    where = source.client.get_model_version_download_uri(version.name, version.version)
    target_uri = target.client.get_run(runs[version.run_id]).info.artifact_uri
    for root in (
        str(source.client.get_run(version.run_id).info.artifact_uri),
        f"runs:/{version.run_id}",
    ):
        if where == root or where.startswith(f"{root.rstrip('/')}/"):
            return f"{target_uri}{where[len(root.rstrip('/')) :]}"
    return None


def _finish(source: End, target: End, version: ModelVersion, copy: ModelVersion) -> None:
    stage: Any = version.current_stage
    if stage not in {None, "None", copy.current_stage}:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # MLflow would like stages to be gone
            target.client.transition_model_version_stage(copy.name, str(copy.version), stage)
    target.client.set_model_version_tag(copy.name, str(copy.version), COMPLETE, source.public_uri)
