"""The experiments and runs of a store, as MLflow needs them: found fast, changed in place.

It works on the journals of `ops.registry` themselves, so nothing is copied and nothing can differ.
MLflow asks whether a run is active before each call; so the state of the runs that are written or
read is kept and read on from where it was: one `stat` when nobody has appended anything.
"""

from __future__ import annotations

import collections
import datetime as dt
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.ids import generate_uuid7
from ops.registry.disk.journal import JournalWriter, writing
from ops.registry.errors import AlreadyExistsError, ExperimentNotFoundError
from ops.registry.instants import from_ns
from ops.registry.records import Experiment, RunStatus
from ops.registry.tracking.experiments import ExperimentLedger
from ops.registry.tracking.liveness import owner, with_liveness
from ops.registry.tracking.runlog import FORMAT, MAIN, RunReader, RunState, journal_path
from ops.registry.tracking.runstore import RunStore

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Mapping

    from ops.registry.search.filters import Node

__all__ = ["DEFAULT_ID", "DEFAULT_NAME", "RunBook"]

#: MLflow's experiment for those who name none. It is there before anything is written.
DEFAULT_ID, DEFAULT_NAME = "0", "Default"
_READERS = 1024


class RunBook:
    """Experiments and runs below *root*, the folder ``experiment_tracking`` of a store."""

    def __init__(
        self,
        root: pathlib.Path,
        durability: str,
        *,
        owned: bool = True,
        artifact_root: str | None = None,
    ) -> None:
        self.root = root
        self.artifacts = root / "artifacts"
        self.turn = threading.RLock()
        self._durability = durability
        self._owned = owned
        self._artifact_root = artifact_root
        self._opened = from_ns(
            time_ns()
        )  # what the default experiment says while it is not on disk
        self._ledger = ExperimentLedger(root / "experiments", durability=durability)
        self._store = RunStore(root, self._ledger, durability=durability)
        self._readers: collections.OrderedDict[str, RunReader] = collections.OrderedDict()

    # Experiments

    def experiments(self) -> list[Experiment]:
        """Return all experiments, deleted ones too; the default one even if nobody has written."""
        found = self._ledger.all()
        if any(e.name == DEFAULT_NAME or e.experiment_id == DEFAULT_ID for e in found):
            return found
        where = self._artifact_uri(DEFAULT_ID)
        began = found[0].created_at - dt.timedelta(milliseconds=1) if found else self._opened
        return [Experiment(DEFAULT_ID, DEFAULT_NAME, began, artifact_uri=where), *found]

    def experiment(self, experiment_id: str) -> Experiment:
        """Return one by its id, or raise `ExperimentNotFoundError`."""
        found = {e.experiment_id: e for e in self.experiments()}
        if experiment_id in found:
            return found[experiment_id]
        if experiment_id == DEFAULT_ID:  # somebody has created it by its name
            return next(e for e in found.values() if e.name == DEFAULT_NAME)
        raise ExperimentNotFoundError(f"There is no experiment with the id {experiment_id!r}.")

    def create_experiment(
        self, name: str, tags: Mapping[str, str], artifact_uri: str | None
    ) -> Experiment:
        """Add an experiment; a name that is taken is an `AlreadyExistsError`."""
        if name == DEFAULT_NAME:
            self._materialize(DEFAULT_ID)
        made = generate_uuid7().replace("-", "")
        where = artifact_uri or self._artifact_uri(made)
        return self._ledger.create(name, "", tags, id=made, artifact_uri=where)

    def change_experiment(self, experiment_id: str, **changes: Any) -> Experiment:
        """Change name, tags or deletion, as `ExperimentLedger.change` does."""
        self._materialize(experiment_id)
        return self._ledger.change(self.experiment(experiment_id).experiment_id, **changes)

    def _materialize(self, experiment_id: str) -> None:
        known = self.experiments()[0]
        if experiment_id == known.experiment_id == DEFAULT_ID and known not in self._ledger.all():
            try:
                began = (known.created_at - from_ns(0)) // dt.timedelta(microseconds=1) * 1000
                more = {"id": DEFAULT_ID, "t": began, "artifact_uri": known.artifact_uri}
                self._ledger.create(DEFAULT_NAME, "", {}, **more)
            except AlreadyExistsError:
                return  # by another process, just now

    def _artifact_uri(self, experiment_id: str) -> str | None:
        """Return where a new experiment keeps its artifacts, None if that is in the store."""
        return self._artifact_root and f"{self._artifact_root.rstrip('/')}/{experiment_id}"

    # Runs

    def start(
        self,
        experiment_id: str,
        *,
        name: str,
        start: int,
        tags: Mapping[str, str],
        parent: str | None,
        run_id: str | None = None,
    ) -> str:
        """Start a run that began at *start*, in nanoseconds, and return its id."""
        self._materialize(experiment_id)
        home = self.experiment(experiment_id).experiment_id
        run_id = run_id or generate_uuid7().replace("-", "")
        folder = self._store.folder(home)
        record = {
            "e": "start",
            "v": FORMAT,
            "run": run_id,
            "exp": home,
            "name": name,
            "t": time_ns(),
            "s": start,
            "parent": parent,
            # A server writes for others: that it ends says nothing about their runs.
            "o": owner() if self._owned else None,
            "hb": self._store.heartbeat_seconds if self._owned else 0,
            "tags": dict(tags),
        }
        state = RunState(keep_history=False)
        state.apply(record)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        journal = JournalWriter(journal_path(folder, run_id, MAIN), durability=self._durability)
        try:
            journal.append(record)
            self._store.index(home).put(state.row)
        except BaseException:
            journal.close()
            raise
        self._store.started(run_id, home, journal)
        return run_id

    def row(self, run_id: str) -> dict[str, Any]:
        """Return what a run comes to now, to be read only; raises `RunNotFoundError`.

        Hold `turn` while it is used.
        """
        with self.turn:
            reader = self._readers.get(run_id)
            if reader is None:
                folder = self._store.folder(self._store.home(run_id))
                reader = RunReader(folder, run_id, keep_history=False)
                reader.poll()
                self._readers[run_id] = reader
                if len(self._readers) > _READERS:
                    self._readers.popitem(last=False)
            self._readers.move_to_end(run_id)
            return with_liveness(reader.poll().row, reader.folder)

    def state_row(self, run_id: str) -> dict[str, Any]:
        """Return `row` without asking which processes live: what is needed before each write."""
        with self.turn:
            reader = self._readers.get(run_id)
            return self.row(run_id) if reader is None else reader.poll().row

    def append(self, run_id: str, record: dict[str, Any]) -> None:
        """Append a record to this process's journal of a run."""
        self._store.append(run_id, record)

    def append_body(self, run_id: str, body: bytes) -> None:
        """Append what `encode` made of a record."""
        self._store.append_body(run_id, body)

    def change(self, run_id: str, **fields: Any) -> None:
        """Change fields of a run's row; a final status also settles its row in the index."""
        self.append(run_id, {"e": "change", "c": fields, "t": time_ns()})
        if "status" in fields and RunStatus(fields["status"]).is_final:
            self._settle(run_id)

    def points(self, run_id: str, key: str) -> list[tuple[float, int, int]]:
        """Return ``(value, step, nanoseconds)`` of all points of a metric, by time."""
        folder = self._store.folder(self._store.home(run_id))
        found = RunReader(folder, run_id).poll().history.get(key, [])
        return sorted(dict.fromkeys(found), key=lambda p: (p[2], p[1]))

    def rows(self, experiment_id: str, node: Node | None = None) -> list[dict[str, Any]]:
        """Return the rows of an experiment; of settled ones only those for which *node* may hold."""
        index = self._store.index(self.experiment(experiment_id).experiment_id)
        with index.turn:
            found = index.snapshot()
            rows = list(found.settled.values())
            if found.base is not None:
                rows += found.base.rows(found.base.positions(node, None, None, found.hidden))
            rows += [with_liveness(dict(row), index.folder) for row in found.live.values()]
        return rows

    def known(self, experiment_ids: Iterable[str]) -> list[Experiment]:
        """Return those of the experiments that there are."""
        wanted = {str(i) for i in experiment_ids}
        return [e for e in self.experiments() if e.experiment_id in wanted]

    def close(self) -> None:
        """Close the files that are open."""
        self._store.close()

    def _settle(self, run_id: str) -> None:
        home = self._store.home(run_id)
        reader = RunReader(self._store.folder(home), run_id)
        row = reader.poll().row
        self._store.index(home).put(row)
        reader.write_view()
        self._store.release(run_id)
