"""What MLflow records, as what this package records: for both of its stores, files and databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError
from ops.registry.importing.findings import ForeignDataError
from ops.registry.importing.mlflow_addresses import is_elsewhere
from ops.registry.instants import from_ns
from ops.registry.records import Experiment, RunStatus
from ops.registry.run_copies import RunCopy
from ops.registry.validators import check_key, usable_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ops.registry.importing.findings import Findings

__all__ = [
    "checked_points",
    "checked_texts",
    "dataset_record",
    "experiment_of",
    "run_copy",
    "status_of",
]

_STATUS = {
    1: RunStatus.RUNNING,
    2: RunStatus.SCHEDULED,
    3: RunStatus.COMPLETED,
    4: RunStatus.FAILED,
    5: RunStatus.CANCELLED,
    "RUNNING": RunStatus.RUNNING,
    "SCHEDULED": RunStatus.SCHEDULED,
    "FINISHED": RunStatus.COMPLETED,
    "FAILED": RunStatus.FAILED,
    "KILLED": RunStatus.CANCELLED,
}
_FIRST_STEP, _LAST_STEP = -(2**63), 2**63 - 1
_LONGEST_NAME = 500
#: A dataset as our journals have it, and how MLflow's database calls the same.
_DATASET = {
    "name": ("name",),
    "digest": ("digest",),
    "source_type": ("source_type", "dataset_source_type"),
    "source": ("source", "dataset_source"),
    "schema": ("schema", "dataset_schema"),
    "profile": ("profile", "dataset_profile"),
}


def status_of(recorded: object) -> RunStatus:
    """Return our status for MLflow's number, or name, of one; without one a run is RUNNING, as for MLflow."""
    if recorded is None:
        return RunStatus.RUNNING
    if isinstance(recorded, (int, str)) and recorded in _STATUS:
        return _STATUS[recorded]
    raise ForeignDataError(f"{recorded!r:.40} is no status of a run")


def experiment_of(
    experiment_id: str,
    name: str | None,
    tags: Mapping[str, str],
    *,
    created: int | None,
    updated: int | None,
    is_deleted: bool,
    artifacts: str | None,
    findings: Findings,
) -> Experiment:
    """Return an experiment; *created* and *updated* are nanoseconds, of MLflow before 2.0 there are none."""
    changed = updated if updated is not None else created
    title = _named(experiment_id, name, findings)
    return Experiment(
        experiment_id,
        title,
        from_ns(created or 0),
        "",
        dict(tags),
        artifacts if artifacts and is_elsewhere(artifacts) else None,
        None if updated is None or updated == created else from_ns(updated),
        from_ns(changed or 0) if is_deleted else None,
    )


def _named(experiment_id: str, name: str | None, findings: Findings) -> str:
    """Return the name of an experiment as one that our stores allow."""
    shown = usable_name(name, f"experiment {experiment_id}", _LONGEST_NAME)
    if shown != name:
        findings.refuse(f"the name of experiment {experiment_id}", f"it is called {shown!r} here")
    return shown


def run_copy(
    run_id: str,
    tags: dict[str, str],
    *,
    name: str | None,
    status: RunStatus,
    start: int | None,
    end: int | None,
) -> RunCopy:
    """Return a run without its points and parameters; MLflow's name of it is a tag, of old runs only that."""
    return RunCopy(
        run_id,
        tags.get("mlflow.runName") or name or f"run-{run_id[-8:]}",
        str(status),
        start or end or 0,
        end,
        tags.get("mlflow.parentRunId"),
        tags=tags,
    )


def checked_texts(where: str, values: Mapping[str, str], findings: Findings) -> dict[str, str]:
    """Return those parameters, or tags, whose keys our stores allow; the others are noted."""
    found = {}
    for key, value in values.items():
        try:
            found[check_key(key)] = value
        except InvalidValueError as error:
            findings.refuse(f"{where}/{key}", error)
    return found


def checked_points(
    where: str, key: str, points: Sequence[tuple[float, int, int]], findings: Findings
) -> list[tuple[str, float, int, int]]:
    """Return the points of a metric that our stores allow: (name, value, step, nanoseconds)."""
    try:
        check_key(key)
    except InvalidValueError as error:
        findings.refuse(where, error)
        return []
    checked = [(key, *point) for point in points if _FIRST_STEP <= point[1] <= _LAST_STEP]
    if len(checked) < len(points):
        findings.refuse(where, "a step of more than 64 bits")
    return checked


def dataset_record(text: Callable[..., str | None]) -> dict[str, Any]:
    """Return a dataset as journals have it; *text* gives the first of some fields that is there."""
    record: dict[str, Any] = {field: text(*names) for field, names in _DATASET.items()}
    if not record["name"] or record["digest"] is None:
        raise ForeignDataError("a dataset without a name, or without a digest")
    return record | {"source_type": record["source_type"] or "", "source": record["source"] or ""}
