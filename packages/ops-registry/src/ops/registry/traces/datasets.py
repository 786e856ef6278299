"""Datasets that evaluate GenAI applications, as MLflow 3 has them: one journal each, folded into memory.

``experiment_tracking/evaluation_datasets/{id}.log`` begins with ``create``; ``records`` adds records or changes those with the same
inputs, ``remove`` takes some out, ``tags`` and ``experiments`` change what a dataset is called and belongs to. What two processes add
at once comes together in the order of the journal: who reads a record with inputs that are there merges it. A frame of another
kind changes nothing, is counted and copied.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.forks import in_children
from ops.registry.disk.checked_paths import inside, is_id
from ops.registry.disk.journal import JournalReader, JournalWriter, frame, writing

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Mapping

__all__ = ["FOLDER", "Dataset", "DatasetBook"]

#: Below ``experiment_tracking``.
FOLDER = "evaluation_datasets"
_SUFFIX = ".log"
_PARTS = ("inputs", "outputs", "expectations")
#: What the frame of a new record may have besides its id and the hash of its inputs.
_FIELDS = ("inputs", "outputs", "expectations", "tags", "source", "source_id", "source_type")
_TYPES = {bool: "boolean", int: "integer", float: "float", str: "string", list: "array"}


@dataclasses.dataclass(slots=True)
class Dataset:
    """A dataset; times are milliseconds, *records* are by id, *schema* has the type of each field that ever was."""

    dataset_id: str
    name: str
    created: int
    updated: int
    created_by: str | None
    updated_by: str | None
    digest: str
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    experiments: list[str] = dataclasses.field(default_factory=list)
    records: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    schema: dict[str, Any] | None = None
    #: The ids of records by the hash of their inputs.
    by_inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    #: How many records the last frame added and changed.
    last: tuple[int, int] = (0, 0)


class DatasetBook:
    """The datasets in the folder *folder* of a store, which appears with the first of them."""

    def __init__(self, folder: pathlib.Path, durability: str = "process") -> None:
        self.folder = folder
        self._durability = durability
        self._mutex = threading.RLock()
        self._known: dict[str, _Journal] = {}
        in_children(self, DatasetBook.begin_in_child)

    def begin_in_child(self) -> None:
        """Reset after a fork: another thread may have been in the middle of reading."""
        self._mutex, self._known = threading.RLock(), {}

    def create(self, dataset_id: str, fields: Mapping[str, Any]) -> Dataset:
        """Add a dataset: *fields* has name, created (ms), created_by, tags and experiments."""
        made = self._append(dataset_id, {"op": "create", "fields": dict(fields)})
        assert made is not None  # noqa: S101 - it was just written
        return made

    def change(self, dataset_id: str, operation: str, **fields: Any) -> Dataset | None:
        """Append a frame about a dataset and return what it comes to; None when it is gone."""
        return self._append(dataset_id, {"op": operation, **fields})

    def get(self, dataset_id: str) -> Dataset | None:
        """Return a dataset as of now, None when there is none; it is to be read only."""
        if not is_id(dataset_id):
            return None
        with self._mutex:
            return self._journal(dataset_id).read()

    def all(self) -> list[Dataset]:
        """Return all datasets, oldest first."""
        with self._mutex:
            found = [one for one in map(self.get, self.ids()) if one is not None]
        return sorted(found, key=lambda one: (one.created, one.dataset_id))

    def ids(self) -> list[str]:
        """Return the ids of the journals that there are."""
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 - names are all that is needed
        except (FileNotFoundError, NotADirectoryError):
            return []
        ids = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
        return sorted(filter(is_id, ids))

    def erase(self, dataset_id: str) -> None:
        """Delete a dataset for ever."""
        self._append(dataset_id, {"op": "gone"})  # for those who read it now
        with self._mutex:
            self._known.pop(dataset_id, None)
            path = inside(self.folder, f"{dataset_id}{_SUFFIX}")
            with writing(path):
                path.unlink(missing_ok=True)

    def frames(self, dataset_id: str) -> list[dict[str, Any]]:
        """Return all frames of a dataset, those of unknown kinds too, oldest first."""
        path = inside(self.folder, f"{dataset_id}{_SUFFIX}")
        return [record for record in JournalReader(path).poll() if isinstance(record, dict)]

    def extend(self, dataset_id: str, frames: Iterable[dict[str, Any]]) -> None:
        """Append frames as another store has them."""
        path = inside(self.folder, f"{dataset_id}{_SUFFIX}")
        with JournalWriter(path, durability=self._durability) as journal:
            journal.append_frames(b"".join(map(frame, frames)))

    @property
    def unknown(self) -> int:
        """How many frames that were read say nothing to this version."""
        return sum(known.unknown for known in self._known.values())

    @property
    def torn(self) -> int:
        """How many lines that were read were damaged."""
        return sum(known.reader.torn for known in self._known.values())

    def _journal(self, dataset_id: str) -> _Journal:
        known = self._known.get(dataset_id)
        if known is None:
            path = inside(self.folder, f"{dataset_id}{_SUFFIX}")
            known = self._known[dataset_id] = _Journal(dataset_id, str(path))
        return known

    def _append(self, dataset_id: str, record: dict[str, Any]) -> Dataset | None:
        with self._mutex:
            journal = self._journal(dataset_id)
            with JournalWriter(journal.reader.path, durability=self._durability) as writer:
                writer.append({"t": time_ns(), **record})
            return journal.read()


class _Journal:
    """What was read of one journal."""

    def __init__(self, dataset_id: str, path: str) -> None:
        self.dataset_id = dataset_id
        self.reader = JournalReader(path)
        self.unknown = 0
        self._found: Dataset | None = None

    def read(self) -> Dataset | None:
        """Return the dataset as of now."""
        records = self.reader.poll()
        if self.reader.is_replaced:
            self.reader, self._found, self.unknown = JournalReader(self.reader.path), None, 0
            records = self.reader.poll()
        if self.reader.is_gone:
            self._found = None
        if records and self._found is not None:
            # Who was given it before may read it still.
            self._found = _copy(self._found)
        for record in records:
            try:
                self._found = _fold(self.dataset_id, self._found, record)
            except (KeyError, TypeError, ValueError, AttributeError):
                self.unknown += 1
        return self._found


def _fold(dataset_id: str, known: Dataset | None, record: Mapping[str, Any]) -> Dataset | None:
    operation = record["op"]
    if operation == "create":
        fields = record["fields"]
        name, created, by = fields["name"], int(fields["created"]), fields["created_by"]
        made = Dataset(dataset_id, name, created, created, by, by, _digest(name, created))
        made.tags, made.experiments = dict(fields["tags"]), list(fields["experiments"])
        return made if known is None else known
    if operation == "gone":
        return None
    change = _CHANGES[operation]
    if known is not None:
        change(known, record)
    return known


def _records(known: Dataset, record: Mapping[str, Any]) -> None:
    """Add records, or merge them into those with the same inputs."""
    time, inserted = int(record["time"]), 0
    for one in record["records"]:
        there = known.records.get(known.by_inputs.get(one["hash"], ""))
        if there is not None:
            known.records[there["id"]] = _merged(there, one, time)
            continue
        inserted += 1
        made = {key: one.get(key) for key in _FIELDS}
        by = (one.get("tags") or {}).get(record["user_tag"])
        made |= {"id": one["id"], "created": time, "updated": time}
        made |= {"created_by": by, "updated_by": by}
        known.records[one["id"]] = made
        known.by_inputs[one["hash"]] = one["id"]
    known.last = inserted, len(record["records"]) - inserted
    known.updated, known.updated_by = time, record["by"]
    known.digest = _digest(known.name, time)
    known.schema = _widened(known.schema, record["records"])


def _merged(there: dict[str, Any], new: Mapping[str, Any], time: int) -> dict[str, Any]:
    found = {**there, "updated": time}
    if new["has_outputs"]:
        found["outputs"] = new["outputs"]
    for key in ("expectations", "tags"):
        if new.get(key):
            found[key] = {**(there[key] or {}), **new[key]}
    found["updated_by"] = new.get("by") or there["updated_by"]
    return found


def _remove(known: Dataset, record: Mapping[str, Any]) -> None:
    gone = [known.records.pop(one, None) for one in record["records"]]
    kept = set(known.records)
    known.by_inputs = {key: one for key, one in known.by_inputs.items() if one in kept}
    known.last = 0, sum(one is not None for one in gone)


def _tags(known: Dataset, record: Mapping[str, Any]) -> None:
    tags = {**known.tags, **record["tags"]}
    known.tags = {key: value for key, value in tags.items() if value is not None}


def _experiments(known: Dataset, record: Mapping[str, Any]) -> None:
    kept = [one for one in known.experiments if one not in record["drop"]]
    known.experiments = list(dict.fromkeys([*kept, *record["add"]]))
    known.updated = int(record["time"])


_CHANGES = {"records": _records, "remove": _remove, "tags": _tags, "experiments": _experiments}


def _widened(schema: dict[str, Any] | None, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a schema with the fields of *records* too; the type of a field is the one that it had first."""
    found = {part: (schema or {}).get(part, {}) for part in _PARTS}
    for one in records:
        for part in _PARTS:
            value = one.get(part)
            if isinstance(value, dict) and isinstance(found[part], dict):
                types = {key: _type(given) for key, given in value.items()}
                found[part] = {**types, **found[part]}
            elif part == "outputs" and value is not None and not found[part]:
                found[part] = _type(value)
    return {**found, "version": "1.0"}


def _type(value: Any) -> str:
    if value is None:
        return "null"
    return "object" if isinstance(value, dict) else _TYPES.get(type(value), "unknown")


def _digest(name: str, time_ms: int) -> str:
    """Return a short text that is another after each change of the records."""
    return hashlib.sha256(f"{name}:{time_ms}".encode()).hexdigest()[:8]


def _copy(known: Dataset) -> Dataset:
    return dataclasses.replace(known, records=dict(known.records), by_inputs=dict(known.by_inputs))
