"""Raw text columns as what rollups need: text without nulls, numbers, times, sets.

Arrow parses a column at once where all of it is written in one usual way. Where it is not, each different
text is parsed alone, so that one odd value costs time and not the report.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.rollups._engine import SET, whole

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """Return a column as numbers (64-bit integers by default), 0 where it is null, empty or absent.

    "t" and "f" are 1 and 0. Raises `ParameterError` for what is no number.
    """
    type_ = type_ or pa.int64()
    if name not in raw.column_names:
        return pa.array(np.zeros(raw.num_rows), type_)
    column = raw.column(name)
    try:
        values = column.cast(type_)
    except pa.ArrowInvalid:
        values = _each(raw, name, _number_of(type_), type_, "number")
    return pc.fill_null(values, pa.scalar(0, type_))


def utc_times(raw: pa.Table, name: str) -> Any:
    """Return a column as timestamps in UTC, null where it is null, empty, infinite or absent.

    Text without an offset is UTC, and so are integers, which count seconds since 1970 (or, by their
    size, milli-, micro- or nanoseconds). Raises `ParameterError` for what is no time.
    """
    if name not in raw.column_names:
        return pa.nulls(raw.num_rows, TIMESTAMP)
    column = raw.column(name)
    if not pa.types.is_integer(column.type):
        try:
            return column.cast(TIMESTAMP)
        except pa.ArrowInvalid:
            pass
    return _each(raw, name, _time_of, TIMESTAMP, "time")


def _each(
    raw: pa.Table, name: str, parsed: Callable[[str], Any], type_: pa.DataType, what: str
) -> Any:
    """Return a column with its different texts parsed one by one, as no fast way knows all of them."""
    codes = whole(pc.dictionary_encode(raw.column(name).cast(pa.string())))
    values = []
    for given in codes.dictionary.to_pylist():
        try:
            values.append(parsed(given.strip()) if given.strip() else None)
        except (ValueError, ArithmeticError) as error:
            shown = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}…"
            raise ParameterError(f"Column {name!r} holds {shown!r}, which is no {what}.") from error
    return pa.array(values, type_).take(codes.indices)


def _number_of(type_: pa.DataType) -> Callable[[str], int | float]:
    def parsed(given: str) -> int | float:
        if given in _BOOLEANS:
            return _BOOLEANS[given]
        if "_" in given:
            raise ValueError(given)
        if not pa.types.is_integer(type_):
            return float(given)
        number = decimal.Decimal(given)
        if number != number.to_integral_value() or abs(number) >= 1 << 63:
            raise ValueError(given)
        return int(number)

    return parsed


def _time_of(given: str) -> dt.datetime | None:
    if given.lower().lstrip("+-") in {"infinity", "inf"}:  # of PostgreSQL: as good as none
        return None
    if _COUNTED.fullmatch(given):
        count = decimal.Decimal(given)
        unit = next(u for u, limit in _UNITS if abs(count) < limit)
        return _EPOCH + dt.timedelta(microseconds=int(count * 1_000_000 / unit))
    text = _FINER.sub("", given.replace("z", "Z"))
    time = dt.datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


_SHOWN = 60
_BOOLEANS = {"t": 1, "f": 0, "true": 1, "false": 0, "True": 1, "False": 0}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Counted since 1970; eight digits alone are a day.
_COUNTED = re.compile(r"-?(?:[0-9]{1,7}|[0-9]{9,19})(?:[.][0-9]*)?")
#: Units of a second, and below which numbers they are meant: seconds reach to the year 5138.
_UNITS = ((1, 10**11), (10**3, 10**14), (10**6, 10**17), (10**9, 10**20))
#: What is finer than microseconds, and a space before the offset.
_FINER = re.compile(r"(?<=[.][0-9]{6})[0-9]+| (?=[+-][0-9]{2}(?::?[0-9]{2})?$)| ?(?:UTC|GMT)$")


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
