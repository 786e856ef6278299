"""Nodes of pandas' arrays, dtypes, scalars and offsets."""

from __future__ import annotations

import datetime as dt
import functools
import importlib
import re
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError, SerializeError, UnsupportedTypeError
from ops.serialize.nodes.parts import (
    check_labels,
    count_items,
    expect,
    int_between,
    paired,
    pairs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.serialize.nodes.parts import Reading

# Typed Any: the stubs know no internals, and differ between versions.
np: Any = LazyImport("numpy", "ops-serialize[numpy]").import_module()
pd: Any = LazyImport("pandas", "ops-serialize[pandas]").import_module()

__all__ = ["BUILDERS", "bare", "encoder_of"]

_UNITS = ("s", "ms", "us", "ns")
_CLOSED = ("left", "right", "both", "neither")
_MASKED = {
    cls.__name__: cls
    for cls in (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)
}
_SIMPLE = {
    cls.__name__: cls
    for cls in (
        pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype, pd.UInt8Dtype, pd.UInt16Dtype,
        pd.UInt32Dtype, pd.UInt64Dtype, pd.Float32Dtype, pd.Float64Dtype, pd.BooleanDtype,
    )
}  # fmt: skip
_OFFSETS = {
    cls.__name__: cls
    for cls in vars(pd.offsets).values()
    if isinstance(cls, type)
    and issubclass(cls, pd.offsets.BaseOffset)
    and not cls.__name__.startswith("Custom")
    and cls is not pd.offsets.BaseOffset
}
_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,40}(/[A-Za-z0-9_+\-]{1,40}){0,3}", re.ASCII)


def encoder_of(kind: type) -> Callable[[Any], tuple[str, tuple[Any, ...]]] | None:
    """Return the encoder of exactly this type, or None."""
    found = _encoders().get(kind)
    if found is None:
        if issubclass(kind, dt.tzinfo) and kind.__module__.partition(".")[0] == "pytz":
            return _pytz
        if _is_arrow_text(kind):
            return _arrow_text
    return found


def _is_arrow_text(kind: type) -> bool:
    return kind.__name__ in {"ArrowStringArray", "ArrowStringArrayNumpySemantics"}


@functools.cache
def _encoders() -> dict[type, Any]:
    offsets = dict.fromkeys(_OFFSETS.values(), _offset)
    return {
        **offsets,
        **dict.fromkeys(_MASKED.values(), _masked),
        **{cls: lambda v: ("pd.dtype", (type(v).__name__,)) for cls in _SIMPLE.values()},
        pd.Categorical: lambda v: ("pd.categorical", (v.codes, v.categories, bool(v.ordered))),
        pd.arrays.DatetimeArray: _times,
        pd.arrays.TimedeltaArray: lambda v: ("pd.timedeltas", (_wide(v._ndarray), _flat(v))),  # noqa: SLF001
        pd.arrays.PeriodArray: lambda v: ("pd.periods", (v.asi8, v.freq)),
        pd.arrays.IntervalArray: lambda v: ("pd.intervals", (v.left, v.right, v.closed)),
        pd.arrays.SparseArray: _sparse,
        pd.arrays.NumpyExtensionArray: lambda v: ("pd.numpy", (v.to_numpy(),)),
        pd.arrays.StringArray: _texts,
        pd.arrays.ArrowExtensionArray: _arrow,
        pd.Timestamp: _timestamp,
        pd.Timedelta: lambda v: ("pd.timedelta", (int(v.asm8.view("i8")), v.unit)),
        pd.Period: lambda v: ("pd.period", (v.ordinal, v.freq)),
        pd.Interval: lambda v: ("pd.interval", (v.left, v.right, v.closed)),
        type(pd.NaT): lambda _: ("pd.nat", ()),
        type(pd.NA): lambda _: ("pd.na", ()),
        pd.CategoricalDtype: lambda v: ("pd.categories", (v.categories, v.ordered)),
        pd.DatetimeTZDtype: lambda v: ("pd.zoned", (v.unit, _zone(v.tz))),
        pd.PeriodDtype: lambda v: ("pd.perioddtype", (v.freq,)),
        pd.IntervalDtype: lambda v: ("pd.intervaldtype", (v.subtype, v.closed)),
        pd.ArrowDtype: lambda v: ("pd.arrowdtype", (v.pyarrow_dtype,)),
        pd.StringDtype: _text_dtype,
        pd.SparseDtype: lambda v: ("pd.sparsedtype", (v.subtype, v.fill_value)),
    }


def bare(values: Any) -> Any:
    """Return the NumPy array below pandas' thin wrapper of one, or *values* itself."""
    return values.to_numpy() if type(values) is pd.arrays.NumpyExtensionArray else values


# Times


def _zone(zone: Any) -> Any:
    """Return *zone* itself, or the whole zone of which pytz has made one for a time."""
    if zone is not None and type(zone).__module__.partition(".")[0] == "pytz":
        pytz: Any = importlib.import_module("pytz")
        name = getattr(zone, "zone", None)
        return zone if name is None else pytz.timezone(name)
    return zone


def _pytz(zone: Any) -> tuple[str, tuple[Any, ...]]:
    name = getattr(zone, "zone", None)
    if name is None or _zone(zone) is not zone:
        raise UnsupportedTypeError(f"The time zone {zone!r} is no plain data.")
    return "pd.pytz", (name,)


def _build_pytz(_: Reading, name: Any) -> Any:
    if not _ZONE.fullmatch(expect(name, str)):
        raise CorruptDataError("The name of a time zone is none.")
    try:
        pytz: Any = importlib.import_module("pytz")
    except ModuleNotFoundError as error:
        raise SerializeError(
            f"The time zone {name} is one of pytz, which is not installed.",
            suggestions=("Install pytz.",),
        ) from error
    return pytz.timezone(name)


def _checked_zone(zone: Any) -> Any:
    if zone is not None and not isinstance(zone, dt.tzinfo):
        raise CorruptDataError("A time zone is none.")
    return zone


def _flat(values: Any) -> str:
    return str(values.unit)


def _wide(array: Any) -> Any:
    return array.view(np.int64)


def _times(values: Any) -> tuple[str, tuple[Any, ...]]:
    return "pd.times", (_wide(values._ndarray), values.unit, _zone(values.tz))  # noqa: SLF001


def _integers(values: Any) -> Any:
    if type(values) is not np.ndarray or values.dtype != np.int64 or values.ndim != 1:
        raise CorruptDataError("Times are no integers.")
    return values


def _unit(unit: Any) -> str:
    if unit not in _UNITS:
        raise CorruptDataError("A unit of time is unknown.")
    return str(unit)


def _build_times(_: Reading, values: Any, unit: Any, zone: Any) -> Any:
    raw = _integers(values).view(f"M8[{_unit(unit)}]")
    dtype: Any = raw.dtype
    if _checked_zone(zone) is not None:
        dtype = pd.DatetimeTZDtype(unit, zone)
    return pd.arrays.DatetimeArray._simple_new(raw, dtype=dtype)  # noqa: SLF001 - UTC stays UTC


def _build_timedeltas(_: Reading, values: Any, unit: Any) -> Any:
    raw = _integers(values).view(f"m8[{_unit(unit)}]")
    return pd.arrays.TimedeltaArray._simple_new(raw, dtype=raw.dtype)  # noqa: SLF001 - no copy


def _timestamp(value: Any) -> tuple[str, tuple[Any, ...]]:
    return "pd.timestamp", (int(value.asm8.view("i8")), value.unit, _zone(value.tz), value.fold)


def _build_timestamp(_: Reading, value: Any, unit: Any, zone: Any, fold: Any) -> Any:
    naive = np.datetime64(_int64(value), _unit(unit))
    if _checked_zone(zone) is None:
        made = pd.Timestamp(naive)
        return made.replace(fold=1) if int_between(fold, 0, 1) else made
    return pd.Timestamp(naive).tz_localize("UTC").tz_convert(zone)


def _int64(value: Any) -> int:
    return int_between(value, -(1 << 63) + 1, (1 << 63) - 1)


def _build_timedelta(_: Reading, value: Any, unit: Any) -> Any:
    return pd.Timedelta(np.timedelta64(_int64(value), _unit(unit)))


def _checked_offset(freq: Any) -> Any:
    if not isinstance(freq, pd.offsets.BaseOffset):
        raise CorruptDataError("A frequency is none.")
    return freq


def _build_periods(_: Reading, ordinals: Any, freq: Any) -> Any:
    dtype = pd.PeriodDtype(_checked_offset(freq))
    return pd.arrays.PeriodArray(_integers(ordinals), dtype=dtype)


def _build_period(_: Reading, ordinal: Any, freq: Any) -> Any:
    return pd.Period(ordinal=_int64(ordinal), freq=_checked_offset(freq))


# Offsets


def _offset(offset: Any) -> tuple[str, tuple[Any, ...]]:
    name, options = type(offset).__name__, dict(offset.kwds)
    parts = (name, int(offset.n), bool(offset.normalize), paired(options))
    if _made_offset(*parts[:3], options) != offset:
        raise UnsupportedTypeError(f"The offset {offset!r} is no plain data.")
    return "pd.offset", parts


_OPTION_TYPES = (int, str, bool, type(None), dt.timedelta, dt.time, float)
_MOST_OPTIONS = 32
_LONGEST_OPTION = 64
_MOST_HOURS = 24 * 60  # business hours start and end with a minute, and do not overlap


def _build_offset(reading: Reading, name: Any, n: Any, normalize: Any, options: Any) -> Any:
    given: dict[str, Any] = {}
    if len(expect(options, tuple)) > 2 * _MOST_OPTIONS:
        raise CorruptDataError(f"An offset has more than {_MOST_OPTIONS} options.")
    for key, value in pairs(options):
        parts = value if type(value) is tuple else (value,)
        if len(parts) > _MOST_HOURS:
            raise CorruptDataError(f"An option of an offset has more than {_MOST_HOURS} parts.")
        reading.budget.take_time(16 + len(parts) ** 2)  # pandas compares each with each
        for part in parts:
            if type(part) is str and len(part) > _LONGEST_OPTION:
                raise CorruptDataError("An option of an offset is too long.")
        if type(key) is not str or not all(type(part) in _OPTION_TYPES for part in parts):
            raise CorruptDataError("An offset is described in no known way.")
        given[key] = value
    return _made_offset(expect(name, str), int_between(n, -(1 << 31), 1 << 31), normalize, given)


def _made_offset(name: str, n: int, normalize: Any, options: dict[str, Any]) -> Any:
    cls: Any = _OFFSETS[name]
    if issubclass(cls, (pd.offsets.Tick,)) or name == "Day":
        return cls(n)
    return cls(n=n, normalize=expect(normalize, bool), **options)


# Other arrays


def _masked(values: Any) -> tuple[str, tuple[Any, ...]]:
    return "pd.masked", (type(values).__name__, values._data, values._mask)  # noqa: SLF001


def _build_masked(_: Reading, kind: Any, values: Any, mask: Any) -> Any:
    expect(values, np.ndarray)
    if expect(mask, np.ndarray).dtype != np.bool_ or mask.shape != values.shape or mask.ndim != 1:
        raise CorruptDataError("The mask of an array has another shape.")
    return _MASKED[expect(kind, str)](values, mask, copy=False)


def _build_categorical(reading: Reading, codes: Any, categories: Any, ordered: Any) -> Any:
    if type(codes) is not np.ndarray or codes.dtype.kind != "i" or codes.ndim != 1:
        raise CorruptDataError("The codes of a categorical are no integers.")
    dtype = _build_categories(reading, categories, ordered)
    reading.budget.copy(2 * codes.nbytes)  # the codes, and where they are missing
    return pd.Categorical.from_codes(codes, dtype=dtype)


def _build_categories(reading: Reading, categories: Any, ordered: Any) -> Any:
    if categories is not None and not isinstance(categories, pd.Index):
        raise CorruptDataError("Categories are no index.")
    if categories is not None:
        count_items(reading, categories)
        check_labels(reading, categories)
    return pd.CategoricalDtype(categories, ordered if ordered is None else expect(ordered, bool))


def _build_intervals(reading: Reading, left: Any, right: Any, closed: Any) -> Any:
    if closed not in _CLOSED or not (isinstance(left, pd.Index) and isinstance(right, pd.Index)):
        raise CorruptDataError("Intervals have no sides.")
    if object in {left.dtype, right.dtype}:
        raise CorruptDataError("The sides of intervals are no numbers or times.")
    count_items(reading, left)
    count_items(reading, right)
    return pd.arrays.IntervalArray.from_arrays(left, right, closed)


def _build_interval(_: Reading, left: Any, right: Any, closed: Any) -> Any:
    if closed not in _CLOSED:
        raise CorruptDataError("An interval has no sides.")
    if any(isinstance(side, (tuple, list, dict, set, frozenset)) for side in (left, right)):
        raise CorruptDataError("The sides of an interval are no numbers or times.")
    return pd.Interval(left, right, closed)


def _sparse(values: Any) -> tuple[str, tuple[Any, ...]]:
    index = values.sp_index
    return "pd.sparse", (
        values.sp_values,
        np.asarray(index.to_int_index().indices),
        len(values),
        values.kind,
        values.dtype,
    )


def _build_sparse(_: Reading, values: Any, at: Any, length: Any, kind: Any, dtype: Any) -> Any:
    sparse: Any = importlib.import_module("pandas._libs.sparse")
    if type(at) is not np.ndarray or at.dtype != np.int32 or at.ndim != 1:
        raise CorruptDataError("The positions of a sparse array are no integers.")
    if not isinstance(dtype, pd.SparseDtype) or type(values) is not np.ndarray:
        raise CorruptDataError("A sparse array has no dtype.")
    if len(values) != len(at) or values.dtype != dtype.subtype:
        raise CorruptDataError("A sparse array has other values than positions.")
    index: Any = sparse.IntIndex(int_between(length, 0, (1 << 31) - 1), at, check_integrity=True)
    if expect(kind, str) not in {"integer", "block"}:
        raise CorruptDataError("The kind of a sparse array is unknown.")
    index = index.to_block_index() if kind == "block" else index
    return pd.arrays.SparseArray._simple_new(values, index, dtype)  # noqa: SLF001 - checked above


def _build_sparse_dtype(_: Reading, kind: Any, fill: Any) -> Any:
    if not pd.api.types.is_scalar(fill):
        raise CorruptDataError("The fill value of a sparse array is none.")
    return pd.SparseDtype(_dtype(kind), fill)


def _build_numpy(_: Reading, values: Any) -> Any:
    return pd.arrays.NumpyExtensionArray(expect(values, np.ndarray))


def _text_dtype(dtype: Any) -> tuple[str, tuple[Any, ...]]:
    return "pd.text", (dtype.storage, getattr(dtype, "na_value", pd.NA) is pd.NA)


def _build_text_dtype(_: Reading, storage: Any, is_na: Any) -> Any:
    if expect(storage, str) not in {"python", "pyarrow"}:
        raise CorruptDataError("The storage of texts is unknown.")
    if expect(is_na, bool):
        return pd.StringDtype(storage)
    return pd.StringDtype(storage, na_value=np.nan)


def _texts(values: Any) -> tuple[str, tuple[Any, ...]]:
    return "pd.texts", (np.asarray(values._ndarray), values.dtype)  # noqa: SLF001 - its objects


def _build_texts(_: Reading, values: Any, dtype: Any) -> Any:
    if type(values) is not np.ndarray or not isinstance(dtype, pd.StringDtype):
        raise CorruptDataError("An array of texts is none.")
    if dtype.storage != "python" or values.ndim != 1:
        raise CorruptDataError("An array of texts has another storage.")
    if not {*map(type, values.tolist())} <= {str, float, type(None), type(pd.NA)}:
        raise CorruptDataError("An array of texts holds something else.")
    return pd.array(values, dtype=dtype, copy=False)


def _arrow_text(values: Any) -> tuple[str, tuple[Any, ...]]:
    return "pd.arrowtexts", (values.__arrow_array__(), values.dtype)


def _build_arrow_texts(_: Reading, values: Any, dtype: Any) -> Any:
    pa: Any = importlib.import_module("pyarrow")
    if not isinstance(values, (pa.ChunkedArray, pa.Array)) or not isinstance(dtype, pd.StringDtype):
        raise CorruptDataError("An array of texts is none.")
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise CorruptDataError(f"An array of texts holds {values.type}.")
    cls: Any = dtype.construct_array_type()
    try:
        return cls(values, dtype=dtype)
    except TypeError:  # pandas 2: the class decides
        return cls(values)


def _arrow(values: Any) -> tuple[str, tuple[Any, ...]]:
    return "pd.arrow", (values.__arrow_array__(),)


def _build_arrow(_: Reading, values: Any) -> Any:
    pa: Any = importlib.import_module("pyarrow")
    if not isinstance(values, (pa.ChunkedArray, pa.Array)):
        raise CorruptDataError("An Arrow array is none.")
    return pd.arrays.ArrowExtensionArray(values)


def _build_arrow_dtype(_: Reading, kind: Any) -> Any:
    pa: Any = importlib.import_module("pyarrow")
    if not isinstance(kind, pa.DataType):
        raise CorruptDataError("A type of Arrow is none.")
    return pd.ArrowDtype(kind)


def _build_interval_dtype(_: Reading, subtype: Any, closed: Any) -> Any:
    if expect(closed, str, type(None)) not in {*_CLOSED, None}:
        raise CorruptDataError("Intervals have no sides.")
    return pd.IntervalDtype(_dtype(subtype), closed)


def _dtype(value: Any) -> Any:
    if value is not None and not isinstance(value, (np.dtype, pd.api.extensions.ExtensionDtype)):
        raise CorruptDataError("A dtype is none.")
    return value


BUILDERS: dict[str, Any] = {
    "pd.pytz": _build_pytz,
    "pd.times": _build_times,
    "pd.timedeltas": _build_timedeltas,
    "pd.timestamp": _build_timestamp,
    "pd.timedelta": _build_timedelta,
    "pd.periods": _build_periods,
    "pd.period": _build_period,
    "pd.offset": _build_offset,
    "pd.masked": _build_masked,
    "pd.dtype": lambda _, name: _SIMPLE[expect(name, str)](),
    "pd.categorical": _build_categorical,
    "pd.categories": _build_categories,
    "pd.intervals": _build_intervals,
    "pd.interval": _build_interval,
    "pd.intervaldtype": _build_interval_dtype,
    "pd.sparse": _build_sparse,
    "pd.sparsedtype": _build_sparse_dtype,
    "pd.numpy": _build_numpy,
    "pd.text": _build_text_dtype,
    "pd.texts": _build_texts,
    "pd.arrowtexts": _build_arrow_texts,
    "pd.arrow": _build_arrow,
    "pd.arrowdtype": _build_arrow_dtype,
    "pd.zoned": lambda _, unit, zone: pd.DatetimeTZDtype(_unit(unit), _checked_zone(zone)),
    "pd.perioddtype": lambda _, freq: pd.PeriodDtype(_checked_offset(freq)),
    "pd.nat": lambda _: pd.NaT,
    "pd.na": lambda _: pd.NA,
}
