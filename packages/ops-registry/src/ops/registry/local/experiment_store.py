"""Experiments on disk: a journal under a lock, and a JSON file each and a Parquet index as views.

Names are unique because creating reads the journal to its end and appends to it under one lock.
"""

from __future__ import annotations

import dataclasses
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.foundation.forks import in_children
from ops.foundation.ids import generate_uuid7
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger
from ops.registry.disk.checked_paths import is_id, refuse_link
from ops.registry.disk.derived_files import write_view
from ops.registry.disk.journal import JournalReader, JournalWriter, writing
from ops.registry.disk.store_addresses import kept, resolved
from ops.registry.errors import AlreadyExistsError, ExperimentNotFoundError, no_experiment
from ops.registry.instants import from_ns, to_ns
from ops.registry.json_values import encode
from ops.registry.local.index import arrays
from ops.registry.records import Experiment
from ops.registry.validators import check_id, check_name

if TYPE_CHECKING:
    import datetime as dt
    import logging
    import pathlib
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["ExperimentLedger"]

logger: logging.Logger = get_logger("ops.registry")

#: As long as MLflow allows.
_LONGEST_NAME = 500


class ExperimentLedger:
    """The experiments in one folder, which appears with the first of them."""

    def __init__(self, folder: pathlib.Path, *, durability: str = "process") -> None:
        self.folder = folder
        self._store = folder.parents[1]
        self._durability = durability
        self._journal = folder / "journal.log"
        self.begin_in_child()
        in_children(self, ExperimentLedger.begin_in_child)

    def begin_in_child(self) -> None:
        """Reset in a forked child: another thread may have been in the middle of reading."""
        self._begin()
        self._mutex = threading.RLock()
        self._is_reading = False

    def _begin(self) -> None:
        self._reader = JournalReader(self._journal)
        self._known: dict[str, Experiment] = {}
        self._ids: set[str] = set()  # those of experiments that were dropped too

    def create(
        self,
        name: str,
        description: str,
        tags: Mapping[str, str],
        more: Callable[[Iterable[str]], Mapping[str, Any]] | None = None,
    ) -> Experiment:
        """Add an experiment; a name that is taken is an `AlreadyExistsError`.

        *more* is given all ids that were ever used, when no other caller can take another, and may return
        the id (``id``), the time (``t``, nanoseconds) and ``artifact_uri``.
        """
        check_name("experiment", name, _LONGEST_NAME)
        with writing(self.folder), FileLock(self.folder / ".lock", timeout=60):
            self._check_free(name)
            record: dict[str, Any] = {
                "id": generate_uuid7().replace("-", ""),
                "name": name,
                "description": description,
                "tags": {str(k): str(v) for k, v in tags.items()},
                "t": time_ns(),
            }
            record |= {} if more is None else more(self._ids)
            if record.get("artifact_uri"):
                record["artifact_uri"] = kept(self._store, record["artifact_uri"])
            self._add(record)
        return self.get(str(record["id"]))

    def change(self, experiment_id: str, **changes: Any) -> Experiment:
        """Change an experiment: *name*, *tags* (None removes one), *deleted* (nanoseconds or None)."""
        with writing(self.folder), FileLock(self.folder / ".lock", timeout=60):
            known = self.get(experiment_id)
            if changes.get("name", known.name) != known.name:
                check_name("experiment", changes["name"], _LONGEST_NAME)
                self._check_free(changes["name"])
            self._append({"id": experiment_id, "c": changes, "t": time_ns()})
            self.all()
        return self.get(experiment_id)

    def drop(self, experiment_id: str) -> None:
        """Forget an experiment for ever; its id is not given again."""
        with writing(self.folder), FileLock(self.folder / ".lock", timeout=60):
            self.get(experiment_id)
            self._append({"id": experiment_id, "gone": time_ns()})
            self.all()
            (self.folder / f"{experiment_id}.json").unlink(missing_ok=True)

    def _check_free(self, name: str) -> None:
        if any(e.name == name for e in self.all()):
            raise AlreadyExistsError(
                f"There is an experiment {name!r} already.",
                suggestions=("Use get_or_create_experiment to go on with it.",),
            )

    def adopt(self, experiment: Experiment) -> Experiment:
        """Return the experiment that is *experiment* here, or has its name; a new one is as it is elsewhere.

        It is the same when it has the same id and was created at the same time, whatever it is called by now.
        An id that another experiment has, or had, is not given again.
        """
        created = to_ns(experiment.created_at)
        with writing(self.folder), FileLock(self.folder / ".lock", timeout=60):
            here = {known.experiment_id: known for known in self.all()}
            same = here.get(experiment.experiment_id)
            if same is not None and same.created_at == from_ns(created):
                self._follow(same, experiment)
                return self.get(same.experiment_id)
            for known in here.values():
                if known.name == experiment.name:
                    return known
            check_name("experiment", experiment.name, _LONGEST_NAME)
            record: dict[str, Any] = {
                "id": self._free(check_id("an experiment", experiment.experiment_id)),
                "name": experiment.name,
                "description": experiment.description,
                "tags": dict(experiment.tags),
                "t": created,
            }
            if experiment.artifact_uri is not None:
                record["artifact_uri"] = kept(self._store, experiment.artifact_uri)
            self._add(record)
            if experiment.updated_at is not None or experiment.deleted_at is not None:
                self._append(_changes(record["id"], experiment))
        return self.get(record["id"])

    def _follow(self, known: Experiment, there: Experiment) -> None:
        """Append what was changed elsewhere since the experiment was changed here."""
        if there.updated_at is None or there.updated_at <= (known.updated_at or known.created_at):
            return
        changes: dict[str, Any] = {"tags": dict.fromkeys(known.tags) | dict(there.tags)}
        changes["deleted"] = None if there.deleted_at is None else to_ns(there.deleted_at)
        if all(one.name != there.name for one in self.all()):
            changes["name"] = there.name
        self._append({"id": known.experiment_id, "c": changes, "t": to_ns(there.updated_at)})

    def _free(self, experiment_id: str) -> str:
        """Return an id that no experiment ever had here: *experiment_id* itself, if that is one."""
        if experiment_id not in self._ids:
            return experiment_id
        if not experiment_id.isdecimal():
            return generate_uuid7().replace("-", "")
        return str(max(int(one) for one in self._ids if one.isdecimal()) + 1)

    def _add(self, record: dict[str, Any]) -> None:
        write_view(f"{self.folder}/{record['id']}.json", encode(record))
        self._append(record)  # from here on it exists

    def _append(self, record: dict[str, Any]) -> None:
        with JournalWriter(self._journal, durability=self._durability) as journal:
            journal.append(record)

    def all(self) -> list[Experiment]:
        """Return all experiments in the order they were created."""
        with self._mutex:
            return list(self._current().values())

    def erased(self) -> set[str]:
        """Return the ids of the experiments that were dropped for ever."""
        with self._mutex:
            return self._ids - self._current().keys()

    def find(self, experiment_id: str) -> Experiment | None:
        """Return one as it is now, None when there is none."""
        if not isinstance(experiment_id, str):
            raise no_experiment(experiment_id)
        with self._mutex:
            return self._current().get(experiment_id)

    def _current(self) -> Mapping[str, Experiment]:
        is_nested, self._is_reading = self._is_reading, True
        try:
            if is_nested:  # a signal handler, amid reading
                return {one.experiment_id: one for one in ExperimentLedger(self.folder).all()}
            self._read_on()
            return self._known
        finally:
            self._is_reading = is_nested

    def _read_on(self) -> None:
        try:
            self._fold()
        except BaseException:  # an interrupt too: what was read is not read again
            self._begin()
            raise

    def _fold(self) -> None:
        records = self._reader.poll()
        if self._reader.is_replaced:
            self._begin()
            records = self._reader.poll()
        for record in records:
            experiment_id = record["id"]
            if not is_id(experiment_id):  # it names folders, and this package gives no such
                logger.warning("an experiment called %.80r is refused", experiment_id)
                continue
            known = self._known.get(experiment_id)
            if "gone" in record:
                self._known.pop(experiment_id, None)
            elif "c" not in record:
                self._ids.add(experiment_id)
                self._known[experiment_id] = _experiment(record, self._store)
            elif known is not None:
                self._known[experiment_id] = _changed(known, record)

    def get(self, experiment_id: str) -> Experiment:
        """Return one by its id."""
        found = self.find(experiment_id)
        if found is None:
            raise no_experiment(experiment_id)
        return found

    def named(self, name: str) -> Experiment:
        """Return one by its name."""
        for experiment in self.all():
            if experiment.name == name:
                return experiment
        raise ExperimentNotFoundError(f"There is no experiment {name!r}.")

    def write_view(self) -> int:
        """Write ``index.parquet`` and return the number of experiments in it."""
        experiments = self.all()
        if not experiments:
            return 0
        import pyarrow as pa
        import pyarrow.parquet as pq

        created = [round(e.created_at.timestamp() * 1e6) * 1000 for e in experiments]
        columns: dict[str, Any] = {
            "experiment_id": arrays.texts([e.experiment_id for e in experiments]),
            "name": arrays.texts([e.name for e in experiments]),
            "description": arrays.texts([e.description for e in experiments]),
            "created_at": arrays.instants(created),
            "tags_json": arrays.texts([encode(dict(e.tags)).decode() for e in experiments]),
        }
        refuse_link(self.folder / "index.parquet")
        with atomic_write(self.folder / "index.parquet", "wb", durable="none") as file:
            pq.write_table(pa.table(columns), file)
        return len(experiments)


def _experiment(record: Mapping[str, Any], store: pathlib.Path) -> Experiment:
    created: dt.datetime = from_ns(record["t"])
    return Experiment(
        record["id"],
        record["name"],
        created,
        record["description"],
        record["tags"],
        resolved(store, record["artifact_uri"]) if record.get("artifact_uri") else None,
    )


def _changes(experiment_id: str, experiment: Experiment) -> dict[str, Any]:
    """Return the record that an experiment was changed and, where it is deleted, since when."""
    deleted = None if experiment.deleted_at is None else to_ns(experiment.deleted_at)
    when = to_ns(experiment.updated_at or experiment.deleted_at or experiment.created_at)
    return {"id": experiment_id, "c": {"deleted": deleted}, "t": when}


def _changed(known: Experiment, record: Mapping[str, Any]) -> Experiment:
    changes = record["c"]
    tags = {**known.tags, **changes.get("tags", {})}
    deleted = known.deleted_at
    if "deleted" in changes:
        deleted = None if changes["deleted"] is None else from_ns(changes["deleted"])
    return dataclasses.replace(
        known,
        name=changes.get("name", known.name),
        tags={key: value for key, value in tags.items() if value is not None},
        updated_at=from_ns(record["t"]),
        deleted_at=deleted,
    )
