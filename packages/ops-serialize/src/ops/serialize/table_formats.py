"""`.npy` for arrays, Arrow IPC and CSV for tables (Parquet has a module of its own), each for what it keeps in full."""

from __future__ import annotations

import io
from typing import Any

from ops.foundation.imports import LazyImport
from ops.serialize.formats import BuiltinFormat, SerializationFormat
from ops.serialize.parquet_format import ParquetSerializer

# Typed Any: the modules are optional and mostly untyped.
np: Any = LazyImport("numpy", extra="ops-serialize[numpy]")
pa: Any = LazyImport("pyarrow", extra="ops-serialize[arrow]")
pd: Any = LazyImport("pandas", extra="ops-serialize[pandas]")

__all__ = ["ArrowSerializer", "CsvSerializer", "NumpySerializer", "ParquetSerializer"]


class NumpySerializer(BuiltinFormat):
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


class ArrowSerializer(BuiltinFormat):
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
        table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
        table.validate(full=True)  # offsets within buffers, before anything uses them
        return table


class CsvSerializer(BuiltinFormat):
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
