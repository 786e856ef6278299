r"""COPY to parts beside `psql \copy`, and the memory of gathering."""

from __future__ import annotations

import datetime as dt
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator

import psycopg
from tests.metrics_collect.services import controller_sql, postgres_server, program

from benchmarks.harness import Case, Measure, Target
from benchmarks.metrics_collect._data import peak_megabytes
from ops.metrics_collect.collectors import controller
from ops.metrics_collect.collectors.controller._hosts import _SUMMARY

SINCE = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
UNTIL = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)

GATHERED = """
import sys, psycopg
from ops.metrics_collect import query_collector
rows = "select g as id, md5(g::text) as name, now() as at from generate_series(1, {}) g"
with psycopg.connect(sys.argv[1], autocommit=True) as db:
    files = query_collector("rows", rows.format(sys.argv[2]))(db=db, output_dir=sys.argv[3]).gather()
"""


def cases() -> Iterator[Case]:
    """Yield the cases on a controller database with 200 000 summaries."""
    with tempfile.TemporaryDirectory() as name, postgres_server() as server:
        folder = pathlib.Path(name)
        with psycopg.connect(f"{server} dbname=postgres", autocommit=True) as db:
            db.execute("create database controller")
        dsn = f"{server} dbname=controller"
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute(
                controller_sql(20_000, 2000, 100, hours=1).partition("insert into main_jobevent")[0]
            )
            db.execute("analyze")
            yield Case(
                "200k rows of job_host_summary to CSV parts",
                {
                    "ops": lambda: _gather(db, folder),
                    "psql \\copy": lambda: _psql(dsn, folder / "psql.csv"),
                },
                (Target("psql \\copy", at_least=1 / 1.1),),
                number=1,
            )
        for rows, shown in ((10_000, "10k"), (5_000_000, "5M")):
            yield Case(
                f"memory of gathering {shown} rows, MB",
                {"ops": lambda rows=rows: _memory(dsn, rows, folder)},
                (Target(at_most=40),),
                measure=Measure.RETURNED,
                rounds=3,
            )


def _gather(db: psycopg.Connection, folder: pathlib.Path) -> None:
    for part in controller.job_host_summary(
        db=db, since=SINCE, until=UNTIL, output_dir=folder
    ).gather():
        os.unlink(part)


def _psql(dsn: str, path: pathlib.Path) -> None:
    # The query of the collector, whose result psql leaves as it is.
    where = f"where s.modified >= '{SINCE.isoformat()}' and s.modified < '{UNTIL.isoformat()}'"
    query = " ".join(f"{_SUMMARY} {where}".replace("%%", "%").split())
    command = f"\\copy ({query}) to '{path}' with (format csv, header)"
    subprocess.run(
        [program("psql"), "-X", "-q", "-d", dsn, "-c", command],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _memory(dsn: str, rows: int, folder: pathlib.Path) -> float:
    figure = peak_megabytes(GATHERED, dsn, rows, folder)
    for part in folder.glob("rows-*"):
        part.unlink()
    return figure
