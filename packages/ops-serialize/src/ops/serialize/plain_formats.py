"""JSON, MessagePack and YAML for trees of plain values, and the pickle stream for all else."""

from __future__ import annotations

import json
import math
from typing import Any

from ops.foundation.imports import LazyImport
from ops.serialize.formats import BuiltinFormat, SerializationFormat
from ops.serialize.packing import pickled

# Typed Any: the modules are optional and mostly untyped.
msgspec: Any = LazyImport("msgspec", extra="ops-serialize[json]")
yaml: Any = LazyImport("yaml", extra="ops-serialize[yaml]")

__all__ = [
    "JsonSerializer",
    "MsgpackSerializer",
    "PickleSerializer",
    "YamlSerializer",
    "is_plain",
    "is_text",
]

_INT64 = range(-(2**63), 2**63)
_MAX_DEPTH = 64


def is_plain(obj: Any, depth: int = 0) -> bool:
    """Whether JSON, MessagePack and YAML give *obj* back equal in value and type."""
    kind = type(obj)
    if kind is str:
        return obj.isascii() or is_text(obj)
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
        return all(type(k) is str and is_text(k) for k in obj) and all(
            is_plain(v, depth + 1) for v in obj.values()
        )
    return False


def is_text(text: str) -> bool:
    """Whether *text* has a UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


class JsonSerializer(BuiltinFormat):
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


class MsgpackSerializer(BuiltinFormat):
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


class YamlSerializer(BuiltinFormat):
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


class PickleSerializer(BuiltinFormat):
    """The in-band pickle stream; loading goes through the trust gate in `smart`."""

    format = SerializationFormat.PICKLE

    def holds(self, obj: Any) -> bool:  # noqa: ARG002 - the shared shape
        """Say yes: what cannot be pickled fails when it is written."""
        return True

    def dumps(self, obj: Any, /) -> bytes:
        """Return *obj* as a pickle."""
        return pickled(obj)
