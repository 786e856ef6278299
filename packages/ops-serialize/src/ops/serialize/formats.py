"""The formats, each a `Serializer`: `dumps`, `loads`, and which objects it gives back unchanged.

`holds(obj)` is the promise behind "never loses anything silently": it is true only for objects that
come back equal in value and type, so detection can choose a compact format where that costs nothing
and everything else goes to FRAME. `dumps` refuses what `holds` refuses.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import sys
from collections import OrderedDict
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from ops.foundation.imports import LazyImport
from ops.serialize.errors import UnsupportedTypeError

# Typed Any: the modules are optional and mostly untyped.
np: Any = LazyImport("numpy", extra="ops-serialize[numpy]")
pa: Any = LazyImport("pyarrow", extra="ops-serialize[arrow]")
pd: Any = LazyImport("pandas", extra="ops-serialize[pandas]")
msgspec: Any = LazyImport("msgspec", extra="ops-serialize[json]")
yaml: Any = LazyImport("yaml", extra="ops-serialize[yaml]")
torch: Any = LazyImport("torch", extra="ops-serialize[torch]")

__all__ = ["SerializationFormat", "Serializer", "format_of_plain_type"]

_INT64 = range(-(2**63), 2**63)
_MAX_DEPTH = 64


class SerializationFormat(StrEnum):
    """The formats that a container's content can have."""

    PICKLE = "pickle"
    JSON = "json"
    PARQUET = "parquet"
    NUMPY = "numpy"
    TORCH = "torch"
    ARROW = "arrow"
    FRAME = "frame"
    MSGPACK = "msgpack"
    YAML = "yaml"
    CSV = "csv"


# Numbers in files; never reuse one.
FORMAT_IDS = {f: i for i, f in enumerate(SerializationFormat, 1)}
CUSTOM_ID = 255


@runtime_checkable
class Serializer(Protocol):
    """What ops-cache and others take: bytes from an object and back."""

    @property
    def format(self) -> str:
        """The name of the format."""
        ...

    def dumps(self, obj: Any, /) -> bytes:
        """Return *obj* as bytes."""
        ...

    def loads(self, data: Any, /) -> Any:
        """Return the object that `dumps` was given."""
        ...


def format_of_plain_type(obj: Any) -> SerializationFormat:
    """Return the format that gives *obj* back unchanged and suits its type."""
    root = type(obj).__module__.partition(".")[0]
    candidates = {
        "builtins": SerializationFormat.JSON,
        "pandas": SerializationFormat.PARQUET,
        "numpy": SerializationFormat.NUMPY,
        "pyarrow": SerializationFormat.ARROW,
        "torch": SerializationFormat.TORCH,
    }
    chosen = candidates.get(root)
    if chosen and FORMATS[chosen].holds(obj):
        return chosen
    return SerializationFormat.TORCH if holds_tensors(obj) else SerializationFormat.FRAME


def holds_tensors(obj: Any) -> bool:
    """Whether *obj* is a tensor, or a tree of plain containers and values with tensors in it."""
    return "torch" in sys.modules and bool(FORMATS[SerializationFormat.TORCH].holds(obj))


def is_plain(obj: Any, depth: int = 0) -> bool:
    """Whether JSON, MessagePack and YAML give *obj* back equal in value and type."""
    kind = type(obj)
    if kind is str:
        return obj.isascii() or _is_text(obj)
    if kind is int:
        return obj in _INT64
    if kind is float:
        return math.isfinite(obj)
    if kind is bool or obj is None:
        return True
    if depth >= _MAX_DEPTH:
        return False
    if kind is list:
        return all(is_plain(item, depth + 1) for item in obj)
    if kind is dict:
        return all(type(k) is str and _is_text(k) for k in obj) and all(
            is_plain(v, depth + 1) for v in obj.values()
        )
    return False


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


class _Format:
    """The shape that the built-in formats share."""

    format: SerializationFormat

    def holds(self, obj: Any) -> bool:
        raise NotImplementedError

    def require(self, obj: Any) -> None:
        if not self.holds(obj):
            raise UnsupportedTypeError(
                f"{self.format.name} would not give this {type(obj).__qualname__} back unchanged.",
                suggestions=("Use SerializationFormat.FRAME, or give no format.",),
            )


class JsonSerializer(_Format):
    """JSON through msgspec where it is installed, else the standard library."""

    format = SerializationFormat.JSON

    def holds(self, obj: Any) -> bool:
        """Whether *obj* is made of str keys, lists, finite floats and 64-bit ints."""
        return is_plain(obj)

    def dumps(self, obj: Any, /) -> bytes:
        """Return *obj* as UTF-8 JSON."""
        self.require(obj)
        if msgspec.is_available:
            return bytes(msgspec.json.encode(obj))
        return json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode()

    def loads(self, data: Any, /) -> Any:
        """Return what the JSON text says."""
        return msgspec.json.decode(data) if msgspec.is_available else json.loads(bytes(data))


class MsgpackSerializer(_Format):
    """MessagePack, for the same data as JSON."""

    format = SerializationFormat.MSGPACK

    def holds(self, obj: Any) -> bool:
        """As for JSON."""
        return is_plain(obj)

    def dumps(self, obj: Any, /) -> bytes:
        """Return *obj* as MessagePack."""
        self.require(obj)
        return bytes(msgspec.msgpack.encode(obj))

    def loads(self, data: Any, /) -> Any:
        """Return what the bytes say."""
        return msgspec.msgpack.decode(data)


class YamlSerializer(_Format):
    """YAML by the safe loader, for the same data as JSON."""

    format = SerializationFormat.YAML

    def holds(self, obj: Any) -> bool:
        """As for JSON, as far as YAML text goes: checked by reading it back."""
        return is_plain(obj) and self.loads(self._text(obj)) == obj

    def dumps(self, obj: Any, /) -> bytes:
        """Return *obj* as YAML."""
        self.require(obj)
        return self._text(obj)

    def loads(self, data: Any, /) -> Any:
        """Return what the YAML text says."""
        return yaml.load(bytes(data), getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def _text(self, obj: Any) -> bytes:
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        return bytes(yaml.dump(obj, Dumper=dumper, sort_keys=False, allow_unicode=True).encode())


class NumpySerializer(_Format):
    """The `.npy` format, without pickles."""

    format = SerializationFormat.NUMPY

    def holds(self, obj: Any) -> bool:
        """Whether *obj* is a plain array of a dtype that `.npy` describes in full."""
        if type(obj).__name__ != "ndarray" or type(obj) is not np.ndarray:
            return False
        return obj.dtype.kind in "biufcSU" or (
            obj.dtype.kind in "mM" and np.dtype(obj.dtype.str) == obj.dtype
        )

    def dumps(self, obj: Any, /) -> bytes:
        """Return the array as an `.npy` file."""
        self.require(obj)
        sink = io.BytesIO()
        np.lib.format.write_array(sink, obj, allow_pickle=False)
        return sink.getvalue()

    def loads(self, data: Any, /) -> Any:
        """Return the array, in writable memory of its own."""
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


class ParquetSerializer(_Format):
    """Parquet, for frames of numbers, times and bools under plain column names."""

    format = SerializationFormat.PARQUET

    def holds(self, obj: Any) -> bool:
        """Whether Parquet keeps index, names and every dtype; when in doubt, no."""
        if (
            not pa.is_available
            or type(obj).__name__ != "DataFrame"
            or type(obj) is not pd.DataFrame
        ):
            return False
        names = obj.columns
        return (
            not obj.attrs
            and obj.flags.allows_duplicate_labels
            and type(obj.index) is pd.RangeIndex
            and obj.index.name is None
            and len(names) > 0
            and names.name is None
            and names.is_unique
            and type(names) is pd.Index
            and names.dtype == _dtype_of_names()
            and names.hasnans is False
            and all(map(_is_text, names))
            and all(_parquet_keeps(dtype) for dtype in obj.dtypes)
        )

    def dumps(self, obj: Any, /) -> bytes:
        """Return the frame as a Parquet file."""
        self.require(obj)
        sink = io.BytesIO()
        obj.to_parquet(sink, engine="pyarrow", compression="zstd")
        return sink.getvalue()

    def loads(self, data: Any, /) -> Any:
        """Return the frame."""
        return pd.read_parquet(io.BytesIO(data), engine="pyarrow")


def _dtype_of_names() -> Any:
    """Return the dtype that column names have after reading Parquet: object before pandas 3."""
    return pd.Index(["name"]).dtype


def _parquet_keeps(dtype: Any) -> bool:
    return (
        isinstance(dtype, np.dtype)
        and (dtype.kind in "biu" or dtype in {np.dtype("float32"), np.dtype("float64")})
        and dtype.isnative
    )


class ArrowSerializer(_Format):
    """The Arrow IPC stream, for tables."""

    format = SerializationFormat.ARROW

    def holds(self, obj: Any) -> bool:
        """Whether *obj* is a `pyarrow.Table`."""
        return type(obj).__name__ == "Table" and type(obj) is pa.Table

    def dumps(self, obj: Any, /) -> bytes:
        """Return the table as an IPC stream."""
        self.require(obj)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, obj.schema) as writer:
            writer.write_table(obj)
        return bytes(sink.getvalue())

    def loads(self, data: Any, /) -> Any:
        """Return the table, over *data* without a copy."""
        return pa.ipc.open_stream(pa.py_buffer(data)).read_all()


class CsvSerializer(_Format):
    """CSV, only where reading it back gives the same frame."""

    format = SerializationFormat.CSV

    def holds(self, obj: Any) -> bool:
        """Whether the frame survives the way through text, by trying."""
        if type(obj).__name__ != "DataFrame" or type(obj) is not pd.DataFrame or obj.attrs:
            return False
        try:
            pd.testing.assert_frame_equal(self.loads(self._text(obj)), obj, check_exact=True)
        except (AssertionError, ValueError, TypeError):
            return False
        return True

    def dumps(self, obj: Any, /) -> bytes:
        """Return the frame as CSV."""
        self.require(obj)
        return self._text(obj)

    def loads(self, data: Any, /) -> Any:
        """Return the frame."""
        return pd.read_csv(io.BytesIO(data), float_precision="round_trip")

    def _text(self, obj: Any) -> bytes:
        return bytes(obj.to_csv(index=False).encode())


class TorchSerializer(_Format):
    """`torch.save`, read with `weights_only`, so nothing executes."""

    format = SerializationFormat.TORCH

    def holds(self, obj: Any) -> bool:
        """Whether *obj* is a tensor, or a tree with tensors in it, as a module's state is.

        Modules carry code, so they are a FRAME and need a trust that allows it.
        """
        kinds: set[str] = set()
        return self._is_tree(obj, kinds, 0) and "tensor" in kinds

    def _is_tree(self, obj: Any, kinds: set[str], depth: int) -> bool:
        kind = type(obj)
        if kind in {str, int, float, bool, type(None)}:
            return True
        if depth >= _MAX_DEPTH:
            return False
        if kind is dict or kind is OrderedDict:
            return all(type(key) in {str, int} for key in obj) and all(
                self._is_tree(value, kinds, depth + 1) for value in obj.values()
            )
        if kind is list or kind is tuple:
            return all(self._is_tree(value, kinds, depth + 1) for value in obj)
        if kind.__name__ in {"Tensor", "Parameter"} and isinstance(obj, torch.Tensor):
            kinds.add("tensor")
            return True
        return False

    def dumps(self, obj: Any, /) -> bytes:
        """Return the tensors as `torch.save` writes them."""
        self.require(obj)
        sink = io.BytesIO()
        torch.save(obj, sink)
        return sink.getvalue()

    def loads(self, data: Any, /) -> Any:
        """Return the tensors."""
        return torch.load(io.BytesIO(data), weights_only=True)


class _PickleWriter(_Format):
    """The in-band pickle stream; loading goes through the trust gate in `smart`."""

    format = SerializationFormat.PICKLE

    def holds(self, obj: Any) -> bool:  # noqa: ARG002 - the shared shape
        return True

    def dumps(self, obj: Any, /) -> bytes:
        try:
            return pickle.dumps(obj, 5)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UnsupportedTypeError(
                f"A {type(obj).__qualname__} cannot be pickled: {error}"
            ) from error


FORMATS: dict[SerializationFormat, Any] = {
    s.format: s
    for s in (
        JsonSerializer(),
        MsgpackSerializer(),
        YamlSerializer(),
        NumpySerializer(),
        ParquetSerializer(),
        ArrowSerializer(),
        CsvSerializer(),
        TorchSerializer(),
        _PickleWriter(),
    )
}
