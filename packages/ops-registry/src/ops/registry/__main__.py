"""The command line: make a store, look at it, promote, copy, check and serve its probes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.command_line import CommandLine, print_json, progress_bar
from ops.registry import _commands as commands
from ops.registry.configuration import MLOpsConfig
from ops.registry.context import MLOpsContext
from ops.registry.events import EventType
from ops.registry.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.registry._commands import OnStore
    from ops.registry.records import ModelVersion

_EXAMPLES = (
    'ops-registry runs --path ./mlops_data --filter "metrics.auc > 0.9" --order "metrics.auc DESC"',
    "ops-registry compare RUN_ID RUN_ID --differing --path ./mlops_data",
    "ops-registry promote credit_risk 3 Production --path ./mlops_data",
    "ops-registry export ./backup --experiment tuning --path ./mlops_data",
    "ops-registry import ./mlruns --to ./mlops_data",
    "ops-registry ui --path ./mlops_data",
    "ops-registry fsck --repair --path ./mlops_data",
    "ops-registry doctor --catalog main --schema mlops",
    "ops-registry --json runs show RUN_ID",
    "ops-registry artifacts get RUN_ID model/weights.bin ./downloads",
    "ops-registry models alias credit_risk champion 3",
    "OPS_MLOPS_BACKEND=databricks OPS_MLOPS_CATALOG=main OPS_MLOPS_SCHEMA=mlops ops-registry runs",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = CommandLine(
        "ops-registry",
        "Make a store, look at it, promote, copy, check and serve it.",
        examples=_EXAMPLES,
        misuses=(ValueError,),
    )
    command.add_shared("--path", help="the folder of the store (default: OPS_MLOPS_PATH)")
    _add_reading(command)
    _add_changing(command)
    _add_serving(command)
    commands.add_doctor(command, _doctor)
    return command(argv)


def _on_store(run: OnStore, *, starts: bool = False) -> Callable[[argparse.Namespace], int]:
    """Return what runs *run* with the store, and prints its result; only one that *starts* makes a store."""

    def call(options: argparse.Namespace) -> int:
        config = MLOpsConfig.from_env()
        if options.path is not None:
            config = dataclasses.replace(config, storage_path=options.path)
        if getattr(options, "allow_writes", False):
            config = dataclasses.replace(config, audit=True)  # who changed what, by click
        with MLOpsContext(config) as context, _waits_shown(context.operations, options):
            if not starts and not _is_there(context):
                raise FileNotFoundError(f"There is no store at {context.path}.")
            _continue_audit(context)
            result, code = run(context, options)
        _print(result, options)
        return code

    return call


def _continue_audit(context: MLOpsContext) -> None:
    """Write what a command changes into the audit log that programs have begun in the store."""
    operations, log = context.operations, context.paths.audit_log
    if operations.audit is None and log.is_file():
        operations.audit_into(str(log))


def _waits_shown(operations: Operations, options: argparse.Namespace) -> Any:
    """Let it be shown on standard error that something is tried again, such as a warehouse that starts."""
    if options.quiet:
        return contextlib.nullcontext()

    def show(event: Any) -> None:
        print(f"ops-registry: {event.data['error']}", file=sys.stderr, flush=True)

    return operations.emitter.subscribe(EventType.OPERATION_RETRIED, show)


def _is_there(context: MLOpsContext) -> bool:
    """Whether the store is there; a warehouse is queried by the command itself.

    A folder of other files is none; an empty one may become one.
    """
    if context.config.backend_type != "local":
        return True
    if not context.path.is_dir():
        return False
    parts = (context.experiment_tracker, context.model_registry, context.storage)
    return any(part.root.exists() for part in parts) or not any(context.path.iterdir())


def _print(result: Any, options: argparse.Namespace) -> None:
    if options.json:
        print_json(result)
        return
    from ops.foundation.tables import format_table

    if isinstance(result, list):
        columns = list(dict.fromkeys(key for row in result for key in row))
        rows = [[_shown(row.get(key)) for key in columns] for row in result]
        if rows or not options.quiet:
            print(format_table(rows, columns, max_width=40) if rows else "none")
    else:
        for key, value in result.items():
            lines = value if isinstance(value, list) else [value]
            print("\n".join(f"{key}: {_shown(line)}" for line in lines) or f"{key}: none")


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return ", ".join(map(str, value)) if isinstance(value, list) else value


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
            progress=progress_bar("imported", arguments),
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
            progress=progress_bar("copied", arguments),
        )
    return dataclasses.asdict(copied), 0


def _page(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.html_report import write_page

    return {"page": str(write_page(context, arguments.output).absolute())}, 0


def _fsck(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.fsck import check

    report = check(context, repair=arguments.repair, progress=progress_bar("checked", arguments))
    return report.to_dict(), 0 if report.is_sound else 1


def _gc(context: MLOpsContext, arguments: argparse.Namespace) -> tuple[Any, int]:
    from ops.registry.fsck import collect

    found = collect(context, dry_run=arguments.dry_run, deleted_days=arguments.deleted_days)
    return {"dry_run": arguments.dry_run, "removed": [str(path) for path in found]}, 0


def _doctor(arguments: argparse.Namespace) -> int:
    from ops.registry.databricks.doctor import examine

    given = {"catalog": arguments.catalog, "schema": arguments.schema}
    config = dataclasses.replace(
        MLOpsConfig.from_env(),
        backend_type="databricks",
        **{key: value for key, value in given.items() if value is not None},
    )

    def show(step: Any) -> None:
        out = sys.stderr if arguments.json else sys.stdout
        print(f"{step.status:8} {step.name:12} {step.seconds:8.3f} s  {step.found}", file=out)
        if step.advice:
            print(f"{'':35}{step.advice}", file=out)
        out.flush()

    with _waits_shown(Operations(), arguments):
        found = examine(config, progress=None if arguments.json and arguments.quiet else show)
    if not arguments.json:
        print("What to send us; there is no secret in it:")
    print_json(found.to_dict())
    return 0 if found.is_sound else 1


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


def _add_reading(command: CommandLine) -> None:
    search = argparse.ArgumentParser(add_help=False)
    search.add_argument("--filter", help='such as "metrics.auc > 0.9"')
    search.add_argument("--order", help='such as "metrics.auc DESC"')
    search.add_argument("--limit", type=int)
    runs = command.topic(
        "runs", "list or search runs, the newest first", search, run=_on_store(_runs)
    )
    runs.parser.add_argument("--experiment", help="only of the experiment with this name")
    runs.parser.add_argument("--deleted", action="store_true", help="also those that were deleted")
    commands.add_run_actions(runs, _on_store)
    commands.add_experiments(command, _on_store)
    commands.add_artifacts(command, _on_store)
    compare = command.verb("compare", _on_store(_compare), "show runs side by side")
    compare.add_argument("run_id", nargs="+")
    compare.add_argument("--differing", action="store_true", help="only what is not the same")
    models = command.topic(
        "models", "list or search model versions", search, run=_on_store(_models)
    )
    commands.add_model_actions(models, _on_store)
    page = command.verb("page", _on_store(_page), "write the store as one HTML file")
    page.add_argument("output")


def _add_changing(command: CommandLine) -> None:
    init = command.verb(
        "init", _on_store(_init, starts=True), "make a store with its first experiment"
    )
    init.add_argument("--experiment", help="its name (default: that of the configuration)")
    promote = command.verb("promote", _on_store(_promote), "move a version to a stage")
    promote.add_argument("name")
    promote.add_argument("version", type=int)
    promote.add_argument("stage", help="Staging, Production, Archived or None")
    rollback = command.verb(
        "rollback", _on_store(_rollback), "roll a stage back to the previous version"
    )
    rollback.add_argument("name")
    rollback.add_argument("stage", nargs="?", default="Production")
    export = command.verb("export", _on_store(_export), "copy into another store; resumable")
    imported = command.verb(
        "import",
        _on_store(_import, starts=True),
        "copy from another store, of this or of another program; resumable",
    )
    for each in (export, imported):
        each.add_argument("other", help="the folder of the other store")
        each.add_argument("--experiment", action="append", help="only this one; may be repeated")
        each.add_argument("--model", action="append", help="only this one; may be repeated")
    commands.add_import_options(imported)
    fsck = command.verb("fsck", _on_store(_fsck), "check journals, views and artifacts")
    fsck.add_argument("--repair", action="store_true", help="make the views again first")
    gc = command.verb(
        "gc", _on_store(_gc), "remove artifacts that nothing refers to, older than a day"
    )
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


def _add_serving(command: CommandLine) -> None:
    ui = command.verb("ui", _on_store(_ui), "show the store in a browser")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", type=_port, default=5066, help="0 takes a free one")
    ui.add_argument("--token", help='what visitors must know; "auto" makes one')
    ui.add_argument(
        "--allow-writes",
        action="store_true",
        help="change notes, tags, stages and more by click; in the audit log",
    )
    probes = command.verb(
        "serve-probes",
        _on_store(_serve_probes, starts=True),
        "serve /livez, /readyz and /metrics",
    )
    probes.add_argument("--host", default="127.0.0.1")
    probes.add_argument("--port", type=_port, default=0, help="default: any free one")


if __name__ == "__main__":
    sys.exit(main())
