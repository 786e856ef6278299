"""Ledger: which intervals of which collector have arrived, and which rows were in them.

A slice [since, until) of a collector is *closed* in the same transaction that records the primary
keys of its rows, after everything in it has been stored. What is not closed is a gap, whatever the
reason, and a run fills exactly the gaps. Closing twice is one closing: slices have a revision, and
the first closing of a revision counts.

`Ledger` is a SQLite file with synchronous=FULL. `LedgerStorage` lives in any storage that can be read,
so that it can be kept with the destination: closing is one create-once put of an object whose name
is the slice and whose content are the keys.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import datetime as dt
import json
import pathlib
import sqlite3
import tempfile
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ops.foundation.ids import generate_short_id
from ops.foundation.instants import iso, now, require_aware, this_day
from ops.metrics_collect.errors import ObjectExists, ObjectNotFound, StateError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from ops.metrics_collect.storage import Storage

__all__ = [
    "AnyLedger",
    "Interval",
    "Ledger",
    "LedgerStorage",
    "daily_slices",
    "mark_of_keys",
    "slices",
]

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


class AnyLedger(abc.ABC):
    """What every ledger can do."""

    @property
    @abc.abstractmethod
    def origin(self) -> str:
        """A random name of this ledger, kept for ever: tells its parcels from those of others."""

    @abc.abstractmethod
    def close(
        self, collector: str, interval: Interval, revision: int = 0, keys: Iterable[str] = ()
    ) -> None:
        """Record that a slice, or a later revision of it, has arrived with rows of these keys."""

    @abc.abstractmethod
    def record_failure(self, collector: str, interval: Interval, error: str) -> None:
        """Remember why a slice is still a gap, or was not searched for late rows.

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
    """The ledger in the file *path*; any number of processes may use it at once."""

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
            closing = db.execute(
                "insert or ignore into closed values (?, ?, ?, ?, ?)", (*row, revision, iso(now()))
            )
            if closing.rowcount:  # the first closing counts
                db.executemany(
                    "insert or ignore into keys values (?, ?, ?, ?)", ((*row, key) for key in keys)
                )
        failed = [slice_ for key, slice_, _ in self.failures() if key == collector]
        for ended in _ended(self, collector, interval, failed):
            row = (collector, iso(ended.since), iso(ended.until))
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

    def forget_keys(self, before: dt.datetime) -> None:
        """Drop the keys of slices that ended before a moment: no late row of them is found any more."""
        with self._transaction() as db:
            db.execute(
                "insert or ignore into keys select distinct collector, since, until, ? from closed "
                "where until < ?",
                (mark_of_keys(None), iso(before)),
            )
            db.execute(
                "delete from keys where until < ? and key != ?", (iso(before), mark_of_keys(None))
            )

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


class LedgerStorage(AnyLedger):
    """A ledger of objects below *prefix* of a storage; any number of processes may use it at once.

    `origin.json`; `closed/<collector>/<since>_<until>_<revision>.keys`, a key a line;
    `failed/<collector>/<since>_<until>.json`.
    """

    def __init__(self, storage: Storage, prefix: str = "ledger") -> None:
        self._storage = storage
        self._prefix = prefix.strip("/")

    @property
    def origin(self) -> str:
        """A random name of this ledger, kept for ever: tells its parcels from those of others."""
        name = f"{self._prefix}/origin.json"
        with contextlib.suppress(ObjectExists):
            if not self._storage.exists(name):
                made = {"format": _FORMAT, "origin": generate_short_id()}
                self._storage.put(name, dict=made, overwrite=False)
        found = self._json(name)
        if found["format"] != _FORMAT:
            raise StateError(
                f"The ledger {self._prefix!r} has format {found['format']}, this program knows {_FORMAT}.",
                suggestions=("Update ops-metrics-collect.",),
            )
        return str(found["origin"])

    def close(
        self, collector: str, interval: Interval, revision: int = 0, keys: Iterable[str] = ()
    ) -> None:
        """Record that a slice, or a later revision of it, has arrived with rows of these keys."""
        stem = self._stem("closed", collector, interval)
        with tempfile.TemporaryFile() as file:
            file.writelines(key.encode("utf-8", "surrogatepass") + b"\n" for key in keys)
            file.seek(0)
            with contextlib.suppress(ObjectExists):
                self._storage.put(f"{stem}_{revision:06}.keys", fileobj=file, overwrite=False)
        names = self._storage.list(f"{self._prefix}/failed/{quote(collector)}/")
        for ended in _ended(self, collector, interval, [self._parsed(name)[1] for name in names]):
            with contextlib.suppress(ObjectNotFound):
                self._storage.remove(f"{self._stem('failed', collector, ended)}.json")

    def record_failure(self, collector: str, interval: Interval, error: str) -> None:
        """Remember why a slice is still a gap, or was not searched for late rows."""
        name = f"{self._stem('failed', collector, interval)}.json"
        self._storage.put(name, dict={"error": error, "failed_at": iso(now())})

    def failures(self) -> list[tuple[str, Interval, str]]:
        """Return (collector, slice, error) of the slices whose last attempt failed."""
        found = []
        for name in self._storage.list(f"{self._prefix}/failed/"):
            collector, interval, _ = self._parsed(name)
            with contextlib.suppress(ObjectNotFound):  # closed since it was listed
                found.append((collector, interval, str(self._json(name)["error"])))
        return found

    def closed(self, collector: str) -> list[Interval]:
        """Return the closed slices as they were closed, in order."""
        names = self._storage.list(f"{self._prefix}/closed/{quote(collector)}/")
        return sorted({self._parsed(name)[1] for name in names})

    def collectors(self) -> list[str]:
        """Return the keys of the collectors that have closed slices."""
        names = self._storage.list(f"{self._prefix}/closed/")
        return sorted({self._parsed(name)[0] for name in names})

    def next_revision(self, collector: str, interval: Interval) -> int:
        """Return the revision that the next shipment of this slice has; 0 is the first."""
        return len(self._revisions(collector, interval))

    def keys(self, collector: str, interval: Interval) -> set[str]:
        """Return the primary keys of the rows that arrived with this slice."""
        found: set[str] = set()
        for name in self._revisions(collector, interval):
            with self._storage.get(name) as path, pathlib.Path(path).open("rb") as file:
                found.update(line[:-1].decode("utf-8", "surrogatepass") for line in file)
        return found

    def _revisions(self, collector: str, interval: Interval) -> list[str]:
        return self._storage.list(f"{self._stem('closed', collector, interval)}_")

    def _stem(self, kind: str, collector: str, interval: Interval) -> str:
        moments = "_".join(_compact(m) for m in (interval.since, interval.until))
        return f"{self._prefix}/{kind}/{quote(collector)}/{moments}"

    def _parsed(self, name: str) -> tuple[str, Interval, str]:
        _, collector, last = name.rsplit("/", 2)
        since, until, *rest = last.rpartition(".")[0].split("_")
        return unquote(collector), Interval(_moment(since), _moment(until)), "_".join(rest)

    def _json(self, name: str) -> dict[str, object]:
        with self._storage.get(name) as path:
            found: dict[str, object] = json.loads(pathlib.Path(path).read_text("utf-8"))
        return found


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
    """Return what stands among the keys of a slice and says of which column they are.

    None says that they are of none: nobody knows which rows have arrived. A key is the JSON text of a
    text, which this is not. Slices that were closed by versions before this one have no mark.
    """
    return json.dumps({"column": column})


def _ended(
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


_COMPACT = "%Y%m%dT%H%M%S.%fZ"


def _compact(moment: dt.datetime) -> str:
    return require_aware(moment).astimezone(dt.UTC).strftime(_COMPACT)


def _moment(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, _COMPACT).replace(tzinfo=dt.UTC)
