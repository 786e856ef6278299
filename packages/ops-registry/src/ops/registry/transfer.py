"""Copying experiments and models from one store to another: export and import are the same thing.

An export is a whole store that anything here can open; an import is a copy the other way. What is
copied are the journals, so histories, times, stages and aliases arrive exactly as they were.

Of a run that has more in the target nothing is copied (see `journal_copies`), and then the index is updated; after a kill
before that, the next copy does it. A run to which both stores have added is an `AlreadyExistsError`.
Of a model, the target takes the frames of the journal that it lacks; if what it has is not how the
source's history begins, the two are different models and it is an `AlreadyExistsError`. So a copy
that was interrupted can be started again, and one that is complete changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ops.foundation.paths import listed
from ops.registry.disk.checked_paths import refuse_links_below
from ops.registry.errors import (
    ExperimentNotFoundError,
    InvalidValueError,
    RunNotFoundError,
    both_changed,
)
from ops.registry.events import EventType
from ops.registry.journal_copies import copy_run, tail_of_artifacts
from ops.registry.local.tracking import local_runs
from ops.registry.logged_model_copies import copy_logged_models, logged_models
from ops.registry.model_copies import (
    chosen_models,
    copy_deletions,
    copy_frames,
    copy_model,
    elsewhere,
)
from ops.registry.run_rows import MAIN
from ops.registry.trace_copies import copy_datasets, copy_traces, datasets_of, traces_of

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ops.registry.context import MLOpsContext
    from ops.registry.records import Experiment

__all__ = ["Copied", "copy_store"]


@dataclasses.dataclass(slots=True)
class Copied:
    """How much a copy brought, and how much had been there already.

    *left* has sentences about what stays behind: what only one kind of backend can keep, and files that are kept
    outside of the source store.
    """

    experiments: int = 0
    runs: int = 0
    runs_there: int = 0
    models: int = 0
    changes: int = 0
    logged_models: int = 0
    traces: int = 0
    datasets: int = 0
    left: list[str] = dataclasses.field(default_factory=list)


def copy_store(
    source: MLOpsContext,
    target: MLOpsContext,
    *,
    experiments: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Copied:
    """Copy experiments and models by name (all without names) and return what was copied.

    *progress* is called with how many runs and models are done, of how many. Raises `InvalidValueError` for a
    target that is the source, or inside of it.
    """
    if _are_local(source, target):
        _refuse_inside(source.path.resolve(), target.path.resolve())
    for context in (source, target):
        if context.config.backend_type == "local":
            refuse_links_below(context.path, itself=False)
    chosen = _experiments(source, experiments)
    names = chosen_models(source, models)
    run_ids, copy_run, copy_model = _ways(source, target)
    runs = [(e, run_id) for e in chosen for run_id in run_ids(source, e)]
    copied = Copied(experiments=len(chosen), models=len(names))
    report = _counter(progress, len(runs) + len(names))
    homes = {
        e.experiment_id: target.experiment_tracker.adopt_experiment(_rehomed(source, target, e))
        for e in chosen
    }
    listed = _listed(source, target, homes.values())
    for experiment, run_id in runs:
        home = homes[experiment.experiment_id]
        is_new = copy_run(source, target, experiment, run_id, home)
        if not is_new and run_id not in listed.get(home.experiment_id, {run_id}):
            local_runs(target.experiment_tracker).store.index_journals(home.experiment_id, run_id)
        copied.runs += is_new
        copied.runs_there += not is_new
        report()
    _copy_logged_models(source, target, homes, copied)
    _copy_traces(source, target, homes, copied, everything=experiments is None)
    for name in names:
        copied.changes += copy_model(source, target, name)
        report()
    if models is None and _are_local(source, target):
        copied.changes += copy_deletions(source, target)
    copied.left += elsewhere(source, names)
    recorded = dataclasses.asdict(copied)
    source.operations.after(EventType.STORE_EXPORTED, recorded, resource=f"store:{target.path}")
    target.operations.after(EventType.STORE_IMPORTED, recorded, resource=f"store:{source.path}")
    return copied


def _rehomed(source: MLOpsContext, target: MLOpsContext, experiment: Experiment) -> Experiment:
    """Return an experiment of the source with where its artifacts are in the target, if they come along."""
    tail = tail_of_artifacts(source, experiment) if _are_local(source, target) else None
    if tail is None:
        return experiment
    root = target.experiment_tracker.root.parent.as_uri()
    return dataclasses.replace(experiment, artifact_uri=f"{root}/{quote(tail)}")


def _copy_logged_models(
    source: MLOpsContext, target: MLOpsContext, homes: Mapping[str, Experiment], copied: Copied
) -> None:
    """Copy MLflow's logged models, or report that the target cannot keep them."""
    if source.config.backend_type != "local":
        return
    ids = {there: here.experiment_id for there, here in homes.items()}
    if _are_local(source, target):
        copied.logged_models, unknown = copy_logged_models(source, target, ids)
        if unknown:
            copied.left.append(
                f"{unknown} frames about logged models are of kinds that this version does not know; they were copied as they are."
            )
        return
    count = sum(model["experiment_id"] in ids for model in logged_models(source).all())
    if count:
        copied.left.append(f"{count} logged models of MLflow, which only local stores keep.")


def _copy_traces(
    source: MLOpsContext,
    target: MLOpsContext,
    homes: Mapping[str, Experiment],
    copied: Copied,
    *,
    everything: bool,
) -> None:
    """Copy MLflow's traces and evaluation datasets, or report that the target cannot keep them."""
    if source.config.backend_type != "local":
        return
    ids = {there: here.experiment_id for there, here in homes.items()}
    if _are_local(source, target):
        copied.traces = copy_traces(source, target, ids)
        copied.datasets = copy_datasets(source, target, ids, everything=everything)
        return
    traces, datasets = len(traces_of(source).of(ids)), len(datasets_of(source).ids())
    if traces or datasets:
        copied.left.append(
            f"{traces} traces and {datasets} evaluation datasets of MLflow, which only local stores keep."
        )


def _ways(source: MLOpsContext, target: MLOpsContext) -> tuple[Any, Any, Any]:
    """Return what lists runs, and what copies a run and a model, between these two."""
    if _are_local(source, target):
        return _run_ids, copy_run, copy_model
    return _listed_ids, _copy_as_record, copy_frames


def _refuse_inside(source: pathlib.Path, target: pathlib.Path) -> None:
    if target == source:
        raise InvalidValueError(f"{source} cannot be copied to itself.")
    if target.is_relative_to(source):
        raise InvalidValueError(f"{target} is inside of {source}: a store has no other one in it.")


def _are_local(source: MLOpsContext, target: MLOpsContext) -> bool:
    return source.config.backend_type == target.config.backend_type == "local"


def _listed_ids(context: MLOpsContext, experiment: Experiment) -> list[str]:
    tracker = context.experiment_tracker
    found = tracker.list_runs(experiment.experiment_id, include_deleted=True)
    return [run.run_id for run in found]


def _copy_as_record(
    source: MLOpsContext,
    target: MLOpsContext,
    experiment: Experiment,  # noqa: ARG001 - the same call as for journals
    run_id: str,
    home: Experiment,
) -> bool:
    """Copy what a run comes to, whatever the backends are; a run with the same records is there."""
    copy = source.experiment_tracker.export_run(run_id)
    with contextlib.suppress(RunNotFoundError):
        there = target.experiment_tracker.export_run(run_id)
        if there.canonical_text() == copy.canonical_text():
            return False
        if copy.lacks(there):
            raise both_changed(run_id)

    def fetch(name: str, path: pathlib.Path) -> pathlib.Path:
        return source.experiment_tracker.download_run_artifact(run_id, name, path, overwrite=True)

    target.experiment_tracker.import_run(copy, home.experiment_id, fetch)
    return True


def _counter(progress: Callable[[int, int], object] | None, total: int) -> Callable[[], None]:
    numbers = itertools.count(1)

    def report() -> None:
        if progress is not None:
            progress(next(numbers), total)

    return report


def _experiments(source: MLOpsContext, names: Sequence[str] | None) -> list[Experiment]:
    every = {e.name: e for e in source.experiment_tracker.list_experiments(include_deleted=True)}
    for name in names or ():
        if name not in every:
            raise ExperimentNotFoundError(f"There is no experiment {name!r}.")
    return [e for e in every.values() if names is None or e.name in names]


def _listed(
    source: MLOpsContext, target: MLOpsContext, homes: Iterable[Experiment]
) -> dict[str, set[str]]:
    """Return per experiment the runs that indexes of a local target know without looking at journals."""
    if not _are_local(source, target):
        return {}
    tracker = target.experiment_tracker
    ids = [home.experiment_id for home in homes]
    return {one: {row.run_id for row in tracker.index_rows(one)} for one in ids}


def _run_ids(source: MLOpsContext, experiment: Experiment) -> list[str]:
    suffix = f".{MAIN}.log"
    journals = listed(source.paths_of_runs(experiment.experiment_id), f"*{suffix}")
    return [path.name.removesuffix(suffix) for path in filter(_has_begun, journals)]


def _has_begun(journal: pathlib.Path) -> bool:
    """Whether a run has a whole first line: a kill may have left less, which is no run."""
    with journal.open("rb") as file:
        return file.readline().endswith(b"\n")
