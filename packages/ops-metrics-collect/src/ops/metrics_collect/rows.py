r"""Rows of payload files, CSV, Parquet or JSON alike: counted, and read as batches of text columns.

All columns are text, so that the formats look the same to every reader; NULL is null. Booleans are "t"
and "f", bytes "\x" and hex digits, times ISO 8601, lists and structs JSON, as in the CSV of this package.
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

__all__ = [
    "SUFFIXES",
    "count_rows",
    "csv_to_parquet",
    "documents_of",
    "read_batches",
    "read_csv_batches",
    "texts_of",
]

_BLOCK_BYTES = 1 << 20
_LARGEST_BLOCK = (1 << 31) - 1  # of the reader
_BATCH_BYTES = 4 << 20

#: Of files that hold rows.
SUFFIXES = (".csv", ".parquet", ".json")


def count_rows(path: str | os.PathLike[str]) -> int:
    """Return the number of rows of a CSV, Parquet or JSON file; anything else is one document."""
    suffix = pathlib.Path(path).suffix
    if suffix == ".csv":
        lines = read_lines(path)
        header = next(lines, b"")
        # In a file of one column a line of nothing is a NULL; in others it is nothing.
        blank = () if _is_narrow(header) else (b"\n", b"\r\n")
        return sum(line not in blank for line in lines)
    if suffix == ".parquet":
        from pyarrow import parquet

        return int(parquet.read_metadata(path).num_rows)
    return len(documents_of(path)) if suffix == ".json" else 1


def _is_narrow(header: bytes) -> bool:
    return len(next(csv.reader([header.decode("utf-8-sig", "replace")]), [])) == 1


def read_batches(
    path: str | os.PathLike[str], columns: Collection[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV, Parquet or JSON file as batches of text columns: those of *columns*.

    A JSON object is one row, a list of them are several: its fields are the columns, and what is no
    text in it is JSON text. Raises `ValueError` for a column that is there twice.
    """
    suffix = pathlib.Path(path).suffix
    if suffix == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            names = _chosen(file.schema_arrow.names, columns)
            for batch in file.iter_batches(columns=names):
                if batch.num_rows:
                    # Without a column the reader forgets how many rows there were.
                    yield _as_text(batch) if names else _bare(batch.num_rows)
    elif suffix == ".json":
        if documents := documents_of(path):
            yield _documents(documents, columns)
    else:
        yield from read_csv_batches(path, columns)


def _bare(count: int) -> pa.RecordBatch:
    import pyarrow as pa

    rows = pa.array([{}] * count, pa.struct([]))
    return pa.RecordBatch.from_struct_array(rows)


def documents_of(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the objects of a JSON file, which holds one or a list of them; `ValueError` if not."""
    found = json.loads(pathlib.Path(path).read_text("utf-8-sig"))
    documents = found if isinstance(found, list) else [found]
    if not all(isinstance(document, dict) for document in documents):
        raise ValueError(f"{pathlib.Path(path).name} holds no JSON object.")
    return documents


def _documents(
    documents: Sequence[dict[str, Any]], columns: Collection[str] | None
) -> pa.RecordBatch:
    import pyarrow as pa

    names = _chosen(list(dict.fromkeys(name for d in documents for name in d)), columns)
    texts = [pa.array([_text(d.get(name)) for d in documents], pa.string()) for name in names]
    if not names:
        return _bare(len(documents))
    return pa.RecordBatch.from_arrays(texts, names=names)


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
    there = next(csv.reader([header]))
    names = _chosen(there, columns)
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
    # In a file of one column a line of nothing is a NULL.
    parse = arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(there) > 1)
    yield from _larger(_blocks(path, parse, convert))


def _blocks(path: str | os.PathLike[str], parse: Any, convert: Any) -> Iterator[pa.RecordBatch]:
    """Yield what the reader makes of blocks, which grow when a row is longer than one."""
    from pyarrow import ArrowInvalid
    from pyarrow import csv as arrow_csv

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


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [
        column if column.type == pa.string() else texts_of(column) for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def texts_of(column: pa.Array) -> pa.Array:
    """Return a column of Parquet as text, as the CSV of this package has it."""
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return texts_of(column.dictionary_decode())
    if types.is_boolean(kind):
        import pyarrow.compute

        pc: Any = pyarrow.compute
        return pc.if_else(column, "t", "f")
    if types.is_timestamp(kind):
        # As the text of another unit it would say the same; finer than microseconds is no time here.
        micro = column.cast(pa.timestamp("us", kind.tz and "UTC"), safe=False)
        return micro.cast(pa.string())
    if types.is_duration(kind):
        lasted = column.cast(pa.duration("us"), safe=False).to_pylist()
        seconds = [None if value is None else value.total_seconds() for value in lasted]
        return pa.array(seconds, pa.float64()).cast(pa.string())
    binary = (pa.binary(), pa.large_binary(), pa.binary_view())
    if types.is_nested(kind) or kind in binary or types.is_fixed_size_binary(kind):
        return pa.array([_encoded(v) for v in column.to_pylist()], pa.string())
    return column.cast(pa.string())


def _encoded(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


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
    chosen = [name for name in names if columns is None or name in columns]
    for name in chosen:
        if chosen.count(name) > 1:
            raise ValueError(f"column {name!r} is there twice.")
    return chosen
