"""Experiment tracking: every call is kept when it returns, and reading needs no running writer.

This module has the life of runs. Experiments, logging to runs, their files, and reading them are modules of their
own: `experiment_calls`, `logging_api`, `artifacts` and `queries`. All of them are rules; what is decided is kept
by a backend (`ports`), and which one that is makes no difference to them. pandas and pyarrow are loaded by searching,
comparing and compacting, never by logging.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.registry.errors import RunNotFoundError, described
from ops.registry.events import EventType
from ops.registry.operations import Operations, reported
from ops.registry.records import RunStatus
from ops.registry.run_frames import RunEnded, TagsSet
from ops.registry.tracking.artifacts import RunArtifacts
from ops.registry.tracking.experiment_calls import Experiments, own_experiment
from ops.registry.tracking.logging_api import RunLogger
from ops.registry.tracking.queries import RunQueries
from ops.registry.tracking.run_access import CURRENT_RUN, RunBlock, current_block
from ops.registry.tracking.run_life import NewRun
from ops.registry.tracking.run_records import to_run
from ops.registry.validators import check_name

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping

    from ops.cache.lru import LRUCache
    from ops.foundation.files import StrPath
    from ops.registry.disk.content_store import ContentStore
    from ops.registry.records import Experiment, Run
    from ops.registry.run_copies import RunCopy
    from ops.registry.run_rows import RunRow
    from ops.registry.tracking.ports import TrackingBackend

__all__ = ["ExperimentTracker"]

logger: logging.Logger = get_logger("ops.registry")

#: The tag in which MLflow's client keeps the name of a run once more.
_NAME_TAG = "mlflow.runName"


class ExperimentTracker(Experiments, RunLogger, RunArtifacts, RunQueries):
    """Experiments and runs below the folder *root*, or in another *backend*; threads and processes may share it.

    *operations* holds emitter, hooks, metrics and audit (None: those that the process shares).
    *durability* "process" survives the death of the process but not of the machine; "interval" also
    flushes within a second, in the background; with "commit" each call waits for the disk. *cache*
    keeps what runs came to, and counts only while the files are as they were. The journals of runs
    that are open here are touched every *heartbeat_seconds*; 0 is never. Artifacts go into the
    folder, or below *artifact_uri* (``s3://bucket/prefix``); files that *contents* has are not
    copied into the folder. Raises `InvalidValueError` for an unknown durability.
    """

    def __init__(
        self,
        root: StrPath | None = None,
        *,
        operations: Operations | None = None,
        durability: str = "process",
        cache: LRUCache[str, Any] | None = None,
        heartbeat_seconds: float = 30.0,
        artifact_uri: str | None = None,
        contents: ContentStore | None = None,
        backend: TrackingBackend | None = None,
    ) -> None:
        #: How another process makes the same tracker; None where it cannot.
        self.made_again: functools.partial[Any] | None = None
        if backend is None:
            from ops.registry.local.tracking import local_tracking

            options: dict[str, Any] = {
                "durability": durability,
                "heartbeat_seconds": heartbeat_seconds,
                "artifact_uri": artifact_uri,
                "contents": contents,
            }
            backend = local_tracking("." if root is None else root, cache=cache, **options)
            size = None if cache is None else cache.get_stats().max_size
            self.made_again = functools.partial(
                _opened, type(self), backend.root, size, operations=operations, **options
            )
        super().__init__(backend, operations or Operations())
        self.root: Any = backend.root

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as where it is, and opened anew there."""
        if self.made_again is None:
            raise TypeError(
                "This tracker was made over a backend that does not say how another process makes it; "
                "send a context, or the configuration of one."
            )
        return self.made_again, ()

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
        """Start a run, which others see at once; end it with `end_run`, or use `run_context`.

        *experiment_id* is an experiment that is not deleted. *name* is for readers (None: no name),
        *parent_run_id* the run that this is a part of. *tags* are texts and *parameters* JSON
        values, logged in the same step. Raises `ExperimentNotFoundError`, and `RunNotFoundError`
        for a parent that is not there.
        """
        new = NewRun(experiment_id, name, parent_run_id, tags, parameters)
        return to_run(self._life.start(new), pathlib.Path())  # it has no artifacts yet

    @reported
    def end_run(
        self, run_id: str, status: RunStatus = RunStatus.COMPLETED, error: str | None = None
    ) -> Run:
        """End the run *run_id* with a final *status* (COMPLETED, FAILED or CANCELLED), and the *error* to show.

        Raises `RunNotFoundError`, and `InvalidValueError` for a status that is not final or an error that
        is no text.
        """

        def write(final: RunStatus, message: str | None) -> Run:
            return self._runs.end(run_id, RunEnded(final, time_ns(), message))

        return self._life.end(run_id, status, error, write)

    @reported
    def reopen_run(self, run_id: str) -> Run:
        """Let a run that has ended, or whose process died, go on: it is RUNNING until it is ended again."""
        changes = {"status": str(RunStatus.RUNNING), "end": None, "error": None}
        self._runs.change(run_id, changes, time_ns())
        self._done(EventType.RUN_RESTORED, {"run_id": run_id})
        return self.get_run(run_id)

    @reported
    def rename_run(self, run_id: str, name: str) -> Run:
        """Give the run *run_id* another *name*, also one that has ended; names of runs need not be unique.

        A run that MLflow's client made has its name as a tag too, which follows. Raises `RunNotFoundError`, and
        `InvalidValueError` for a name that is none.
        """
        checked = check_name("a run", name)
        if _NAME_TAG in self.get_run(run_id).tags:
            self._runs.append(run_id, TagsSet({_NAME_TAG: checked}, time_ns()))
        self._runs.change(run_id, {"name": checked}, time_ns())
        self._done(EventType.RUN_CHANGED, {"run_id": run_id, "name": checked})
        return self.get_run(run_id)

    @reported
    def delete_run(self, run_id: str) -> None:
        """Hide a run from lists and searches until `restore_run`; `ops-registry gc --deleted` erases it for ever."""
        now = time_ns()
        self._runs.change(run_id, {"deleted": now}, now)
        self._done(EventType.RUN_DELETED, {"run_id": run_id})

    @reported
    def restore_run(self, run_id: str) -> Run:
        """Take back that a run was deleted."""
        self._runs.change(run_id, {"deleted": None}, time_ns())
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

        *experiment_id*, *name*, *tags* and *parameters* are those of `start_run`. A run that the
        block has ended itself stays as that is. Inside of another block of the same experiment the
        run is a child of that one's, unless *parent_run_id* names another.
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
                    self.end_run(run.run_id, RunStatus.FAILED, described(error))
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
            return run_id if self._runs.home(run_id) == experiment_id else None
        except RunNotFoundError:
            return None

    # Copies and care

    def erase_run(self, run_id: str) -> None:
        """Delete a run with all that was logged to it and its artifacts, for ever."""
        gone = self.get_run(run_id).artifacts
        self._runs.erase(run_id)
        self._files.remove(run_id, gone)

    def adopt_experiment(self, experiment: Experiment) -> Experiment:
        """Return the experiment of that name, which is *experiment* itself if it is new here."""
        return own_experiment(self._experiments.adopt(experiment))

    def export_run(self, run_id: str) -> RunCopy:
        """Return all that a run comes to, for another store."""
        return self._runs.export(run_id)

    def import_run(
        self,
        copy: RunCopy,
        experiment_id: str,
        fetch: Callable[[str, pathlib.Path], pathlib.Path],
    ) -> None:
        """Write the run *copy* of another store into *experiment_id*; *fetch* brings an artifact of it to a path."""
        artifacts = self._files.adopt(copy, experiment_id, fetch)
        self._runs.adopt(copy, experiment_id, artifacts)

    def compact(self) -> int:
        """Tidy up what makes reading fast, and return the number of runs."""
        total = self._runs.compact()
        if self._experiments.all():
            self._done(EventType.INDEX_COMPACTED, {"runs": total})
        return total

    def index_rows(self, experiment_id: str) -> list[RunRow]:
        """Return what the index has of an experiment's runs, for `fsck`."""
        return self._runs.rows(experiment_id)

    def rebuild(self) -> int:
        """Make all indexes again from what was logged, and return the number of runs."""
        total = self._runs.rebuild()
        self._done(EventType.INDEX_REBUILT, {"runs": total})
        return total

    def close(self) -> None:
        """Close what is open; runs that were not ended stay RUNNING."""
        self._runs.close()
        self._files.close()

    def health_check(self) -> bool:
        """Whether the experiments can be read."""
        self.list_experiments()
        return True

    def _has_ended(self, run_id: str) -> bool:
        """Whether another call has ended a run already; the store is not read while it is open here."""
        return not self._runs.is_open(run_id) and self.get_run(run_id).status.is_final


def _opened(
    kind: type[ExperimentTracker], root: StrPath, cache_size: int | None, **options: Any
) -> ExperimentTracker:
    """Return a tracker in the process that it was sent to, with an empty cache of the same size."""
    from ops.cache.lru import LRUCache

    cache = None if cache_size is None else LRUCache[str, Any](cache_size)
    return kind(root, cache=cache, **options)
