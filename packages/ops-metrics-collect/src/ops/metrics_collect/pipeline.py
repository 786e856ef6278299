"""A run: fill the gaps of the ledger, each row shipped exactly once whatever dies in between.

For each slice that is a gap: gather it into a parcel (`gather`); store its tarballs, each created
once under a name that only the slice decides; close the slice in the ledger; end the parcel (`ship`).
Why this is exactly once, by the step at which a crash happens:

- before the parcel is staged: nothing was sent, the slice is still a gap and gathered again;
- while it is sent: the parcel is sent again, byte for byte, and what has arrived is found to be equal;
- after the ledger closed: sending again finds everything there, and closing twice is one closing.

A slice that fails stays a gap. Rows that were committed late, into a slice that is closed, are found
by *lookback*: the slice is gathered again, rows whose primary keys have arrived are dropped, and the
rest travels as the next revision of the slice. A slice of which other keys have arrived, or none, since the
collector had another primary key then, is left alone: which of its rows are late is unknown.

A collector without an interval (what there is now) is gathered once a day, as that of today.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import sqlite3
from typing import TYPE_CHECKING, Any, Literal

from ops.foundation.instants import iso, now, require_aware, this_day
from ops.metrics_collect.delivery import KEYS, arrives
from ops.metrics_collect.errors import OutboxFull, ParameterError, ShipConflict
from ops.metrics_collect.late_rows import FreshCollector
from ops.metrics_collect.ledger import Interval, mark_of_keys, slices
from ops.metrics_collect.package import Package, compact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ops.metrics_collect.collectors import Collector, CollectorFactory
    from ops.metrics_collect.ledger import AnyLedger
    from ops.metrics_collect.outbox import Outbox
    from ops.metrics_collect.storage import Storage

__all__ = ["RunResult", "gather", "planned", "run", "ship"]

#: Rows that are committed up to a day late are found, for a second query of the slices of that day.
LOOKBACK = dt.timedelta(days=1)
#: The keys of slices are kept for twice the lookback, and at least for so long.
_KEPT = dt.timedelta(days=7)


@dataclasses.dataclass
class RunResult:
    """What a run did.

    *gathered* and *shipped* are names of parcels; *failed* is what went wrong, by slice or parcel.
    """

    gathered: list[str] = dataclasses.field(default_factory=list)
    shipped: list[str] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing went wrong."""
        return not self.failed


def run(
    collectors: Sequence[CollectorFactory],
    storage: Storage,
    ledger: AnyLedger,
    *,
    outbox: Outbox,
    since: dt.datetime,
    until: dt.datetime | None = None,
    config: Collector | Mapping[str, Any] | None = None,
    lag: dt.timedelta = dt.timedelta(0),
    lookback: dt.timedelta = LOOKBACK,
    report: Callable[[str], None] = lambda _: None,
    **package: Any,
) -> RunResult:
    """Ship what waits, gather the gaps of [since, until - lag) and ship them.

    *collectors* are factories to which everything but the interval is bound; those without an
    interval are gathered for today, once a day, whatever the window is. *storage* is where tarballs
    go, *ledger* knows which slices have arrived, *outbox* keeps those that wait. *since* and
    *until* (default: now) are aware; *lag* is how long rows may take to be committed. *lookback* is
    how far back closed slices are searched for rows committed late (of collectors with a primary
    key); each run queries these slices again, and the ledger forgets the keys of slices that are
    older than twice of it. Without it such rows are lost. *config* and *package*
    go to `Package` (*max_size*, *tarball_format*, *payload_format*, *uuid*, *layout*). *report* is
    called with a sentence about each step. Failures are in the result, not raised: the next run
    tries again.

    What of the window lies in the future is left to later runs: its rows are not there yet.
    Raises `ParameterError` for a negative *lag* or *lookback*.
    """
    window = _window(since, until, lag, lookback)
    with outbox.lock():
        result = RunResult()
        _ship(storage, ledger, outbox, result, report)
        _gather(collectors, ledger, outbox, window, config, lookback, result, report, package)
        _ship(storage, ledger, outbox, result, report)
        _name_failed(outbox, result)
        return result


def gather(
    collectors: Sequence[CollectorFactory],
    ledger: AnyLedger,
    *,
    outbox: Outbox,
    since: dt.datetime,
    until: dt.datetime | None = None,
    config: Collector | Mapping[str, Any] | None = None,
    lag: dt.timedelta = dt.timedelta(0),
    lookback: dt.timedelta = LOOKBACK,
    report: Callable[[str], None] = lambda _: None,
    **package: Any,
) -> RunResult:
    """Put the gaps of [since, until - lag) into the outbox, without sending anything.

    *collectors*, *ledger*, *outbox*, *since*, *until*, *config*, *lag*, *lookback*, *report* and
    *package* are those of `run`. Raises `ParameterError` for a negative *lag* or *lookback*.
    """
    window = _window(since, until, lag, lookback)
    with outbox.lock():
        result = RunResult()
        _gather(collectors, ledger, outbox, window, config, lookback, result, report, package)
        _name_failed(outbox, result)
        return result


def ship(
    storage: Storage,
    ledger: AnyLedger,
    *,
    outbox: Outbox,
    report: Callable[[str], None] = lambda _: None,
) -> RunResult:
    """Send what waits in *outbox* to *storage* and close its slices in *ledger*.

    *report* is called with a sentence about each parcel. Failures are in the result, not raised.
    """
    with outbox.lock():
        result = RunResult()
        _ship(storage, ledger, outbox, result, report)
        _name_failed(outbox, result)
        return result


def _name_failed(outbox: Outbox, result: RunResult) -> None:
    """Report what is in the failed queue, in this run and every later one: it never ships by itself."""
    for parcel in outbox.parcels("failed"):
        result.failed.setdefault(
            parcel.name, f"is in the failed queue ({parcel.error()}); replay sends it again"
        )


def planned(
    collectors: Sequence[CollectorFactory],
    ledger: AnyLedger,
    *,
    outbox: Outbox,
    since: dt.datetime,
    until: dt.datetime | None = None,
    lag: dt.timedelta = dt.timedelta(0),
    lookback: dt.timedelta = LOOKBACK,
) -> list[tuple[str, Interval]]:
    """Return what `gather` would gather now: keys of collectors and slices, closed ones by *lookback*.

    *collectors*, *ledger*, *outbox*, *since*, *until* and *lag* are those of `run`. Raises
    `ParameterError` for a negative *lag* or *lookback*, and for a collector that has its interval
    already.
    """
    window = _window(since, until, lag, lookback)
    return [
        (factory.key, piece)
        for factory, piece in _plan(collectors, ledger, outbox, window, lookback)
    ]


def _window(
    since: dt.datetime, until: dt.datetime | None, lag: dt.timedelta, lookback: dt.timedelta
) -> Interval:
    """Return [since, until - lag), of what has passed, in UTC."""
    if min(lag, lookback) < dt.timedelta(0):
        raise ParameterError(f"lag ({lag}) and lookback ({lookback}) must not be negative.")
    # A slice of the future would be closed before its rows are there, and they would never be shipped.
    end = min(require_aware(until), now()) if until else now()
    return Interval(require_aware(since), end - lag)


def _plan(
    collectors: Sequence[CollectorFactory],
    ledger: AnyLedger,
    outbox: Outbox,
    window: Interval,
    lookback: dt.timedelta,
) -> Iterator[tuple[CollectorFactory, Interval]]:
    _require_factories(collectors)
    for factory in collectors:
        waiting = {
            p.interval
            for p in outbox.parcels("new", "sending", "failed")
            if p.meta["collector"] == factory.key
        }
        for piece in _pieces(factory, ledger, window, lookback):
            # What waits will close the slice (or overlaps one that will): never gather it twice.
            if not any(piece.since < w.until and w.since < piece.until for w in waiting):
                yield factory, piece


def _require_factories(collectors: Sequence[CollectorFactory]) -> None:
    keys = set()
    for factory in collectors:
        if not hasattr(factory, "has_interval"):
            raise ParameterError(
                f"{factory!r} has all its parameters; a run gives the interval.",
                suggestions=("Pass the factory, or factory.bind(db=...).",),
            )
        if factory.key in keys:
            raise ParameterError(
                f"Two collectors have the key {factory.key!r}; rename one of them."
            )
        keys.add(factory.key)


def _gather(
    collectors: Sequence[CollectorFactory],
    ledger: AnyLedger,
    outbox: Outbox,
    window: Interval,
    config: Collector | Mapping[str, Any] | None,
    lookback: dt.timedelta,
    result: RunResult,
    report: Callable[[str], None],
    package: Mapping[str, Any],
) -> None:
    # Installations that ship to one storage must never meet under one name.
    origin = ledger.origin
    failed = {(key, piece) for key, piece, _ in ledger.failures()}
    for factory, piece in _plan(collectors, ledger, outbox, window, lookback):
        name = _parcel_name(factory, piece, ledger, origin)
        try:
            outcome = _stage(factory, piece, name, ledger, outbox, config, package)
        except (_CollectionFailed, OutboxFull, OSError) as error:
            # The disk may be full for the ledger, too.
            with contextlib.suppress(OSError, sqlite3.Error):
                ledger.record_failure(factory.key, piece, str(error))
            result.failed[name] = str(error)
            report(f"failed    {name}: {error}")
        else:
            if outcome == "gathered":
                result.gathered.append(name)
            elif (factory.key, piece) in failed:
                # Nothing will be shipped, so nothing else would forget that it failed.
                ledger.close(factory.key, piece, ledger.next_revision(factory.key, piece) - 1)
            report(f"{outcome:9} {name}")
    # To have more of them than needed does no harm, and the disk may be full.
    with contextlib.suppress(OSError, sqlite3.Error):
        for factory in collectors:
            ledger.keep_keys(factory.key, max(2 * lookback, _KEPT))


def _pieces(
    factory: CollectorFactory, ledger: AnyLedger, window: Interval, lookback: dt.timedelta
) -> list[Interval]:
    if not factory.has_interval:
        # What there is now cannot be had for other days, whichever the window is: it is today's.
        today = Interval(this_day(), this_day() + dt.timedelta(days=1))
        return ledger.gaps(factory.key, today) and [today]
    pieces = [
        piece for gap in ledger.gaps(factory.key, window) for piece in slices(gap, factory.every)
    ]
    if lookback and factory.primary_key:
        horizon = window.until - lookback
        pieces += [
            done
            for done in ledger.closed(factory.key)
            if done.until > horizon and done.since < window.until
        ]
    return pieces


def _parcel_name(factory: CollectorFactory, piece: Interval, ledger: AnyLedger, origin: str) -> str:
    revision = ledger.next_revision(factory.key, piece)
    name = f"{origin}-{compact(piece.since)}-{compact(piece.until)}-{factory.key}"
    return f"{name}-r{revision}" if revision else name


class _CollectionFailed(Exception):  # noqa: N818 - carries a message, never leaves this module
    pass


class _NothingLate(Exception):  # noqa: N818 - unwinds the staging, never leaves this module
    pass


def _stage(
    factory: CollectorFactory,
    piece: Interval,
    name: str,
    ledger: AnyLedger,
    outbox: Outbox,
    config: Collector | Mapping[str, Any] | None,
    package: Mapping[str, Any],
) -> Literal["gathered", "unchanged", "skipped", "closed"]:
    """Gather a slice into a new parcel, unless a closed slice has no late rows, or none that can be known."""
    revision = ledger.next_revision(factory.key, piece)
    there = outbox.find(name)
    if there is not None and there.state == "done":
        # The ledger is older than the outbox, as after a restore. It has arrived; its keys are gone.
        ledger.close(factory.key, piece, revision, [mark_of_keys(None)])
        return "closed"
    interval = {"since": piece.since, "until": piece.until} if factory.has_interval else {}
    collector: Any = factory(**interval)
    meta = {
        "collector": factory.key,
        "since": iso(piece.since),
        "until": iso(piece.until),
        "revision": revision,
        "version": collector.version,
        "version_column": collector.version_column,
        "layout": package.get("layout", "ops"),
    }
    mark = mark_of_keys(factory.primary_key)
    known = ledger.keys(factory.key, piece) if revision else set()
    if any(key.startswith("{") and key != mark for key in known):
        return "skipped"
    try:
        with outbox.stage(name, meta) as folder:
            fresh = None
            (folder / KEYS).write_text(mark + "\n", encoding="utf-8")
            if factory.primary_key and factory.has_interval:
                fresh = FreshCollector(collector, factory.primary_key, known, folder / KEYS)
                collector = fresh
            parcel = Package(
                [collector],
                config,
                **{
                    "tarball_format": name + "-{index:06}.tar.gz",
                    "uuid": ledger.origin,
                    **package,
                },
                directory=folder,
                keep=True,
            )
            for _ in parcel:
                pass
            _require_success(parcel)
            if revision and fresh is not None:
                _require_late_rows(fresh)
    except _NothingLate:
        return "unchanged"
    return "gathered"


def _require_late_rows(fresh: FreshCollector) -> None:
    if not fresh.fresh_rows:
        raise _NothingLate


def _require_success(parcel: Package) -> None:
    failed = [s for s in parcel.statuses if s.status == "failed"]
    if failed:
        raise _CollectionFailed("; ".join(f"{s.collector}: {s.error}" for s in failed))


def _ship(
    storage: Storage,
    ledger: AnyLedger,
    outbox: Outbox,
    result: RunResult,
    report: Callable[[str], None],
) -> None:
    overtaken = False
    for parcel in outbox.send():
        try:
            if arrives(storage, ledger, outbox, parcel):
                outbox.done(parcel)
            else:
                overtaken = True
        except Exception as error:  # noqa: BLE001 - any storage or ledger, any failure: the parcel waits
            message = f"{type(error).__name__}: {error}"
            outbox.fail(parcel, message, final=isinstance(error, ShipConflict))
            result.failed[parcel.name] = message
            report(f"not sent  {parcel.name}: {message}")
            continue
        result.shipped.append(parcel.name)
        report(f"shipped   {parcel.name}")
    if overtaken:  # what is left of those is new in the outbox
        _ship(storage, ledger, outbox, result, report)
