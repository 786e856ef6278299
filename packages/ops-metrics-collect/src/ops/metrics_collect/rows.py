"""Rows of payload files, CSV or Parquet alike: counted, and read as batches of text columns.

All columns are text, so that both formats look the same to every reader; NULL is null.
"""

from __future__ import annotations

import csv
import json
import pathlib
from typing import TYPE_CHECKING, Any

from ops.metrics_collect.csv_parts import read_lines

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import pyarrow as pa

__all__ = ["SUFFIXES", "count_rows", "csv_to_parquet", "read_batches", "read_csv_batches"]

_BLOCK_BYTES = 1 << 20
_LARGEST_BLOCK = (1 << 31) - 1  # of the reader
_BATCH_BYTES = 4 << 20

#: Of files that hold rows.
SUFFIXES = (".csv", ".parquet", ".json")


def count_rows(path: str | os.PathLike[str]) -> int:
    """Return the number of rows of a CSV or Parquet file; anything else is one document."""
    suffix = pathlib.Path(path).suffix
    if suffix == ".csv":
        return max(sum(1 for _ in read_lines(path)) - 1, 0)
    if suffix == ".parquet":
        from pyarrow import parquet

        return int(parquet.read_metadata(path).num_rows)
    return 1


def read_batches(
    path: str | os.PathLike[str], columns: Collection[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV, Parquet or JSON file as batches of text columns: those of *columns*.

    A JSON document is one row: its fields are the columns, and what is no text in it is JSON text.
    """
    suffix = pathlib.Path(path).suffix
    if suffix == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            names = _chosen(file.schema_arrow.names, columns)
            for batch in file.iter_batches(columns=names):
                if batch.num_rows:
                    # Without a column the reader forgets how many rows there were.
                    yield batch if names else _bare(batch.num_rows)
    elif suffix == ".json":
        yield _document(path, columns)
    else:
        yield from read_csv_batches(path, columns)


def _bare(count: int) -> pa.RecordBatch:
    import pyarrow as pa

    rows = pa.array([{}] * count, pa.struct([]))
    return pa.RecordBatch.from_struct_array(rows)


def _document(path: str | os.PathLike[str], columns: Collection[str] | None) -> pa.RecordBatch:
    import pyarrow as pa

    found = json.loads(pathlib.Path(path).read_text("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{pathlib.Path(path).name} holds no JSON object.")  # noqa: TRY004 - of a file
    names = _chosen(list(found), columns)
    texts = [pa.array([_text(found[name])], pa.string()) for name in names]
    return pa.RecordBatch.from_arrays(texts, names=names) if names else _bare(1)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def read_csv_batches(
    path: str | os.PathLike[str], columns: Collection[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV file as batches of text columns; unquoted nothing is null."""
    from pyarrow import csv as arrow_csv
    from pyarrow import string

    header = next(read_lines(path), b"").decode("utf-8-sig", "surrogatepass")
    if not header:
        return
    names = _chosen(next(csv.reader([header])), columns)
    if not names:  # the reader would give all columns, of types that it guesses
        if rows := count_rows(path):
            yield _bare(rows)
        return
    convert = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(names, string()),
        include_columns=names,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    yield from _larger(_blocks(path, convert))


def _blocks(path: str | os.PathLike[str], convert: Any) -> Iterator[pa.RecordBatch]:
    """Yield what the reader makes of blocks, which grow when a row is longer than one."""
    from pyarrow import ArrowInvalid
    from pyarrow import csv as arrow_csv

    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    size, given = _BLOCK_BYTES, 0
    while True:
        read = arrow_csv.ReadOptions(block_size=size, use_threads=False)
        skip = given
        try:
            with arrow_csv.open_csv(path, read, parse, convert) as reader:
                for batch in reader:
                    fresh = batch.slice(min(skip, batch.num_rows))
                    skip -= batch.num_rows - fresh.num_rows
                    if fresh.num_rows:
                        given += fresh.num_rows
                        yield fresh
        except ArrowInvalid as error:
            if "straddl" not in str(error) or size >= _LARGEST_BLOCK:
                raise
            size = min(size * 8, _LARGEST_BLOCK)
        else:
            return


def _larger(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small batches: the reader buffers several blocks, so these should be small, but work on
    a batch has a price of its own, so that batches should not.
    """  # noqa: D205 - one sentence
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= _BATCH_BYTES:
            yield from _joined(held)
            size = 0
    if sum(batch.num_rows for batch in held):
        yield from _joined(held)


def _joined(held: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return batches as one; *held* is emptied, as it takes as much memory."""
    import pyarrow as pa

    whole = pa.Table.from_batches(held).combine_chunks()
    held.clear()
    joined: list[pa.RecordBatch] = whole.to_batches()
    return joined


def csv_to_parquet(path: str | os.PathLike[str]) -> pathlib.Path:
    """Replace a CSV file by a Parquet file with the same rows, batch by batch, and return it."""
    from pyarrow import parquet

    source = pathlib.Path(path)
    target = source.with_suffix(".parquet")
    writer = None
    try:
        for batch in read_csv_batches(source):
            writer = writer or parquet.ParquetWriter(target, batch.schema, compression="zstd")
            writer.write_batch(batch)
    finally:
        if writer is not None:
            writer.close()
    source.unlink()
    return target


def _chosen(names: Sequence[str], columns: Collection[str] | None) -> list[str]:
    return [name for name in names if columns is None or name in columns]
