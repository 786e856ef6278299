"""What the demo did, as a service would report it: collected, packed, shipped, rolled up, a workbook."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.foundation import instants
from ops.foundation.errors import ResourceError
from ops.metrics_collect import (
    DataframeActivity,
    Extractor,
    Ledger,
    Outbox,
    ReportActivity,
    StorageDirectory,
    query_collector,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ops_suite.demo.trials import TrialResult

__all__ = ["Activity", "Reported"]

_TABLE = """
create table if not exists activity (
    id integer primary key, at text not null, kind text not null, penalty text not null,
    trial text not null, seconds real not null
)
"""
_QUERY = """
select id, at, kind, penalty, trial, seconds from activity
where at >= :since and at < :until order by id
"""


@dataclass(frozen=True)
class Reported:
    """What a report was made from."""

    rows: int
    counted: int
    tarballs: int
    workbook: Path


class Activity:
    """The demo's own little database, and the way from it to a workbook."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "activity.sqlite"
        with self._connect() as db:
            db.execute(_TABLE)

    def add(self, result: TrialResult) -> None:
        """Record the epochs of a trial: one row each, in one transaction."""
        penalty, trial = result.parameters["penalty"], f"trial-{result.number:02}"
        self._insert(
            (_iso(time_ns), "epoch", penalty, trial, seconds) for time_ns, seconds in result.epochs
        )

    def _insert(self, rows: Iterable[tuple[str, str, str, str, float]]) -> None:
        with self._connect() as db:
            db.executemany(
                "insert into activity (at, kind, penalty, trial, seconds) values (?, ?, ?, ?, ?)",
                rows,
            )

    def report(self) -> Reported:
        """Ship what is new, roll up all that was ever shipped, and write `report.xlsx`."""
        storage = StorageDirectory(self._folder / "shipped")
        with self._connect() as db:
            (rows,) = db.execute("select count(*) from activity").fetchone()
            (first,) = db.execute("select min(at) from activity").fetchone()
            query = query_collector("activity", _QUERY, primary_key="id").bind(db=db)
            result = run(
                [query],
                storage,
                Ledger(self._folder / "ledger.sqlite"),
                outbox=Outbox(self._folder / "outbox"),
                since=instants.days_ago(0, relative_to=dt.datetime.fromisoformat(first)),
                until=instants.now(),
                config={"install_uuid": "demo"},
            )
        for path, error in result.failed.items():
            raise ResourceError(f"The activity was not shipped: {path}: {error}")
        rollup = DataframeActivity(
            "activity", by=["penalty", "trial"], sums=["seconds"], time="at", row_id="id"
        )
        names = sorted(storage.glob("**/*.tar.gz"))
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(storage.get(name)) for name in names]
            rollup.add(Extractor(files))
        workbook = self._folder / "report.xlsx"
        ReportActivity(rollup, {"title": "Epochs trained, by penalty"}, by="penalty").save(workbook)
        counted = sum(rollup.group()["count"].to_pylist())
        return Reported(rows, counted, len(names), workbook)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path)
        try:
            with db:
                yield db
        finally:
            db.close()


def _iso(time_ns: int) -> str:
    return dt.datetime.fromtimestamp(time_ns / 1e9, dt.UTC).isoformat()
