"""Stores of other programs copied into one of ours: started again it goes on, and repeated it brings what is new.

Runs and models keep their ids, versions their numbers, points and changes their times. One import of a store works at
a time; others may go on logging to it meanwhile, and the source is only read.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.foundation.locks import FileLock
from ops.registry.errors import InvalidValueError
from ops.registry.events import EventType
from ops.registry.importing.findings import ForeignDataError
from ops.registry.importing.logged_model_writer import LoggedModelWriter
from ops.registry.importing.model_writer import ModelWriter
from ops.registry.importing.run_writer import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.registry.context import MLOpsContext
    from ops.registry.importing.findings import Findings
    from ops.registry.importing.records import ForeignStore
    from ops.registry.records import Experiment

__all__ = ["Imported", "import_foreign"]


@dataclasses.dataclass(slots=True)
class Imported:
    """What an import brought; *runs_there* had nothing new, *runs_changed* got what was.

    *left_out* is what no import brings, *refused* what is damaged or would lead out of the folder.

    *experiments*, *runs*, *points* (of metrics), *files*, *logged_models*, *models* and *versions*
    count what is new.
    """

    experiments: int = 0
    runs: int = 0
    runs_changed: int = 0
    runs_there: int = 0
    points: int = 0
    files: int = 0
    logged_models: int = 0
    models: int = 0
    versions: int = 0
    left_out: list[str] = dataclasses.field(default_factory=list)
    refused: list[str] = dataclasses.field(default_factory=list)


def import_foreign(
    source: ForeignStore,
    context: MLOpsContext,
    *,
    experiments: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Imported:
    """Copy *experiments* and *models* of *source*, by name (None: all), into the local store of *context*.

    *progress* is called with the number of runs and models that are done, and with that of all.

    Raises:
        InvalidValueError: the store is not a local one, or the source has no experiment or model of a name.
        LockTimeout: another import into the store is at work.
    """
    if context.config.backend_type != "local":
        raise InvalidValueError(
            f"Other programs' files are imported into a local store, not {context.config.backend_type}.",
            suggestions=("Import into a folder, then: ops-registry import FOLDER.",),
        )
    with FileLock(context.paths.experiment_tracking / "import.lock", timeout=0):
        return _Import(source, context, progress).run(experiments, models)


class _Import:
    """One import on its way."""

    def __init__(
        self,
        source: ForeignStore,
        context: MLOpsContext,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._source = source
        self._context = context
        self._progress = progress
        self._findings: Findings = source.findings
        self._done = self._total = 0
        self._imported = Imported()

    def run(self, experiments: Sequence[str] | None, models: Sequence[str] | None) -> Imported:
        """Do all of it, and return what was brought."""
        chosen = _chosen("experiment", self._source.experiments(), experiments)
        run_ids = {e.experiment_id: self._source.run_ids(e.experiment_id) for e in chosen}
        named = _chosen("model", self._source.models(), models)
        self._total = sum(map(len, run_ids.values())) + len(named)
        homes = {e.experiment_id: self._adopt(e) for e in chosen}
        runs = RunWriter(self._context, self._findings)
        logged = LoggedModelWriter(self._context, runs, self._findings)
        try:
            for experiment in chosen:
                home = homes[experiment.experiment_id]
                for run_id in run_ids[experiment.experiment_id]:
                    self._guarded(f"run {run_id}", self._run, runs, run_id, home)
                    self._step()
                for model in self._source.logged_models(experiment.experiment_id):
                    if logged.write(model, home):
                        self._imported.logged_models += 1
        finally:  # an interrupt leaves the runs that are written in the index
            runs.finish()
        self._write_models(named, runs, logged)
        self._imported.experiments = len(chosen)
        self._imported.points, self._imported.files = runs.points, runs.files
        self._imported.left_out = list(self._findings.left_out)
        self._imported.refused = self._findings.all_refused()
        self._context.operations.after(
            EventType.STORE_IMPORTED,
            dataclasses.asdict(self._imported),
            resource=f"store:{self._context.path}",
        )
        return self._imported

    def _adopt(self, experiment: Experiment) -> str:
        """Return the id that an experiment has here; what changed there since comes along."""
        tracker = self._context.experiment_tracker
        here = tracker.adopt_experiment(experiment)
        missing = {k: v for k, v in experiment.tags.items() if k not in here.tags}
        for key, value in missing.items():
            where = f"tag {key!r} of experiment {experiment.name!r}"
            self._guarded(where, tracker.set_experiment_tag, here.experiment_id, key, value)
        return here.experiment_id

    def _run(self, runs: RunWriter, run_id: str, home: str) -> None:
        home = runs.home_of(run_id, home)
        stamp = self._source.stamp(run_id)
        if runs.is_current(run_id, home, stamp):
            self._imported.runs_there += 1
            return
        is_new = not runs.is_there(run_id, home)
        runs.write(self._source.run(run_id), home, stamp)
        self._imported.runs += is_new
        self._imported.runs_changed += not is_new

    def _write_models(
        self, models: Sequence[Any], runs: RunWriter, logged: LoggedModelWriter
    ) -> None:
        registry = self._context.model_registry
        writer = ModelWriter(registry.root, durability=self._context.config.durability)
        writer.findings = self._findings
        tracking = self._context.paths.experiment_tracking
        writer.homes = {
            "run": tracking / "artifacts",
            "logged": logged.folder,
            "none": registry.root / "artifacts",
        }
        writer.runs = runs
        writer.logged = {model["id"] for model in logged.all()}
        for model in models:
            where = f"model {model.name!r}"
            made = self._guarded(where, writer.write, model) or 0
            self._imported.versions += made
            self._step()
        self._imported.models = len(models)
        writer.close()

    def _guarded(self, where: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return what *work* does; what a single run or model is refused for stops no import."""
        try:
            return work(*arguments)
        except (ForeignDataError, InvalidValueError, ValueError) as error:
            self._findings.refuse(where, error)
        except OpsError as error:
            if isinstance(
                error, OSError
            ):  # the store, not the source: a full disk stops everything
                raise
            self._findings.refuse(where, error)
        return None

    def _step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _chosen(kind: str, found: Sequence[Any], names: Sequence[str] | None) -> list[Any]:
    if names is None:
        return list(found)
    unknown = sorted(set(names) - {one.name for one in found})
    if unknown:
        raise InvalidValueError(f"The source has no {kind} {', '.join(map(repr, unknown))}.")
    return [one for one in found if one.name in names]
