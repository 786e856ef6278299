"""Experiment tracking: every call is on disk when it returns, and reading needs no running writer.

This module has the life of runs. Experiments, logging to runs, their files, and reading them are modules of their
own: `experiment_calls`, `runlogger`, `runartifacts` and `runqueries`. The tracker keeps almost nothing in
memory: which journal this process appends to for which run. pandas and pyarrow are loaded by
searching, comparing and compacting, never by logging.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside, refuse_links
from ops.registry.disk.journal import DURABILITIES, JournalWriter
from ops.registry.disk.journal import frame as framed_record
from ops.registry.errors import (
    InvalidValueError,
    RunNotFoundError,
)
from ops.registry.events import EventType, HookType
from ops.registry.operations import Operations, reported
from ops.registry.plain_values import plain_parameters
from ops.registry.records import RunStatus
from ops.registry.remote.artifacts import RemoteArtifacts
from ops.registry.run_frames import ParametersLogged, RunChanged, RunEnded, RunStarted
from ops.registry.run_rows import MAIN
from ops.registry.tracking.experiment_calls import Experiments, own_experiment
from ops.registry.tracking.experiments import ExperimentLedger
from ops.registry.tracking.liveness import owner
from ops.registry.tracking.run_ids import new_run_id
from ops.registry.tracking.run_records import to_run
from ops.registry.tracking.runaccess import CURRENT_RUN, RunBlock, current_block
from ops.registry.tracking.runartifacts import RunArtifacts
from ops.registry.tracking.runlog import IN_JSON, RunReader, journal_path
from ops.registry.tracking.runlogger import RunLogger
from ops.registry.tracking.runqueries import RunQueries
from ops.registry.tracking.runstore import RunStore
from ops.registry.validators import (
    check_key,
    check_mapping,
    check_name,
    check_run_id,
    check_status,
)

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping

    from ops.cache.lru import LRUCache
    from ops.foundation.files import StrPath
    from ops.registry.disk.contents import ContentStore
    from ops.registry.records import Experiment, Run
    from ops.registry.run_copies import RunCopy
    from ops.registry.run_rows import RunRow
    from ops.registry.tracking.cached_runs import CachedRun

__all__ = ["ENDS", "ExperimentTracker", "final_status"]

logger: logging.Logger = get_logger("ops.registry")

#: What a tracker uses by name below its folder.
_PLACES = (
    *("runs", "artifacts", "artifacts.lock", "uploads.log", "uploads.log.lock"),
    *("experiments", "experiments/.lock", "experiments/journal.log"),
)


class ExperimentTracker(Experiments, RunLogger, RunArtifacts, RunQueries):
    """Experiments and runs below one folder; threads and processes may share the folder.

    *durability* "process" survives the death of the process but not of the machine; "interval" also
    flushes within a second, in the background; with "commit" each call waits for the disk. *cache*
    keeps what runs came to, and is asked only while the files are as they were. The journals of runs
    that are open here are touched every *heartbeat_seconds*; 0 is never. Artifacts go into the folder, or
    below *artifact_uri* (``s3://bucket/prefix``); files that *contents* has are not copied into the folder.
    """

    def __init__(
        self,
        root: StrPath,
        *,
        operations: Operations | None = None,
        durability: str = "process",
        cache: LRUCache[str, CachedRun] | None = None,
        heartbeat_seconds: float = 30.0,
        artifact_uri: str | None = None,
        contents: ContentStore | None = None,
    ) -> None:
        if durability not in DURABILITIES:
            raise InvalidValueError(
                f"durability={durability!r} is unknown; use one of {list(DURABILITIES)}."
            )
        self.root: pathlib.Path = pathlib.Path(root).absolute()
        refuse_links(self.root, *_PLACES)
        self._durability = durability
        self._cache = cache
        self._experiments = ExperimentLedger(self.root / "experiments", durability=durability)
        store = RunStore(
            self.root,
            self._experiments,
            durability=durability,
            cache=cache,
            heartbeat_seconds=heartbeat_seconds,
        )
        remote = RemoteArtifacts(artifact_uri, self.root / "uploads.log")
        super().__init__(
            store, operations or Operations(), self.root / "artifacts", remote, contents
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as where it is, and opened anew there."""
        cache = self._cache
        made = functools.partial(
            _opened,
            type(self),
            self.root,
            None if cache is None else cache.get_stats().max_size,
            operations=self._operations,
            durability=self._durability,
            heartbeat_seconds=self._store.heartbeat_seconds,
            artifact_uri=self._remote.address,
            contents=self._contents,
        )
        return made, ()

    # The life of a run

    @reported
    def start_run(
        self,
        experiment_id: str,
        name: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run, which others see at once; end it with `end_run`, or use `run_context`."""
        self._active_experiment(experiment_id)
        if parent_run_id is not None:
            self._store.home(parent_run_id)
        requested: dict[str, Any] = {
            "experiment_id": experiment_id,
            "name": name,
            "parent_run_id": parent_run_id,
            "tags": dict(check_mapping("tags", tags)),
            "parameters": plain_parameters("parameters", parameters),
        }
        requested = self._operations.before(HookType.PRE_RUN_START, requested)
        if requested["experiment_id"] != experiment_id:
            experiment_id = self._active_experiment(requested["experiment_id"]).experiment_id
        if requested["parent_run_id"] != parent_run_id and requested["parent_run_id"] is not None:
            self._store.home(requested["parent_run_id"])
        parent_run_id = requested["parent_run_id"]
        run_id = new_run_id(experiment_id)
        title = f"run-{run_id[-8:]}" if requested["name"] is None else requested["name"]
        check_name("a run", title)
        folder = self._store.folder(experiment_id)
        texts = {check_key(k): str(v) for k, v in requested["tags"].items()}
        given = plain_parameters("parameters", requested["parameters"])
        start = RunStarted(
            run_id,
            experiment_id,
            title,
            time_ns(),
            parent_run_id,
            texts,
            owner(),
            self._store.heartbeat_seconds,
        )
        row = self._begin(folder, start, given)
        data = {"run_id": run_id, "experiment_id": experiment_id, "name": title}
        self._done(EventType.RUN_STARTED, data, HookType.POST_RUN_START)
        return to_run(row, self._artifacts)

    @reported
    def end_run(
        self, run_id: str, status: RunStatus = RunStatus.COMPLETED, error: str | None = None
    ) -> Run:
        """End a run with a final status."""
        status = final_status(status)
        requested = {
            "run_id": run_id,
            "experiment_id": self._store.home(run_id),
            "status": str(status),
            "error": error,
        }
        requested = self._operations.before(
            HookType.PRE_RUN_END, requested, fixed=("run_id", "experiment_id")
        )
        status, error = final_status(requested["status"]), requested["error"]
        requested["status"] = str(status)
        ended = self._end(run_id, status, error)
        self._done(EventType.RUN_ENDED, requested, HookType.POST_RUN_END)
        self._done(ENDS[status], requested)
        return ended

    @reported
    def reopen_run(self, run_id: str) -> Run:
        """Let a run that has ended, or whose process died, go on: it is RUNNING until it is ended again."""
        changes = {"status": str(RunStatus.RUNNING), "end": None, "error": None}
        self._store.append(run_id, RunChanged(changes, time_ns()))
        self._store.index(self._store.home(run_id)).mark_stale(run_id)
        self._done(EventType.RUN_RESTORED, {"run_id": run_id})
        return self.get_run(run_id)

    @reported
    def delete_run(self, run_id: str) -> None:
        """Hide a run from lists and searches until `restore_run`; `ops-registry gc --deleted` erases it for ever."""
        now = time_ns()
        self._store.append(run_id, RunChanged({"deleted": now}, now))
        self._changed(run_id)
        self._done(EventType.RUN_DELETED, {"run_id": run_id})

    @reported
    def restore_run(self, run_id: str) -> Run:
        """Take back that a run was deleted."""
        self._store.append(run_id, RunChanged({"deleted": None}, time_ns()))
        self._changed(run_id)
        self._done(EventType.RUN_RESTORED, {"run_id": run_id})
        return self.get_run(run_id)

    @contextlib.contextmanager
    def run_context(
        self,
        experiment_id: str,
        name: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Iterator[Run]:
        """Start a run for a block: COMPLETED at its end, FAILED with the error when it raises.

        A run that the block has ended itself stays as that says. Inside of another block of the same experiment
        the run is a child of that one's, unless *parent_run_id* names another.
        """
        outer = current_block()
        if parent_run_id is None and outer is not None:
            parent_run_id = self._parent(outer.run_id, experiment_id)
        run = self.start_run(experiment_id, name, parent_run_id, tags, parameters)
        block = RunBlock(run.run_id, outer)
        token = CURRENT_RUN.set(block)
        try:
            yield run
        except BaseException as error:
            # KeyboardInterrupt and SystemExit too: the run is over, and its record should say so.
            try:
                if not self._has_ended(run.run_id):
                    self.end_run(run.run_id, RunStatus.FAILED, f"{type(error).__name__}: {error}")
            except Exception:
                logger.exception("run %s failed, and its end could not be written", run.run_id)
            raise
        else:
            if not self._has_ended(run.run_id):
                self.end_run(run.run_id)
        finally:
            block.is_over = True
            with contextlib.suppress(ValueError):  # left in another context than it was entered in
                CURRENT_RUN.reset(token)

    def _parent(self, run_id: str, experiment_id: str) -> str | None:
        """Return a run that blocks of its experiment are children of; None for one of another store."""
        try:
            return run_id if self._store.home(run_id) == experiment_id else None
        except RunNotFoundError:
            return None

    def _changed(self, run_id: str) -> None:
        """Let a run that has ended and was changed since be read anew by what lists runs."""
        if not self._store.is_open(run_id):
            self._store.index(self._store.home(run_id)).mark_stale(run_id)

    # Maintenance

    def erase_run(self, run_id: str) -> None:
        """Delete a run with its journals and artifacts, for ever."""
        folder = self.artifact_folder(run_id)
        gone = self.get_run(run_id).artifacts
        self._store.erase(run_id)
        for artifact in gone:
            self._remote.discard(artifact.uri)
        artifacts.remove(folder)

    def adopt_experiment(self, experiment: Experiment) -> Experiment:
        """Return the experiment of that name, which is *experiment* itself if it is new here."""
        return own_experiment(self._experiments.adopt(experiment))

    def export_run(self, run_id: str) -> RunCopy:
        """Return all that a run comes to, for another store."""
        from ops.registry.local.run_copies import export_run

        return export_run(self._store.folder(self._store.home(run_id)), run_id)

    def import_run(
        self,
        copy: RunCopy,
        experiment_id: str,
        fetch: Callable[[str, pathlib.Path], pathlib.Path],
    ) -> None:
        """Write a run of another store here; *fetch* brings an artifact of it to a path."""
        from ops.registry.local.run_copies import import_run

        import_run(self, self._store.folder(experiment_id), copy, experiment_id, fetch)

    def expect_run(self, experiment_id: str, run_id: str) -> None:
        """Let the journals of a run that is here have the last word: `adopt_run` comes when they are replaced."""
        index = self._store.index(experiment_id)
        if pathlib.Path(journal_path(index.folder, run_id, MAIN)).exists():
            index.mark_stale(run_id)

    def adopt_run(self, experiment_id: str, run_id: str) -> None:
        """Add a run to the index whose journals were put here by other means."""
        index = self._store.index(experiment_id)
        reader = RunReader(index.folder, run_id)
        row = reader.poll().row
        if row.status.is_final:
            reader.write_view()
        index.put(row)

    def artifact_folder(self, run_id: str) -> pathlib.Path:
        """Return where the artifacts of a run are."""
        return inside(self.root, "artifacts", check_run_id(run_id))

    def compact(self) -> int:
        """Fold the journals of all indexes into Parquet and return the number of runs."""
        total = 0
        for experiment in self._experiments.all():
            total += self._store.index(experiment.experiment_id).compact()
        if self._experiments.write_view():
            self._done(EventType.INDEX_COMPACTED, {"runs": total})
        return total

    def index_rows(self, experiment_id: str) -> list[RunRow]:
        """Return what the index says of an experiment's runs, for `fsck`."""
        return [row.copy() for row in self._store.index(experiment_id).rows()]

    def rebuild(self) -> int:
        """Make all indexes again from the runs' journals and return the number of runs."""
        found = self._experiments.all()
        total = sum(self._store.index(e.experiment_id).rebuild() for e in found)
        self._done(EventType.INDEX_REBUILT, {"runs": total})
        return total

    def close(self) -> None:
        """Close the files that are open; runs that were not ended stay RUNNING."""
        self._store.close()
        self._remote.close()

    def health_check(self) -> bool:
        """Whether the experiments can be read."""
        self.list_experiments()
        return True

    def _has_ended(self, run_id: str) -> bool:
        """Whether somebody has ended a run already; nobody is asked while its journal is open here."""
        if self._store.is_open(run_id):
            return False
        return self.get_run(run_id).status.is_final

    def _end(self, run_id: str, status: RunStatus, error: str | None) -> Run:
        """Write the end of a run, its row in the index, and its JSON view."""
        self._store.append(run_id, RunEnded(status, time_ns(), error))
        return to_run(self._store.finish(self._store.take_reader(run_id)), self._artifacts)

    def _begin(self, folder: pathlib.Path, start: RunStarted, parameters: dict[str, Any]) -> RunRow:
        """Write the first frames of a run and its row in the index; return the row."""
        run_id, experiment_id = start.run_id, start.experiment_id
        records = [start.plain()]
        if parameters:
            records.append(ParametersLogged(parameters, start.at).plain())
        frames = b"".join(map(framed_record, records))  # refuses what JSON cannot hold
        own = RunReader(folder, run_id, keep_history=IN_JSON)
        path = journal_path(folder, run_id, MAIN)
        journal = JournalWriter(path, durability=self._durability)
        try:
            own.advance(path, journal.append_frames(frames), records)
            row = own.state.row.copy()
            self._store.index(experiment_id).put(row)
        except BaseException:
            journal.close()
            raise
        self._store.started(run_id, experiment_id, journal, own)
        return row


def _opened(
    kind: type[ExperimentTracker], root: StrPath, cache_size: int | None, **options: Any
) -> ExperimentTracker:
    """Return a tracker in the process that it was sent to, with an empty cache of the same size."""
    from ops.cache.lru import LRUCache

    cache = None if cache_size is None else LRUCache[str, Any](cache_size)
    return kind(root, cache=cache, **options)


#: What is told besides RUN_ENDED.
ENDS = {
    RunStatus.COMPLETED: EventType.RUN_COMPLETED,
    RunStatus.FAILED: EventType.RUN_FAILED,
    RunStatus.CANCELLED: EventType.RUN_CANCELLED,
}


def final_status(status: object) -> RunStatus:
    """Return the status that a run ends with, or refuse one that is not final."""
    known = check_status(status)
    if not known.is_final:
        raise InvalidValueError(f"A run cannot end as {known}.")
    return known
