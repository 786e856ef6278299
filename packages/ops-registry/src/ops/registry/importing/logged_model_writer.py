"""Logged models of MLflow 3, written into the journal that MLflow's plugin reads: without mlflow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.registry.disk.checked_paths import inside
from ops.registry.disk.journal import JournalReader, JournalWriter, frame
from ops.registry.importing.run_writer import is_same_file

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping

    from ops.registry.context import MLOpsContext
    from ops.registry.importing.findings import Findings
    from ops.registry.importing.records import ForeignLoggedModel
    from ops.registry.importing.run_writer import RunWriter

__all__ = ["LoggedModelWriter"]


@dataclasses.dataclass(slots=True)
class _Known:
    """What the journal has of a model."""

    fields: dict[str, Any]
    metrics: set[str] = dataclasses.field(default_factory=set)


class LoggedModelWriter:
    """Writes logged models into a local store, each with its files."""

    def __init__(self, context: MLOpsContext, runs: RunWriter, findings: Findings) -> None:
        self.folder: pathlib.Path = inside(context.paths.experiment_tracking, "logged_models")
        self._durability = context.config.durability
        self._runs = runs
        self._findings = findings
        self._known: dict[str, _Known] = {}
        for record in JournalReader(self.folder / "journal.log").poll():
            self._fold(record)

    @property
    def ids(self) -> set[str]:
        """The ids of the models that are here."""
        return set(self._known)

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
        known = self._known.get(model.model_id)
        records = _records(model, known, home, files.as_uri())
        if records:
            with JournalWriter(self.folder / "journal.log", durability=self._durability) as journal:
                journal.append_frames(b"".join(map(frame, records)))
            for record in records:
                self._fold(record)
        return known is None

    def _fold(self, record: Mapping[str, Any]) -> None:
        known = self._known.get(record["id"])
        match record["op"]:
            case "create":
                self._known[record["id"]] = _Known(dict(record["fields"]))
            case "gone":
                self._known.pop(record["id"], None)
            case "metric" if known is not None:
                known.metrics.add(repr(list(record["m"])))
            case "change" if known is not None:
                fields = dict(record["fields"])
                for kind, added in (
                    ("tags", fields.pop("tags", {})),
                    ("params", fields.pop("more_params", {})),
                ):
                    merged = {**known.fields[kind], **added}
                    known.fields[kind] = {k: v for k, v in merged.items() if v is not None}
                known.fields |= fields


def _records(
    model: ForeignLoggedModel, known: _Known | None, home: str, location: str
) -> list[dict[str, Any]]:
    """Return the frames that make *known* what the source has."""
    records: list[dict[str, Any]] = []
    if known is None:
        fields = {
            "experiment_id": home,
            "name": model.name,
            "artifact_location": location,
            "source_run_id": model.source_run_id,
            "tags": model.tags,
            "params": model.params,
            "model_type": model.model_type,
            "status": model.status,
        }
        created = {"op": "create", "id": model.model_id, "fields": fields, "t": model.created}
        records.append(created)
        changes: dict[str, Any] = {}
    else:
        changes = _changes(model, known.fields)
    if model.is_deleted and not (known and known.fields.get("deleted")):
        changes["deleted"] = True
    if changes or (known is None and model.updated != model.created):
        records.append(
            {"op": "change", "id": model.model_id, "fields": changes, "t": model.updated}
        )
    measured = [list(one) for one in model.metrics]
    records += [
        {"op": "metric", "id": model.model_id, "m": one, "t": model.updated}
        for one in measured
        if known is None or repr(one) not in known.metrics
    ]
    return records


def _changes(model: ForeignLoggedModel, fields: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if fields["status"] != model.status:
        changes["status"] = model.status
    tags = {k: v for k, v in model.tags.items() if fields["tags"].get(k) != v}
    if tags:
        changes["tags"] = tags
    params = {k: v for k, v in model.params.items() if fields["params"].get(k) != v}
    if params:
        changes["more_params"] = params
    return changes
