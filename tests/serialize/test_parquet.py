"""Frames are written as Parquet whenever it gives them back equal, and never when it does not."""

from __future__ import annotations

import datetime as dt
import decimal
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.serialize import (
    SerializationFormat,
    deserialize_data,
    detect_serialization_format,
    digest,
    serialize_data,
)
from ops.serialize.table_formats import ParquetSerializer

PARQUET = ParquetSerializer()


def objects(*values: Any) -> Any:
    made = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        made[i] = value
    return pd.Series(made, dtype=object)


def arrow(values: list[Any], kind: Any = None) -> Any:
    return pd.arrays.ArrowExtensionArray(pa.array(values, kind))


NUMBERS = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]
MASKED = [
    "boolean",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "Float32",
    "Float64",
]
DAYS = ["2020-01-01", "NaT"]

KEPT: dict[str, Any] = {
    **{name: np.array([0, 1], name) for name in NUMBERS},
    **{name: pd.array([1, None], dtype=name) for name in MASKED},
    **{f"time in {u}": np.array(DAYS, f"M8[{u}]") for u in ("ms", "us", "ns")},
    **{f"difference in {u}": np.array([1, "NaT"], f"m8[{u}]") for u in ("s", "ms", "us", "ns")},
    "times of a zone": pd.to_datetime(["2020-01-01"] * 2).tz_localize("UTC"),
    "not a number": np.array([-np.nan, -0.0]),
    "text": ["x", None],
    "text that is no ASCII": ["é", ""],
    "objects that are text": objects("x", None),
    "categories of text": pd.Categorical(["b", None], categories=["b", "a", "unused"]),
    "ordered categories": pd.Categorical(["b", "a"], categories=["b", "a"], ordered=True),
    "categories without a row": pd.Categorical([None, None], categories=["a"]),
    "many categories": pd.Categorical(["a", "b"], categories=[*map(str, range(400)), "b", "a"]),
    "bytes": objects(b"x", None),
    "whole numbers that are missing": objects(1, None),
    "truths that are missing": objects(True, None),
    "dates": objects(dt.date(2020, 1, 1), None),
    "times of day": objects(dt.time(1, 2, 3, 4), None),
    "decimals": objects(decimal.Decimal("1.1"), decimal.Decimal("2.2")),
    "lists": objects([1, 2], None),
    "lists of lists of text": objects([["a", None], []], []),
    "mappings with the same keys": objects({"a": 1}, {"a": None}),
    "nothing": objects(None, None),
    "Arrow numbers": arrow([1, None]),
    "Arrow floats": arrow([float("nan"), None]),
    "Arrow text": arrow(["a", None], pa.string()),
    "Arrow long text": arrow(["a", None], pa.large_string()),
    "Arrow lists": arrow([[1, None], None]),
    "Arrow lists of lists": arrow([[["a"]], []]),
    "Arrow records": arrow([{"a": 1, "b": ["x"]}, None]),
    "Arrow maps": arrow([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    "Arrow decimals": arrow([decimal.Decimal("1.10"), None]),
    "Arrow times": arrow([1, None], pa.timestamp("us", "Europe/Paris")),
    "Arrow dates": arrow([dt.date(2020, 1, 1), None]),
    "periods": pd.period_range("2020", periods=2, freq="M"),
}

LOST: dict[str, Any] = {
    "complex numbers": np.array([1j, 2]),
    "categories of numbers": pd.Categorical([3, 1]),
    "NaN beside missing text": objects("x", float("nan")),
    "numbers and text": objects(1, "x"),
    "whole and other numbers": objects(1, 2.5),
    "truths and numbers": objects(True, 1),
    "decimals of several scales": objects(decimal.Decimal("1.1"), decimal.Decimal("1.10")),
    "tuples": objects((1, 2), (3,)),
    "arrays": objects(np.array([1]), np.array([2])),
    "mappings with other keys": objects({"a": 1}, {"b": 1}),
    "empty mappings": objects({}, {}),
    "NumPy numbers": objects(np.int64(1), np.int64(2)),
    "pandas' missing value": objects("x", pd.NA),
    "large numbers": objects(2**70, 1),
    "sets": objects({1}, {2}),
    "text without a UTF-8 form": objects("\ud800", "x"),
    "sparse numbers": pd.arrays.SparseArray([0, 1]),
    "another byte order": np.array([1, 2], ">i4"),
}

INDICES: dict[str, Any] = {
    "counting": pd.RangeIndex(3, 7, 2, name="n"),
    "numbers": pd.Index([5, 3], name="n"),
    "small numbers": pd.Index(np.array([1, 2], "i1")),
    "text": pd.Index(["p", "q"]),
    "repeated": pd.Index([1, 1]),
    "times": pd.DatetimeIndex(["2020-01-03", "2020-01-01"], tz="UTC"),
    "levels": pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["x", None]),
    "levels of numbers": pd.MultiIndex.from_tuples([(1, 2.5), (2, 0.5)]),
}
LOST_INDICES: dict[str, Any] = {
    "a frequency": pd.date_range("2020", periods=2),
    "numbers and text": pd.Index([1, "a"]),
    "categories": pd.CategoricalIndex(["a", "b"]),
    "objects": pd.Index([1, 2], dtype=object),
}
LABELS: dict[str, Any] = {
    "numbers": pd.Index([1, 2]),
    "a name": pd.Index(["a", "b"], name="cols"),
    "levels": pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")], names=["p", "q"]),
    "text and numbers": pd.Index(["a", 1]),
    "repeated": pd.Index(["a", "a"]),
    "tuples": pd.Index([("a", 1), ("b", 2)], tupleize_cols=False),
    "text without a UTF-8 form": pd.Index(["\ud800", "b"], dtype=object),
}


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=True, check_flags=True)
    return digest(one) == digest(other)


def comes_back(frame: pd.DataFrame) -> bool:
    return same(PARQUET.loads(PARQUET.dumps(frame)), frame)


@pytest.mark.parametrize("name", KEPT)
def test_what_parquet_keeps_is_written_as_parquet(name: str) -> None:
    frame = pd.DataFrame({"a": KEPT[name], "b": [1, 2]})
    assert detect_serialization_format(frame) == SerializationFormat.PARQUET
    assert same(deserialize_data(serialize_data(frame)), frame)
    for part in (frame.iloc[:0], frame.iloc[1:], frame[["b", "a"]]):
        assert not PARQUET.holds(part) or comes_back(part)


@pytest.mark.parametrize("name", LOST)
def test_what_parquet_would_change_is_written_otherwise(name: str) -> None:
    frame = pd.DataFrame({"a": LOST[name], "b": [1, 2]})
    assert detect_serialization_format(frame) == SerializationFormat.FRAME


@pytest.mark.parametrize("name", INDICES)
def test_indices_come_back(name: str) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=INDICES[name])
    assert detect_serialization_format(frame) == SerializationFormat.PARQUET
    assert comes_back(frame)


@pytest.mark.parametrize("name", LOST_INDICES)
def test_indices_that_parquet_would_change_are_written_otherwise(name: str) -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=LOST_INDICES[name])
    assert detect_serialization_format(frame) == SerializationFormat.FRAME


@pytest.mark.parametrize("name", LABELS)
def test_labels_come_back_or_the_frame_is_written_otherwise(name: str) -> None:
    frame = pd.DataFrame([[1, "x"], [2, "y"]])
    frame.columns = LABELS[name]
    if PARQUET.holds(frame):
        assert comes_back(frame)
    else:
        assert detect_serialization_format(frame) == SerializationFormat.FRAME


@pytest.mark.parametrize("name", LABELS)
def test_no_warning_is_shown_while_a_format_is_chosen(name: str) -> None:
    frame = pd.DataFrame([[1, "x"], [2, "y"]])
    frame.columns = LABELS[name]
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        detect_serialization_format(frame)
    assert shown == []


def test_attributes_and_flags_are_not_lost() -> None:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["unit"] = ("m",)
    assert detect_serialization_format(frame) == SerializationFormat.FRAME
    unique = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    assert detect_serialization_format(unique) == SerializationFormat.FRAME


@pytest.mark.parametrize("values", [["a"], [1], [None], [True], [dt.date(2020, 1, 1)]])
def test_an_index_of_objects_comes_back_or_is_written_otherwise(values: list[Any]) -> None:
    for index in (
        pd.Index(values, dtype=object),
        pd.MultiIndex.from_arrays([pd.Index(values, dtype=object), [1]], names=["x", "y"]),
    ):
        frame = pd.DataFrame({"a": [1]}, index=index)
        for part in (frame, frame.iloc[:0]):
            assert not PARQUET.holds(part) or comes_back(part)


EVERYTHING = {**KEPT, **LOST}


@given(st.data())
@settings(max_examples=100)
def test_whatever_parquet_accepts_comes_back(data: Any) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(EVERYTHING)), min_size=1, unique=True))
    frame = pd.DataFrame({name: EVERYTHING[name] for name in names})
    indices = {**INDICES, **LOST_INDICES}
    if data.draw(st.booleans()):
        frame.index = indices[data.draw(st.sampled_from(sorted(indices)))]
    frame = frame.iloc[data.draw(st.sampled_from([slice(None), slice(0, 0), slice(1, None)]))]
    if PARQUET.holds(frame):
        assert comes_back(frame)
