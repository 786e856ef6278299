"""The command line: whole MLflow stores in and out of a store."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from ops.foundation.errors import OpsError
from ops.registry.mlflow.copying import export_mlflow, import_mlflow

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """examples:
  python -m ops.registry.mlflow import http://mlflow.example:5000 --path ./mlops_data
  python -m ops.registry.mlflow import sqlite:///mlflow.db --path ./mlops_data --experiment tuning
  python -m ops.registry.mlflow export http://127.0.0.1:5000 --path ./mlops_data

An interrupted copy is started again with the same command: nothing comes twice.
exit codes: 0 all is copied, 2 the request was wrong or an end could not be reached
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a copy; 0 when all is copied, 2 when it could not be."""
    arguments = _parser().parse_args(argv)
    copy = import_mlflow if arguments.command == "import" else export_mlflow
    try:
        done = copy(
            arguments.uri,
            arguments.path,
            experiments=arguments.experiment,
            models=arguments.model,
            progress=_show if sys.stderr.isatty() else None,
        )
    except (OpsError, MlflowException, OSError) as error:
        print(f"ops.registry.mlflow: {error}", file=sys.stderr)
        return 2
    recorded = dataclasses.asdict(done)
    if arguments.json:
        print(json.dumps(recorded))
    else:
        print("\n".join(f"{key}: {value}" for key, value in recorded.items() if value != []))
    return 0


def _show(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rcopied {done}/{total}", end=end, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops.registry.mlflow",
        description="Copy whole MLflow stores into, or out of, a store of ops-registry.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["import", "export"])
    parser.add_argument("uri", help="what MLflow calls a tracking URI: http://…, sqlite:///…")
    parser.add_argument("--path", required=True, help="the folder of the store")
    parser.add_argument("--experiment", action="append", help="only this one; may be repeated")
    parser.add_argument("--model", action="append", help="only this one; may be repeated")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
