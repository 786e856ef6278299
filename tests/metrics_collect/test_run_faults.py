"""Runs that are killed: whatever dies where, the next run ships each row exactly once."""

import datetime as dt
import signal
import subprocess
import sys

import pytest

from ops.metrics_collect import Extractor, run

CHILD = """
import datetime as dt, pathlib, sqlite3, sys
from tests.metrics_collect.killing import kill_at
from ops.metrics_collect import Ledger, Outbox, StorageDirectory, query_collector, run

folder, victim, moment, countdown = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
owner = {"put": StorageDirectory, "close": Ledger, "done": Outbox, "_move": Outbox, "rename": pathlib.Path}[victim]
kill_at(owner, victim, moment, countdown)
collector = query_collector("runs", sys.argv[5], primary_key="id", max_part_bytes=400)
since = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
run([collector.bind(db=sqlite3.connect(folder / "source.db"))], StorageDirectory(folder / "shipped"),
    Ledger(folder / "ledger.sqlite"), outbox=Outbox(folder / "outbox"), since=since,
    until=since + dt.timedelta(days=2), max_size=1000)
"""


@pytest.mark.fault
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("victim", "countdown"),
    [
        ("put", 1),
        ("put", 2),
        ("close", 1),
        ("done", 1),
        ("_move", 1),
        ("_move", 2),
        ("rename", 1),
        ("rename", 4),
    ],
)
def test_a_run_that_is_killed_is_completed_by_the_next(
    chain, victim, countdown, moment, fault_record
):
    chain.insert(0, 60)
    chain.insert(60, 40, day=1)
    sql = "select * from runs where finished >= :since and finished < :until order by id"
    arguments = [str(chain.folder), victim, moment, str(countdown), sql]

    child = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=False, timeout=300)
    assert child.returncode == -signal.SIGKILL
    chain.insert(100, 5)  # whatever the crash left, later rows of that day must not disturb it
    result = run(
        chain.factories,
        chain.storage,
        chain.ledger,
        **chain.arguments(days=2, max_size=1000, lookback=dt.timedelta(days=3)),
    )
    assert result.ok
    run(
        chain.factories,
        chain.storage,
        chain.ledger,
        **chain.arguments(days=2, max_size=1000, lookback=dt.timedelta(days=3)),
    )

    ids = []
    for payload in Extractor(chain.shipped_files(), collections={"runs"}).payloads():
        ids += map(int, payload.batch.column("id").to_pylist())
    assert sorted(ids) == list(range(105))
    fault_record["runs killed, SQLite to a folder"] = (
        fault_record.get("runs killed, SQLite to a folder", 0) + 1
    )
