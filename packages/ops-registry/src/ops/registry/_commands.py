"""Commands with a second verb: runs, experiments, artifacts and models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.registry.context import MLOpsContext
    from ops.registry.records import Run

__all__ = [
    "add_artifacts",
    "add_experiments",
    "add_import_options",
    "add_model_actions",
    "add_run_actions",
    "list_artifacts",
    "list_experiments",
]


class _Actions:
    """The second verbs of a command; each takes ``--path`` and ``--json`` too."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._made = parser.add_subparsers(dest="action", required=False, metavar="ACTION")

    def add(
        self, name: str, run: Callable[..., Any], text: str, *arguments: str
    ) -> argparse.ArgumentParser:
        """Add one with positional *arguments*; one that ends with + may be repeated."""
        made = self._made.add_parser(
            name, help=text, description=text, argument_default=argparse.SUPPRESS
        )
        made.add_argument("--path", help="the folder of the store (default: OPS_MLOPS_PATH)")
        made.add_argument("--json", action="store_true", help="print JSON")
        for argument in arguments:
            made.add_argument(
                argument.rstrip("+?"),
                nargs={"+": "+", "?": "?"}.get(argument[-1]),
                default=None if argument.endswith("?") else argparse.SUPPRESS,
            )
        made.set_defaults(run=run)
        return made


def add_run_actions(parser: argparse.ArgumentParser) -> None:
    """Add ``runs show|delete|restore``."""
    actions = _Actions(parser)
    actions.add("show", _show_run, "everything about a run", "run_id")
    actions.add("delete", _delete_runs, "hide runs until they are restored", "run_ids+")
    actions.add("restore", _restore_runs, "take back that runs were deleted", "run_ids+")


def add_experiments(parser: argparse.ArgumentParser) -> None:
    """Add ``experiments create|rename|delete|restore``; alone it lists them."""
    parser.add_argument("--filter", help="such as \"tags.team = 'ds'\"")
    parser.add_argument("--deleted", action="store_true", help="also those that were deleted")
    actions = _Actions(parser)
    actions.add("create", _create_experiment, "create an experiment", "name")
    actions.add("rename", _rename_experiment, "give an experiment another name", "name", "new_name")
    actions.add("delete", _delete_experiment, "hide an experiment and its runs", "name")
    actions.add("restore", _restore_experiment, "take back that it was deleted", "name")


def add_artifacts(parser: argparse.ArgumentParser) -> None:
    """Add ``artifacts ls|get|put``."""
    actions = _Actions(parser)
    actions.add("ls", list_artifacts, "list the artifacts of a run", "run_id")
    get = actions.add("get", _get_artifact, "copy an artifact out", "run_id", "artifact", "target")
    get.add_argument("--overwrite", action="store_true", help="replace what is there")
    put = actions.add("put", _put_artifact, "keep a file or folder with a run", "run_id", "source")
    put.add_argument("--under", help="the folder of the run that it goes to")
    put.add_argument("--overwrite", action="store_true", help="replace an artifact of that name")


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


def add_model_actions(parser: argparse.ArgumentParser) -> None:
    """Add ``models versions|alias|delete``."""
    actions = _Actions(parser)
    actions.add("versions", _list_versions, "list the versions of a model", "name")
    alias = actions.add("alias", _set_alias, "let an alias point to a version", "name", "alias")
    alias.add_argument("version", type=int)
    delete = actions.add("delete", _delete_model, "delete a model or one version of it", "name")
    delete.add_argument("version", type=int, nargs="?", default=None)


def _show_run(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    return _told(context.experiment_tracker.get_run(asked.run_id)), 0


def _told(run: Run) -> dict[str, Any]:
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


def _delete_runs(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    for run_id in asked.run_ids:
        context.experiment_tracker.delete_run(run_id)
    return {"deleted": asked.run_ids}, 0


def _restore_runs(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    for run_id in asked.run_ids:
        context.experiment_tracker.restore_run(run_id)
    return {"restored": asked.run_ids}, 0


def list_experiments(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    """List experiments, the oldest first."""
    tracker = context.experiment_tracker
    found = tracker.search_experiments(asked.filter)
    if asked.deleted and asked.filter is None:
        found = tracker.list_experiments(include_deleted=True)
    return [
        {"experiment_id": e.experiment_id, "name": e.name, "description": e.description}
        | {"created": e.created_at.isoformat(" ", "seconds")}
        | ({"deleted": e.deleted_at.isoformat(" ", "seconds")} if e.deleted_at else {})
        | {f"tags.{key}": value for key, value in e.tags.items()}
        for e in found
    ], 0


def _create_experiment(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    made = context.experiment_tracker.create_experiment(asked.name)
    return {"experiment_id": made.experiment_id, "name": made.name}, 0


def _id_of(context: MLOpsContext, asked: argparse.Namespace) -> str:
    return context.experiment_tracker.get_experiment_by_name(asked.name).experiment_id


def _rename_experiment(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    made = context.experiment_tracker.rename_experiment(_id_of(context, asked), asked.new_name)
    return {"experiment_id": made.experiment_id, "name": made.name}, 0


def _delete_experiment(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    context.experiment_tracker.delete_experiment(_id_of(context, asked))
    return {"deleted": asked.name}, 0


def _restore_experiment(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    context.experiment_tracker.restore_experiment(_id_of(context, asked))
    return {"restored": asked.name}, 0


def list_artifacts(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    """List the artifacts of a run."""
    if not hasattr(asked, "run_id"):
        return {
            "usage": "ops-registry artifacts ls RUN_ID | get RUN_ID NAME TARGET | put RUN_ID FILE"
        }, 2
    found = context.experiment_tracker.get_run(asked.run_id).artifacts
    return [{"path": a.path, "size": a.size, "checksum": a.checksum} for a in found], 0


def _get_artifact(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    overwrite = getattr(asked, "overwrite", False)
    path = context.experiment_tracker.download_run_artifact(
        asked.run_id, asked.artifact, asked.target, overwrite=overwrite
    )
    return {"path": str(path)}, 0


def _put_artifact(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    kept = context.experiment_tracker.log_artifact(
        asked.run_id,
        asked.source,
        getattr(asked, "under", None),
        overwrite=getattr(asked, "overwrite", False),
    )
    return {"path": kept.path, "size": kept.size, "checksum": kept.checksum}, 0


def _list_versions(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    return [
        {"version": v.version, "stage": str(v.stage), "aliases": list(v.aliases), "size": v.size}
        | {"created": v.created_at.isoformat(" ", "seconds"), "run": v.metadata.experiment_run_id}
        for v in context.model_registry.list_model_versions(asked.name)
    ], 0


def _set_alias(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    made = context.model_registry.set_alias(asked.name, asked.alias, asked.version)
    return {"name": made.name, "version": made.version, "aliases": list(made.aliases)}, 0


def _delete_model(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    if asked.version is None:
        context.model_registry.delete_model(asked.name)
        return {"deleted": asked.name}, 0
    context.model_registry.delete_model_version(asked.name, asked.version)
    return {"deleted": f"{asked.name}/{asked.version}"}, 0
