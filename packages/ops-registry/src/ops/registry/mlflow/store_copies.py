"""Whole MLflow stores copied in and out: `import_mlflow` and `export_mlflow`.

Both sides are spoken to as MLflow speaks to them, so either may be a server, a database or a folder.
A copy can be interrupted at any call and resumed. A run exists in the target from its first call
on and names its origin in a tag; what it lacks is found by comparing (points of histories,
files by size) and added; and only what is complete is marked so and not looked at again. Into a store
of ours experiments, runs and logged models keep their ids, and versions their numbers in any store, so ``runs:/…`` and ``models:/m-…`` go on pointing to them.

Active experiments, runs and models are copied; traces, prompts and deleted things are not, and are named in the report.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ops.registry.mlflow.copy_endpoint import End, MLflowCopy, Progress
from ops.registry.mlflow.model_copies import copy_model
from ops.registry.mlflow.run_copies import ExperimentCopy
from ops.registry.mlflow.uris import SCHEME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.foundation.files import StrPath

__all__ = ["export_mlflow", "import_mlflow"]


def import_mlflow(
    uri: str,
    storage_path: StrPath,
    *,
    experiments: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> MLflowCopy:
    """Copy the store that MLflow finds at *uri* into the store in the folder *storage_path*.

    *experiments* and *models* are names, all without them. *progress* is called with how many runs and
    versions are done, of how many.
    """
    return _copy(End(uri), End(_address(storage_path)), experiments, models, progress)


def export_mlflow(
    uri: str,
    storage_path: StrPath,
    *,
    experiments: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> MLflowCopy:
    """Copy the store in the folder *storage_path* into what MLflow finds at *uri*.

    *experiments* and *models* are names (None: all); *progress* is called with the number of runs
    and models that are done, and with that of all.
    """
    return _copy(End(_address(storage_path)), End(uri), experiments, models, progress)


def _address(path: StrPath) -> str:
    return f"{SCHEME}://{quote(str(pathlib.Path(path).absolute()))}"


def _copy(
    source: End,
    target: End,
    experiments: Sequence[str] | None,
    models: Sequence[str] | None,
    progress: Callable[[int, int], object] | None,
) -> MLflowCopy:
    report = MLflowCopy()
    chosen = [e for e in source.experiments() if experiments is None or e.name in experiments]
    if target.ours is not None:  # those whose ids are free come first: no other one is given them
        taken = {known.experiment_id for known in target.ours.book.experiments()}
        chosen.sort(key=lambda e: str(e.experiment_id) in taken)
    names = [n for n in source.model_names() if models is None or n in models]
    _refuse_unknown("experiment", experiments, [e.name for e in chosen])
    _refuse_unknown("model", models, names)
    steps = Progress(progress)
    steps.total = sum(source.count_runs(e.experiment_id) for e in chosen)
    steps.total += sum(len(source.versions(name)) for name in names)
    runs: dict[str, str] = {}
    logged: dict[str, str] = {}
    for experiment in chosen:
        copy = ExperimentCopy(source, target, experiment, report)
        copy.run(steps)
        runs |= copy.runs
        logged |= copy.models
    report.left_out += source.left_out(chosen)
    if experiments is None:
        gone = source.deleted_experiments()
        report.left_out += [f"the deleted experiment {name!r}" for name in gone]
    for name in names:
        copy_model(source, target, name, (runs, logged), report, steps)
    return report


def _refuse_unknown(kind: str, requested: Sequence[str] | None, found: Sequence[str]) -> None:
    missing: list[Any] = sorted(set(requested or ()) - set(found))
    if missing:
        from ops.registry.errors import InvalidValueError

        raise InvalidValueError(f"The source has no {kind} {', '.join(map(repr, missing))}.")
