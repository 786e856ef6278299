"""How the costs of a rollup of job_host_summary grow with the rows of a collection."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.harness import Case, Growth, Measure, decades
from benchmarks.metrics_collect._data import STREAMED, peak_megabytes, write_rows
from ops.metrics_collect import DataframeJobHostSummary

SIZES = {"rows": decades(1_000, 1_000_000)}


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield a case for each size of each operation."""
    for size in sizes["rows"]:
        curve: dict[str, Any] = {"size": size, "unit": "rows", "growth": Growth.LINEAR}
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            rows, stored = write_rows(folder / "rows.csv", size), folder / "rollup.parquet"
            DataframeJobHostSummary().add_csv(rows).to_parquet(stored)
            yield Case(
                "group the rows of a CSV, CPU",
                {"ops-metrics-collect": lambda rows=rows: _group(rows)},
                measure=Measure.CPU,
                number=1,
                rounds=5,
                **curve,
            )
            yield Case(
                "add a stored rollup and regroup, CPU",
                {"ops-metrics-collect": lambda stored=stored: _regroup(stored)},
                measure=Measure.CPU,
                number=1,
                rounds=5,
                **curve,
            )
            yield Case(
                "peak memory with memory_bytes=100 MB",
                {
                    "ops-metrics-collect": lambda rows=rows, folder=folder: peak_megabytes(
                        STREAMED, rows, folder / "streamed.parquet"
                    )
                },
                measure=Measure.RETURNED,
                rounds=3,
                **curve | {"growth": Growth.FLAT},
                figure_unit="MB",
            )


def _group(path: pathlib.Path) -> None:
    DataframeJobHostSummary().add_csv(path).group(sort=False)


def _regroup(path: pathlib.Path) -> None:
    DataframeJobHostSummary().add_parquet(path).regroup(sort=False)
