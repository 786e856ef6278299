"""The runs of one store on local files: a folder for each experiment, with the journals of its runs and an index.

Which journals this process appends to is `open_runs`, what was read last `cached_runs`. Who logged to a run and whether
they still live is `liveness`.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.foundation.forks import in_children
from ops.foundation.paths import is_there, listed
from ops.registry.disk.checked_paths import inside, refuse_link, refuse_links
from ops.registry.disk.journal import JournalWriter, frame, framed, writing
from ops.registry.errors import RunNotFoundError, StorageError, no_run
from ops.registry.local.cached_runs import CachedRuns
from ops.registry.local.index import selection
from ops.registry.local.index.open_indexes import OpenIndexes
from ops.registry.local.index.view import run_ids
from ops.registry.local.liveness import owner, with_liveness
from ops.registry.local.open_runs import OpenRuns
from ops.registry.local.run_copies import export_run, journal_of
from ops.registry.local.run_journals import IN_JSON, RunReader, journal_path, metric_history
from ops.registry.local.stored_runs import to_runs
from ops.registry.local.tail import JournalFollower
from ops.registry.run_frames import ArtifactLogged, RunChanged
from ops.registry.run_rows import MAIN
from ops.registry.tracking.run_ids import experiment_mark, experiment_mark_in
from ops.registry.tracking.run_records import to_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ops.cache.lru import LRUCache
    from ops.registry.local.cached_runs import CachedRun
    from ops.registry.local.experiment_store import ExperimentLedger
    from ops.registry.local.index.run_index import RunIndex
    from ops.registry.records import Metric, Run
    from ops.registry.run_copies import RunCopy
    from ops.registry.run_frames import Frame, RunEnded, RunStarted
    from ops.registry.run_rows import RunRow
    from ops.registry.search.query import Query
    from ops.registry.tracking.metric_encoding import KeyedPoint

__all__ = ["RunStore"]

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


class RunStore:
    """The runs below the folder *root*, in the *experiments* that are there; see `ops.registry.tracking.ports`."""

    def __init__(
        self,
        root: pathlib.Path,
        experiments: ExperimentLedger,
        *,
        durability: str = "process",
        cache: LRUCache[str, CachedRun] | None = None,
        heartbeat_seconds: float = 30.0,
        is_owner: bool = True,
    ) -> None:
        self.root = root
        self.artifacts: pathlib.Path = root / "artifacts"
        #: Whether the runs that are started here end with this process.
        self._is_owner = is_owner
        self.heartbeat_seconds = heartbeat_seconds
        self.durability = durability
        self._experiments = experiments
        self.cached: CachedRuns = CachedRuns(cache)
        self._indexes = OpenIndexes(self.folder, durability)
        self._open = OpenRuns(
            self.home, self.folder, durability=durability, heartbeat_seconds=heartbeat_seconds
        )
        self._homes: dict[str, str] = {}
        #: Where the runs of each experiment are, once that was checked.
        self._folders: dict[str, pathlib.Path] = {}
        in_children(self, RunStore.begin_in_child)

    def begin_in_child(self) -> None:
        """Reset in a forked child, where a lock that another thread had is never released."""
        self.cached.begin_in_child()
        self._indexes.begin_in_child()
        self._open.begin_in_child()

    def folder(self, experiment_id: str) -> pathlib.Path:
        """Return where the runs of an experiment are; links on the way there are refused, once."""
        folder = self._folders.get(experiment_id)
        if folder is None:
            folder = self.root / "runs" / experiment_id
            refuse_links(
                inside(self.root, "runs", experiment_id), "index", "index/.lock", "index/.compact"
            )
            self._folders[experiment_id] = folder
        return folder

    def home(self, run_id: str) -> str:
        """Return the experiment of a run: one `stat` per experiment, once."""
        if not isinstance(run_id, str):
            raise no_run(run_id)
        home = self._homes.get(run_id)
        if home is not None:
            return home
        unknown: OSError | None = None
        for experiment_id in self._likely_homes(run_id) if _ID.fullmatch(run_id) else ():
            try:
                # Strings: a store has thousands of experiments, and the first answer waits for this.
                is_home = is_there(f"{self.root}/runs/{experiment_id}/{run_id}.{MAIN}.log")
            except OSError as error:  # it may be in another one, but until then it is not unknown
                unknown = error
                continue
            if is_home:
                self.folder(experiment_id)
                self._homes[run_id] = experiment_id
                return experiment_id
        if unknown is not None:
            raise StorageError(f"Run {run_id!r} cannot be looked for: {unknown}.") from unknown
        raise no_run(run_id)

    def has_journal(self, run_id: str) -> bool:
        """Whether there is a journal of a run, even one that cannot be read or has no start."""
        try:
            home = self.home(run_id)
        except RunNotFoundError:
            return False
        return is_there(journal_path(self.folder(home), run_id, MAIN))

    def all_ids(self) -> set[str]:
        """Return the ids of all runs that have a journal, unless their experiment was erased.

        An experiment whose record is damaged has its runs all the same.
        """
        erased = self._experiments.erased()
        folders = (path for path in listed(self.root / "runs") if path.name not in erased)
        return {run_id for folder in folders for run_id in run_ids(folder)}

    def _likely_homes(self, run_id: str) -> list[str]:
        """Return the experiments that have runs, without reading what else is known of them, the likeliest first."""
        try:
            names = os.listdir(self.root / "runs")  # noqa: PTH208 - names are all that is needed
        except (FileNotFoundError, NotADirectoryError):
            return []
        marked = experiment_mark_in(run_id)
        # The run's id may name the experiment; else the newest is the likeliest, as ids begin with their time.
        likely = [name for name in names if experiment_mark(name) == marked]
        others = sorted(filter(_ID.fullmatch, names), reverse=True)
        return [*filter(_ID.fullmatch, likely), *others]

    def index(self, experiment_id: str) -> RunIndex:
        """Return the index of an experiment's runs."""
        return self._indexes.get(experiment_id)

    # The runs, as the rules of tracking ask for them

    def begin(self, start: RunStarted, frames: Sequence[Frame]) -> RunRow:
        """Write the first frames of a run, and its row into the index; return the row."""
        return self.begin_journal(start, frames).state.row.copy()

    def begin_journal(
        self, start: RunStarted, frames: Sequence[Frame], *, folds: bool = True
    ) -> RunReader:
        """Do as `begin` and return what has read the run; unless *folds*, the caller reads on with it."""
        run_id, home = start.run_id, start.experiment_id
        records = [one.plain() for one in (start, *frames)]
        if self._is_owner:
            records[0] |= {"o": owner(), "hb": self.heartbeat_seconds}
        data = b"".join(map(frame, records))  # refuses what JSON cannot hold
        folder = self.folder(home)
        own = RunReader(folder, run_id, keep_history=IN_JSON)
        path = journal_path(folder, run_id, MAIN)
        journal = JournalWriter(path, durability=self.durability)
        try:
            own.advance(path, journal.append_frames(data), records)
            self.index(home).put(own.state.row)
        except BaseException:
            journal.close()
            raise
        self._open.started(run_id, home, journal, own if folds else None)
        self._homes[run_id] = home
        return own

    def end(self, run_id: str, ended: RunEnded) -> Run:
        """Write the end of a run, its row in the index, and its JSON view."""
        self.append(run_id, ended)
        return to_run(self.finish(self.take_reader(run_id)), self.artifacts)

    def change(self, run_id: str, fields: Mapping[str, Any], at: int) -> None:
        """Append that fields of a run's row are others now."""
        self.append(run_id, RunChanged(fields, at))
        if "status" in fields:  # a run that had ended may go on
            self.index(self.home(run_id)).mark_stale(run_id)

    def run(self, run_id: str) -> Run:
        """Return the run as it is on disk now."""
        return to_run(self.row(run_id), self.artifacts)

    def row(self, run_id: str) -> RunRow:
        """Return what a run comes to now; no caller changes it from now on."""
        folder = self.folder(self.home(run_id))
        writer = self._open.folding_writer(run_id)
        row = None if writer is None else writer.read()
        if row is not None:
            return with_liveness(row, folder)
        return with_liveness(self.cached.row(folder, run_id), folder)

    def rows(self, experiment_id: str) -> list[RunRow]:
        """Return what the index has of an experiment's runs."""
        return [row.copy() for row in self.index(experiment_id).rows()]

    def found(self, experiment_ids: Sequence[str], query: Query) -> list[Run]:
        """Return the runs that a query is about, each of which is decoded when it is looked at."""
        return to_runs(selection.found(query, self._known_indexes(experiment_ids)), self.artifacts)

    def count(self, experiment_ids: Sequence[str], query: Query) -> int:
        """Return how many runs a query is about."""
        return selection.count(query, self._known_indexes(experiment_ids))

    def history(self, run_id: str, key: str) -> list[Metric]:
        """Return all points of one metric by step, then time."""
        return metric_history(self.folder(self.home(run_id)), run_id, key)

    def follower(self, run_id: str) -> JournalFollower:
        """Return what reads the journals of a run on."""
        return JournalFollower(self.folder(self.home(run_id)), run_id)

    def export(self, run_id: str) -> RunCopy:
        """Return all that a run comes to, for another store."""
        return export_run(self.folder(self.home(run_id)), run_id)

    def adopt(self, copy: RunCopy, experiment_id: str, artifacts: Sequence[Frame]) -> None:
        """Write a run of another store as one journal, or append what a run that is here has not.

        A process may be logging to that one, so its journal is not replaced.
        """
        folder = self.folder(experiment_id)
        folder.mkdir(parents=True, exist_ok=True)
        self.expect(experiment_id, copy.run_id)
        path = journal_path(folder, copy.run_id, MAIN)
        refuse_link(path)
        try:
            with atomic_write(path, "xb") as file:
                file.write(b"".join(map(frame, journal_of(copy, experiment_id, artifacts))))
        except FileExistsError:
            there = export_run(folder, copy.run_id)
            now, names = time_ns(), copy.new_artifacts(there)
            new = [
                dataclasses.replace(one, at=now).plain()
                for one in artifacts
                if isinstance(one, ArtifactLogged) and one.artifact.path in names
            ]
            with JournalWriter(path, durability="commit") as journal:
                for record in (*new, *copy.changes(there, now)):
                    journal.append(record)
        self.index_journals(experiment_id, copy.run_id)

    def expect(self, experiment_id: str, run_id: str) -> None:
        """Let the journals of a run that is here have the last word: they are about to be replaced."""
        index = self.index(experiment_id)
        if pathlib.Path(journal_path(index.folder, run_id, MAIN)).exists():
            index.mark_stale(run_id)

    def index_journals(self, experiment_id: str, run_id: str) -> None:
        """Add a run to the index whose journals were put here by other means."""
        index = self.index(experiment_id)
        index.put(_viewed(RunReader(index.folder, run_id)))

    def index_written(self, runs: Mapping[str, Iterable[RunReader]]) -> None:
        """Add runs to the index, by experiment, whose journals the caller has written and folded in: a write for each of these."""
        for experiment_id, readers in runs.items():
            self.index(experiment_id).put_all(map(_viewed, readers))

    def compact(self) -> int:
        """Fold the journals of all indexes into Parquet, and return the number of runs."""
        experiments = self._experiments.all()
        total = sum(self.index(one.experiment_id).compact() for one in experiments)
        self._experiments.write_view()
        return total

    def rebuild(self) -> int:
        """Make all indexes again from the runs' journals, and return the number of runs."""
        return sum(self.index(one.experiment_id).rebuild() for one in self._experiments.all())

    def _known_indexes(self, experiment_ids: Sequence[str]) -> list[RunIndex]:
        """Return the indexes of experiments, which must exist."""
        return [self.index(self._experiments.get(one).experiment_id) for one in experiment_ids]

    # Writing

    def now(self, run_id: str) -> int:
        """Return the time for what is logged now: later than all that this process logged before."""
        return self._open.now(run_id)

    def append(self, run_id: str, event: Frame) -> None:
        """Append a frame to this process's journal of a run."""
        self.append_frames(run_id, frame(event.plain()))

    def append_points(self, run_id: str, points: Iterable[KeyedPoint], body: bytes) -> None:
        """Append *points*, of which `points_body` made *body*."""
        self.append_frames(run_id, framed(body), points)

    def append_frames(
        self, run_id: str, data: bytes, points: Iterable[KeyedPoint] | None = None
    ) -> tuple[str, tuple[int, int]]:
        """Append what `frame` made of records; return to which file, and where they are there.

        Records that are *points* of metrics alone are not decoded to be folded in.
        """
        writer, position = self._open.append(run_id, data, points)
        if writer.ended:
            self.index(writer.experiment_id).mark_stale(run_id)
        return writer.journal.path, position

    def take_reader(self, run_id: str) -> RunReader:
        """Return what has read a run as far as possible; from now on it is the caller's alone."""
        own = self._open.take_reader(run_id)
        if own is not None:
            return own
        return RunReader(self.folder(self.home(run_id)), run_id, keep_history=IN_JSON)

    def is_open(self, run_id: str) -> bool:
        """Whether this process has a journal of a run open: it logged to it and has not ended it."""
        return run_id in self._open

    def finish(self, reader: RunReader, *, soon: bool = False) -> RunRow:
        """Put the row of a run that has ended into the index, write its view, and return the row.

        *soon* leaves flushing the index to the background.
        """
        run_id = reader.run_id
        index = self.index(self.home(run_id))
        row = reader.poll().row
        index.put(row, soon=soon)
        reader.write_view()
        self._open.release(run_id)
        known = reader.through
        try:
            reader.poll()
        except RunNotFoundError:  # erased meanwhile, and it must not be listed for ever
            index.drop(run_id)
            raise
        if reader.through != known:  # another thread has logged until just now
            index.mark_stale(run_id)
        return row

    def erase(self, run_id: str) -> None:
        """Delete a run with its journals, for ever; its artifacts stay."""
        home = self.home(run_id)
        folder = self.folder(home)
        # Out of the index first: what a kill leaves then is a run that can be erased again.
        self.index(home).drop(run_id)
        self._open.release(run_id)
        with writing(folder):
            main = pathlib.Path(journal_path(folder, run_id, MAIN))
            for path in (main, *listed(folder, f"{run_id}.*")):
                path.unlink(missing_ok=True)
        self.index(home).drop(run_id)  # again: another process may have ended it meanwhile
        self._homes.pop(run_id, None)

    def close(self) -> None:
        """Close all files that are open."""
        self._open.close()
        self._indexes.close()


def _viewed(reader: RunReader) -> RunRow:
    """Return the row of a run, whose view is written if it is over."""
    row = reader.poll().row
    if row.status.is_final:
        reader.write_view()
    return row
