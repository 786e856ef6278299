"""The chain from a real PostgreSQL to a real S3, killed, interrupted and starved."""

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys

import pytest
from tests.metrics_collect.conftest import S3
from tests.metrics_collect.relay import Relay
from tests.metrics_collect.services import controller_sql

from ops.metrics_collect import (
    DataframeJobHostSummary,
    Extractor,
    LedgerStorage,
    Outbox,
    query_collector,
    run,
)
from ops.metrics_collect.collectors import controller
from ops.resilience import RetryConfig

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("boto3")
pytestmark = [pytest.mark.service, pytest.mark.fault]

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
FULL_RUN = os.environ.get("OPS_FAULTS") == "full"
QUICK = RetryConfig(max_attempts=2, initial_delay=0.0)


class Site:
    """A controller database of one's own, and the way from it to S3."""

    def __init__(self, dsn, s3, prefix, folder):
        self.dsn, self.s3, self.prefix, self.folder = dsn, s3, prefix, folder
        self.storage = s3.storage(prefix, retry=QUICK)
        self.ledger = LedgerStorage(self.storage)
        self.outbox = Outbox(folder / "outbox")

    def run(self, days=2, **options):
        with psycopg.connect(self.dsn, autocommit=True) as db:
            collectors = [
                c.bind(db=db, max_part_bytes=20_000)
                for c in (controller.job_host_summary, controller.unified_jobs)
            ]
            return run(
                collectors,
                self.storage,
                self.ledger,
                outbox=self.outbox,
                since=DAY,
                until=DAY + dt.timedelta(days=days),
                config=controller.config(db=db),
                lookback=dt.timedelta(days=9),
                max_size=20_000,
                **options,
            )

    def execute(self, query):
        with psycopg.connect(self.dsn, autocommit=True) as db:
            cursor = db.execute(query)
            return cursor.fetchall() if cursor.description else []

    def ids(self):
        """The ids of job_host_summary rows as they lie in S3, in order."""
        found = []
        for name in self.storage.glob("**/*.tar.gz"):
            with self.storage.get(name) as path:
                for payload in Extractor([path]).payloads({"job_host_summary"}, {"id"}):
                    found += map(int, payload.batch.column("id").to_pylist())
        return sorted(found)

    def counted(self):
        rollup = DataframeJobHostSummary()
        for name in self.storage.glob("**/*.tar.gz"):
            with self.storage.get(name) as path:
                rollup.add(Extractor([path]))
        return sum(rollup.group()["host_runs"].to_pylist())

    def expected_ids(self):
        query = "select id from main_jobhostsummary where modified < '2026-10-03' order by id"
        return [row[0] for row in self.execute(query)]


@pytest.fixture(scope="session")
def template(postgres):
    dsn = postgres.database(controller_sql(30, 100, 3, hours=40))
    return dsn.rpartition("=")[2]


@pytest.fixture
def site(postgres, template, s3, s3_prefix, tmp_path):
    name = f"copy_{s3_prefix[:10]}"
    with postgres.connected("postgres") as db:
        db.execute(f"create database {name} template {template}")
    yield Site(f"{postgres.dsn} dbname={name}", s3, s3_prefix, tmp_path)
    with postgres.connected("postgres") as db:
        db.execute(f"drop database {name} with (force)")


CHILD = """
import pathlib, sys
import boto3, psycopg
from ops.metrics_collect import LedgerStorage, Outbox, StorageS3, Package
from tests.metrics_collect import test_service_faults
from tests.metrics_collect.conftest import S3
from tests.metrics_collect.killing import kill_at

dsn, endpoint, prefix, folder, victim, moment, countdown = sys.argv[1:]
owners = {"put": StorageS3, "close": LedgerStorage, "_move": Outbox, "done": Outbox,
          "rename": pathlib.Path, "_write": Package, "_head": StorageS3}
kill_at(owners[victim], victim, moment, int(countdown))
s3 = S3(endpoint, None, None)
test_service_faults.Site(dsn, s3, prefix, pathlib.Path(folder)).run()
"""

SHORT = [("put", 4), ("close", 1), ("_move", 2), ("_write", 2)]
FULL = [
    (victim, count)
    for victim in ("put", "close", "_move", "done", "rename", "_write", "_head")
    for count in range(1, 9)
]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("victim", "countdown"), FULL if FULL_RUN else SHORT)
def test_a_killed_run_is_completed_and_every_row_is_there_once(
    site, victim, countdown, moment, fault_record
):
    arguments = [site.dsn, site.s3.endpoint, site.prefix, str(site.folder)]
    command = [sys.executable, "-c", CHILD, *arguments, victim, moment, str(countdown)]
    child = subprocess.run(command, check=False, timeout=120, cwd=os.getcwd())
    assert child.returncode in {-signal.SIGKILL, 0}
    if (victim, countdown) in SHORT:
        assert child.returncode == -signal.SIGKILL
    assert site.run().ok
    assert site.run().ok
    assert site.ids() == site.expected_ids()
    what = "runs killed" if child.returncode else "runs that ended before the kill"
    fault_record[f"{what}, PostgreSQL to S3"] = fault_record.get(f"{what}, PostgreSQL to S3", 0) + 1
    fault_record["rows lost or shipped twice"] = 0


def test_a_slice_that_fails_in_the_middle_is_a_gap_and_filled_by_the_next_run(site):
    site.execute("alter table main_unifiedjob rename to hidden")
    first = site.run()
    assert not first.ok
    assert site.ledger.closed("job_host_summary") == []
    assert len(site.ledger.failures()) == 4
    site.execute("alter table hidden rename to main_unifiedjob")
    assert site.run().ok
    assert site.ledger.failures() == []
    assert site.ids() == site.expected_ids()


def test_a_slice_between_two_good_ones_stays_the_only_gap(site):
    good = query_collector(
        "day", "select id, 6 / (extract(day from finished)::int - 2) as x from main_unifiedjob "
        "where finished >= :since and finished < :until", primary_key="id",
    )  # fmt: skip
    with psycopg.connect(site.dsn, autocommit=True) as db:
        options = {"outbox": site.outbox, "since": DAY, "until": DAY + dt.timedelta(days=3)}
        result = run([good.bind(db=db)], site.storage, site.ledger, **options)
    assert len(result.shipped) == 2
    [(collector, gap, error)] = site.ledger.failures()
    assert (collector, gap.since.day, gap.until.day) == ("day", 2, 3)
    assert "division by zero" in error


def test_rows_that_are_committed_late_are_found_and_shipped_once(site):
    with psycopg.connect(site.dsn) as writer:
        writer.execute(
            "insert into main_jobhostsummary (created, modified, host_name, host_id, job_id, ok) "
            "values ('2026-10-01 03:00+00', '2026-10-01 03:00+00', 'late', 1, 1, 1)"
        )
        assert site.run().ok  # does not see the row
        before = len(site.ids())
        writer.commit()
    assert site.run().ok
    assert site.run().ok
    assert len(site.ids()) == before + 1
    assert site.ids() == site.expected_ids()


def test_what_is_delivered_twice_counts_once(site):
    assert site.run().ok
    expected = site.counted()
    names = site.storage.glob("*.tar.gz")
    with site.storage.get(names[0]) as path:
        site.storage.put("elsewhere/copy.tar.gz", filename=path)
    # And the rows of a day again, in a tarball of their own.
    with psycopg.connect(site.dsn, autocommit=True) as db:
        from ops.metrics_collect import Package

        window = {"since": DAY, "until": DAY + dt.timedelta(days=1)}
        again = controller.job_host_summary(db=db, **window)
        for tarball in Package([again], controller.config(db=db), directory=site.folder):
            site.storage.put(f"again/{tarball.name}", filename=tarball)
    assert len(site.ids()) > len(site.expected_ids())
    assert site.counted() == expected


def test_a_destination_that_goes_down_and_comes_back_loses_nothing(site):
    host, port = site.s3.endpoint.removeprefix("http://").split(":")
    relay = Relay((host, int(port)))
    direct = site.storage
    site.storage = S3(f"http://127.0.0.1:{relay.port}", None, None).storage(
        site.prefix, retry=QUICK
    )
    site.ledger = LedgerStorage(site.storage)
    try:
        _run_while_it_goes_down(site, relay.down)
        relay.up()
        assert site.run().ok
        assert site.run().ok
    finally:
        relay.close()
    site.storage = direct
    assert site.ids() == site.expected_ids()


if FULL_RUN:  # the server takes its time to start

    def test_a_server_that_is_killed_and_started_again_loses_nothing(site):
        try:
            _run_while_it_goes_down(site, site.s3.stop)
        finally:
            site.s3.start()
        # It is up again before all of it is; patience is the storage's business.
        site.storage = site.s3.storage(site.prefix, retry=RetryConfig(max_attempts=12))
        site.ledger = LedgerStorage(site.storage)
        assert site.run().ok
        assert site.run().ok
        assert site.ids() == site.expected_ids()


def _run_while_it_goes_down(site, down):
    calls = []
    put = site.storage.put

    def put_and_go_down(*args, **kwargs):
        put(*args, **kwargs)
        calls.append(args)
        if len(calls) == 3:
            down()

    site.storage.put = put_and_go_down
    try:
        assert not site.run().ok
    finally:
        site.storage.put = put
    assert len(calls) == 3


STARVED = """
import pathlib, resource, sys
from tests.metrics_collect import test_service_faults
from tests.metrics_collect.conftest import S3

dsn, endpoint, prefix, folder = sys.argv[1:]
site = test_service_faults.Site(dsn, S3(endpoint, None, None), prefix, pathlib.Path(folder))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
result = site.run()
print(len(result.shipped), len(result.failed), next(iter(result.failed.values()), ""))
"""


def test_a_full_disk_leaves_gaps_and_no_rubbish(site):
    arguments = [site.dsn, site.s3.endpoint, site.prefix, str(site.folder)]
    command = [sys.executable, "-c", STARVED, *arguments]
    child = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    shipped, failed, error = child.stdout.split(" ", 2)
    assert int(failed) >= 2, child.stderr
    assert "File too large" in error
    assert not list((site.folder / "outbox" / ".staging").iterdir())
    assert site.run().ok
    assert site.run().ok
    assert site.ids() == site.expected_ids()
    assert shutil.disk_usage(site.folder).free > 0
    assert int(shipped) < 4
