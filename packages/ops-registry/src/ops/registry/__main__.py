"""The command line: look at a store, promote a version, write its page, check it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.registry.configuration import MLOpsConfig
from ops.registry.context import MLOpsContext

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """examples:
  ops-registry runs --path ./mlops_data --filter "metrics.auc > 0.9" --order "metrics.auc DESC"
  ops-registry promote credit_risk 3 Production --path ./mlops_data
  ops-registry page store.html --path ./mlops_data
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all is well, 1 when a check found damage, 2 for wrong requests."""
    asked = _parser().parse_args(argv)
    try:
        config = MLOpsConfig.from_env()
        config = config if asked.path is None else MLOpsConfig(storage_path=asked.path)
        context = MLOpsContext(config)
        if not context.path.is_dir():
            print(f"ops-registry: there is no store at {context.path}", file=sys.stderr)
            return 2
        result, code = _COMMANDS[asked.command](context, asked)
    except (OpsError, OSError) as error:
        print(f"ops-registry: {error}", file=sys.stderr)
        return 2
    if asked.json:
        print(json.dumps(result, default=str))
    else:
        for line in result if isinstance(result, list) else [result]:
            print("  ".join(f"{k}={v}" for k, v in line.items()))
    return code


def _runs(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    tracker = context.experiment_tracker
    chosen = [e for e in tracker.list_experiments() if asked.experiment in {None, e.name}]
    found = tracker.search_runs(
        [e.experiment_id for e in chosen],
        filter=asked.filter,
        order_by=asked.order,
        limit=asked.limit,
    )
    return [
        {"run_id": r.run_id, "name": r.name, "status": str(r.status)}
        | {f"params.{k}": v for k, v in r.parameters.items()}
        | {f"metrics.{k}": v for k, v in r.metrics.items()}
        for r in found
    ], 0


def _models(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    found = context.model_registry.search_models(asked.filter, asked.order, asked.limit)
    return [
        {"name": v.name, "version": v.version, "stage": str(v.stage), "aliases": list(v.aliases)}
        | {f"metrics.{k}": m for k, m in v.metadata.metrics.items()}
        for v in found
    ], 0


def _promote(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    made = context.model_registry.promote_model(asked.name, asked.version, asked.stage)
    return {"name": made.name, "version": made.version, "stage": str(made.stage)}, 0


def _page(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.page import write_page

    return {"page": str(write_page(context, asked.output).absolute())}, 0


def _fsck(context: MLOpsContext, asked: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.fsck import check

    report = check(context, repair=asked.repair)
    return report.to_dict(), 0 if report.is_sound else 1


_COMMANDS = {
    "runs": _runs,
    "models": _models,
    "promote": _promote,
    "page": _page,
    "fsck": _fsck,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ops-registry",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--path", help="the folder of the store (default: OPS_MLOPS_PATH)")
    shared.add_argument("--json", action="store_true", help="print JSON")
    search = argparse.ArgumentParser(add_help=False)
    search.add_argument("--filter", help='such as "metrics.auc > 0.9"')
    search.add_argument("--order", help='such as "metrics.auc DESC"')
    search.add_argument("--limit", type=int)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("runs", parents=[shared, search], help="list or search runs")
    runs.add_argument("--experiment", help="only of the experiment with this name")
    commands.add_parser("models", parents=[shared, search], help="list or search model versions")
    promote = commands.add_parser("promote", parents=[shared], help="move a version to a stage")
    promote.add_argument("name")
    promote.add_argument("version", type=int)
    promote.add_argument("stage", choices=["Staging", "Production", "Archived", "None"])
    page = commands.add_parser("page", parents=[shared], help="write the store as one HTML file")
    page.add_argument("output")
    fsck = commands.add_parser("fsck", parents=[shared], help="check journals and artifacts")
    fsck.add_argument("--repair", action="store_true", help="rebuild the indexes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
