"""The command line: gather, ship, backfill, replay, rollup, report, status, health and prune.

Results go to standard output, progress goes to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import math
import os
import signal
import sqlite3
import sys
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.command_line import CommandLine, print_json
from ops.foundation.instants import require_aware
from ops.metrics_collect import commands, plugins, report_commands
from ops.metrics_collect.errors import MetricsError, ParameterError
from ops.metrics_collect.package import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["main"]

_EXAMPLES = (
    "ops-metrics-collect gather --db app.db --query runs=runs.sql --primary-key id --since 2026-10-01",
    "ops-metrics-collect ship --ship /mnt/usage",
    "ops-metrics-collect backfill --db postgresql://reader@controller/awx --since 2026-10-01 --ship s3://usage/prod",
    "ops-metrics-collect rollup --ship /mnt/usage --collection runs --by name --sum seconds -o runs.parquet",
    "ops-metrics-collect report --report ccsp --ship s3://usage/prod --config company.json -o ccsp.xlsx",
    "ops-metrics-collect status --since 2026-10-01 --json",
    "ops-metrics-collect health --max-age-hours 30 --quiet",
    "ops-metrics-collect prune --keep-days 35",
)
_DESCRIPTION = """Collect, ship, roll up and report usage data.

Destinations: a folder, s3://bucket/prefix, postgres:table; for ship also crc:, crc-mutual: and segment:.
Their settings and secrets are read from OPS_METRICS_* environment variables. With --quiet nothing is
printed while nothing fails, as for cron."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return _command_line()(arguments)


def _shown_result(
    run: Callable[[argparse.Namespace], dict[str, Any]],
) -> Callable[[argparse.Namespace], int]:
    """Return what runs *run* and prints its result; 1 when something failed, which the next run tries again."""

    def call(options: argparse.Namespace) -> int:
        try:
            _require_order(options)
            with _unwound_by_sigterm():
                try:
                    result = run(options)
                finally:
                    if hasattr(options, "metrics_file"):
                        commands.measure(options)
        except Exception as error:
            # psycopg's errors, which cannot be named without loading it.
            if type(error).__module__.startswith("psycopg"):
                raise MetricsError(str(error)) from error
            raise
        failed = result.get("failed")
        if options.json:
            print_json(result)
        elif failed or not options.quiet:
            print("\n".join(line for key, value in result.items() for line in _lines(key, value)))
        return 1 if failed else 0

    return call


def _require_order(options: argparse.Namespace) -> None:
    since, until = (getattr(options, name, None) for name in ("since", "until"))
    if since is not None and until is not None and since >= until:
        raise ParameterError(f"--since ({since}) must lie before --until ({until}).")


@contextlib.contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl-C does: blocks are left, and nothing stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _lines(key: str, value: Any, indent: str = "") -> Iterator[str]:
    """Yield a result as lines for people: a count, then one line for each."""
    if isinstance(value, list):
        yield f"{indent}{key}: {len(value) or 'none'}"
        yield from (f"{indent}  {_shown(item)}" for item in value)
    elif isinstance(value, dict) and value and not all(isinstance(v, int) for v in value.values()):
        yield f"{indent}{key}:"
        for name, inner in value.items():
            yield from _lines(name, inner, indent + "  ")
    else:
        yield f"{indent}{key}: {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items()) or "none"
    return "  ".join(map(str, value)) if isinstance(value, list) else str(value)


def _time(text: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no timestamp; write 2026-10-01, or 2026-10-01T12:00+02:00"
        ) from None
    return require_aware(time if time.tzinfo else time.replace(tzinfo=dt.UTC))


def _amount(text: str, most: int = 36_525) -> float:  # a century of days
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {most}")
    return amount


def _hours(text: str) -> float:
    return _amount(text, 24 * 36_525)


def _query(text: str) -> tuple[str, str]:
    return _pair(text, "NAME=FILE.sql")


def _stored(text: str) -> tuple[str, str]:
    return _pair(text, "NAME=FILE.parquet")


def _pair(text: str, form: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not {form}")
    return name, file


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ParameterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _command_line() -> CommandLine:
    made = CommandLine(
        "ops-metrics-collect",
        _DESCRIPTION,
        examples=_EXAMPLES,
        failures=(ValueError, OverflowError, sqlite3.Error),
        misuses=(ParameterError,),
    )

    def command(name: str, summary: str, module: Any = commands) -> argparse.ArgumentParser:
        return made.verb(name, _shown_result(getattr(module, name)), summary)

    gather = command("gather", "put what the ledger lacks into the outbox")
    backfill = command("backfill", "gather and ship what the ledger lacks, in one go")
    for each in (gather, backfill):
        _add_source(each)
    ship = command("ship", "send the outbox")
    replay = command("replay", "send the failed queue again")
    rollup = command(
        "rollup", "aggregate shipped rows into .parquet, .csv or .json", report_commands
    )
    rollup.add_argument(
        "--dataframe", choices=(*_DATAFRAMES, *plugins.names("rollups")), default="activity"
    )
    report = command(
        "report", "write an XLSX report of shipped rows or stored rollups", report_commands
    )
    report.add_argument(
        "--report", choices=("activity", "ccsp", "ccspv2", "renewal"), default="activity"
    )
    report.add_argument("--config", metavar="FILE.json", help="company, sku, price and so on")
    report.add_argument(
        "--stored",
        action="append",
        type=_stored,
        metavar="NAME=FILE.parquet",
        help="take a dataframe from what `rollup --dataframe NAME` wrote, not from tarballs; may be "
        "given again",
    )
    for each in (rollup, report):
        _add_reading(each)
    for each in (backfill, ship, replay, rollup, report):
        each.add_argument(
            "--ship", required=each is not report, metavar="DESTINATION", help="the destination"
        )
    status = command("status", "show outbox, closed slices, gaps and failures")
    _add_interval(status)
    health = command("health", "exit with 1 when something has failed or has not arrived for long")
    health.add_argument(
        "--max-age-hours",
        type=_hours,
        default=48,
        help="how old the end of the last slice of each collector may be (default: 48)",
    )
    prune = command("prune", "forget primary keys and parcels of slices that arrived long ago")
    prune.add_argument(
        "--keep-days",
        type=_amount,
        default=35,
        help="of younger ones nothing is forgotten (default: 35); not below --lookback-days",
    )
    for each in (gather, backfill, ship, replay, status, health, prune):
        each.add_argument(
            "--metrics-file",
            metavar="FILE.prom",
            help="write metrics of the collection for Prometheus' textfile collector",
        )
    for each in made.parsers.values():
        _add_common(each)
    return made


_DATAFRAMES = (
    "activity",
    "job_host_summary",
    "main_host",
    "main_jobevent",
    "data_collection_status",
    "host_metric",
)


def _add_source(parser: argparse.ArgumentParser) -> None:
    # Environment OPS_METRICS_DB: the SQLite file, or DSN of PostgreSQL, that commands read where
    # `--db` is not given.
    source = os.environ.get("OPS_METRICS_DB")
    parser.add_argument(
        "--db",
        required=source is None,
        default=source,
        help="SQLite file, or DSN of PostgreSQL, to read (default: OPS_METRICS_DB, which other users "
        "of the machine cannot see)",
    )
    parser.add_argument(
        "--query",
        action="append",
        type=_query,
        metavar="NAME=FILE.sql",
        help="collect the rows of a query, which names :since and :until; may be given again",
    )
    parser.add_argument(
        "--collect",
        metavar="NAME,…",
        help="controller collectors (default, from PostgreSQL: all but _service) and those of plug-ins",
    )
    parser.add_argument(
        "--primary-key",
        metavar="COLUMN",
        help="column that identifies a row of the queries; of several, select one text: "
        "a || '-' || b as key",
    )
    parser.add_argument(
        "--times",
        choices=tuple(commands.TIMES),
        default="iso",
        help="how a SQLite database writes times, for :since and :until: iso "
        "2026-10-01T00:00:00+00:00, sql 2026-10-01 00:00:00 (as CURRENT_TIMESTAMP does), or numbers "
        "since 1970 (default: iso)",
    )
    parser.add_argument(
        "--version-column",
        metavar="COLUMN",
        help="column that orders versions of a row (default: the later slice)",
    )
    parser.add_argument(
        "--layout",
        choices=("ops", "controller"),
        help="of the tarballs (default: controller for crc: and crc-mutual:, else ops)",
    )
    parser.add_argument(
        "--max-size",
        type=_size,
        default="200M",
        metavar="SIZE",
        help="of a tarball (default: 200M)",
    )
    parser.add_argument("--lag-hours", type=_amount, default=0, help="leave out the newest hours")
    parser.add_argument(
        "--lookback-days",
        type=_amount,
        default=1,
        help="search slices that arrived and ended in these days for rows committed late, which "
        "queries these days again in each run (default: 1; 0 loses such rows)",
    )
    _add_interval(parser, required=True)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--collection", help="for an activity: what to read")
    parser.add_argument("--by", metavar="COLUMN,…", help="for an activity: one row for each")
    parser.add_argument("--sum", default="", metavar="COLUMN,…", help="for an activity: add up")
    parser.add_argument(
        "--time", metavar="COLUMN", help="for an activity: times, for first and last"
    )
    parser.add_argument(
        "--row-id",
        default="",
        metavar="COLUMN",
        help="for an activity: column that identifies a row, or none (default: the --primary-key "
        "that the rows were gathered with)",
    )
    parser.add_argument(
        "--keep",
        choices=("latest", "all"),
        default="latest",
        help="for an activity: of a row that was shipped several times the latest version counts, or "
        "all of them do (default: latest)",
    )
    parser.add_argument(
        "--order-by",
        metavar="COLUMN",
        help="for an activity: which version of a row is the latest (default: the --version-column "
        "that the rows were gathered with, else the slice)",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    _add_interval(parser)


def _add_interval(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    parser.add_argument(
        "--since",
        type=_time,
        required=required,
        metavar="TIME",
        help="ISO 8601; without offset, UTC",
    )
    default = "now" if required else "all there is"
    parser.add_argument(
        "--until", type=_time, metavar="TIME", help=f"not included (default: {default})"
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", default="ops-metrics-state", help="folder of ledger and outbox")
    parser.add_argument("--ledger", metavar="LOCATION", help="keep the ledger there instead")
    parser.add_argument("--dry-run", action="store_true", help="only report what would be done")


if __name__ == "__main__":
    sys.exit(main())
