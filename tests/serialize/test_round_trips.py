"""Whatever goes in comes out equal in value and type, whichever format was chosen."""

import datetime as dt
import decimal
import pathlib
import uuid
import zoneinfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ops.serialize import (
    SerializationFormat,
    SerializeError,
    SmartSerializer,
    UnsupportedTypeError,
    deserialize_data,
    digest,
    dump,
    load,
    register_custom_serializer,
    serialize_data,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
)
trees = st.recursive(
    scalars,
    lambda t: st.lists(t) | st.dictionaries(st.text() | st.integers(), t) | st.tuples(t, t),
    max_leaves=20,
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda t: st.lists(t) | st.dictionaries(st.text(), t),
    max_leaves=20,
)


@given(trees, st.booleans())
def test_nested_python_values_come_back(tree, compress):
    result = SmartSerializer().serialize(tree, compress=compress)
    assert digest(deserialize_data(result)) == digest(tree)


@given(plain, st.sampled_from(["json", "msgpack", "yaml", "frame", "pickle"]))
def test_each_text_format_gives_plain_data_back_or_refuses(tree, name):
    trust = "all" if name == "pickle" else "safe"
    try:
        data = serialize_data(tree, name, trust=trust)
    except UnsupportedTypeError:
        assert name == "yaml"
        return
    assert digest(deserialize_data(data, trust=trust)) == digest(tree)


@given(
    hnp.arrays(hnp.scalar_dtypes() | hnp.array_dtypes(), hnp.array_shapes(min_dims=0, min_side=0))
)
def test_arrays_of_every_dtype_come_back(array):
    back = deserialize_data(serialize_data(array))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert digest(back) == digest(array)


@pytest.mark.parametrize("size", [4095, 4096, 4097, 100_000])
@pytest.mark.parametrize("compression", ["auto", "none", "lz4", "zstd", "zlib"])
def test_sizes_around_the_thresholds_come_back(size, compression):
    value = {"a": (b"x" * size, np.arange(size)), "b": np.random.default_rng(0).bytes(size)}
    assert digest(deserialize_data(serialize_data(value, compression=compression))) == digest(value)


FRAMES = {
    "numbers": {"a": [1, 2], "b": [0.5, None]},
    "strings": {"a": ["x", None]},
    "mixed objects": {"a": pd.Series([1, "x", None], dtype=object)},
    "categories of ints": {"a": pd.Categorical([3, 1])},
    "time zones": {"a": pd.date_range("2020", periods=3, tz="Europe/Paris")},
    "masked": {
        "a": pd.array([1, None], dtype="Int8"),
        "b": pd.array([True, None], dtype="boolean"),
    },
    "arrow": {"a": pd.array([1, None], dtype="int64[pyarrow]")},
    "empty": {},
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_come_back(name, tmp_path):
    frame = pd.DataFrame(FRAMES[name])
    pd.testing.assert_frame_equal(deserialize_data(serialize_data(frame)), frame)
    dump(frame, tmp_path / "f.opsf")
    pd.testing.assert_frame_equal(load(tmp_path / "f.opsf", mmap="r"), frame)


def test_frames_with_duplicate_columns_or_many_levels_come_back():
    duplicate = pd.DataFrame(np.eye(2), columns=["a", "a"])
    levels = duplicate.set_axis(pd.MultiIndex.from_product([[1], ["x", "y"]], names=["n", None]))
    for frame in (duplicate, levels, levels.T):
        pd.testing.assert_frame_equal(deserialize_data(serialize_data(frame)), frame)


def test_detection_takes_the_compact_format_only_where_it_loses_nothing():
    detect = SmartSerializer().detect_format
    assert detect(pd.DataFrame({"a": [1]})) == SerializationFormat.PARQUET
    assert detect(np.zeros(2)) == SerializationFormat.NUMPY
    assert detect({"a": [1]}) == SerializationFormat.JSON
    lossy = [(1,), {1: 2}, float("nan"), b"x", {1}, np.array([None]), pd.DataFrame({"a": [{}]})]
    assert {detect(value) for value in lossy} == {SerializationFormat.FRAME}


def test_a_forced_format_refuses_what_it_would_change():
    with pytest.raises(UnsupportedTypeError, match="JSON would not give this tuple back"):
        serialize_data((1, 2), SerializationFormat.JSON)


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(2020, 1, 2, tzinfo=dt.UTC),
        dt.datetime(2020, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
        decimal.Decimal("1.10"),
        pathlib.PurePosixPath("a/b"),
        uuid.UUID(int=5),
        np.float32(1.5),
        pd.NaT,
        pd.NA,
        pd.Timestamp("2020", tz="UTC"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_standard_values_come_back_under_safe(value):
    back = deserialize_data(serialize_data(value))
    assert type(back) is type(value)
    assert digest(back) == digest(value)


def test_what_is_no_data_or_no_way_to_map_is_refused(tmp_path):
    with pytest.raises(TypeError, match="takes bytes"):
        deserialize_data(str(tmp_path / "x"))
    dump([1], tmp_path / "x")
    with pytest.raises(ValueError, match="mmap='w'"):
        load(tmp_path / "x", mmap="w")
    with pytest.raises(SerializeError, match=r"'xml'.*parquet"):
        serialize_data([1], "xml")


def test_loaded_arrays_are_writable():
    back = deserialize_data(serialize_data((np.zeros(5000),)))[0]
    back[0] = 1


class Point:
    def __init__(self, x):
        self.x = x


class PointSerializer:
    format = "point"

    def dumps(self, obj, /):
        return obj.x.to_bytes(4, "little")

    def loads(self, data, /):
        return Point(int.from_bytes(data, "little"))


def test_a_custom_serializer_is_used_by_type():
    smart = SmartSerializer(formats={Point: PointSerializer()})
    result = smart.serialize(Point(7))
    assert result.format == "point"
    assert smart.deserialize(result).x == 7


def test_a_custom_serializer_can_be_registered_for_the_process(monkeypatch):
    monkeypatch.setattr("ops.serialize.smart._global_custom", [])
    register_custom_serializer(lambda obj: isinstance(obj, Point), PointSerializer())
    assert deserialize_data(serialize_data(Point(8))).x == 8


DTYPES = [
    np.dtype("<f8"),
    np.dtype(">i2"),
    np.dtype("M8[25s]"),
    np.dtype("m8"),
    np.dtype("V7"),
    np.dtype("<U3"),
    np.dtype("O"),
    np.dtype([("a", ">f4"), ("b", "O"), ("c", "i1", (2, 3))]),
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype([(("title", "a"), "i4")]),
    np.dtype({"names": ["a", "b"], "formats": ["u1", "u2"], "offsets": [5, 1], "itemsize": 9}),
    np.dtype(("i4", (2, 2))),
    np.dtype("f4", metadata={"unit": "m"}),
    np.dtype([("a", "f4")], metadata={"unit": "m"}),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_with_all_that_it_says(dtype):
    back = deserialize_data(serialize_data((dtype,)))[0]
    assert back == dtype
    assert back.isalignedstruct == dtype.isalignedstruct
    assert dict(back.metadata or {}) == dict(dtype.metadata or {})
    array = np.zeros(3, dtype)
    again = deserialize_data(serialize_data({"array": array}))["array"]
    assert type(again) is np.ndarray
    assert again.dtype == array.dtype
    assert digest(again) == digest(array)


ARRAYS = [
    np.float32(3).reshape(()),
    np.arange(12).reshape(3, 4)[::2, ::-1],
    np.asfortranarray(np.arange(12).reshape(3, 4)),
    np.zeros((0, 3)),
    np.array([1, "a", None, [2]], dtype=object),
    np.array(["NaT", "2024-01-01"], "M8[ns]"),
    np.ma.masked_array([1, 2], [0, 1]).data,
    np.array([(1, "x")], [("a", "i4"), ("b", "O")]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_every_kind_of_array_comes_back_inside_of_something(array):
    back = deserialize_data(serialize_data([array, array]))
    assert back[0] is back[1]
    assert digest(back[0]) == digest(array)
    assert back[0].flags.f_contiguous == array.flags.f_contiguous or not array.flags.contiguous


def test_an_array_that_holds_itself_comes_back():
    array = np.array([None], dtype=object)
    array[0] = [array]
    back = deserialize_data(serialize_data([array]))[0]
    assert back[0][0] is back


@pytest.mark.parametrize("rows", [0, 1, 70_000, 300_000])
def test_long_columns_of_text_come_back(rows, tmp_path):
    frame = pd.DataFrame({"c": ["x", "yy"] * (rows // 2) + ["z"] * (rows % 2)})
    dump(frame, tmp_path / "f")
    for back in (load(tmp_path / "f"), load(tmp_path / "f", mmap="r")):
        pd.testing.assert_frame_equal(back, frame)
    pa = pytest.importorskip("pyarrow")
    for column in (pa.chunked_array([["a"], [], ["b"]]), pa.chunked_array([[], []], pa.string())):
        assert deserialize_data(serialize_data(column)).equals(column)
