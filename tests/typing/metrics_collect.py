"""How users call ops.metrics_collect."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path
from typing import assert_type

from ops.metrics_collect import (
    DataframeActivity,
    Extractor,
    Ledger,
    Outbox,
    ReportActivity,
    RunResult,
    StorageDirectory,
    collector,
    query_collector,
    run,
)


@collector
def configuration(*, db: sqlite3.Connection) -> dict[str, object]:
    return {"rows": db.execute("select 1").fetchone()[0]}


def collect(db: sqlite3.Connection, folder: Path) -> None:
    query = query_collector("jobs", "select * from jobs where at >= :since and at < :until").bind(
        db=db
    )
    result = run(
        [query],
        StorageDirectory(folder / "shipped"),
        Ledger(folder / "ledger"),
        outbox=Outbox(folder / "outbox"),
        since=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        config=configuration(db=db),
    )
    assert_type(result, RunResult)
    rollup = DataframeActivity("jobs", by=["name"], sums=["seconds"]).add(
        Extractor([folder / "x.tar.gz"])
    )
    ReportActivity(rollup).save(folder / "report.xlsx")
