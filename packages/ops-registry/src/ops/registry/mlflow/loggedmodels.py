# mypy: disable-error-code="no-untyped-call"
"""MLflow 3's logged models: one journal for all experiments, folded into memory.

``experiment_tracking/logged_models/journal.log`` has one frame per change. A logged model belongs to
an experiment, has parameters, tags, and metrics that runs have measured of it; its files are below the
experiment's artifacts.
"""

from __future__ import annotations

import threading
from time import time_ns
from typing import TYPE_CHECKING, Any

from mlflow.entities import (
    LoggedModel,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
)

from ops.registry.disk.journal import JournalReader, JournalWriter, writing

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping

__all__ = ["LoggedModelBook"]

_NS_PER_MS = 1_000_000


class LoggedModelBook:
    """The logged models in one folder, which appears with the first of them."""

    def __init__(self, folder: pathlib.Path, durability: str) -> None:
        self.folder = folder
        self._durability = durability
        self._reader = JournalReader(folder / "journal.log")
        self._known: dict[str, dict[str, Any]] = {}
        self._turn = threading.RLock()

    def create(self, fields: Mapping[str, Any], model_id: str) -> str:
        """Add a model and return its id; *fields* has its name, experiment and so on."""
        self._append({"op": "create", "id": model_id, "fields": dict(fields)})
        return model_id

    def change(self, model_id: str, **fields: Any) -> None:
        """Change fields; of *tags*, a None removes one."""
        self._append({"op": "change", "id": model_id, "fields": fields})

    def erase(self, model_id: str) -> None:
        """Delete a model for ever; its files stay."""
        self._append({"op": "gone", "id": model_id})

    def log_metric(self, run_id: str, metric: Metric) -> None:
        """Log one value that *run_id* has measured of ``metric.model_id``."""
        point = [metric.key, metric.value, int(metric.timestamp), metric.step or 0]
        told = [*point, run_id, metric.dataset_name, metric.dataset_digest]
        self._append({"op": "metric", "id": metric.model_id, "m": told})

    def all(self) -> list[dict[str, Any]]:
        """Return all models, deleted ones too, oldest first."""
        with self._turn:
            for record in self._reader.poll():
                self._apply(record)
            return list(self._known.values())

    def get(self, model_id: str) -> dict[str, Any] | None:
        """Return one by its id, None when there is none."""
        with self._turn:
            self.all()
            return self._known.get(model_id)

    def _apply(self, record: Mapping[str, Any]) -> None:
        model_id, when = record["id"], record["t"] // _NS_PER_MS
        if record["op"] == "create":
            made = {"id": model_id, "created": when, "updated": when, "deleted": None}
            self._known[model_id] = made | {"metrics": {}} | record["fields"]
            return
        model = self._known.get(model_id)
        if model is None:
            return
        if record["op"] == "gone":
            del self._known[model_id]
            return
        if record["op"] == "metric":
            key, value, stamp, step, run_id, *dataset = record["m"]
            model["metrics"][key, stamp, step, run_id] = [value, *dataset]
            return
        model["updated"] = when
        tags = {**model["tags"], **record["fields"].get("tags", {})}
        model |= record["fields"]
        model["tags"] = {key: value for key, value in tags.items() if value is not None}

    def _append(self, record: dict[str, Any]) -> None:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._turn:
            writer = JournalWriter(self.folder / "journal.log", durability=self._durability)
            try:
                writer.append(record | {"t": time_ns()})
            finally:
                writer.close()


def to_logged_model(model: Mapping[str, Any], nothing: list[Metric] | None = None) -> LoggedModel:
    """Return a model of the book as MLflow's entity; one without metrics has *nothing* there."""
    metrics = [
        Metric(key, value, stamp, step, model["id"], dataset, digest, run_id)
        for (key, stamp, step, run_id), (value, dataset, digest) in model["metrics"].items()
    ]
    return LoggedModel(
        experiment_id=model["experiment_id"],
        model_id=model["id"],
        name=model["name"],
        artifact_location=model["artifact_location"],
        creation_timestamp=model["created"],
        last_updated_timestamp=model["updated"],
        model_type=model["model_type"],
        source_run_id=model["source_run_id"],
        status=LoggedModelStatus.from_int(model["status"]),
        tags=[LoggedModelTag(key, value) for key, value in model["tags"].items()],
        params=[LoggedModelParameter(key, value) for key, value in model["params"].items()],
        metrics=metrics or nothing,
    )
