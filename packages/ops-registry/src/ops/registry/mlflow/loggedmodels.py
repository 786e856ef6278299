# mypy: disable-error-code="no-untyped-call"
"""MLflow 3's logged models: one journal for all experiments, folded into memory.

``experiment_tracking/logged_models/journal.log`` has one frame per change. A logged model belongs to
an experiment, has parameters, tags, and metrics that runs have measured of it; its files are below the
experiment's artifacts.
"""

from __future__ import annotations

import os
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

from ops.registry.disk.journal import JournalReader, JournalWriter, frame

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Mapping

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
        self._writer: tuple[int, JournalWriter] | None = None

    def create(self, fields: Mapping[str, Any], model_id: str) -> str:
        """Add a model and return its id; *fields* has its name, experiment and so on."""
        self._append({"op": "create", "id": model_id, "fields": dict(fields)})
        return model_id

    def change(self, model_id: str, **fields: Any) -> None:
        """Change fields; of *tags*, a None removes one, and *more_params* are added to those there are."""
        self._append({"op": "change", "id": model_id, "fields": fields})

    def erase(self, model_id: str) -> None:
        """Delete a model for ever; its files stay."""
        self._append({"op": "gone", "id": model_id})

    def log_metrics(self, run_id: str, metrics: Iterable[Metric]) -> None:
        """Log values that *run_id* has measured of their ``model_id``, with one write."""
        recorded = []
        for one in metrics:
            point = [one.key, one.value, int(one.timestamp), one.step or 0]
            measured = [*point, run_id, one.dataset_name, one.dataset_digest]
            recorded.append({"op": "metric", "id": one.model_id, "m": measured})
        self._append(*recorded)

    def all(self) -> list[dict[str, Any]]:
        """Return all models, deleted ones too, oldest first."""
        with self._turn:
            try:
                for record in self._reader.poll():
                    self._apply(record)
            except BaseException:  # an interrupt too: what was read is not read again
                self._reader, self._known = JournalReader(self._reader.path), {}
                raise
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
        fields = dict(record["fields"])
        tags = {**model["tags"], **fields.get("tags", {})}
        params = fields.pop("more_params", {})
        model |= fields
        model["params"] = {**model["params"], **params}
        model["tags"] = {key: value for key, value in tags.items() if value is not None}

    def _append(self, *records: dict[str, Any]) -> None:
        frames = b"".join(frame(record | {"t": time_ns()}) for record in records)
        with self._turn:
            if self._writer is None or self._writer[0] != os.getpid():
                path = self.folder / "journal.log"
                self._writer = os.getpid(), JournalWriter(path, durability=self._durability)
            self._writer[1].append_frames(frames)


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
