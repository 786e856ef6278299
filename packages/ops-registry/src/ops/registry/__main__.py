"""The command line: make a store, look at it, promote, copy, check and serve its probes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.registry import _commands as commands
from ops.registry.configuration import MLOpsConfig
from ops.registry.context import MLOpsContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from ops.registry.records import ModelVersion

    #: Adds a command: its name, what runs it, what it does, and parsers whose options it takes too.
    Command: TypeAlias = Callable[..., argparse.ArgumentParser]

_EXAMPLES = """examples:
  ops-registry runs --path ./mlops_data --filter "metrics.auc > 0.9" --order "metrics.auc DESC"
  ops-registry compare RUN_ID RUN_ID --differing --path ./mlops_data
  ops-registry promote credit_risk 3 Production --path ./mlops_data
  ops-registry export ./backup --experiment tuning --path ./mlops_data
  ops-registry import ./mlruns --to ./mlops_data
  ops-registry ui --path ./mlops_data
  ops-registry fsck --repair --path ./mlops_data
  ops-registry --json runs show RUN_ID
  ops-registry artifacts get RUN_ID model/weights.bin ./downloads
  ops-registry models alias credit_risk champion 3
  OPS_MLOPS_BACKEND=databricks OPS_MLOPS_CATALOG=main OPS_MLOPS_SCHEMA=mlops ops-registry runs

exit codes: 0 all is well, 1 a check found damage, 2 the request was wrong, 130 interrupted
"""
#: Commands that may be the first ones of a store.
_STARTING = {"init", "import", "serve-probes"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all is well, 1 when a check found damage, 2 for wrong requests.

    130 says that it was interrupted, as shells do.
    """
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("ops-registry: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads the output has had enough; nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = MLOpsConfig.from_env()
        if arguments.path is not None:
            config = dataclasses.replace(config, storage_path=arguments.path)
        if arguments.command == "ui" and arguments.allow_writes:
            config = dataclasses.replace(config, audit=True)  # who changed what, by click
        with MLOpsContext(config) as context:
            if not _is_there(context) and arguments.command not in _STARTING:
                print(f"ops-registry: there is no store at {context.path}", file=sys.stderr)
                return 2
            result, code = arguments.run(context, arguments)
    except BrokenPipeError:
        raise
    except (OpsError, OSError) as error:
        print(f"ops-registry: {error}", file=sys.stderr)
        return 2
    _print(result, as_json=arguments.json)
    sys.stdout.flush()
    return int(code)


def _is_there(context: MLOpsContext) -> bool:
    """Whether the store is there; a warehouse is asked by what comes next."""
    return context.config.backend_type != "local" or context.path.is_dir()


def _print(result: Any, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_strict(result), default=str, allow_nan=False))
        return
    from ops.foundation.tables import format_table

    if isinstance(result, list):
        columns = list(dict.fromkeys(key for row in result for key in row))
        rows = [[_shown(row.get(key)) for key in columns] for row in result]
        print(format_table(rows, columns, max_width=40) if rows else "none")
    else:
        for key, value in result.items():
            lines = value if isinstance(value, list) else [value]
            print("\n".join(f"{key}: {_shown(line)}" for line in lines) or f"{key}: none")


def _strict(value: Any) -> Any:
    """Return *value* with NaN and infinities as texts, which JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, (list, tuple)) else value


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _progress(what: str) -> Callable[[int, int], None] | None:
    """Return what shows how far something is, None when nobody watches a terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{what} {done}/{total}", end=end, file=sys.stderr, flush=True)

    return show


def _init(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    tracker = context.experiment_tracker
    experiment = (
        context.experiment
        if arguments.experiment is None
        else tracker.get_or_create_experiment(arguments.experiment)
    )
    return {"path": str(context.path), "experiment": experiment.name}, 0


def _runs(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    tracker = context.experiment_tracker
    chosen = tracker.list_experiments()
    if arguments.experiment is not None:
        chosen = [tracker.get_experiment_by_name(arguments.experiment)]
    found = tracker.search_runs(
        [e.experiment_id for e in chosen],
        filter=arguments.filter,
        order_by=arguments.order or "start_time DESC",
        limit=arguments.limit,
        include_deleted=arguments.deleted,
    )
    return [
        {"run_id": r.run_id, "name": r.name, "status": str(r.status)}
        | {"started": r.start_time.astimezone(dt.UTC).isoformat(" ", "seconds")}
        | {f"params.{k}": v for k, v in r.parameters.items()}
        | {f"metrics.{k}": v for k, v in r.metrics.items()}
        for r in found
    ], 0


def _compare(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    runs = [context.experiment_tracker.get_run(run_id) for run_id in arguments.run_id]
    values = {
        run.run_id: {"name": run.name, "status": str(run.status)}
        | {f"params.{k}": v for k, v in run.parameters.items()}
        | {f"metrics.{k}": v for k, v in run.metrics.items()}
        for run in runs
    }
    fields = dict.fromkeys(field for found in values.values() for field in found)
    rows = [{"field": f} | {i: found.get(f, "") for i, found in values.items()} for f in fields]
    if arguments.differing:
        rows = [row for row in rows if len({str(row[i]) for i in values}) > 1]
    return rows, 0


def _models(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    found = context.model_registry.search_models(arguments.filter, arguments.order, arguments.limit)
    return [
        {"name": v.name, "version": v.version, "stage": str(v.stage), "aliases": list(v.aliases)}
        | {f"metrics.{k}": m for k, m in v.metadata.metrics.items()}
        for v in found
    ], 0


def _promote(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    return _version(
        context.model_registry.promote_model(arguments.name, arguments.version, arguments.stage)
    )


def _rollback(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    return _version(context.model_registry.rollback(arguments.name, arguments.stage))


def _version(made: ModelVersion) -> tuple[Any, int]:
    return {"name": made.name, "version": made.version, "stage": str(made.stage)}, 0


def _export(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    return _copy(context, arguments, outwards=True)


def _import(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.importing.formats import foreign_store, is_own_store
    from ops.registry.importing.store_import import import_foreign

    if arguments.kind == "ops" or (arguments.kind is None and is_own_store(arguments.other)):
        return _copy(context, arguments, outwards=False)
    source = foreign_store(
        arguments.other,
        kind=arguments.kind,
        artifacts=arguments.artifacts,
        name=arguments.name,
    )
    experiments, models = _named(arguments)
    with contextlib.closing(source):
        done = import_foreign(
            source,
            context,
            experiments=experiments,
            models=models,
            progress=_progress("imported"),
        )
    return dataclasses.asdict(done), 1 if done.refused else 0


def _named(arguments: argparse.Namespace) -> tuple[list[str] | None, list[str] | None]:
    """Return the experiments and models to copy: naming some means those and nothing else."""
    if arguments.experiment is None and arguments.model is None:
        return None, None
    return arguments.experiment or [], arguments.model or []


def _copy(
    context: MLOpsContext, arguments: argparse.Namespace, *, outwards: bool
) -> tuple[Any, int]:
    from ops.registry.transfer import copy_store

    with MLOpsContext(MLOpsConfig(storage_path=arguments.other)) as other:
        source, target = (context, other) if outwards else (other, context)
        if not _is_there(source):
            raise FileNotFoundError(f"There is no store at {source.path}.")
        experiments, models = _named(arguments)
        copied = copy_store(
            source,
            target,
            experiments=experiments,
            models=models,
            progress=_progress("copied"),
        )
    return dataclasses.asdict(copied), 0


def _page(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.page import write_page

    return {"page": str(write_page(context, arguments.output).absolute())}, 0


def _fsck(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.fsck import check

    report = check(context, repair=arguments.repair, progress=_progress("checked"))
    return report.to_dict(), 0 if report.is_sound else 1


def _gc(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.fsck import collect

    found = collect(context, dry_run=arguments.dry_run, deleted_days=arguments.deleted_days)
    return {"dry_run": arguments.dry_run, "removed": [str(path) for path in found]}, 0


def _serve_probes(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    import signal
    import threading

    from ops.observe.probes import serve_probes

    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    with serve_probes(arguments.port, host=arguments.host, monitor=context.health) as server:
        print(f"{server.url} has /livez, /readyz and /metrics", file=sys.stderr, flush=True)
        done.wait()
    return {"stopped": server.url}, 0


def _ui(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.ui.server import serve

    serve(
        context,
        host=arguments.host,
        port=arguments.port,
        token=arguments.token,
        allow_writes=arguments.allow_writes,
        ready=lambda address: print(f"Open {address}", file=sys.stderr, flush=True),
    )
    return {"stopped": "ui"}, 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ops-registry",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_shared(parser)
    # Again after the verb; suppressed there, so that what stands before it is not overwritten.
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_shared(shared)
    search = argparse.ArgumentParser(add_help=False)
    search.add_argument("--filter", help='such as "metrics.auc > 0.9"')
    search.add_argument("--order", help='such as "metrics.auc DESC"')
    search.add_argument("--limit", type=int)
    verbs = parser.add_subparsers(dest="command", required=True)

    def command(
        name: str, run: Callable[..., Any], text: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, parents=[shared, *parents], help=text, description=text)
        made.set_defaults(run=run)
        return made

    _add_reading(command, search)
    _add_changing(command)
    _add_serving(command)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--path", help="the folder of the store (default: OPS_MLOPS_PATH)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_reading(command: Command, search: argparse.ArgumentParser) -> None:
    runs = command("runs", _runs, "list or search runs, the newest first", search)
    runs.add_argument("--experiment", help="only of the experiment with this name")
    runs.add_argument("--deleted", action="store_true", help="also those that were deleted")
    commands.add_run_actions(runs)
    commands.add_experiments(command("experiments", commands.list_experiments, "list experiments"))
    commands.add_artifacts(command("artifacts", commands.list_artifacts, "the files of a run"))
    compare = command("compare", _compare, "show runs side by side")
    compare.add_argument("run_id", nargs="+")
    compare.add_argument("--differing", action="store_true", help="only what is not the same")
    models = command("models", _models, "list or search model versions", search)
    commands.add_model_actions(models)
    command("page", _page, "write the store as one HTML file").add_argument("output")


def _add_changing(command: Command) -> None:
    init = command("init", _init, "make a store with its first experiment")
    init.add_argument("--experiment", help="its name (default: that of the configuration)")
    promote = command("promote", _promote, "move a version to a stage")
    promote.add_argument("name")
    promote.add_argument("version", type=int)
    promote.add_argument("stage", help="Staging, Production, Archived or None")
    rollback = command("rollback", _rollback, "give a stage back to the version before")
    rollback.add_argument("name")
    rollback.add_argument("stage", nargs="?", default="Production")
    for name, run, text in (
        ("export", _export, "copy into another store"),
        ("import", _import, "copy from another store, of this or of another program"),
    ):
        copy = command(name, run, f"{text}; started again, it goes on")
        copy.add_argument("other", help="the folder of the other store")
        copy.add_argument("--experiment", action="append", help="only this one; may be repeated")
        copy.add_argument("--model", action="append", help="only this one; may be repeated")
        if name == "import":
            commands.add_import_options(copy)
    fsck = command("fsck", _fsck, "check journals, views and artifacts")
    fsck.add_argument("--repair", action="store_true", help="make the views again first")
    gc = command("gc", _gc, "remove artifacts that nothing refers to, older than a day")
    gc.add_argument("--dry-run", action="store_true", help="only list them")
    gc.add_argument(
        "--deleted-days",
        type=float,
        metavar="DAYS",
        help="erase runs too that were deleted at least so many days ago",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r:.20}")
    return int(text)


def _add_serving(command: Command) -> None:
    ui = command("ui", _ui, "show the store in a browser")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", type=_port, default=5066, help="0 takes a free one")
    ui.add_argument("--token", help='what visitors must know; "auto" makes one')
    ui.add_argument(
        "--allow-writes",
        action="store_true",
        help="change notes, tags, stages and more by click; in the audit log",
    )
    probes = command("serve-probes", _serve_probes, "serve /livez, /readyz and /metrics")
    probes.add_argument("--host", default="127.0.0.1")
    probes.add_argument("--port", type=_port, default=0, help="default: any free one")


if __name__ == "__main__":
    sys.exit(main())
