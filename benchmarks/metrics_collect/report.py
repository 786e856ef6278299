"""The CCSPv2 report of stored tarballs with a million rows: the memory of the whole process.

A tarball a day for 30 days, of job_host_summary, and every day the inventory; each goes through the command
`report` as an operator gives it, in a process of its own.
"""

from __future__ import annotations

import datetime as dt
import os
import pathlib
import tempfile
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from benchmarks.harness import Case, Measure, Target
from benchmarks.metrics_collect._data import HOSTS, peak_megabytes, write_rows
from ops.metrics_collect import Package, collector

DAYS = 30
MILLION = 1_000_000
SINCE = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)

REPORTED = """
import sys
from ops.metrics_collect.__main__ import main
code = main(["report", "--report", "ccspv2", "--ship", sys.argv[1], "--output", sys.argv[2], "--quiet"])
assert not code, code
"""


def cases() -> Iterator[Case]:
    """Yield the case; the tarballs are written once."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        shipped = folder / "shipped"
        shipped.mkdir()
        write_tarballs(shipped, MILLION)
        yield Case(
            "CCSPv2 report of 1M rows, MB",
            {"ops": lambda: peak_megabytes(REPORTED, shipped, folder / "report.xlsx")},
            (Target(at_most=300),),
            measure=Measure.RETURNED,
            rounds=3,
            packages=("xlsxwriter", "pyarrow"),
        )


def write_tarballs(folder: pathlib.Path, rows: int) -> None:
    """Ship *rows* rows of job_host_summary in a tarball a day, with the inventory of that day."""
    config = {"install_uuid": "11111111-2222-3333-4444-555555555555"}
    for day in range(DAYS):
        first = day * rows // DAYS
        count = (day + 1) * rows // DAYS - first
        since = SINCE + dt.timedelta(days=day)
        interval = {"since": since, "until": since + dt.timedelta(days=1)}
        work = [
            job_host_summary(rows=count, first=first, **interval),
            main_host(**interval),
        ]
        list(Package(work, config, directory=folder, keep=True, uuid="lab"))


@collector(primary_key="id", version_column="modified")
def job_host_summary(
    *,
    rows: int,
    first: int,
    since: dt.datetime,
    until: dt.datetime,
    output_dir: str | os.PathLike[str] = ".",
) -> list[pathlib.Path]:
    """Gather so many rows."""
    return [write_rows(pathlib.Path(output_dir, "summary.csv"), rows, first=first)]


@collector(primary_key="host_id")
def main_host(
    *, since: dt.datetime, until: dt.datetime, output_dir: str | os.PathLike[str] = "."
) -> list[pathlib.Path]:
    """Gather the inventory."""
    numbers = pa.array(range(HOSTS))
    text = numbers.cast(pa.string())

    def named(prefix: str, suffix: str = "") -> pa.Array:
        return pc.binary_join_element_wise(prefix, text, suffix, "")

    serial = pc.binary_join_element_wise(
        '{"ansible_product_serial": "S', text, '", "ansible_machine_id": "m', text, '"}', ""
    )
    table = pa.table(
        {
            "host_id": numbers,
            "host_name": named("host-", ".example.com"),
            "organization_name": named("Organization "),
            "inventory_name": named("Inventory "),
            "canonical_facts": serial,
        }
    )
    path = pathlib.Path(output_dir, "hosts.csv")
    csv.write_csv(table, path)
    return [path]
