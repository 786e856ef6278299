"""Raw text columns as what rollups need: text without nulls, numbers, times, sets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.rollups._engine import SET

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = [
    "TIMESTAMP",
    "constant",
    "first_of",
    "json_lists",
    "no_sets",
    "number",
    "sets_of",
    "text",
    "utc_times",
]

TIMESTAMP = pa.timestamp("us", tz="UTC")


def text(raw: pa.Table, name: str, missing: str = "") -> Any:
    """Return a column as text, *missing* where it is null or absent."""
    if name not in raw.column_names:
        return constant(missing, raw.num_rows)
    return pc.fill_null(raw.column(name).cast(pa.string()), missing)


def first_of(*columns: Any) -> Any:
    """Return for each row the first text that is not empty."""
    found = columns[-1]
    for column in reversed(columns[:-1]):
        found = pc.if_else(pc.equal(column, ""), found, column)
    return found


def constant(value: str, count: int) -> Any:
    """Return a column with one text in every row."""
    indices = pa.array(np.zeros(count, np.int32))
    return pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))


def number(raw: pa.Table, name: str, type_: pa.DataType | None = None) -> Any:
    """Return a column as numbers (64-bit integers by default), 0 where it is null or absent."""
    type_ = type_ or pa.int64()
    if name not in raw.column_names:
        return pa.array(np.zeros(raw.num_rows), type_)
    column = raw.column(name)
    try:
        values = column.cast(type_)
    except pa.ArrowInvalid:
        values = _blank_is_null(column).cast(type_)
    return pc.fill_null(values, pa.scalar(0, type_))


def utc_times(raw: pa.Table, name: str) -> Any:
    """Return a column as timestamps in UTC, null where absent; text without an offset is UTC."""
    if name not in raw.column_names:
        return pa.nulls(raw.num_rows, TIMESTAMP)
    column = raw.column(name)
    try:
        return column.cast(TIMESTAMP)
    except pa.ArrowInvalid:
        column = _blank_is_null(column)
    try:
        return column.cast(TIMESTAMP)
    except pa.ArrowInvalid:
        return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC")


def _blank_is_null(column: Any) -> Any:
    texts = column.cast(pa.string())
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def no_sets(count: int) -> Any:
    """Return an empty set for each row."""
    return pa.ListArray.from_arrays(
        pa.array(np.zeros(count + 1, np.int32)), pa.array([], pa.string())
    )


def sets_of(column: Any) -> Any:
    """Return for each row the set of its text alone, empty where the text is."""
    return pa.array([[v] if v else [] for v in column.to_pylist()], SET)


def json_lists(raw: pa.Table, name: str) -> Any:
    """Return for each row the texts of its JSON list."""
    return pa.array([_texts(v) for v in text(raw, name).to_pylist()], SET)


def _texts(value: str) -> list[str]:
    try:
        found = json.loads(value) if value else []
    except ValueError:
        return [value]
    items = found if isinstance(found, list) else [found]
    return [i if isinstance(i, str) else json.dumps(i, sort_keys=True) for i in items]
