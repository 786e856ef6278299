"""How the costs of a rollup of job_host_summary grow with the rows of a collection."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness import Case, Growth, Measure, decades
from benchmarks.metrics_collect._data import STREAMED, peak_megabytes, write_rows
from ops.metrics_collect import DataframeJobHostSummary

SIZES = {
    "rows": decades(1_000, 1_000_000),
    "streamed rows": decades(1_000, 1_000_000),
}


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield a case for each size of each operation."""
    for size in sizes["rows"]:
        with tempfile.TemporaryDirectory() as folder:
            yield from _cpu(pathlib.Path(folder), size)
    for size in sizes["streamed rows"]:
        with tempfile.TemporaryDirectory() as folder:
            yield _memory(pathlib.Path(folder), size)


def _cpu(folder: pathlib.Path, size: int) -> Iterator[Case]:
    rows, stored = write_rows(folder / "rows.csv", size), folder / "rollup.parquet"
    DataframeJobHostSummary().add_csv(rows).to_parquet(stored)
    for name, call in (
        ("group the rows of a CSV, CPU", lambda: _group(rows)),
        ("add a stored rollup and regroup, CPU", lambda: _regroup(stored)),
    ):
        yield Case(
            name,
            {"ops-metrics-collect": call},
            measure=Measure.CPU,
            number=1,
            rounds=5,
            size=size,
            unit="rows",
            growth=Growth.LINEAR,
        )


def _memory(folder: pathlib.Path, size: int) -> Case:
    rows, target = write_rows(folder / "rows.csv", size), folder / "rollup.parquet"
    return Case(
        "peak memory of a rollup with memory_bytes=100 MB",
        {"ops-metrics-collect": lambda: peak_megabytes(STREAMED, rows, target)},
        measure=Measure.RETURNED,
        rounds=1,
        size=size,
        unit="streamed rows",
        growth=Growth.FLAT,
        figure_unit="MB",
    )


def _group(path: pathlib.Path) -> None:
    DataframeJobHostSummary().add_csv(path).group(sort=False)


def _regroup(path: pathlib.Path) -> None:
    DataframeJobHostSummary().add_parquet(path).regroup(sort=False)
