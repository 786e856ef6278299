"""Parquet for the frames that it gives back unchanged, of pandas 2.2 and 3.

What a frame is made of (dtypes, labels, names, the kind of its index) is decided by what happens to the
same frame without rows: it is written and read once, and the answer kept. What depends on values is
decided by rules: a column of objects is held if Arrow gives back its values in the same types, a
categorical if its categories are texts. Both are restored from a note in the file's metadata, since
pandas alone would make arrays of lists, and drop categories that no row has.
"""

from __future__ import annotations

import io
import json
import warnings
from typing import Any

from ops.foundation.imports import LazyImport
from ops.serialize.digests import digest
from ops.serialize.formats import BuiltinFormat, SerializationFormat

# Typed Any: the modules are optional and mostly untyped.
np: Any = LazyImport("numpy", extra="ops-serialize[numpy]")
pa: Any = LazyImport("pyarrow", extra="ops-serialize[arrow]")
pd: Any = LazyImport("pandas", extra="ops-serialize[pandas]")

__all__ = ["ParquetSerializer"]

_NOTE = b"ops.serialize"
_MAX_SECONDS = 2**63 // 1000 - 1  # Parquet counts milliseconds where pandas may count seconds
_READS_INTERVALS = 20  # major version of Arrow
_KNOWN = 1024  # structures whose answer is kept
_held_structures: dict[str, bool] = {}


class ParquetSerializer(BuiltinFormat):
    """Parquet, for every frame that comes back equal."""

    format = SerializationFormat.PARQUET

    def holds(self, obj: Any) -> bool:
        """Whether Parquet keeps index, names, dtypes and values; when in doubt, no."""
        if (
            not pa.is_available
            or type(obj).__name__ != "DataFrame"
            or type(obj) is not pd.DataFrame
        ):
            return False
        if obj.attrs or not len(obj.columns) or not obj.columns.is_unique:
            return False
        objects = _is_of_objects(obj.columns.dtype) and obj.columns.nlevels == 1
        if objects and {*map(type, obj.columns)} != {str}:
            # Arrow would warn of labels of several types, and mix them up.
            return False
        if not all(_index_keeps(obj.index, i) for i in range(obj.index.nlevels)):
            return False
        return _keeps_structure(obj) and all(
            _keeps_values(column.dtype, column.array) for _, column in obj.items()
        )

    def dumps(self, obj: Any, /) -> bytes:
        """Return the frame as a Parquet file."""
        self.require(obj)
        return _written(obj)

    def loads(self, data: Any, /) -> Any:
        """Return the frame."""
        return _read(data)


def _written(frame: Any) -> bytes:
    import pyarrow.parquet

    table = _table_of(frame)
    note: dict[str, Any] = {"objects": [], "arrow": [], "categories": {}}
    for i, (_, column) in enumerate(frame.items()):
        dtype, values = column.dtype, None
        if _is_of_objects(dtype):
            note["objects"].append(i)
            values = pa.array(column.tolist(), from_pandas=False)
        elif isinstance(dtype, pd.ArrowDtype):
            note["arrow"].append(i)
        elif isinstance(dtype, pd.CategoricalDtype):
            note["categories"][i] = dtype.categories.tolist()
        elif isinstance(dtype, np.dtype) and dtype.kind == "f":  # a NaN is no missing value
            values = pa.array(column.to_numpy(), from_pandas=False)
        if values is not None:
            table = table.set_column(i, table.schema.field(i).name, values)
    metadata = {**(table.schema.metadata or {}), _NOTE: json.dumps(note).encode()}
    described = json.loads(metadata[b"pandas"])
    for i in (*note["objects"], *note["arrow"]):  # what pandas finds there are numbers, see _read
        described["columns"][i].update(pandas_type="int8", numpy_type="int8", metadata=None)
    metadata[b"pandas"] = json.dumps(described).encode()
    sink = io.BytesIO()
    table = table.replace_schema_metadata(metadata)
    options = {"compression": "zstd", "use_compliant_nested_type": False}  # keeps names of items
    pyarrow.parquet.write_table(table, sink, **options)
    return sink.getvalue()


def _table_of(frame: Any) -> Any:
    dtypes = [*frame.dtypes, *getattr(frame.index, "dtypes", [frame.index.dtype])]
    if not any(isinstance(dtype, pd.DatetimeTZDtype) for dtype in dtypes):
        return pa.Table.from_pandas(frame)
    with warnings.catch_warnings():  # Arrow uses what pandas 3.1 warns of
        warnings.filterwarnings("ignore", message=r"\w+\.values returning an ndarray that drops")
        return pa.Table.from_pandas(frame)


def _read(data: Any) -> Any:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(pa.BufferReader(pa.py_buffer(data)))
    note = json.loads((table.schema.metadata or {}).get(_NOTE, b"{}"))
    own = {i: table.column(i) for i in (*note.get("objects", ()), *note.get("arrow", ()))}
    for i in own:  # their values are not for pandas to convert
        numbers = pa.array(np.zeros(table.num_rows, np.int8))
        table = table.set_column(i, table.schema.field(i).name, numbers)
    frame = table.to_pandas()
    for i in note.get("objects", ()):
        values = np.empty(len(frame), dtype=object)
        for row, value in enumerate(own[i].to_pylist()):  # one by one: lists stay lists
            values[row] = value
        frame.isetitem(i, pd.Series(values, index=frame.index, dtype=object))
    for i in note.get("arrow", ()):
        array = pd.arrays.ArrowExtensionArray(own[i])
        frame.isetitem(i, pd.Series(array, index=frame.index))
    for position, names in note.get("categories", {}).items():
        column = frame.iloc[:, int(position)]
        kept = pd.Index(names, dtype=_dtype_of_texts())
        frame.isetitem(int(position), pd.Series(_recoded(column.cat, kept), index=frame.index))
    return frame


def _recoded(found: Any, names: Any) -> Any:
    """Return a categorical with the categories *names*, some of which no row has."""
    codes = found.codes.to_numpy()
    if len(found.categories):
        positions = names.get_indexer(found.categories)
        codes = np.where(codes < 0, -1, positions[codes])
    return pd.Categorical.from_codes(codes, categories=names, ordered=found.ordered)


def _keeps_structure(frame: Any) -> bool:
    """Whether the frame without its rows comes back: all that does not depend on values."""
    if (
        any(isinstance(dtype, pd.IntervalDtype) for dtype in frame.dtypes)
        and not _reads_intervals()
    ):
        return False
    # Levels of objects without a row have no type, and come back with another one.
    levels = frame.index.levels if frame.index.nlevels > 1 else ()
    empty = frame.iloc[: int(any(_is_of_objects(level.dtype) for level in levels))]
    zone = type(getattr(frame.index.dtype, "tz", None))
    key = digest([empty, str(zone), list(map(_name_of_dtype, frame.dtypes))])
    found = _held_structures.get(key)
    if found is None:
        try:
            again = _read(_written(empty))
            pd.testing.assert_frame_equal(again, empty, check_freq=True, check_flags=True)
            found = digest(again) == digest(empty)
        except MemoryError:  # no matter of frames of this structure
            raise
        except Exception:  # noqa: BLE001 - of Arrow or pandas: the frame has no form in Parquet
            found = False
        if len(_held_structures) >= _KNOWN:
            _held_structures.clear()
        _held_structures[key] = found
    return found


def _reads_intervals() -> bool:
    """Whether Arrow reads columns of intervals; version 16 ends the process."""
    return int(pa.lib.cpp_version_info.major) >= _READS_INTERVALS


def _name_of_dtype(dtype: Any) -> str:
    storage = getattr(dtype, "storage", "")
    zone = type(getattr(dtype, "tz", None))
    return f"{type(dtype).__qualname__} {dtype} {zone} {storage} {getattr(dtype, 'na_value', '')}"


def _is_of_objects(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind == "O"


def _dtype_of_texts() -> Any:
    """Return the dtype that an index of texts has: object before pandas 3."""
    return pd.Index(["name"]).dtype


def _index_keeps(index: Any, level: int) -> bool:
    if type(index) is pd.RangeIndex:
        return True
    if getattr(index, "freq", None) is not None:
        return False
    values = index.get_level_values(level)
    if _is_of_objects(values.dtype):
        comes_back = _is_of_objects(_dtype_of_texts())  # from pandas 3 on, texts become `str`
        return comes_back and {*map(type, values)} == {str} and _is_utf8(values.tolist())
    if isinstance(values.dtype, pd.CategoricalDtype | pd.IntervalDtype | pd.PeriodDtype):
        return False
    return _keeps_values(values.dtype, values.array)


def _keeps_values(dtype: Any, values: Any) -> bool:
    """Whether values come back, where that does not follow from their dtype."""
    if _is_of_objects(dtype):
        return _objects_come_back(values.tolist())
    if isinstance(dtype, pd.CategoricalDtype):
        names = dtype.categories
        if names.dtype != _dtype_of_texts() or not {*map(type, names)} <= {str}:
            return False
        return _is_utf8(names.tolist())
    if isinstance(dtype, pd.ArrowDtype):
        return _arrow_keeps(dtype.pyarrow_dtype)
    if isinstance(dtype, np.dtype):
        if dtype.kind in "mM":
            return np.datetime_data(dtype)[0] != "s" or _in_milliseconds(values)
        return dtype.kind in "biuf" and dtype.isnative and dtype.itemsize <= 8
    if isinstance(dtype, pd.DatetimeTZDtype):
        return dtype.unit != "s" or _in_milliseconds(values)
    if isinstance(dtype, pd.StringDtype):
        return True
    if hasattr(values, "_mask"):  # nullable: a NaN that is no missing value would become one
        plain = values.to_numpy(dtype=dtype.numpy_dtype, na_value=0)
        return dtype.kind != "f" or not np.isnan(plain).any()
    return isinstance(dtype, pd.PeriodDtype | pd.IntervalDtype)


def _in_milliseconds(values: Any) -> bool:
    numbers = values.asi8
    numbers = numbers[numbers != np.iinfo(np.int64).min]  # without NaT
    return not len(numbers) or bool(numbers.min() > -_MAX_SECONDS and numbers.max() < _MAX_SECONDS)


def _objects_come_back(values: list[Any]) -> bool:
    """Whether Arrow gives back the objects of a column in the same types."""
    kinds = {*map(type, values)}
    if kinds <= {str, type(None)}:
        return _is_utf8(values)
    if kinds & {int, float} and len(kinds - {type(None)}) > 1:
        return False  # Arrow would make all of them floats
    try:
        array = pa.array(values, from_pandas=False)
        return _arrow_keeps(array.type) and digest(array.to_pylist()) == digest(values)
    except Exception:  # noqa: BLE001 - of Arrow, or the values have no digest
        return False


def _is_utf8(texts: list[str | None]) -> bool:
    try:
        "".join(filter(None, texts)).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _arrow_keeps(kind: Any) -> bool:
    """Whether Parquet keeps the values of an Arrow type, whatever they are."""
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):  # those of one size cannot be null there
        return _arrow_keeps(kind.value_type)
    if types.is_struct(kind):
        return kind.num_fields > 0 and all(
            _arrow_keeps(kind.field(i).type) for i in range(kind.num_fields)
        )
    if types.is_map(kind):
        return _arrow_keeps(kind.key_type) and _arrow_keeps(kind.item_type)
    if types.is_timestamp(kind) or types.is_duration(kind) or types.is_time(kind):
        return str(kind.unit) != "s"
    return bool(
        types.is_integer(kind)
        or types.is_null(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_date32(kind)
        or types.is_decimal(kind)
    )
