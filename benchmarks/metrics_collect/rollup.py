"""The rollup of job_host_summary beside programs written by hand for it, and its memory."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from benchmarks.harness import Case, Measure, Target
from benchmarks.metrics_collect._data import KEYS, STREAMED, peak_megabytes, write_rows
from ops.metrics_collect import DataframeJobHostSummary

MILLION = 1_000_000
RAN = ("failures", "ok", "skipped", "ignored", "rescued")
USED = (
    *RAN,
    "dark",
    "host_name",
    "ansible_host_variable",
    "organization_name",
    "job_template_name",
    "job_remote_id",
    "created",
    "modified",
    "job_created",
)
#: CPU seconds that the program with DataFrame.apply took for a million rows, of which ours may take 1/25.
REPLACED_SECONDS = 157.0


def cases() -> Iterator[Case]:
    """Yield the cases; all programs read the same CSV and give the same groups."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path = write_rows(folder / "million.csv", MILLION)
        contenders = {
            "ops": lambda: DataframeJobHostSummary().add_csv(path, config=CONFIG).group(sort=False),
            "polars": lambda: by_polars(path),
            "duckdb": lambda: by_duckdb(path),
            "pyarrow": lambda: by_pyarrow(path),
        }
        assert len({program().num_rows for program in contenders.values()}) == 1
        peers = tuple(Target(peer, at_least=1 / 1.3) for peer in ("polars", "duckdb", "pyarrow"))
        yield Case(
            "1M rows, CPU",
            contenders,
            (*peers, Target(at_most=REPLACED_SECONDS / 25)),
            measure=Measure.CPU,
            number=1,
            rounds=7,
            packages=("polars", "duckdb", "pyarrow"),
        )
        yield _parts(folder, path)
        yield _memory("1M rows to Parquet with memory_bytes=100 MB, MB", path, folder, 300)
        five = write_rows(folder / "five.csv", 5 * MILLION)
        yield _memory("5M rows to Parquet with memory_bytes=100 MB, MB", five, folder, 400)


CONFIG = {"install_uuid": "11111111-2222-3333-4444-555555555555"}


def _parts(folder: pathlib.Path, path: pathlib.Path) -> Case:
    parts = []
    for day in range(30):
        first = day * MILLION // 30
        rows = (day + 1) * MILLION // 30 - first
        source = write_rows(folder / f"day-{day}.csv", rows, first=first)
        parts.append(folder / f"day-{day}.parquet")
        DataframeJobHostSummary().add_csv(source, config=CONFIG, source=str(day)).to_parquet(
            parts[-1]
        )

    def regroup() -> object:
        rollup = DataframeJobHostSummary()
        for part in parts:
            rollup.add_parquet(part)
        return rollup.regroup(sort=False)

    return Case(
        "30 daily parts regrouped, beside one group of the whole, CPU",
        {
            "regroup": regroup,
            "one group": lambda: DataframeJobHostSummary().add_csv(path).group(sort=False),
        },
        (Target("one group", at_least=1 / 1.5),),
        measure=Measure.CPU,
        number=1,
        rounds=7,
    )


def _memory(name: str, path: pathlib.Path, folder: pathlib.Path, limit: float) -> Case:
    return Case(
        name,
        {"ops": lambda: peak_megabytes(STREAMED, path, folder / "out.parquet")},
        (Target(at_most=limit),),
        measure=Measure.RETURNED,
        rounds=3,
    )


def by_polars(path: pathlib.Path) -> pa.Table:
    """The rollup in polars."""
    ran = sum(pl.col(name) for name in RAN)
    rows = pl.scan_csv(path, schema_overrides={"job_remote_id": pl.String}).select(USED)
    moments = [
        pl.col(n).str.to_datetime("%Y-%m-%d %H:%M:%S%#z", time_unit="us")
        for n in ("created", "modified", "job_created")
    ]
    named = rows.filter(ran > 0).with_columns(
        *moments,
        host=pl.coalesce("ansible_host_variable", "host_name"),
        install_uuid=pl.lit(CONFIG["install_uuid"]),
        managed_node_type=pl.lit("direct"),
        tasks=ran + pl.col("dark"),
    )
    renamed = named.rename({"host_name": "original_host_name"}).rename({"host": "host_name"})
    grouped = renamed.group_by(KEYS).agg(
        host_runs=pl.len(),
        task_runs=pl.col("tasks").sum(),
        first_automation=pl.col("created").min(),
        last_automation=pl.col("modified").max(),
        job_created=pl.col("job_created").min(),
    )
    return grouped.collect(engine="streaming").to_arrow()


def by_duckdb(path: pathlib.Path) -> pa.Table:
    """The rollup in DuckDB."""
    ran = " + ".join(RAN)
    with duckdb.connect(config={"preserve_insertion_order": False}) as db:
        return db.sql(
            f"""select organization_name, job_template_name,
            coalesce(ansible_host_variable, host_name), host_name, '{CONFIG["install_uuid"]}',
            job_remote_id, 'direct', count(*), sum({ran} + dark), min(created), max(modified),
            min(job_created) from read_csv('{path}', types={{'job_remote_id': 'varchar'}})
            where {ran} > 0 group by 1, 2, 3, 4, 5, 6, 7"""
        ).to_arrow_table()


def by_pyarrow(path: pathlib.Path) -> pa.Table:
    """The rollup in pyarrow."""
    utc = pa.timestamp("us", tz="UTC")
    types = dict.fromkeys(("created", "modified", "job_created"), utc) | {
        "job_remote_id": pa.string()
    }
    options = csv.ConvertOptions(
        include_columns=USED, column_types=types, strings_can_be_null=True, null_values=[""]
    )
    rows = csv.read_csv(path, convert_options=options)
    ran = rows["failures"]
    for name in RAN[1:]:
        ran = pc.add(ran, rows[name])
    counted = pa.table(
        {
            "organization_name": rows["organization_name"],
            "job_template_name": rows["job_template_name"],
            "host_name": pc.coalesce(rows["ansible_host_variable"], rows["host_name"]),
            "original_host_name": rows["host_name"],
            "install_uuid": pa.array([CONFIG["install_uuid"]] * len(rows)),
            "job_remote_id": rows["job_remote_id"],
            "managed_node_type": pa.array(["direct"] * len(rows)),
            "task_runs": pc.add(ran, rows["dark"]),
            "first_automation": rows["created"],
            "last_automation": rows["modified"],
            "job_created": rows["job_created"],
        }
    ).filter(pc.greater(ran, 0))
    return counted.group_by(KEYS).aggregate(
        [
            ("task_runs", "count"),
            ("task_runs", "sum"),
            ("first_automation", "min"),
            ("last_automation", "max"),
            ("job_created", "min"),
        ]
    )
