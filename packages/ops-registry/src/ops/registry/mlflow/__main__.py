"""The command line: whole MLflow stores in and out of a store."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from ops.foundation.command_line import CommandLine, print_json, progress_bar
from ops.registry.configuration import MLOpsConfig
from ops.registry.mlflow.store_copies import export_mlflow, import_mlflow

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ops.registry.mlflow.copy_endpoint import MLflowCopy

_PROGRAM = "python -m ops.registry.mlflow"
_EXAMPLES = (
    f"{_PROGRAM} import http://mlflow.example:5000 --path ./mlops_data",
    f"{_PROGRAM} import sqlite:///mlflow.db --path ./mlops_data --experiment tuning",
    f"{_PROGRAM} export http://127.0.0.1:5000 --path ./mlops_data",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = CommandLine(
        _PROGRAM,
        "Copy whole MLflow stores into, or out of, a store of ops-registry. An interrupted copy is started "
        "again with the same command: nothing comes twice.",
        examples=_EXAMPLES,
        distribution="ops-registry",
        failures=(MlflowException,),
        misuses=(ValueError,),
    )
    command.add_shared("--path", help="the folder of the store (default: OPS_MLOPS_PATH)")
    for made in (
        command.verb("import", _import, "copy what MLflow has into the store; resumable"),
        command.verb("export", _export, "copy the store to where MLflow keeps its; resumable"),
    ):
        made.add_argument("uri", help="what MLflow calls a tracking URI: http://…, sqlite:///…")
        made.add_argument("--experiment", action="append", help="only this one; may be repeated")
        made.add_argument("--model", action="append", help="only this one; may be repeated")
    return command(argv)


def _import(options: argparse.Namespace) -> None:
    done = import_mlflow(
        options.uri,
        _path(options),
        experiments=options.experiment,
        models=options.model,
        progress=progress_bar("copied", options),
    )
    _print(done, options)


def _export(options: argparse.Namespace) -> None:
    path = _path(options)
    if not pathlib.Path(path).is_dir():
        raise FileNotFoundError(f"There is no store at {path}.")
    done = export_mlflow(
        options.uri,
        path,
        experiments=options.experiment,
        models=options.model,
        progress=progress_bar("copied", options),
    )
    _print(done, options)


def _path(options: argparse.Namespace) -> str:
    return str(options.path or MLOpsConfig.from_env().storage_path)


def _print(done: MLflowCopy, options: argparse.Namespace) -> None:
    recorded = dataclasses.asdict(done)
    if options.json:
        print_json(recorded)
    else:
        print("\n".join(f"{key}: {value}" for key, value in recorded.items() if value != []))


if __name__ == "__main__":
    sys.exit(main())
