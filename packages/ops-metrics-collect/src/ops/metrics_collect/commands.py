"""What the commands of the command line do; each returns what `--json` prints."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.instants import iso, now
from ops.metrics_collect import runs
from ops.metrics_collect.collectors import query_collector
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.ledger import Interval, Ledger, LedgerStorage
from ops.metrics_collect.outbox import Outbox
from ops.metrics_collect.places import is_dsn, opened_source, storage_of
from ops.metrics_collect.storage import StorageDirectory

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ops.metrics_collect.collectors import CollectorFactory
    from ops.metrics_collect.ledger import AnyLedger
    from ops.metrics_collect.reports import Report
    from ops.metrics_collect.rollups import Rollup
    from ops.metrics_collect.runs import RunResult

__all__ = ["backfill", "gather", "replay", "report", "rollup", "ship", "status"]


def gather(options: argparse.Namespace) -> dict[str, Any]:
    """Put what the ledger lacks into the outbox."""
    with _collecting(options) as (factories, config):
        plan = runs.planned(
            factories, _ledger(options), outbox=_outbox(options), **_window(options)
        )
        if options.dry_run:
            return {"would gather": _shown(plan), "failed": {}}
        result = runs.gather(
            factories,
            _ledger(options),
            outbox=_outbox(options),
            config=config,
            report=Progress(len(plan)),
            layout=_layout(options),
            **_window(options),
        )
    return {"gathered": result.gathered, "failed": result.failed}


def ship(options: argparse.Namespace) -> dict[str, Any]:
    """Send what waits in the outbox."""
    waiting = [p.name for p in _outbox(options).parcels("sending", "new")]
    if options.dry_run:
        return {"would ship": waiting, "failed": {}}
    result = runs.ship(
        storage_of(options.ship),
        _ledger(options),
        outbox=_outbox(options),
        report=Progress(len(waiting)),
    )
    return {"shipped": result.shipped, "failed": result.failed}


def backfill(options: argparse.Namespace) -> dict[str, Any]:
    """Gather and ship the gaps of a time that has passed, in one go."""
    with _collecting(options) as (factories, config):
        outbox, window = _outbox(options), _window(options)
        plan = runs.planned(factories, _ledger(options), outbox=outbox, **window)
        if options.dry_run:
            return {"would gather and ship": _shown(plan), "failed": {}}
        result: RunResult = runs.run(
            factories,
            storage_of(options.ship),
            _ledger(options),
            outbox=outbox,
            config=config,
            report=Progress(2 * len(plan) + len(outbox.parcels("sending", "new"))),
            layout=_layout(options),
            **window,
        )
    return {"gathered": result.gathered, "shipped": result.shipped, "failed": result.failed}


def replay(options: argparse.Namespace) -> dict[str, Any]:
    """Send the failed queue again."""
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
    if not pathlib.Path(options.state).is_dir():
        raise ParameterError(
            f"There is no folder {options.state!r}.",
            suggestions=("Give the --state that gather or backfill were given.",),
        )
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


def rollup(options: argparse.Namespace) -> dict[str, Any]:
    """Aggregate shipped rows into a file."""
    made = _made(options, options.dataframe)
    if options.dry_run:
        return {"would read": _tarballs(options)}
    writers = {".parquet": made.to_parquet, ".csv": made.to_csv, ".json": made.to_json}
    write = writers[_suffix(options, writers)]
    _fill(options, [made])
    write(options.output)
    rows = sum(table.num_rows for table in made.batches())
    if not rows:
        sys.stderr.write(f"There are no rows of {options.collection or options.dataframe!r}.\n")
    return {"written": options.output, "rows": rows}


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Write a report of shipped rows."""
    from ops.metrics_collect import reports
    from ops.metrics_collect.reports._xlsx import require_xlsx

    config = _config(options)
    kinds: dict[str, tuple[tuple[str, ...], Callable[..., Report]]] = {
        "ccsp": (("job_host_summary", "main_host", "main_jobevent"), reports.ReportCCSP),
        "ccspv2": (
            ("job_host_summary", "main_host", "main_jobevent", "data_collection_status"),
            reports.ReportCCSPv2,
        ),
        "renewal": (("host_metric", "main_host"), reports.ReportRenewalGuidance),
        "activity": (("activity",), lambda d, c: reports.ReportActivity(d["activity"], c)),
    }
    names, make = kinds[options.report]
    dataframes = {name: _made(options, name) for name in names}
    if options.dry_run:
        return {"would read": _tarballs(options)}
    _suffix(options, {".xlsx"})
    require_xlsx()  # before the work, not after it
    _fill(options, list(dataframes.values()))
    make(dataframes, config).save(options.output)
    return {"written": options.output}


class Progress:
    """Tells each step on standard error, with its number of how many; on a terminal in one line."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._in_place = sys.stderr.isatty()

    def __call__(self, line: str) -> None:
        """Tell a step."""
        self._done += 1
        text = f"[{self._done}/{max(self._total, self._done)}] {line}"
        if self._in_place and not line.startswith(("failed", "not sent")):
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
            sql = pathlib.Path(file).read_text("utf-8")
            query = query_collector(
                name,
                sql,
                primary_key=options.primary_key,
                version_column=options.version_column,
            )
            queries.append(query.bind(db=db))
        config = None
        if is_dsn(options.db) and (options.collect or not queries):
            from ops.metrics_collect.collectors import controller

            config = controller.config(db=db)
            known = [name for name in controller.__all__ if name != "config"]
            # The twins have the same rows by another time: shipping both counts nothing twice, and costs.
            usual = [name for name in known if not name.endswith("_service")]
            names = _list(options.collect) or usual
            if unknown := sorted(set(names) - set(known)):
                raise ParameterError(f"There are no collectors {unknown}; there are {known}.")
            queries += [getattr(controller, name).bind(db=db) for name in names]
        if not queries:
            raise ParameterError(
                "Nothing to collect: give --query (or --collect, from PostgreSQL)."
            )
        yield queries, config


def _layout(options: argparse.Namespace) -> str:
    """Return the layout of tarballs: what was asked for, else what the destination takes."""
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


def _made(options: argparse.Namespace, name: str) -> Rollup:
    from ops.metrics_collect import rollups

    if name == "activity":
        if not (options.collection and options.by):
            raise ParameterError("An activity needs --collection and --by.")
        return rollups.DataframeActivity(
            options.collection,
            by=_list(options.by),
            sums=_list(options.sum),
            time=options.time,
            row_id={"": ..., "none": None}.get(options.row_id, options.row_id),
        )
    kinds: Mapping[str, Callable[[], Rollup]] = {
        "job_host_summary": rollups.DataframeJobHostSummary,
        "main_host": rollups.DataframeMainHost,
        "main_jobevent": rollups.DataframeJobevent,
        "data_collection_status": rollups.DataframeDataCollectionStatus,
        "host_metric": rollups.DataframeHostMetric,
    }
    return kinds[name]()


def _list(text: str | None) -> list[str]:
    """Return the items of a list with commas, without the spaces around them."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def _fill(options: argparse.Namespace, made: Sequence[Rollup]) -> None:
    from ops.metrics_collect.extractor import Extractor

    storage, names = storage_of(options.ship), _tarballs(options)
    if not names:
        raise ParameterError(f"There are no tarballs at {options.ship!r}.")
    progress = Progress(len(names))
    for name in names:
        with contextlib.ExitStack() as stack:
            # A folder's files are read where they are.
            local = isinstance(storage, StorageDirectory)
            path = storage.base_path / name if local else stack.enter_context(storage.get(name))  # type: ignore[attr-defined]  # as local says
            extractor = Extractor([path], start=options.since, end=options.until)
            for each in made:
                each.add(extractor)
        progress(f"read      {name}")


def _suffix(options: argparse.Namespace, known: Collection[str]) -> str:
    suffix = pathlib.Path(options.output).suffix
    if suffix not in known:
        raise ParameterError(f"{options.output!r} has to end in {' or '.join(known)}.")
    return suffix


def _config(options: argparse.Namespace) -> dict[str, Any]:
    if not options.config:
        return {}
    text = pathlib.Path(options.config).read_text("utf-8")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ParameterError(f"{options.config!r} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise ParameterError(f"{options.config!r} holds no JSON object.")
    return config


def _tarballs(options: argparse.Namespace) -> list[str]:
    return storage_of(options.ship).glob("**/*.tar.gz")


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
