"""Ledger: which intervals of which collector have arrived, and which rows were in them.

A slice [since, until) of a collector is *closed* in the same transaction that records the primary
keys of its rows, after everything in it has been stored. What is not closed is a gap, whatever the
reason, and a run fills exactly the gaps. Closing twice is one closing: slices have a revision, and
the first closing of a revision counts.

`Ledger` is a SQLite file with synchronous=FULL; `LedgerStorage` (see `ledger_storage`) lives in a storage.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import datetime as dt
import json
import pathlib
import sqlite3
from typing import TYPE_CHECKING

from ops.foundation.ids import generate_short_id
from ops.foundation.instants import iso, now, require_aware, this_day
from ops.metrics_collect.errors import StateError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

__all__ = [
    "FORMAT",
    "AnyLedger",
    "Interval",
    "Ledger",
    "daily_slices",
    "ended",
    "mark_of_keys",
    "slices",
]

FORMAT = 1
_SCHEMA = f"""
create table origin (id text not null) strict;
create table closed (
    collector text not null, since text not null, until text not null, revision integer not null,
    closed_at text not null, primary key (collector, since, until, revision)) strict;
create table keys (
    collector text not null, since text not null, until text not null, key text not null,
    primary key (collector, since, until, key)) strict, without rowid;
create table failures (
    collector text not null, since text not null, until text not null, error text not null,
    failed_at text not null, primary key (collector, since, until)) strict;
pragma user_version = {FORMAT};
"""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Interval:
    """Times from *since* up to, not including, *until*."""

    since: dt.datetime
    until: dt.datetime


class AnyLedger(abc.ABC):
    """What every ledger can do."""

    @property
    @abc.abstractmethod
    def origin(self) -> str:
        """A random name of this ledger, kept for ever: identifies its parcels."""

    @abc.abstractmethod
    def close(
        self, collector: str, interval: Interval, revision: int = 0, keys: Iterable[str] = ()
    ) -> None:
        """Record that a slice, or a later revision of it, has arrived with rows of these keys.

        *collector* is the key of the collector, *interval* the slice, *revision* 0 or the number of
        a later delivery of late rows. *keys* are the primary keys of the rows; they are read once.
        """

    @abc.abstractmethod
    def record_failure(self, collector: str, interval: Interval, error: str) -> None:
        """Remember why a slice is still a gap, or was not searched for late rows.

        *collector* is the key of the collector, *interval* the slice, *error* the sentence to show.
        What closes the last gap in it, or closes it again, forgets this.
        """

    @abc.abstractmethod
    def failures(self) -> list[tuple[str, Interval, str]]:
        """Return (collector, slice, error) of the slices whose last attempt failed."""

    @abc.abstractmethod
    def closed(self, collector: str) -> list[Interval]:
        """Return the closed slices as they were closed, in order."""

    @abc.abstractmethod
    def collectors(self) -> list[str]:
        """Return the keys of the collectors that have closed slices."""

    @abc.abstractmethod
    def next_revision(self, collector: str, interval: Interval) -> int:
        """Return the revision that the next shipment of this slice has; 0 is the first."""

    @abc.abstractmethod
    def keys(self, collector: str, interval: Interval) -> set[str]:
        """Return the primary keys of the rows that arrived with this slice."""

    @abc.abstractmethod
    def forget_keys(self, before: dt.datetime) -> int:
        """Drop the keys of slices that ended before a time, and return of how many slices.

        No late row of these slices is found any more; they stay closed.
        """

    def keep_keys(self, collector: str, kept: dt.timedelta) -> None:  # noqa: B027 - may do nothing
        """Drop the keys of slices that ended *kept* before the last one of *collector*.

        A run does this for what it looks back to, so that a ledger does not grow with time. One whose
        keys cost nothing until they are needed may leave that to `forget_keys`.
        """

    def gaps(self, collector: str, interval: Interval) -> list[Interval]:
        """Return what of *interval* is not closed, as few intervals as possible, in order."""
        gaps, start = [], require_aware(interval.since)
        end = require_aware(interval.until)
        for done in self.closed(collector):
            if done.since > start:
                gaps.append(Interval(start, min(done.since, end)))
            start = max(start, done.until)
            if start >= end:
                break
        if start < end:
            gaps.append(Interval(start, end))
        return [gap for gap in gaps if gap.since < gap.until]


class Ledger(AnyLedger):
    """The ledger in the file *path* (SQLite); any number of processes may use it at once.

    Raises `StateError` for a file that is no ledger, or one of a newer format.

    >>> import datetime as dt, pathlib, tempfile
    >>> from ops.metrics_collect import Interval
    >>> ledger = Ledger(pathlib.Path(tempfile.mkdtemp(), "ledger.sqlite"))
    >>> day = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
    >>> ledger.close("runs", Interval(day, day + dt.timedelta(days=1)))
    >>> [slice_.since.isoformat() for slice_ in ledger.closed("runs")]
    ['2026-10-01T00:00:00+00:00']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: pathlib.Path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._make()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # busy, read-only, a full disk
                raise
            raise StateError(
                f"{str(self.path)!r} is no ledger: {error}.",
                suggestions=("Restore it from a backup: a new ledger ships everything again.",),
            ) from error

    def _make(self) -> None:
        with self._transaction() as db:
            version = db.execute("pragma user_version").fetchone()[0]
            if version == 0:
                # One transaction, so a crash leaves no half of a schema.
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    db.execute(statement)
                db.execute("insert into origin values (?)", (generate_short_id(),))
            elif version != FORMAT:
                raise StateError(
                    f"{str(self.path)!r} has ledger format {version}, this program knows {FORMAT}.",
                    suggestions=("Update ops-metrics-collect.",),
                )

    @property
    def origin(self) -> str:
        """A random name of this ledger, kept for ever: identifies its parcels."""
        with self._transaction() as db:
            return str(db.execute("select id from origin").fetchone()[0])

    def close(
        self, collector: str, interval: Interval, revision: int = 0, keys: Iterable[str] = ()
    ) -> None:
        """Record that a slice, or a later revision of it, has arrived with rows of these keys."""
        row = (collector, iso(interval.since), iso(interval.until))
        with self._transaction() as db:
            closing = db.execute(
                "insert or ignore into closed values (?, ?, ?, ?, ?)", (*row, revision, iso(now()))
            )
            if closing.rowcount:  # the first closing counts
                db.executemany(
                    "insert or ignore into keys values (?, ?, ?, ?)", ((*row, key) for key in keys)
                )
        failed = [slice_ for key, slice_, _ in self.failures() if key == collector]
        for over in ended(self, collector, interval, failed):
            row = (collector, iso(over.since), iso(over.until))
            with self._transaction() as db:
                db.execute("delete from failures where (collector, since, until) = (?, ?, ?)", row)

    def record_failure(self, collector: str, interval: Interval, error: str) -> None:
        """Remember why a slice is still a gap, or was not searched for late rows."""
        row = (collector, iso(interval.since), iso(interval.until), error, iso(now()))
        with self._transaction() as db:
            db.execute("insert or replace into failures values (?, ?, ?, ?, ?)", row)

    def failures(self) -> list[tuple[str, Interval, str]]:
        """Return (collector, slice, error) of the slices whose last attempt failed."""
        with self._transaction() as db:
            rows = db.execute("select collector, since, until, error from failures order by 1, 2")
            return [(c, _interval(s, u), e) for c, s, u, e in rows]

    def closed(self, collector: str) -> list[Interval]:
        """Return the closed slices as they were closed, in order."""
        with self._transaction() as db:
            rows = db.execute(
                "select distinct since, until from closed where collector = ?", (collector,)
            )
            return sorted(_interval(since, until) for since, until in rows)

    def collectors(self) -> list[str]:
        """Return the keys of the collectors that have closed slices."""
        with self._transaction() as db:
            return [r[0] for r in db.execute("select distinct collector from closed order by 1")]

    def next_revision(self, collector: str, interval: Interval) -> int:
        """Return the revision that the next shipment of this slice has; 0 is the first."""
        row = (collector, iso(interval.since), iso(interval.until))
        with self._transaction() as db:
            query = "select count(*) from closed where (collector, since, until) = (?, ?, ?)"
            return int(db.execute(query, row).fetchone()[0])

    def keys(self, collector: str, interval: Interval) -> set[str]:
        """Return the primary keys of the rows that arrived with this slice."""
        row = (collector, iso(interval.since), iso(interval.until))
        with self._transaction() as db:
            query = "select key from keys where (collector, since, until) = (?, ?, ?)"
            return {r[0] for r in db.execute(query, row)}

    def keep_keys(self, collector: str, kept: dt.timedelta) -> None:
        """Drop the keys of slices that ended *kept* before the last one of *collector*."""
        # Without a vacuum: the next keys take the space.
        if done := self.closed(collector):
            self._forget(max(slice_.until for slice_ in done) - kept, collector)

    def forget_keys(self, before: dt.datetime) -> int:
        """Drop the keys of slices that ended before a time, and return of how many slices."""
        slices_ = self._forget(before, "%")
        if slices_:
            # Else the file stays as large as it was.
            with (
                contextlib.suppress(sqlite3.OperationalError),  # busy, or a full disk
                contextlib.closing(sqlite3.connect(self.path, timeout=60)) as db,
            ):
                db.execute("vacuum")
        return slices_

    def _forget(self, before: dt.datetime, collector: str) -> int:
        """Drop the keys of old slices of a collector ("%": of all), and return of how many slices."""
        mark = mark_of_keys(None)
        old = "? in (collector, '%') and until < ? and key != ?"
        bounds = (collector, iso(before), mark)
        with self._transaction() as db:
            query = f"select count(*) from (select distinct collector, since, until from keys where {old})"  # noqa: S608 - a constant
            slices_ = int(db.execute(query, bounds).fetchone()[0])
            if slices_:
                db.execute(
                    "insert or ignore into keys select distinct collector, since, until, ? "
                    "from closed where ? in (collector, '%') and until < ?",
                    (mark, *bounds[:2]),
                )
                db.execute(f"delete from keys where {old}", bounds)  # noqa: S608 - a constant
        return slices_

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # A connection per call: no state to lose in a fork or share between threads.
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            db.execute("pragma synchronous = full")
            db.execute("begin immediate")
            try:
                yield db
            except BaseException:
                db.execute("rollback")
                raise
            db.execute("commit")
        finally:
            db.close()


def daily_slices(interval: Interval) -> Iterator[Interval]:
    """Cut an interval at midnight, UTC."""
    start = require_aware(interval.since)
    end = require_aware(interval.until)
    while start < end:
        day = this_day(start)
        # The last day there is has no midnight behind it.
        stop = end if end.date() == day.date() else min(day + dt.timedelta(days=1), end)
        yield Interval(start, stop)
        start = stop


def slices(interval: Interval, every: dt.timedelta) -> Iterator[Interval]:
    """Cut an interval at midnight, UTC, and each day into parts of *every*.

    Of days the first and the last may be short; of shorter parts only whole ones are given: what is
    measured for an hour cannot be had for a half of it.
    """
    for day in daily_slices(interval):
        if every >= dt.timedelta(days=1):
            yield day
            continue
        start = this_day(day.since)
        while start < day.since:
            start += every
        while start + every <= day.until:
            yield Interval(start, start + every)
            start += every


def mark_of_keys(column: str | None) -> str:
    """Return the entry among the keys of a slice that names the column they are from.

    None means that they are from none: which rows have arrived is unknown. A key is the JSON text of a
    text, which this is not. Slices that were closed by versions before this one have no mark.
    """
    return json.dumps({"column": column})


def ended(
    ledger: AnyLedger, collector: str, interval: Interval, failed: Iterable[Interval]
) -> list[Interval]:
    """Return the failures that closing *interval* has ended: nothing of them is a gap any more."""
    return [
        slice_
        for slice_ in failed
        if slice_.since < interval.until
        and interval.since < slice_.until
        and not ledger.gaps(collector, slice_)
    ]


def _interval(since: str, until: str) -> Interval:
    return Interval(dt.datetime.fromisoformat(since), dt.datetime.fromisoformat(until))
