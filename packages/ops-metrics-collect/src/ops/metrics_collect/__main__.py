"""The command line: gather, ship, rollup, report and status over SQLite sources and folders.

Results go to standard output, as JSON with `--json`; progress goes to standard error. The exit code
is 0, 1 when something failed (the next run tries it again) and 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import pathlib
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.foundation.instants import iso, require_aware
from ops.metrics_collect import runs
from ops.metrics_collect.collectors import query_collector
from ops.metrics_collect.ledger import Ledger
from ops.metrics_collect.outbox import Outbox
from ops.metrics_collect.storage import StorageDirectory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.metrics_collect.rollups import DataframeActivity

__all__ = ["main"]

_EXAMPLES = """\
examples:
  ops-metrics-collect gather --db app.db --query runs=runs.sql --primary-key id --since 2026-10-01
  ops-metrics-collect ship --ship /mnt/usage
  ops-metrics-collect rollup --ship /mnt/usage --collection runs --by name --sum seconds -o runs.parquet
  ops-metrics-collect report --ship /mnt/usage --collection runs --by name -o runs.xlsx
  ops-metrics-collect status --json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        result = options.command(options)
    except (OpsError, OSError, sqlite3.Error) as error:
        print(f"ops-metrics-collect: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for key, value in result.items():
            print(f"{key}: {json.dumps(value)}")
    return 1 if result.get("failed") else 0


def _gather(options: argparse.Namespace) -> dict[str, Any]:
    collectors = []
    with contextlib.closing(_read_only(options.db)) as db:
        for query in options.query:
            name, _, file = query.partition("=")
            sql = pathlib.Path(file).read_text("utf-8")
            collectors.append(
                query_collector(name, sql, primary_key=options.primary_key).bind(db=db)
            )
        result = runs.gather(
            collectors,
            _ledger(options),
            outbox=_outbox(options),
            since=options.since,
            until=options.until,
            lag=dt.timedelta(hours=options.lag_hours),
            lookback=dt.timedelta(days=options.lookback_days),
            report=_progress,
        )
    return {"gathered": result.gathered, "failed": result.failed}


def _ship(options: argparse.Namespace) -> dict[str, Any]:
    storage = StorageDirectory(options.ship)
    result = runs.ship(storage, _ledger(options), outbox=_outbox(options), report=_progress)
    return {"shipped": result.shipped, "failed": result.failed}


def _rollup(options: argparse.Namespace) -> dict[str, Any]:
    rollup = _activity(options)
    write = {".csv": rollup.to_csv, ".json": rollup.to_json}.get(
        pathlib.Path(options.output).suffix, rollup.to_parquet
    )
    write(options.output)
    return {"written": options.output, "rows": rollup.group().num_rows}


def _report(options: argparse.Namespace) -> dict[str, Any]:
    from ops.metrics_collect.reports import ReportActivity

    ReportActivity(_activity(options)).save(options.output)
    return {"written": options.output}


def _activity(options: argparse.Namespace) -> DataframeActivity:
    from ops.metrics_collect.extractor import Extractor
    from ops.metrics_collect.rollups import DataframeActivity

    storage = StorageDirectory(options.ship)
    files = [storage.base_path / name for name in storage.glob("**/*.tar.gz")]
    _progress(f"reading   {len(files)} tarballs")
    rollup = DataframeActivity(
        options.collection,
        by=options.by.split(","),
        sums=options.sum.split(",") if options.sum else (),
        time=options.time,
    )
    rollup.add(Extractor(files, {options.collection}, options.since, options.until))
    return rollup


def _status(options: argparse.Namespace) -> dict[str, Any]:
    ledger = _ledger(options)
    failures = [
        {"collector": c, "since": iso(i.since), "until": iso(i.until), "error": e}
        for c, i, e in ledger.failures()
    ]
    closed = {
        c: [[iso(i.since), iso(i.until)] for i in ledger.closed(c)] for c in ledger.collectors()
    }
    return {"outbox": _outbox(options).counts(), "closed": closed, "failures": failures}


def _read_only(path: str) -> sqlite3.Connection:
    # The source belongs to somebody else, and a wrong name must not create a file.
    uri = pathlib.Path(path).absolute().as_uri()
    return sqlite3.connect(f"{uri}?mode=ro", uri=True)


def _ledger(options: argparse.Namespace) -> Ledger:
    return Ledger(pathlib.Path(options.state, "ledger.sqlite"))


def _outbox(options: argparse.Namespace) -> Outbox:
    return Outbox(pathlib.Path(options.state, "outbox"))


def _progress(line: str) -> None:
    print(line, file=sys.stderr)


def _moment(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text)
    return require_aware(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ops-metrics-collect",
        description="Collect, ship, roll up and report usage data.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    gather = commands.add_parser("gather", help="put what the ledger lacks into the outbox")
    gather.add_argument("--db", required=True, help="SQLite database to read")
    gather.add_argument("--query", action="append", required=True, metavar="NAME=FILE.sql")
    gather.add_argument("--primary-key", help="column that identifies a row")
    gather.add_argument(
        "--since", type=_moment, required=True, help="ISO 8601; without offset, UTC"
    )
    gather.add_argument("--until", type=_moment, help="default: now")
    gather.add_argument("--lag-hours", type=float, default=0, help="leave out the newest hours")
    gather.add_argument("--lookback-days", type=float, default=0, help="search for late rows")
    gather.set_defaults(command=_gather)

    ship = commands.add_parser("ship", help="send the outbox")
    ship.add_argument("--ship", required=True, metavar="DIR")
    ship.set_defaults(command=_ship)

    for name, command, what in (
        ("rollup", _rollup, "aggregate shipped rows into .parquet, .csv or .json"),
        ("report", _report, "write an XLSX report of shipped rows"),
    ):
        reader = commands.add_parser(name, help=what)
        reader.add_argument("--ship", required=True, metavar="DIR")
        reader.add_argument("--collection", required=True)
        reader.add_argument("--by", required=True, metavar="COLUMN,…")
        reader.add_argument("--sum", default="", metavar="COLUMN,…")
        reader.add_argument("--time", help="column of moments, for first and last")
        reader.add_argument("--since", type=_moment)
        reader.add_argument("--until", type=_moment)
        reader.add_argument("-o", "--output", required=True)
        reader.set_defaults(command=command)

    commands.add_parser("status", help="show ledger and outbox").set_defaults(command=_status)
    for each in commands.choices.values():
        each.add_argument(
            "--state", default="ops-metrics-state", help="folder of ledger and outbox"
        )
        each.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
