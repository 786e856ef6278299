"""Commands with a second verb: runs, experiments, artifacts and models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ops.foundation.command_line import Verbs
    from ops.registry.context import MLOpsContext
    from ops.registry.records import Run

    #: What a verb does with a store: the result to print, and the exit code.
    OnStore: TypeAlias = Callable[[MLOpsContext, argparse.Namespace], tuple[Any, int]]
    #: Makes of it what runs with the options of a command line.
    Wrap: TypeAlias = Callable[[OnStore], Callable[[argparse.Namespace], int]]

__all__ = [
    "add_artifacts",
    "add_doctor",
    "add_experiments",
    "add_import_options",
    "add_model_actions",
    "add_run_actions",
]


def add_run_actions(runs: Verbs, on_store: Wrap) -> None:
    """Add ``runs show|delete|restore``."""
    show = runs.verb("show", on_store(_show_run), "everything about a run")
    show.add_argument("run_id")
    for name, run, text in (
        ("delete", _delete_runs, "hide runs until they are restored"),
        ("restore", _restore_runs, "take back that runs were deleted"),
    ):
        runs.verb(name, on_store(run), text).add_argument("run_ids", nargs="+")


def add_experiments(command: Verbs, on_store: Wrap) -> None:
    """Add ``experiments create|rename|delete|restore``; alone it lists them."""
    experiments = command.topic("experiments", "list experiments", run=on_store(_list_experiments))
    experiments.parser.add_argument("--filter", help="such as \"tags.team = 'ds'\"")
    experiments.parser.add_argument(
        "--deleted", action="store_true", help="also those that were deleted"
    )
    for name, run, text in (
        ("create", _create_experiment, "create an experiment"),
        ("rename", _rename_experiment, "give an experiment another name"),
        ("delete", _delete_experiment, "hide an experiment and its runs"),
        ("restore", _restore_experiment, "take back that it was deleted"),
    ):
        experiments.verb(name, on_store(run), text).add_argument("name")
    experiments.parsers["rename"].add_argument("new_name")


def add_artifacts(command: Verbs, on_store: Wrap) -> None:
    """Add ``artifacts ls|get|put``."""
    artifacts = command.topic("artifacts", "the files of a run")
    for name, run, text in (
        ("ls", _list_artifacts, "list the artifacts of a run"),
        ("get", _get_artifact, "copy an artifact out"),
        ("put", _put_artifact, "keep a file or folder with a run"),
    ):
        artifacts.verb(name, on_store(run), text).add_argument("run_id")
    get, put = artifacts.parsers["get"], artifacts.parsers["put"]
    get.add_argument("artifact")
    get.add_argument("target")
    get.add_argument("--overwrite", action="store_true", help="replace what is there")
    put.add_argument("source")
    put.add_argument("--under", help="the folder of the run that it goes to")
    put.add_argument("--overwrite", action="store_true", help="replace an artifact of that name")


def add_doctor(command: Verbs, run: Callable[[argparse.Namespace], int]) -> None:
    """Add ``doctor``, which *run* does."""
    doctor = command.verb(
        "doctor",
        run,
        "test a Databricks workspace step by step",
        description=_DOCTOR,
    )
    doctor.add_argument("--catalog", help="by default OPS_MLOPS_CATALOG")
    doctor.add_argument("--schema", help="by default OPS_MLOPS_SCHEMA")


_DOCTOR = """\
Test a Databricks workspace step by step: credentials, warehouse, latency, privileges, volume, tags.

The DATABRICKS_ variables give its address. What the steps make is named ops_doctor_... and removed again.
The exit code is 1 when a step failed. The JSON has no secrets and no names of hosts: it is what to send us.
"""


def add_import_options(parser: argparse.ArgumentParser) -> None:
    """Add what an import may need to know of another program's files."""
    parser.add_argument(
        "--to",
        dest="path",
        default=argparse.SUPPRESS,
        metavar="STORE",
        help="the folder of the store that gets them: the same as --path",
    )
    parser.add_argument(
        "--kind",
        choices=["ops", "mlflow", "mlflow-sqlite", "trackio", "tensorboard"],
        help="whose files they are (default: found by what is there)",
    )
    parser.add_argument(
        "--artifacts",
        action="append",
        default=[],
        metavar="FOLDER",
        help="where MLflow's artifacts are, if not beside its runs; may be repeated",
    )
    parser.add_argument(
        "--name", help="what the experiment of TensorBoard's files is called (default: the folder)"
    )


def add_model_actions(models: Verbs, on_store: Wrap) -> None:
    """Add ``models versions|alias|delete``."""
    for name, run, text in (
        ("versions", _list_versions, "list the versions of a model"),
        ("alias", _set_alias, "let an alias point to a version"),
        ("delete", _delete_model, "delete a model or one version of it"),
    ):
        models.verb(name, on_store(run), text).add_argument("name")
    models.parsers["alias"].add_argument("alias")
    models.parsers["alias"].add_argument("version", type=int)
    models.parsers["delete"].add_argument("version", type=int, nargs="?")


def _show_run(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    return _as_json(context.experiment_tracker.get_run(options.run_id)), 0


def _as_json(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "experiment_id": run.experiment_id,
        "name": run.name,
        "status": str(run.status),
        "started": run.start_time.isoformat(),
        "ended": run.end_time and run.end_time.isoformat(),
        "seconds": run.duration_seconds,
        "parent_run_id": run.parent_run_id,
        "error": run.error,
        "deleted": run.deleted_at and run.deleted_at.isoformat(),
        **{f"params.{key}": value for key, value in run.parameters.items()},
        **{f"metrics.{key}": value for key, value in run.metrics.items()},
        **{f"tags.{key}": value for key, value in run.tags.items()},
        "artifacts": [artifact.path for artifact in run.artifacts],
    }


def _delete_runs(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    for run_id in options.run_ids:
        context.experiment_tracker.delete_run(run_id)
    return {"deleted": options.run_ids}, 0


def _restore_runs(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    for run_id in options.run_ids:
        context.experiment_tracker.restore_run(run_id)
    return {"restored": options.run_ids}, 0


def _list_experiments(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    tracker = context.experiment_tracker
    found = tracker.search_experiments(options.filter)
    if options.deleted and options.filter is None:
        found = tracker.list_experiments(include_deleted=True)
    return [
        {"experiment_id": e.experiment_id, "name": e.name, "description": e.description}
        | {"created": e.created_at.isoformat(" ", "seconds")}
        | ({"deleted": e.deleted_at.isoformat(" ", "seconds")} if e.deleted_at else {})
        | {f"tags.{key}": value for key, value in e.tags.items()}
        for e in found
    ], 0


def _create_experiment(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    made = context.experiment_tracker.create_experiment(options.name)
    return {"experiment_id": made.experiment_id, "name": made.name}, 0


def _id_of(context: MLOpsContext, options: argparse.Namespace) -> str:
    return context.experiment_tracker.get_experiment_by_name(options.name).experiment_id


def _rename_experiment(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    made = context.experiment_tracker.rename_experiment(_id_of(context, options), options.new_name)
    return {"experiment_id": made.experiment_id, "name": made.name}, 0


def _delete_experiment(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    context.experiment_tracker.delete_experiment(_id_of(context, options))
    return {"deleted": options.name}, 0


def _restore_experiment(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    context.experiment_tracker.restore_experiment(_id_of(context, options))
    return {"restored": options.name}, 0


def _list_artifacts(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    found = context.experiment_tracker.get_run(options.run_id).artifacts
    return [{"path": a.path, "size": a.size, "checksum": a.checksum} for a in found], 0


def _get_artifact(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    path = context.experiment_tracker.download_run_artifact(
        options.run_id, options.artifact, options.target, overwrite=options.overwrite
    )
    return {"path": str(path)}, 0


def _put_artifact(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    kept = context.experiment_tracker.log_artifact(
        options.run_id,
        options.source,
        options.under,
        overwrite=options.overwrite,
    )
    return {"path": kept.path, "size": kept.size, "checksum": kept.checksum}, 0


def _list_versions(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    return [
        {"version": v.version, "stage": str(v.stage), "aliases": list(v.aliases), "size": v.size}
        | {"created": v.created_at.isoformat(" ", "seconds"), "run": v.metadata.experiment_run_id}
        for v in context.model_registry.list_model_versions(options.name)
    ], 0


def _set_alias(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    made = context.model_registry.set_alias(options.name, options.alias, options.version)
    return {"name": made.name, "version": made.version, "aliases": list(made.aliases)}, 0


def _delete_model(context: MLOpsContext, options: argparse.Namespace) -> tuple[Any, int]:
    if options.version is None:
        context.model_registry.delete_model(options.name)
        return {"deleted": options.name}, 0
    context.model_registry.delete_model_version(options.name, options.version)
    return {"deleted": f"{options.name}/{options.version}"}, 0
