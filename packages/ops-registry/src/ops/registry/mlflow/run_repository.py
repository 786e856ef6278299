# mypy: disable-error-code="no-untyped-call"
# (MLflow's helper for addresses is not annotated)
"""The experiments and runs of a store, as MLflow needs them: found fast, changed in place.

It works on the journals of `ops.registry` themselves, so nothing is copied and nothing can differ.
MLflow asks whether a run is active before each call; so the state of the runs that are written or
read is kept and read on from where it was. What this process appends is folded in without being read
again, so a call costs one `stat` and one write when no other process has appended anything.
"""

from __future__ import annotations

import collections
import datetime as dt
import shutil
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any

from mlflow.utils.uri import append_to_uri_path

from ops.registry.disk.journal import frame, writing
from ops.registry.errors import (
    AlreadyExistsError,
    ExperimentNotFoundError,
    RunNotFoundError,
)
from ops.registry.events import EventType
from ops.registry.instants import from_ns, to_ns
from ops.registry.local.experiment_store import ExperimentLedger
from ops.registry.local.liveness import with_liveness
from ops.registry.local.run_journals import RunReader, metric_history
from ops.registry.local.run_store import RunStore
from ops.registry.mlflow.repeated_points import once
from ops.registry.operations import Operations
from ops.registry.records import Experiment, RunStatus
from ops.registry.run_frames import RunChanged
from ops.registry.tracking.experiment_calls import report_change
from ops.registry.tracking.run_life import NewRun, RunLife

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ops.registry.local.index.view import Snapshot
    from ops.registry.run_frames import Frame, RunStarted
    from ops.registry.run_rows import RunRow

__all__ = ["DEFAULT_ID", "DEFAULT_NAME", "RunBook"]

#: MLflow's experiment for those who name none. It is there before anything is written.
DEFAULT_ID, DEFAULT_NAME = "0", "Default"
#: So many runs are kept in memory, and of those whose histories were requested so many points.
_READERS, _POINTS = 1024, 200_000
#: Longer ids were not given here.
_DIGITS = 18


class RunBook:
    """Experiments and runs below *root*, the folder ``experiment_tracking`` of a store."""

    def __init__(
        self,
        root: pathlib.Path,
        durability: str,
        *,
        owned: bool = True,
        artifact_root: str | None = None,
        operations: Operations | None = None,
    ) -> None:
        self.root = root
        #: Hooks and events of this process: the same that the tracker of a context uses.
        self.operations: Operations = operations or Operations()
        self.artifacts: str = (root / "artifacts").as_uri()
        self.mutex: AbstractContextManager[Any] = threading.RLock()
        self._durability = durability
        self._artifact_root = artifact_root
        #: When the default experiment began, while it is not on disk.
        self._opened = from_ns(time_ns())
        self._ledger = ExperimentLedger(root / "experiments", durability=durability)
        # In a server the runs belong to its clients: its own end does not end them.
        self._store = RunStore(root, self._ledger, durability=durability, is_owner=owned)
        self._life = RunLife(self, self, self.operations)
        self._readers: collections.OrderedDict[str, RunReader] = collections.OrderedDict()
        self._histories: collections.OrderedDict[str, tuple[RunReader, int]]
        self._histories = collections.OrderedDict()
        self._history_mutex = (
            threading.RLock()
        )  # a signal handler may read amid a read of its thread

    # Experiments

    def experiments(self) -> list[Experiment]:
        """Return all experiments, deleted ones too; the default one even before the first write."""
        found = self._ledger.all()
        if any(e.name == DEFAULT_NAME or e.experiment_id == DEFAULT_ID for e in found):
            return found
        where = self._artifact_uri(DEFAULT_ID)
        began = self._opened
        if found:  # it was there before all others
            began = min(began, found[0].created_at - dt.timedelta(milliseconds=1))
        return [Experiment(DEFAULT_ID, DEFAULT_NAME, began, artifact_uri=where), *found]

    def experiment(self, experiment_id: str) -> Experiment:
        """Return one by its id, or raise `ExperimentNotFoundError`."""
        found = self._ledger.find(experiment_id)
        if found is None and experiment_id == DEFAULT_ID:
            # Not on disk, or another process has created it by its name.
            return next(e for e in self.experiments() if e.name == DEFAULT_NAME)
        if found is None:
            raise ExperimentNotFoundError(f"There is no experiment with the id {experiment_id!r}.")
        return found

    def create_experiment(
        self, name: str, tags: Mapping[str, str], artifact_uri: str | None
    ) -> Experiment:
        """Add an experiment; a name that is taken is an `AlreadyExistsError`."""
        if name == DEFAULT_NAME:
            self.materialize(DEFAULT_ID)

        def numbered(used: Iterable[str]) -> dict[str, Any]:
            # Whole numbers, as MLflow's SQL store has them: some of its clients turn them into such.
            numbers = (int(i) for i in used if i.isdecimal() and len(i) <= _DIGITS)
            number = str(max(numbers, default=0) + 1)
            return {"id": number, "artifact_uri": artifact_uri or self._artifact_uri(number)}

        made = self._ledger.create(name, "", tags, numbered)
        data = {"experiment_id": made.experiment_id, "name": name}
        resource = f"experiment:{made.experiment_id}"
        self.operations.after(EventType.EXPERIMENT_CREATED, data, resource=resource)
        return made

    def adopt_experiment(self, experiment: Experiment) -> Experiment:
        """Return an experiment of another store as it is here; a new one keeps its id, if that is free, and its time."""
        return self._ledger.adopt(experiment)

    def change_experiment(self, experiment_id: str, **changes: Any) -> Experiment:
        """Change name, tags or deletion, as `ExperimentLedger.change` does."""
        self.materialize(experiment_id)
        known = self.experiment(experiment_id).experiment_id
        changed = self._ledger.change(known, **changes)
        report_change(self.operations, known, changes)
        return changed

    def erase_experiment(self, experiment_id: str) -> None:
        """Delete an experiment with all its runs, for ever; their artifacts stay."""
        self._ledger.drop(experiment_id)
        folder = self._store.folder(experiment_id)
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=not folder.exists())

    def materialize(self, experiment_id: str) -> None:
        """Write the default experiment down, which is there before that, if it is the one."""
        if experiment_id != DEFAULT_ID or self._ledger.find(DEFAULT_ID) is not None:
            return
        known = self.experiments()[0]
        if known.experiment_id == DEFAULT_ID:
            more = {
                "id": DEFAULT_ID,
                "t": to_ns(known.created_at),
                "artifact_uri": known.artifact_uri,
            }
            try:
                self._ledger.create(DEFAULT_NAME, "", {}, lambda _: more)
            except AlreadyExistsError:
                return  # by another process, just now

    def _artifact_uri(self, experiment_id: str) -> str | None:
        """Return where a new experiment keeps its artifacts, None if that is in the store."""
        return self._artifact_root and str(append_to_uri_path(self._artifact_root, experiment_id))

    # Runs

    def start(
        self,
        experiment: Experiment,
        *,
        name: str,
        start: int,
        tags: Mapping[str, str],
        parent: str | None,
        user: str | None = None,
        run_id: str | None = None,
    ) -> RunRow:
        """Start a run that began at *start*, in nanoseconds, and return its row; hooks may refuse it."""
        return self._life.start(
            NewRun(
                experiment.experiment_id,
                name,
                parent,
                tags,
                run_id=run_id,
                started_at=start,
                extras=[("user", user)] if user else (),
                needs_parent=False,  # the tag may name a run of another store
            )
        )

    def get(self, experiment_id: str) -> Experiment:
        """Return the experiment that a run is to start in."""
        return self.experiment(experiment_id)

    def home(self, run_id: str) -> str:
        """Return the id of the experiment of a run."""
        return self._store.home(run_id)

    def begin(self, start: RunStarted, frames: Sequence[Frame]) -> RunRow:
        """Write the first frames of a run that the rules have allowed; return its row."""
        self.materialize(start.experiment_id)
        reader = self._store.begin_journal(start, frames, folds=False)
        row = reader.state.row.copy()
        with self.mutex:
            self._keep(reader)
        return row

    def end(
        self, run_id: str, status: RunStatus, write: Callable[[RunStatus, str | None], object]
    ) -> None:
        """Let *write* end a run with the status and error that the hooks leave."""
        self._life.end(run_id, status, None, write)

    def report(self, event: EventType, run_id: str, **data: Any) -> None:
        """Report what was done to a run, as the tracker does."""
        self._life.report(event, {"run_id": run_id, **data})

    def row(self, run_id: str) -> RunRow:
        """Return what a run comes to now, to be read only; raises `RunNotFoundError`.

        Hold `mutex` while it is used.
        """
        with self.mutex:
            row = self.state_row(run_id)
            return with_liveness(row, self._store.folder(row.experiment_id))

    def state_row(self, run_id: str) -> RunRow:
        """Return `row` without asking which processes live: what is needed before each write."""
        with self.mutex:
            reader = self._readers.get(run_id)
            if reader is None:
                reader = RunReader(self._home(run_id), run_id, keep_history=False)
            try:
                row = reader.poll().row
            except RunNotFoundError:
                self._forget(run_id)
                raise
            self._keep(reader)
            return row

    def append(self, run_id: str, event: Frame) -> None:
        """Append a frame to this process's journal of a run."""
        record = event.plain()
        self.append_frames(run_id, frame(record), (record,))

    def append_frames(self, run_id: str, data: bytes, records: Iterable[dict[str, Any]]) -> None:
        """Append *records*, of which `frame` made *data*, all at once."""
        path, position = self._store.append_frames(run_id, data)
        with self.mutex:
            reader = self._readers.get(run_id)
            if reader is not None:
                reader.advance(path, position, records)

    def change(self, run_id: str, *before: Frame, **fields: Any) -> None:
        """Change fields of a run's row, after the frames *before*.

        A final status also settles the row in the index.
        """
        records = [event.plain() for event in (*before, RunChanged(fields, time_ns()))]
        self.append_frames(run_id, b"".join(map(frame, records)), records)
        if "status" in fields and RunStatus(fields["status"]).is_final:
            self._settle(run_id)

    def erase(self, run_id: str) -> None:
        """Delete a run for ever; its artifacts stay."""
        self._store.erase(run_id)
        self._forget(run_id)

    def points(self, run_id: str, key: str) -> list[tuple[float, int, int]]:
        """Return ``(value, step, nanoseconds)`` of all points of a metric, by time."""
        count = sum(summary.count for summary in self.state_row(run_id).metrics.values())
        if count > _POINTS // 4:  # so long that it may have a table, of which the rest is not read
            logged = metric_history(self._home(run_id), run_id, key)
            found = [(m.value, m.step, to_ns(m.timestamp)) for m in logged]
        else:
            with self._history_mutex:
                found = self._kept_history(run_id, count).get(key, [])
        return sorted(once(found), key=lambda p: (p[2], p[1]))

    def snapshot(self, experiment_id: str) -> Snapshot:
        """Return the runs of an experiment as of now, the dead ones as STALE."""
        index = self._store.index(experiment_id)
        found = index.snapshot()
        found.live = {i: with_liveness(r, index.folder) for i, r in found.live.items()}
        return found

    def rows(self, experiment_id: str) -> list[RunRow]:
        """Return the rows of an experiment."""
        index = self._store.index(self.experiment(experiment_id).experiment_id)
        return [with_liveness(row, index.folder) for row in index.rows()]

    def known(self, experiment_ids: Iterable[str]) -> list[Experiment]:
        """Return those of the experiments that there are."""
        wanted = {str(i) for i in experiment_ids}
        return [e for e in self.experiments() if e.experiment_id in wanted]

    def close(self) -> None:
        """Close the files that are open."""
        self._store.close()

    def _kept_history(self, run_id: str, count: int) -> dict[str, list[tuple[float, int, int]]]:
        """Return all points of a run, which are about *count*; other runs are evicted for it."""
        kept = self._histories
        known = kept.pop(run_id, None)
        reader = RunReader(self._home(run_id), run_id) if known is None else known[0]
        kept[run_id] = reader, count
        while len(kept) > _READERS or sum(points for _, points in kept.values()) > _POINTS:
            kept.popitem(last=False)
        return reader.poll().history

    def _home(self, run_id: str) -> pathlib.Path:
        return self._store.folder(self._store.home(run_id))

    def _keep(self, reader: RunReader) -> None:
        self._readers[reader.run_id] = reader
        self._readers.move_to_end(reader.run_id)
        if len(self._readers) > _READERS:
            self._readers.popitem(last=False)

    def _forget(self, run_id: str) -> None:
        with self.mutex:
            self._readers.pop(run_id, None)
        with self._history_mutex:
            self._histories.pop(run_id, None)

    def _settle(self, run_id: str) -> None:
        with self.mutex:
            reader = self._readers.get(run_id)
            # One that a signal handler finds at work is not for it.
            is_own = reader is not None and not reader.is_reading and reader.poll().keeps_history
            if reader is None or not is_own:
                reader = RunReader(self._home(run_id), run_id)
            self._store.finish(reader, soon=True)
