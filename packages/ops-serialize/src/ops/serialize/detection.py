"""Which format suits an object: the compact one of its type if that keeps it, else FRAME."""

from __future__ import annotations

import sys
from typing import Any

from ops.serialize.formats import SerializationFormat
from ops.serialize.plain_formats import (
    JsonSerializer,
    MsgpackSerializer,
    PickleSerializer,
    YamlSerializer,
)
from ops.serialize.table_formats import (
    ArrowSerializer,
    CsvSerializer,
    NumpySerializer,
    ParquetSerializer,
)
from ops.serialize.tensor_formats import TorchSerializer

__all__ = ["FORMATS", "format_of_plain_type", "holds_tensors"]

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
        PickleSerializer(),
    )
}


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
