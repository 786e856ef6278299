"""Long histories of runs that have ended, as Parquet: ``{run}.metrics.parquet``.

Columns are key, value, step and time, sorted by key, then as they came, so that one metric is read
from the row groups whose range of keys has it. The file is a view: who reads it has checked that
the journals are as they were, and reads those when it is gone or damaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.foundation.files import atomic_write
from ops.registry.disk.checked_paths import refuse_link
from ops.registry.local.index import arrays

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping, Sequence

__all__ = ["read_points", "write_points"]

_ROW_GROUP = 65_536


def write_points(
    path: pathlib.Path, history: Mapping[str, Sequence[tuple[float, int, int]]]
) -> None:
    """Write the points (value, step, nanoseconds) of all metrics."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    points = [(key, *point) for key in sorted(history) for point in history[key]]
    keys, values, steps, times = zip(*points, strict=True)
    table = pa.table(
        {
            "key": arrays.texts(keys),
            "value": arrays.numbers(values),
            "step": arrays.wholes(steps),
            "time": arrays.instants(times),
        }
    )
    refuse_link(path)
    with atomic_write(path, "wb", durable="none") as file:
        pq.write_table(table, file, compression="zstd", row_group_size=_ROW_GROUP)


def read_points(path: pathlib.Path, key: str) -> list[tuple[float, int, int]]:
    """Return the points of *key*; none when the table cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pc = arrays.compute()
    found: list[tuple[float, int, int]] = []
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                keys = file.metadata.row_group(group).column(0).statistics
                if keys is not None and keys.has_min_max and not keys.min <= key <= keys.max:
                    continue
                part = file.read_row_group(group, use_threads=False)
                part = part.filter(pc.equal(part.column("key"), arrays.texts([key])[0]))
                times = pc.cast(part.column("time"), pa.int64()).to_pylist()
                columns = part.column("value").to_pylist(), part.column("step").to_pylist(), times
                found += zip(*columns, strict=True)
    except (OSError, pa.ArrowException, KeyError):
        return []
    return found
