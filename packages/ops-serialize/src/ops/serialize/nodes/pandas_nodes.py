"""Nodes of pandas: frames, series and indexes, from arrays that are nodes themselves.

Each is built by its public constructor from arrays that were checked, never from a state of its internals
(managers, blocks, flags), which pandas would believe. Arrays and dtypes are in `pandas_arrays`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError
from ops.serialize.nodes import pandas_arrays as arrays
from ops.serialize.nodes.parts import (
    check_hashable,
    check_labels,
    count_items,
    expect,
    paired,
    pairs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.serialize.nodes.parts import Reading

# Typed Any: the stubs know no internals, and differ between versions.
np: Any = LazyImport("numpy", "ops-serialize[numpy]").import_module()
pd: Any = LazyImport("pandas", "ops-serialize[pandas]").import_module()

__all__ = ["BUILDERS", "encoder_of"]

_INDEXES = {
    cls.__name__: cls
    for cls in (
        pd.Index, pd.CategoricalIndex, pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex,
        pd.IntervalIndex,
    )
}  # fmt: skip
_OF_COLUMN = 1000  # bytes of a column, beside its values


def encoder_of(kind: type) -> Callable[[Any], tuple[str, tuple[Any, ...]]] | None:
    """Return the encoder of exactly this type, or None."""
    return _encoders().get(kind) or arrays.encoder_of(kind)


@functools.cache
def _encoders() -> dict[type, Any]:
    return {
        pd.DataFrame: _frame,
        pd.Series: _series,
        pd.RangeIndex: lambda v: ("pd.range", (v.start, v.stop, v.step, v.name)),
        pd.MultiIndex: _levels,
        **dict.fromkeys(_INDEXES.values(), _index),
    }


# Frames


def _frame(frame: Any) -> tuple[str, tuple[Any, ...]]:
    blocks: list[Any] = []
    for block in frame._mgr.blocks:  # noqa: SLF001 - whole blocks, so that nothing is copied
        positions = np.asarray(block.mgr_locs.as_array, np.int64)
        values = block.values
        if not isinstance(values, np.ndarray) and getattr(values, "ndim", 1) == 2:
            for row, position in enumerate(positions.tolist()):
                blocks += [np.array([position]), values[row]]
        else:
            blocks += [positions, values]
    return "pd.frame", (
        frame.index,
        frame.columns,
        tuple(blocks),
        paired(frame.attrs),
        frame.flags.allows_duplicate_labels,
    )


def _build_frame(
    reading: Reading, index: Any, columns: Any, blocks: Any, attrs: Any, duplicates: Any
) -> Any:
    if not isinstance(index, pd.Index) or not isinstance(columns, pd.Index):
        raise CorruptDataError("The labels of a frame are no indexes.")
    parts = pairs(blocks)
    rows, width = len(index), len(columns)
    if not all(type(at) is np.ndarray and at.dtype.kind == "i" and at.ndim == 1 for at, _ in parts):
        raise CorruptDataError("The positions of a frame's columns are no integers.")
    positions = np.concatenate([at for at, _ in parts] or [np.zeros(0, int)]).astype(np.int64)
    if len(positions) != width or not np.array_equal(np.sort(positions), np.arange(width)):
        raise CorruptDataError("The columns of a frame are not each there once.")
    in_order = len(parts) == 1 and bool((positions[1:] > positions[:-1]).all())
    if in_order and type(parts[0][1]) is np.ndarray:
        block = parts[0][1]
        if block.shape != (width, rows):
            raise CorruptDataError("The values of a frame have another shape than its labels.")
        if block.dtype.kind in "biufc":
            made = pd.DataFrame(block.T, index=index, columns=columns, copy=False)
            return _finished(reading, made, attrs, duplicates)
    reading.copy(blocks, _OF_COLUMN * width)
    found: dict[int, Any] = {}
    for columns_at, values in parts:
        if type(values) is np.ndarray:
            if values.shape != (len(columns_at), rows):
                raise CorruptDataError("The values of a frame have another shape than its labels.")
            found.update(zip(map(int, columns_at), values, strict=True))
        else:
            if len(columns_at) != 1 or len(values) != rows:
                raise CorruptDataError("The values of a frame have another shape than its labels.")
            found[int(columns_at[0])] = values
    ordered = {at: _column(found[at], index) for at in range(width)}
    made = pd.DataFrame(ordered, index=index, copy=False)
    made.columns = columns
    return _finished(reading, made, attrs, duplicates)


def _column(values: Any, index: Any) -> Any:
    return pd.Series(_checked(values), index=index, dtype=values.dtype, copy=False)


def _checked(values: Any) -> Any:
    if type(values) is np.ndarray:
        if values.ndim != 1:
            raise CorruptDataError("A column has several dimensions.")
        return values
    if not isinstance(values, pd.api.extensions.ExtensionArray):
        raise CorruptDataError("A column is no array.")
    return values


def _finished(reading: Reading, made: Any, attrs: Any, duplicates: Any) -> Any:
    if items := pairs(attrs):
        check_hashable(reading, [key for key, _ in items])
        made.attrs = dict(items)
    if not expect(duplicates, bool):
        for labels in made.axes:
            check_labels(reading, labels)
        made.flags.allows_duplicate_labels = False
    return made


# Series and indexes


def _series(series: Any) -> tuple[str, tuple[Any, ...]]:
    return "pd.series", (
        arrays.bare(series.array),
        series.index,
        series.name,
        paired(series.attrs),
        series.flags.allows_duplicate_labels,
    )


def _build_series(
    reading: Reading, values: Any, index: Any, name: Any, attrs: Any, duplicates: Any
) -> Any:
    if not isinstance(index, pd.Index) or len(_checked(values)) != len(index):
        raise CorruptDataError("The labels of a series are not those of its values.")
    made = _column(values, index)
    check_hashable(reading, (name,))
    made.name = name
    return _finished(reading, made, attrs, duplicates)


def _index(index: Any) -> tuple[str, tuple[Any, ...]]:
    values = arrays.bare(index.array)
    freq = index.freq if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) else None
    return "pd.index", (type(index).__name__, values, index.name, freq)


def _build_index(reading: Reading, kind: Any, values: Any, name: Any, freq: Any) -> Any:
    cls = _INDEXES[expect(kind, str)]
    count_items(reading, _checked(values))
    made: Any = pd.Index(values, dtype=values.dtype, copy=False, tupleize_cols=False)
    if type(made) is not cls or made.dtype != values.dtype:
        raise CorruptDataError(f"The values of a {kind} make a {type(made).__name__}.")
    check_hashable(reading, (name,))
    made.name = name
    if freq is not None:
        if not isinstance(freq, pd.offsets.BaseOffset):
            raise CorruptDataError("The frequency of an index is none.")
        # Of the index from pandas 3 on, of its array before.
        inner = made._data  # noqa: SLF001 - there is no other way to set it unchecked
        target = inner if hasattr(inner, "_freq") or not hasattr(made, "_freq") else made
        target._freq = freq  # noqa: SLF001 - set as it was: comparing it with all values takes long
    return made


def _levels(index: Any) -> tuple[str, tuple[Any, ...]]:
    return "pd.levels", (
        tuple(index.levels),
        tuple(np.asarray(codes) for codes in index.codes),
        tuple(index.names),
    )


def _build_levels(reading: Reading, levels: Any, codes: Any, names: Any) -> Any:
    if not len(expect(levels, tuple)) == len(expect(codes, tuple)) == len(expect(names, tuple)):
        raise CorruptDataError("The levels of an index are not all there.")
    if not all(isinstance(level, pd.Index) for level in levels):
        raise CorruptDataError("A level of an index is none.")
    if not all(type(part) is np.ndarray and part.dtype.kind == "i" for part in codes):
        raise CorruptDataError("The codes of an index are no integers.")
    check_hashable(reading, names)
    for level in levels:
        count_items(reading, level)
        if isinstance(level, pd.MultiIndex):
            raise CorruptDataError("A level of an index has levels.")
        check_labels(reading, level)
        if not level.is_unique:  # pandas would print all of it
            raise CorruptDataError("A level of an index has a label twice.")
    return pd.MultiIndex(levels=levels, codes=codes, names=names, verify_integrity=True)


def _build_range(reading: Reading, start: Any, stop: Any, step: Any, name: Any) -> Any:
    numbers = [expect(part, int) for part in (start, stop, step)]
    if len(range(*numbers)) >= 1 << 62:
        raise CorruptDataError("A range is too long.")
    check_hashable(reading, (name,))
    return pd.RangeIndex(*numbers, name=name)


BUILDERS: dict[str, Any] = {
    "pd.frame": _build_frame,
    "pd.series": _build_series,
    "pd.index": _build_index,
    "pd.levels": _build_levels,
    "pd.range": _build_range,
    **arrays.BUILDERS,
}
