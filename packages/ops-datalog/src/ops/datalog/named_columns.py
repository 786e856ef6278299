"""Exports of sources that have a schema: columns with names, units and times instead of bytes.

Everything goes block by block but a DataFrame and a .mat file, which are whole by nature.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ops.datalog.messages import Columns
from ops.foundation.errors import ValidationError
from ops.foundation.files import atomic_write
from ops.foundation.imports import LazyImport

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from ops.datalog.reader import LogReader
    from ops.datalog.schema import LogSchema

pandas: Any = LazyImport("pandas", "ops-datalog[pandas]")
pyarrow: Any = LazyImport("pyarrow", "ops-datalog[arrow]")
scipy_io: Any = LazyImport("scipy.io", "ops-datalog[mat]")

_MATLAB_LIMIT = 31


def schema_of(log: LogReader, source: int | None) -> LogSchema | None:
    """Return the schema of *source*, None when it has none or all sources are meant."""
    if source is None:
        return None
    described = log.described().get(source)
    return None if described is None else described.schema


def arrow_schema(schema: LogSchema) -> Any:
    """Return the pyarrow.Schema of a source: `time` and its columns, with units in the metadata."""
    names = {"time": np.dtype(np.uint64)} | {
        name: column.dtype for name, column in _empty(schema).items() if name != "time"
    }
    fields = []
    for name, dtype in names.items():
        unit = schema.time_unit if name == "time" else schema.unit(name)
        metadata = {"unit": unit} if unit else None
        fields.append(
            pyarrow.field(name, pyarrow.from_numpy_dtype(dtype), nullable=False, metadata=metadata)
        )
    rate = {} if schema.rate is None else {"rate": repr(schema.rate)}
    return pyarrow.schema(fields, metadata=rate or None)


def arrow_batch(schema: LogSchema, source: int, block: Any, arrow: Any) -> Any:
    """Return the rows of *block* as a RecordBatch with the pyarrow.Schema *arrow*."""
    table = schema.table(source, block)
    return pyarrow.RecordBatch.from_arrays(
        [pyarrow.array(column) for column in table.values()], schema=arrow
    )


def to_pandas(log: LogReader, source: int | None) -> Any:
    """Return a DataFrame: the columns of the schema of *source*, or source, time and data as bytes."""
    schema = schema_of(log, source)
    if schema is None or source is None:
        messages = list(log.iter(source))
        return pandas.DataFrame(
            {
                "source": np.array([m.source_id for m in messages], np.uint8),
                "time": np.array([m.timestamp for m in messages], np.uint64),
                "data": [bytes(m.data) for m in messages],
            }
        )
    frame = pandas.DataFrame(schema.table(source, log.columns(source)))
    frame.attrs.update(
        {"units": schema.units_by_name(), "rate": schema.rate, "time_unit": schema.time_unit}
    )
    return frame


def to_mat(log: LogReader, path: str | os.PathLike[str], source: int | None) -> Path:
    """Write a MATLAB file (version 5) with a structure for each source: `time`, and its columns or `data`."""
    described = log.described()
    content: dict[str, Any] = {}
    for number in log.sources() if source is None else [source]:
        known = described.get(number)
        name = known.name if known is not None and known.name else f"source_{number:03d}"
        messages = log.columns(number)
        if known is not None and known.schema is not None:
            table: dict[str, Any] = dict(known.schema.table(number, messages))
            units = {column: known.schema.unit(column) for column in known.schema.columns}
            table["units"] = {_matlab(column): unit for column, unit in units.items()}
        else:
            table = {"time": messages.times, "data": _cells(messages)}
        names = [_matlab(column) for column in table]
        if len(set(names)) < len(names):
            raise ValidationError(
                f"The columns of source {number} have no names in MATLAB that differ."
            )
        content[_matlab(name)] = dict(zip(names, table.values(), strict=True))
    with atomic_write(path, "wb") as file, tempfile.TemporaryFile() as whole:
        scipy_io.savemat(whole, content, long_field_names=True, oned_as="column")
        whole.seek(0)
        while part := whole.read(1 << 20):
            file.write(part)
    return Path(path)


def csv_rows(schema: LogSchema, source: int, blocks: Iterator[Any]) -> Iterator[list[Any]]:
    """Yield the lines of a CSV file, the first one with the names of the columns."""
    yield ["time", *schema.columns]
    for block in blocks:
        table = schema.table(source, block)
        yield from map(list, zip(*(column.tolist() for column in table.values()), strict=True))


def _empty(schema: LogSchema) -> dict[str, np.ndarray]:
    nothing = np.empty((0, schema.row_bytes), np.uint8)
    return schema.table(0, Columns(np.empty(0, np.uint64), nothing))


def _cells(messages: Columns) -> np.ndarray:
    if isinstance(messages.data, np.ndarray):
        return messages.data
    cells = np.empty(len(messages.data), object)
    cells[:] = messages.data
    return cells


def _matlab(name: str) -> str:
    """Return *name* as MATLAB takes it: letters, digits and underscores, the first one a letter."""
    text = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return (text if text[:1].isalpha() else f"x{text}")[:_MATLAB_LIMIT]
