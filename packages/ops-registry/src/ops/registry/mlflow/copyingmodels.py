# mypy: disable-error-code="no-untyped-call"
"""A registered model copied with its versions, stages and aliases."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from ops.registry.mlflow.ends import COMPLETE, ORIGIN

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from ops.registry.mlflow.ends import End, MLflowCopy, Progress

__all__ = ["copy_model"]

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
    there = {v.tags[ORIGIN]: v for v in target.versions(name) if ORIGIN in v.tags}
    numbers = {}
    for version in source.versions(name):
        copy = there.get(_origin(source, version))
        if copy is None:
            copy = _create(source, target, version, known, report)
            report.versions += 1
        elif COMPLETE in copy.tags:
            report.there += 1
        if COMPLETE not in copy.tags:
            _finish(source, target, version, copy)
        numbers[int(version.version)] = copy.version
        steps.step()
    pointing = target.client.get_registered_model(name).aliases
    for alias, number in model.aliases.items():
        copied = numbers.get(int(number))
        if copied is not None and str(pointing.get(alias)) != str(copied):
            target.client.set_registered_model_alias(name, alias, str(copied))


def _origin(source: End, version: ModelVersion) -> str:
    return f"{source.public_uri}#{version.version}"


def _create(
    source: End, target: End, version: ModelVersion, known: Known, report: MLflowCopy
) -> ModelVersion:
    place = _place(source, target, version, known)
    if place is None:
        report.unresolved.append(f"{version.name}/{version.version}")
        place = source.client.get_model_version_download_uri(version.name, version.version)
    tags = {key: value for key, value in version.tags.items() if key not in {ORIGIN, COMPLETE}}
    return target.client.create_model_version(
        version.name,
        place,
        known[0].get(version.run_id or ""),
        tags | {ORIGIN: _origin(source, version)},
        version.run_link or None,
        version.description,
        model_id=known[1].get(version.model_id or ""),
    )


def _place(source: End, target: End, version: ModelVersion, known: Known) -> str | None:
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
