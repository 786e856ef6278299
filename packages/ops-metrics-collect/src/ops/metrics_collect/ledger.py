"""Ledger: which intervals of which collector have arrived, and which rows were in them.

A slice [since, until) of a collector is *closed* in the same transaction that records the primary
keys of its rows, after everything in it has been stored. What is not closed is a gap, whatever the
reason, and a run fills exactly the gaps. Closing twice is one closing: slices have a revision, and
the first closing of a revision counts. The file is SQLite with synchronous=FULL.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import pathlib
import sqlite3
from typing import TYPE_CHECKING

from ops.foundation.ids import generate_short_id
from ops.foundation.instants import iso, now, require_aware, this_day
from ops.metrics_collect.errors import StateError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

__all__ = ["Interval", "Ledger", "daily_slices"]

_FORMAT = 1
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
pragma user_version = {_FORMAT};
"""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Interval:
    """Moments from *since* up to, not including, *until*."""

    since: dt.datetime
    until: dt.datetime


class Ledger:
    """The ledger in the file *path*; any number of processes may use it at once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as db:
            version = db.execute("pragma user_version").fetchone()[0]
            if version == 0:
                # One transaction, so a crash leaves no half of a schema.
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    db.execute(statement)
                db.execute("insert into origin values (?)", (generate_short_id(),))
            elif version != _FORMAT:
                raise StateError(
                    f"{str(self.path)!r} has ledger format {version}, this program knows {_FORMAT}.",
                    suggestions=("Update ops-metrics-collect.",),
                )

    @property
    def origin(self) -> str:
        """A random name of this ledger, kept for ever: tells its parcels from those of others."""
        with self._transaction() as db:
            return str(db.execute("select id from origin").fetchone()[0])

    def close(
        self, collector: str, interval: Interval, revision: int = 0, keys: Iterable[str] = ()
    ) -> None:
        """Record that a slice, or a later revision of it, has arrived with rows of these keys."""
        row = (collector, iso(interval.since), iso(interval.until))
        with self._transaction() as db:
            db.execute(
                "insert or ignore into closed values (?, ?, ?, ?, ?)", (*row, revision, iso(now()))
            )
            db.executemany(
                "insert or ignore into keys values (?, ?, ?, ?)", ((*row, key) for key in keys)
            )
            db.execute("delete from failures where (collector, since, until) = (?, ?, ?)", row)

    def record_failure(self, collector: str, interval: Interval, error: str) -> None:
        """Remember why a slice is still a gap; closing it forgets this."""
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

    def forget_keys(self, before: dt.datetime) -> None:
        """Drop the keys of slices that ended before a moment: too old to be looked at again."""
        with self._transaction() as db:
            db.execute("delete from keys where until < ?", (iso(before),))

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
        stop = min(this_day(start) + dt.timedelta(days=1), end)
        yield Interval(start, stop)
        start = stop


def _interval(since: str, until: str) -> Interval:
    return Interval(dt.datetime.fromisoformat(since), dt.datetime.fromisoformat(until))
