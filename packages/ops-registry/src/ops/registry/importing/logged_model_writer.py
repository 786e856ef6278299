"""Logged models of MLflow 3, written into the journal of logged models with the times that they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.registry.disk.checked_paths import inside
from ops.registry.importing.run_writer import is_same_file
from ops.registry.local.logged_models import FOLDER, LoggedModelBook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.registry.context import MLOpsContext
    from ops.registry.importing.findings import Findings
    from ops.registry.importing.records import ForeignLoggedModel
    from ops.registry.importing.run_writer import RunWriter

__all__ = ["LoggedModelWriter"]


class LoggedModelWriter(LoggedModelBook):
    """Writes logged models into a local store, each with its files."""

    def __init__(self, context: MLOpsContext, runs: RunWriter, findings: Findings) -> None:
        folder = inside(context.paths.experiment_tracking, FOLDER)
        super().__init__(folder, context.config.durability)
        self._runs = runs
        self._findings = findings

    def write(self, model: ForeignLoggedModel, home: str) -> bool:
        """Write a model of the experiment *home*, or what has changed; whether it is new."""
        files = inside(self.folder, model.model_id)
        for file in model.files:
            if not is_same_file(file, files):
                try:
                    self._runs.copy_file(file, files)
                    self._runs.files += 1
                except (OpsError, OSError, ValueError) as error:
                    where = f"file {file.name} of logged model {model.model_id}"
                    self._findings.refuse(where, error)
        known = self.get(model.model_id)
        self._append(*_records(model, known, home))
        return known is None


def _records(
    model: ForeignLoggedModel, known: Mapping[str, Any] | None, home: str
) -> list[dict[str, Any]]:
    """Return the frames that make *known* what the source has."""
    records: list[dict[str, Any]] = []
    changes: dict[str, Any] = {}
    if known is None:
        fields = {
            "experiment_id": home,
            "name": model.name,
            "source_run_id": model.source_run_id,
            "tags": model.tags,
            "params": model.params,
            "model_type": model.model_type,
            "status": model.status,
        }
        created = {"op": "create", "id": model.model_id, "fields": fields, "t": model.created}
        records.append(created)
    else:
        changes = _changes(model, known)
    if model.is_deleted and not (known and known["deleted"]):
        changes["deleted"] = True
    if changes or (known is None and model.updated != model.created):
        records.append(
            {"op": "change", "id": model.model_id, "fields": changes, "t": model.updated}
        )
    there = {} if known is None else known["metrics"]
    for key, value, stamp, step, run_id, *dataset in model.metrics:
        if (key, stamp, step, run_id) not in there:
            measured = [key, value, stamp, step, run_id, *dataset]
            metric = {"op": "metric", "id": model.model_id, "m": measured, "t": model.updated}
            records.append(metric)
    return records


def _changes(model: ForeignLoggedModel, known: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if known["status"] != model.status:
        changes["status"] = model.status
    tags = {k: v for k, v in model.tags.items() if known["tags"].get(k) != v}
    if tags:
        changes["tags"] = tags
    params = {k: v for k, v in model.params.items() if known["params"].get(k) != v}
    if params:
        changes["more_params"] = params
    return changes
