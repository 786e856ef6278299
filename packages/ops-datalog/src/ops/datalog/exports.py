"""Taking a log elsewhere: Arrow, Parquet, CSV, .npz and .npy; the log itself is not changed.

Everything but `to_arrow` and `to_npz`, whose results are whole by nature, goes block by block. A file
appears under its name when it is complete.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ops.datalog.archive import write_columnar
from ops.datalog.layout import Names, write_npy
from ops.datalog.messages import Columns
from ops.datalog.named_columns import arrow_batch, arrow_schema, csv_rows, schema_of
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.files import atomic_write
from ops.foundation.imports import LazyImport

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from ops.datalog.messages import Block
    from ops.datalog.reader import LogReader

    Progress = Callable[[int, int], object]

pyarrow: Any = LazyImport("pyarrow", "ops-datalog[arrow]")
parquet: Any = LazyImport("pyarrow.parquet", "ops-datalog[arrow]")


def to_arrow(log: LogReader, source: int | None, progress: Progress | None) -> Any:
    """Return a pyarrow.Table with the columns source, time and data, or those of the source's schema."""
    arrow, batch = _batches(log, source)
    batches = [batch(block) for block in _counted(log, source, progress)]
    return pyarrow.Table.from_batches(batches, schema=arrow)


def to_parquet(
    log: LogReader, path: str | os.PathLike[str], source: int | None, progress: Progress | None
) -> Path:
    """Write a Parquet file with the same columns as `to_arrow` gives."""
    arrow, batch = _batches(log, source)
    with (
        atomic_write(path, "wb") as file,
        parquet.ParquetWriter(file, arrow, compression="zstd") as writer,
    ):
        for block in _counted(log, source, progress):
            writer.write_batch(batch(block))
    return Path(path)


def to_arrow_file(
    log: LogReader, path: str | os.PathLike[str], source: int | None, progress: Progress | None
) -> Path:
    """Write an Arrow IPC file with the same columns as `to_arrow` gives."""
    arrow, batch = _batches(log, source)
    with atomic_write(path, "wb") as file, pyarrow.ipc.new_file(file, arrow) as writer:
        for block in _counted(log, source, progress):
            writer.write_batch(batch(block))
    return Path(path)


def to_csv(
    log: LogReader, path: str | os.PathLike[str], source: int | None, progress: Progress | None
) -> Path:
    """Write lines of source, time and data in hexadecimal digits, or of the columns of the source's schema."""
    schema = schema_of(log, source)
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        if schema is not None and source is not None:
            writer.writerows(csv_rows(schema, source, _counted(log, source, progress)))
            return Path(path)
        writer.writerow(("source", "time", "data"))
        for block in _counted(log, source, progress):
            writer.writerows(
                (m.source_id, m.timestamp, bytes(m.data).hex()) for m in block.messages()
            )
    return Path(path)


def to_npz(
    log: LogReader, path: str | os.PathLike[str], source: int, progress: Progress | None
) -> Path:
    """Write times and data of one source as arrays of an .npz."""
    columns = Columns.of(list(_counted(log, source, progress)))
    with atomic_write(path, "wb") as file:
        write_columnar(file, columns)
    return Path(path)


def to_npy(
    log: LogReader, folder: str | os.PathLike[str], source: int | None, progress: Progress | None
) -> Path:
    """Write one SOURCE_TIME.npy per message into *folder*."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    names = Names(lambda _: False)
    for block in _counted(log, source, progress):
        for name, head, row in names.of(block):
            write_npy(f"{target}/{name}.npy", head, row)
    return target


def _counted(log: LogReader, source: int | None, progress: Progress | None) -> Iterator[Block]:
    if progress is None:
        yield from log.blocks(source)
        return
    refuse_coroutine_function(progress, "progress")
    total, done = sum(log.counts(source).values()), 0
    for block in log.blocks(source):
        yield block
        done += len(block.times)
        progress(done, total)


def _batches(log: LogReader, source: int | None) -> tuple[Any, Callable[[Block], Any]]:
    """Return the pyarrow.Schema of an export, and what makes a RecordBatch of a block."""
    schema = schema_of(log, source)
    if schema is None or source is None:
        return _schema(), _batch
    arrow = arrow_schema(schema)
    return arrow, lambda block: arrow_batch(schema, source, block, arrow)


def _schema() -> Any:
    return pyarrow.schema(
        [
            pyarrow.field("source", pyarrow.uint8(), nullable=False),
            pyarrow.field("time", pyarrow.uint64(), nullable=False),
            pyarrow.field("data", pyarrow.binary(), nullable=False),
        ]
    )


def _batch(block: Block) -> Any:
    """Return the block as a RecordBatch; the data goes over without a Python object per message."""
    if isinstance(block.rows, np.ndarray):
        count, size = block.rows.shape
        edges = np.arange(count + 1, dtype=np.int64) * size
        data = np.ascontiguousarray(block.rows).reshape(-1)
    else:
        edges = np.zeros(len(block.rows) + 1, np.int64)
        np.cumsum([len(row) for row in block.rows], out=edges[1:])
        data = np.concatenate([np.empty(0, np.uint8), *block.rows])
    buffers = [None, pyarrow.py_buffer(edges), pyarrow.py_buffer(data)]
    large = pyarrow.Array.from_buffers(pyarrow.large_binary(), len(block.times), buffers)
    columns = [
        pyarrow.array(block.sources), pyarrow.array(block.times), large.cast(pyarrow.binary()),
    ]  # fmt: skip
    return pyarrow.RecordBatch.from_arrays(columns, schema=_schema())
