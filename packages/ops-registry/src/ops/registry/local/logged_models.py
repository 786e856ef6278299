"""Logged models, as MLflow 3 has them: one journal for all experiments, folded into memory.

``experiment_tracking/logged_models/journal.log`` has one frame per change. A logged model belongs to an experiment, has
parameters, tags, and metrics that runs have measured of it. Its files are in the folder of its id beside the journal, or
below the address of its experiment's artifacts. A frame of a kind that this version does not know is kept, counted and
copied; it changes nothing.
"""

from __future__ import annotations

import collections
import os
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.registry.disk.checked_paths import inside, is_id
from ops.registry.disk.journal import JournalReader, JournalWriter, canonical, frame
from ops.registry.disk.store_addresses import below, kept, local_path, resolved
from ops.registry.errors import AlreadyExistsError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["FOLDER", "LoggedModelBook", "files_of"]

#: Below ``experiment_tracking``.
FOLDER = "logged_models"
_NS_PER_MS = 1_000_000
#: Where a model belongs, which is each store's own affair.
_LOCATIONS = ("artifact_location", "experiment_id")


class LoggedModelBook:
    """The logged models in the folder *folder* of a store, which appears with the first of them.

    A model is a mapping: id, experiment_id, name, artifact_location (an address that leads to the files now),
    source_run_id, tags, params, model_type, status (MLflow's number), created, updated, deleted, and metrics.
    """

    def __init__(self, folder: pathlib.Path, durability: str = "process") -> None:
        self.folder = folder
        self._store = folder.parents[1]
        self._durability = durability
        self._mutex = threading.RLock()
        self._writer: tuple[int, JournalWriter] | None = None
        self._begin()

    def _begin(self) -> None:
        self._reader = JournalReader(self.folder / "journal.log")
        self._known: dict[str, dict[str, Any]] = {}
        #: How many frames are of a kind that this version does not know, or are damaged.
        self.unknown: int = 0

    @property
    def torn(self) -> int:
        """How many lines were damaged."""
        return self._reader.torn

    def create(self, fields: Mapping[str, Any], model_id: str) -> str:
        """Add a model and return its id; *fields* has its name, experiment and so on.

        Without an ``artifact_location`` its files are in its folder beside the journal.
        """
        recorded = dict(fields)
        if "artifact_location" in recorded:
            recorded["artifact_location"] = kept(self._store, recorded["artifact_location"])
        self._append({"op": "create", "id": model_id, "fields": recorded})
        return model_id

    def change(self, model_id: str, **fields: Any) -> None:
        """Change fields; of *tags*, a None removes one, and *more_params* are added to those there are."""
        self._append({"op": "change", "id": model_id, "fields": fields})

    def erase(self, model_id: str) -> None:
        """Delete a model for ever; its files stay."""
        self._append({"op": "gone", "id": model_id})

    def log_metrics(self, run_id: str, metrics: Iterable[Any]) -> None:
        """Log values that *run_id* has measured of their ``model_id`` (MLflow's entities), with one write."""
        recorded = []
        for one in metrics:
            point = [one.key, one.value, int(one.timestamp), one.step or 0]
            measured = [*point, run_id, one.dataset_name, one.dataset_digest]
            recorded.append({"op": "metric", "id": one.model_id, "m": measured})
        self._append(*recorded)

    def all(self) -> list[dict[str, Any]]:
        """Return all models, deleted ones too, oldest first."""
        with self._mutex:
            try:
                records = self._reader.poll()
                if self._reader.is_replaced:
                    self._begin()
                    records = self._reader.poll()
                for record in records:
                    self._apply(record)
            except BaseException:  # an interrupt too: what was read is not read again
                self._begin()
                raise
            return list(self._known.values())

    def get(self, model_id: str) -> dict[str, Any] | None:
        """Return one by its id, None when there is none."""
        with self._mutex:
            self.all()
            return self._known.get(model_id)

    def frames(self) -> list[dict[str, Any]]:
        """Return all frames about models, those of unknown kinds too, oldest first."""
        return [
            record
            for record in JournalReader(self.folder / "journal.log").poll()
            if _is_named(record)
        ]

    def adopt(self, frames: Sequence[dict[str, Any]], homes: Mapping[str, str]) -> tuple[int, int]:
        """Take over the *frames* of another store; return how many models and frames were new.

        *homes* has the ids of the experiments there and here; a model of another experiment is left out. A model
        that is here must be the beginning of the same history, or be ahead of it.

        Raises:
            AlreadyExistsError: both stores have changed a model since it was copied.
        """
        there = _by_id(frames)
        here = _by_id(self.frames())
        for model_id, history in there.items():
            known = here.get(model_id, [])
            if any(map(_differ, known, history)):
                raise AlreadyExistsError(
                    f"Both stores have changed the logged model {model_id} since it was copied.",
                    suggestions=("Copy into another store.",),
                )
        wanted = {model_id: homes.get(_home(history)) for model_id, history in there.items()}
        seen: collections.Counter[str] = collections.Counter()
        new = []
        for record in frames:
            model_id = record["id"]
            seen[model_id] += 1
            home = wanted[model_id]
            if home is not None and seen[model_id] > len(here.get(model_id, ())):
                new.append(_moved(record, home))
        self._append(*new)
        return sum(record["op"] == "create" for record in new), len(new)

    def _apply(self, record: Any) -> None:
        try:
            self._fold(record)
        except (KeyError, TypeError, ValueError, AttributeError):
            self.unknown += 1

    def _fold(self, record: Mapping[str, Any]) -> None:
        model_id, when = record["id"], record["t"] // _NS_PER_MS
        operation = record["op"]
        if not _is_named(record) or operation not in {"create", "change", "metric", "gone"}:
            raise ValueError(operation)
        if operation == "create":
            made = {"id": model_id, "created": when, "updated": when, "deleted": None}
            fields = dict(record["fields"])
            fields["artifact_location"] = self._location(model_id, fields.get("artifact_location"))
            self._known[model_id] = made | {"metrics": {}} | fields
            return
        model = self._known.get(model_id)
        if model is None:
            return
        if operation == "gone":
            del self._known[model_id]
            return
        if operation == "metric":
            key, value, stamp, step, run_id, *dataset = record["m"]
            model["metrics"][key, stamp, step, run_id] = [value, *dataset]
            return
        fields = dict(record["fields"])
        tags = {**model["tags"], **fields.get("tags", {})}
        params = fields.pop("more_params", {})
        model |= {"updated": when, **fields}
        model["params"] = {**model["params"], **params}
        model["tags"] = {key: value for key, value in tags.items() if value is not None}

    def _location(self, model_id: str, recorded: str | None) -> str:
        """Return where the files of a model are now; an older version has recorded where its own folder lay."""
        if recorded is None or recorded.endswith(f"/experiment_tracking/{FOLDER}/{model_id}"):
            return f"{self.folder.as_uri()}/{model_id}"
        return resolved(self._store, recorded)

    def _append(self, *records: dict[str, Any]) -> None:
        frames = b"".join(frame({"t": time_ns()} | record) for record in records)
        if not frames:
            return
        with self._mutex:
            if self._writer is None or self._writer[0] != os.getpid():
                path = self.folder / "journal.log"
                self._writer = os.getpid(), JournalWriter(path, durability=self._durability)
            self._writer[1].append_frames(frames)


def files_of(model: Mapping[str, Any], store: pathlib.Path) -> pathlib.Path | None:
    """Return the folder of a model's files, None when they are not in the *store*."""
    path = local_path(model["artifact_location"])
    tail = None if path is None else below(store, path)
    return None if tail is None else inside(store, tail)


def _is_named(record: Any) -> bool:
    return (
        isinstance(record, dict) and is_id(record.get("id")) and isinstance(record.get("op"), str)
    )


def _by_id(frames: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for record in frames:
        found.setdefault(record["id"], []).append(record)
    return found


def _home(history: Sequence[Mapping[str, Any]]) -> str:
    return str(history[0].get("fields", {}).get("experiment_id"))


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return canonical(_without_location(one)) != canonical(_without_location(other))


def _without_location(record: Mapping[str, Any]) -> dict[str, Any]:
    if record["op"] != "create":
        return dict(record)
    fields = {key: value for key, value in record["fields"].items() if key not in _LOCATIONS}
    return {**record, "fields": fields}


def _moved(record: dict[str, Any], home: str) -> dict[str, Any]:
    if record["op"] != "create":
        return record
    return {**record, "fields": {**record["fields"], "experiment_id": home}}
