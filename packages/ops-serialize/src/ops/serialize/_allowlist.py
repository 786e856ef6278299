"""The exact names that `trust="safe"` may import: constructors that only build values.

Module by module, never a whole module: one helper that opens a file or calls its argument would
undo the gate. NumPy moved `core` to `_core` in 2.0, so both spellings are listed.
"""

from __future__ import annotations

__all__ = ["ALLOWED"]

_SIZED = [
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

_NUMPY_SCALARS = [
    "bool",
    "bool_",
    *_SIZED,
    "intc",
    "uintc",
    "longlong",
    "ulonglong",
    "longdouble",
    "complex64",
    "complex128",
    "clongdouble",
    "str_",
    "bytes_",
    "void",
    "object_",
    "datetime64",
    "timedelta64",
]

_MULTIARRAY = ("_reconstruct", "scalar")
_NUMERIC = ("_frombuffer",)

_INTEGER_DTYPES = [f"{u}Int{n}Dtype" for u in ("", "U") for n in (8, 16, 32, 64)]

_PANDAS_DTYPES = [
    "CategoricalDtype",
    "DatetimeTZDtype",
    "PeriodDtype",
    "IntervalDtype",
    "ArrowDtype",
]

# pandas 3 pickles its classes under their public names, pandas 2 under their homes.
_PANDAS = [
    *[
        "DataFrame",
        "Series",
        "Index",
        "MultiIndex",
        "RangeIndex",
        "CategoricalIndex",
        "DatetimeIndex",
        "TimedeltaIndex",
        "PeriodIndex",
        "IntervalIndex",
        "Categorical",
        "Interval",
        "Period",
        "Timestamp",
        "Timedelta",
        "NA",
        "NaT",
        "Flags",
        "StringDtype",
        "BooleanDtype",
        "Float32Dtype",
        "Float64Dtype",
        "SparseDtype",
    ],
    *_PANDAS_DTYPES,
    *_INTEGER_DTYPES,
]
_PANDAS_ARRAYS = [
    "StringArray",
    "ArrowStringArray",
    "ArrowExtensionArray",
    "IntegerArray",
    "FloatingArray",
    "BooleanArray",
    "DatetimeArray",
    "TimedeltaArray",
    "PeriodArray",
    "IntervalArray",
    "NumpyExtensionArray",
    "SparseArray",
]

_MASKED = {
    "pandas.core.arrays.integer": [
        *_INTEGER_DTYPES,
        "IntegerArray",
    ],
    "pandas.core.arrays.floating": ["Float32Dtype", "Float64Dtype", "FloatingArray"],
    "pandas.core.arrays.boolean": ["BooleanDtype", "BooleanArray"],
}

_ARROW_TYPES = [
    "null",
    "bool_",
    *_SIZED,
    "string",
    "utf8",
    "large_string",
    "large_utf8",
    "binary",
    "large_binary",
    "string_view",
    "binary_view",
    "date32",
    "date64",
    "time32",
    "time64",
    "timestamp",
    "duration",
    "decimal128",
    "decimal256",
    "list_",
    "large_list",
    "struct",
    "map_",
    "dictionary",
    "field",
    "schema",
]

_OFFSETS = [
    "Day",
    "Hour",
    "Minute",
    "Second",
    "Milli",
    "Micro",
    "Nano",
    "Week",
    "MonthEnd",
    "MonthBegin",
    "QuarterEnd",
    "QuarterBegin",
    "YearEnd",
    "YearBegin",
    "BusinessDay",
    "BDay",
    "BusinessMonthEnd",
    "BusinessMonthBegin",
    "DateOffset",
]

ALLOWED: dict[str, frozenset[str]] = {
    module: frozenset(names)
    for module, names in {
        "builtins": [
            "object",
            "int",
            "float",
            "complex",
            "bool",
            "str",
            "bytes",
            "bytearray",
            "list",
            "tuple",
            "dict",
            "set",
            "frozenset",
            "slice",
            "range",
            "Ellipsis",
            "NotImplemented",
        ],
        "collections": ["OrderedDict", "deque", "Counter"],
        "datetime": ["date", "datetime", "time", "timedelta", "timezone"],
        "zoneinfo": ["ZoneInfo"],
        "decimal": ["Decimal"],
        "fractions": ["Fraction"],
        "uuid": ["UUID", "SafeUUID"],
        "copyreg": ["_reconstructor", "__newobj__"],
        "_codecs": ["encode"],
        **{
            module: ["PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath", "Path"]
            for module in ("pathlib", "pathlib._local")
        },
        # Neither dtype nor ndarray: they believe what they are told about memory.
        "ops.serialize.rebuilding": [
            "blank_array",
            "text_dtype",
            "array_dtype",
            "structured_dtype",
        ],
        "numpy": ["matrix", *_NUMPY_SCALARS],
        "numpy.dtypes": ["StringDType"],
        **{f"numpy.{c}.multiarray": _MULTIARRAY for c in ("core", "_core")},
        "numpy._core._internal": ["_convert_to_stringdtype_kwargs"],
        **{f"numpy.{c}.numeric": _NUMERIC for c in ("core", "_core")},
        "pandas": _PANDAS,
        "pandas.core.frame": ["DataFrame"],
        "pandas.core.series": ["Series"],
        "pandas.core.flags": ["Flags"],
        "pandas.core.internals.managers": ["BlockManager", "SingleBlockManager"],
        "pandas.core.internals.blocks": ["new_block"],
        "pandas.core.indexes.base": ["Index", "_new_Index"],
        "pandas.core.indexes.range": ["RangeIndex"],
        "pandas.core.indexes.multi": ["MultiIndex"],
        "pandas.core.indexes.category": ["CategoricalIndex"],
        "pandas.core.indexes.interval": ["IntervalIndex", "_new_IntervalIndex"],
        "pandas.core.indexes.period": ["PeriodIndex", "_new_PeriodIndex"],
        "pandas.core.indexes.datetimes": ["DatetimeIndex", "_new_DatetimeIndex"],
        "pandas.core.indexes.timedeltas": ["TimedeltaIndex", "_new_TimedeltaIndex"],
        "pandas.core.dtypes.dtypes": _PANDAS_DTYPES,
        "pandas.core.arrays.categorical": ["Categorical"],
        "pandas.core.arrays.datetimes": ["DatetimeArray"],
        "pandas.core.arrays.timedeltas": ["TimedeltaArray"],
        "pandas.core.arrays.period": ["PeriodArray"],
        "pandas.core.arrays.interval": ["IntervalArray"],
        "pandas.core.arrays.string_": ["StringArray", "StringDtype"],
        "pandas.core.arrays.string_arrow": ["ArrowStringArray", "ArrowStringArrayNumpySemantics"],
        "pandas.core.arrays.arrow.array": ["ArrowExtensionArray"],
        "pandas.arrays": _PANDAS_ARRAYS,
        "pandas.core.arrays.sparse.array": ["SparseArray"],
        "pandas._libs.sparse": ["IntIndex", "BlockIndex"],
        "pandas.core.arrays.numpy_": ["NumpyExtensionArray"],
        **_MASKED,
        "pandas._libs.internals": ["_unpickle_block", "BlockPlacement"],
        "pandas._libs.arrays": ["__pyx_unpickle_NDArrayBacked"],
        "pandas._libs.missing": ["_unpickle_na", "NA"],
        "pandas._libs.interval": ["Interval", "__pyx_unpickle_Interval"],
        "pandas._libs.tslibs.nattype": ["__nat_unpickle", "_nat_unpickle"],
        "pytz": ["_UTC", "_p"],  # looks a zone up by name; pandas 2 keeps zones of pytz
        "pandas._libs.tslibs.timestamps": ["Timestamp", "_unpickle_timestamp"],
        "pandas._libs.tslibs.timedeltas": ["Timedelta", "_timedelta_unpickle"],
        "pandas._libs.tslibs.period": ["_unpickle_period", "Period"],
        "pandas._libs.tslibs.offsets": _OFFSETS,
        "pyarrow.lib": [
            "_restore_array",
            "_reconstruct_table",
            "_reconstruct_record_batch",
            "py_buffer",
            "type_for_alias",
            "chunked_array",
            *_ARROW_TYPES,
        ],
    }.items()
}
