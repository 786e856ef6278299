"""What the commands of the command line do; each returns what `--json` prints."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.instants import iso, now
from ops.metrics_collect import pipeline, plugins
from ops.metrics_collect.collectors import query_collector
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.ledger import Interval, Ledger
from ops.metrics_collect.ledger_storage import LedgerStorage
from ops.metrics_collect.outbox import Outbox
from ops.metrics_collect.self_metrics import write_metrics
from ops.metrics_collect.uris import is_dsn, opened_source, opened_storage, storage_of
from ops.metrics_collect.workspaces import workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ops.metrics_collect.collectors import CollectorFactory
    from ops.metrics_collect.ledger import AnyLedger
    from ops.metrics_collect.pipeline import RunResult

__all__ = [
    "TIMES",
    "Progress",
    "backfill",
    "gather",
    "health",
    "listed",
    "measure",
    "prune",
    "replay",
    "ship",
    "status",
]


#: How a SQLite database, which has no type for them, may write times.
TIMES: dict[str, Callable[[dt.datetime], Any]] = {
    "iso": iso,
    "sql": lambda time: f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}",
    "seconds": lambda time: int(time.timestamp()),
    "milliseconds": lambda time: int(time.timestamp() * 1000),
}


def gather(options: argparse.Namespace) -> dict[str, Any]:
    """Put what the ledger lacks into the outbox."""
    with _collecting(options) as (factories, config):
        plan = _planned(options, factories)
        if options.dry_run:
            return {"would gather": _shown(plan), "failed": {}}
        result = pipeline.gather(
            factories,
            _ledger(options),
            outbox=_outbox(options),
            config=config,
            report=Progress(len(plan), options),
            layout=_layout(options),
            max_size=options.max_size,
            **_window(options),
        )
    return {"gathered": result.gathered, "failed": result.failed}


def ship(options: argparse.Namespace) -> dict[str, Any]:
    """Send what waits in the outbox; `ParameterError` when there is no such state."""
    _require_state(options)
    waiting = [p.name for p in _outbox(options).parcels("sending", "new")]
    if options.dry_run:
        return {"would ship": waiting, "failed": {}}
    with opened_storage(options.ship) as storage:
        result = pipeline.ship(
            storage,
            _ledger(options),
            outbox=_outbox(options),
            report=Progress(len(waiting), options),
        )
    return {"shipped": result.shipped, "failed": result.failed}


def backfill(options: argparse.Namespace) -> dict[str, Any]:
    """Gather and ship the gaps of a time that has passed, in one go."""
    with _collecting(options) as (factories, config):
        plan = _planned(options, factories)
        if options.dry_run:
            return {"would gather and ship": _shown(plan), "failed": {}}
        outbox = _outbox(options)
        with opened_storage(options.ship) as storage:
            result: RunResult = pipeline.run(
                factories,
                storage,
                _ledger(options),
                outbox=outbox,
                config=config,
                report=Progress(2 * len(plan) + len(outbox.parcels("sending", "new")), options),
                layout=_layout(options),
                max_size=options.max_size,
                **_window(options),
            )
    return {"gathered": result.gathered, "shipped": result.shipped, "failed": result.failed}


def replay(options: argparse.Namespace) -> dict[str, Any]:
    """Send the failed queue again; `ParameterError` when there is no such state."""
    _require_state(options)
    outbox = _outbox(options)
    failed = [p.name for p in outbox.parcels("failed")]
    if options.dry_run:
        return {"would ship": failed, "failed": {}}
    with outbox.lock():
        for parcel in outbox.parcels("failed"):  # another replay may have been faster
            outbox.requeue(parcel.name)
    return ship(options)


def status(options: argparse.Namespace) -> dict[str, Any]:
    """Show outbox, closed slices, gaps, failures and the failed queue.

    Raises `ParameterError` when there is no such state.
    """
    _require_state(options)
    ledger, outbox = _ledger(options), _outbox(options)
    failed = outbox.parcels("failed")
    named = {c for c, _, _ in ledger.failures()} | {str(p.meta["collector"]) for p in failed}
    closed = {c: ledger.closed(c) for c in sorted({*ledger.collectors(), *named})}
    gaps = {}
    for collector, done in closed.items():
        waiting = [p.interval for p in failed if p.meta["collector"] == collector]
        known = [*done, *waiting, *(i for c, i, _ in ledger.failures() if c == collector)]
        since = options.since or min(i.since for i in known)
        until = options.until or max(i.until for i in known)
        if since < until:
            gaps[collector] = ledger.gaps(collector, Interval(since, until))
    failures = [
        {"collector": c, "since": iso(i.since), "until": iso(i.until), "error": e}
        for c, i, e in ledger.failures()
    ]
    return {
        "outbox": outbox.counts(),
        "closed": {
            c: _pairs(done if options.json else _joined(done)) for c, done in closed.items()
        },
        "gaps": {c: _pairs(missing) for c, missing in gaps.items()},
        "failures": failures,
        "failed": {p.name: f"is in the failed queue: {p.error()}" for p in failed},
    }


def health(options: argparse.Namespace) -> dict[str, Any]:
    """Say whether collection works: nothing has failed, and what arrived last is not too old.

    Raises `ParameterError` when there is no such state.
    """
    _require_state(options)
    ledger, outbox = _ledger(options), _outbox(options)
    problems = {p.name: f"is in the failed queue: {p.error()}" for p in outbox.parcels("failed")}
    for collector, interval, error in ledger.failures():
        problems[f"{collector} since {iso(interval.since)}"] = f"was not gathered: {error}"
    oldest = now() - dt.timedelta(hours=options.max_age_hours)
    collectors = ledger.collectors()
    for collector in collectors:
        last = max(interval.until for interval in ledger.closed(collector))
        if last < oldest:
            problems[collector] = f"arrived last until {iso(last)}"
    if not collectors:
        problems["ledger"] = "nothing has arrived yet"
    return {"healthy": not problems, "failed": problems}


def prune(options: argparse.Namespace) -> dict[str, Any]:
    """Forget the keys that find late rows and late arrivals, of slices older than --keep-days."""
    _require_state(options)
    ledger, outbox = _ledger(options), _outbox(options)
    before = now() - dt.timedelta(days=options.keep_days)
    if options.dry_run:
        return {"would forget before": iso(before), "failed": {}}
    with outbox.lock():
        return {
            "parcels": outbox.prune(before),
            "slices without keys": ledger.forget_keys(before),
            "failed": {},
        }


def measure(options: argparse.Namespace) -> None:
    """Write the metrics of the collection to --metrics-file, if it was given."""
    if options.metrics_file is not None and _has_state(options):
        write_metrics(options.metrics_file, _ledger(options), _outbox(options))


class Progress:
    """Writes each step to standard error, with its number of how many; on a terminal in one line.

    With --quiet only what failed is written.
    """

    def __init__(self, total: int, options: argparse.Namespace) -> None:
        self._total = total
        self._done = 0
        self._quiet: bool = options.quiet
        self._in_place = sys.stderr.isatty()

    def __call__(self, line: str) -> None:
        """Write a step."""
        self._done += 1
        failed = line.startswith(("failed", "not sent"))
        if self._quiet and not failed:
            return
        text = f"[{self._done}/{max(self._total, self._done)}] {line}"
        if self._in_place and not failed:
            end = "\n" if self._done >= self._total else ""
            sys.stderr.write(f"\r\x1b[2K{text[:120]}{end}")
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


@contextlib.contextmanager
def _collecting(
    options: argparse.Namespace,
) -> Iterator[tuple[list[CollectorFactory], Any]]:
    """Give the collectors, bound to their source, and the configuration collector, if there is one."""
    with opened_source(options.db) as db:
        queries = []
        for name, file in options.query or ():
            sql = pathlib.Path(file).read_text("utf-8-sig")
            query = query_collector(
                name,
                sql,
                primary_key=options.primary_key,
                version_column=options.version_column,
                time_value=None if is_dsn(options.db) else TIMES[options.times],
            )
            queries.append(query.bind(db=db))
        config = None
        wanted, added = listed(options.collect), plugins.names("collectors")
        if is_dsn(options.db) and (wanted or not queries):
            from ops.metrics_collect.collectors import controller

            config = controller.config(db=db)
            known = [name for name in controller.__all__ if name != "config"]
            # The twins have the same rows by another time: shipping both counts nothing twice, and costs.
            usual = [name for name in known if not name.endswith("_service")]
            names = wanted or usual
            queries += [getattr(controller, name).bind(db=db) for name in names if name in known]
            added = [name for name in added if name not in known]
        else:
            known, names = [], wanted
        if unknown := sorted(set(names) - {*known, *added}):
            raise ParameterError(f"There are no collectors {unknown}; there are {known + added}.")
        for name in names:
            if name in added:
                factory: CollectorFactory = plugins.loaded("collectors", name)
                queries.append(factory.bind(db=db) if factory.takes_db else factory)
        if not queries:
            raise ParameterError(
                "Nothing to collect: give --query (or --collect, from PostgreSQL)."
            )
        yield queries, config


def _layout(options: argparse.Namespace) -> str:
    """Return the layout of tarballs: the requested one, else what the destination takes."""
    to_receiver = getattr(options, "ship", "").startswith(("crc:", "crc-mutual:"))
    return options.layout or ("controller" if to_receiver else "ops")


def _window(options: argparse.Namespace) -> dict[str, Any]:
    until = options.until or now()
    if options.since >= until:
        raise ParameterError(f"--since ({options.since}) must lie before --until ({until}).")
    return {
        "since": options.since,
        "until": until,
        "lag": dt.timedelta(hours=options.lag_hours),
        "lookback": dt.timedelta(days=options.lookback_days),
    }


def listed(text: str | None) -> list[str]:
    """Return the items of a list with commas, without the spaces around them."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def _planned(
    options: argparse.Namespace, factories: Sequence[CollectorFactory]
) -> list[tuple[str, Interval]]:
    """Return what would be gathered; a dry run makes no state where there is none."""
    if _has_state(options) or not options.dry_run:
        ledger, outbox = _ledger(options), _outbox(options)
        return pipeline.planned(factories, ledger, outbox=outbox, **_window(options))
    with workspace("metrics-dry-run-") as folder:
        made = argparse.Namespace(**{**vars(options), "state": str(folder)})
        return pipeline.planned(factories, _ledger(made), outbox=_outbox(made), **_window(options))


def _has_state(options: argparse.Namespace) -> bool:
    state = pathlib.Path(options.state)
    return (state / "outbox").is_dir() and bool(
        options.ledger or (state / "ledger.sqlite").is_file()
    )


def _require_state(options: argparse.Namespace) -> None:
    if not _has_state(options):
        raise ParameterError(
            f"There is no ledger with an outbox in {options.state!r}.",
            suggestions=("Give the --state and --ledger that gather or backfill were given.",),
        )


def _ledger(options: argparse.Namespace) -> AnyLedger:
    if options.ledger:
        return LedgerStorage(storage_of(options.ledger))
    return Ledger(pathlib.Path(options.state, "ledger.sqlite"))


def _outbox(options: argparse.Namespace) -> Outbox:
    return Outbox(pathlib.Path(options.state, "outbox"))


def _joined(intervals: Sequence[Interval]) -> list[Interval]:
    """Return sorted intervals with those made one that touch."""
    joined: list[Interval] = []
    for interval in intervals:
        if joined and interval.since <= joined[-1].until:
            last = joined.pop()
            joined.append(Interval(last.since, max(last.until, interval.until)))
        else:
            joined.append(interval)
    return joined


def _pairs(intervals: Sequence[Interval]) -> list[list[str]]:
    return [[iso(i.since), iso(i.until)] for i in intervals]


def _shown(plan: Sequence[tuple[str, Interval]]) -> list[list[str]]:
    return [[key, iso(piece.since), iso(piece.until)] for key, piece in plan]
