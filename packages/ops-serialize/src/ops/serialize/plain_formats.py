"""JSON, MessagePack and YAML for trees of plain values, and the pickle stream for all else."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError
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

_MAX_DEPTH = 64
_YAML_TEXT = "tag:yaml.org,2002:str"


_LEAVES = frozenset((str, int, float, bool, type(None)))


def is_plain(obj: Any) -> bool:
    """Whether JSON, MessagePack and YAML give *obj* back equal in value and type.

    A list or dict that is there twice would come back as two, so it is not plain either.
    """
    kind = type(obj)
    if kind in _LEAVES:
        return _are_plain_leaves(kind, (obj,))
    return kind in {list, dict} and _is_plain_tree(obj, set(), 0)


def _is_plain_tree(obj: Any, seen: set[int], depth: int) -> bool:
    if depth >= _MAX_DEPTH or id(obj) in seen:
        return False
    seen.add(id(obj))
    items: Any = obj
    if type(obj) is dict:
        if not {str}.issuperset(map(type, obj)) or not is_text("".join(obj)):
            return False
        items = obj.values()
    kinds = set(map(type, items))
    for kind in kinds:
        if kind is list or kind is dict:
            if not all(
                _is_plain_tree(item, seen, depth + 1) for item in items if type(item) is kind
            ):
                return False
        elif kind not in _LEAVES:
            return False
        elif kind is not bool and kind is not type(None):
            chosen = items if len(kinds) == 1 else [item for item in items if type(item) is kind]
            if not _are_plain_leaves(kind, chosen):
                return False
    return True


def _are_plain_leaves(kind: type, items: Any) -> bool:
    """Whether *items*, all of the leaf type *kind*, have a form in JSON."""
    if kind is str:
        return is_text("".join(items))
    if kind is int:
        return bool(min(items) >= -(2**63) and max(items) < 2**63)
    return kind is not float or all(map(math.isfinite, items))


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
        return self.write(obj)

    def write(self, obj: Any) -> bytes:
        """Return *obj*, which is known to be plain, as UTF-8 JSON."""
        if msgspec.is_available:
            return bytes(msgspec.json.encode(obj))
        return json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode()

    def loads(self, data: Any, /) -> Any:
        """Return the value of the JSON text."""
        if msgspec.is_available:
            return msgspec.json.decode(data)
        return json.loads(bytes(data), parse_constant=_refuse_constant)


def _refuse_constant(text: str) -> None:
    raise CorruptDataError(f"{text} is no JSON.")


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


@functools.cache
def _yaml_loader() -> Any:
    """Return the safe loader for what the writer makes: keys are texts, numbers have no base 60.

    Keys of other types can be made to have one hash, and a number in base 60 takes the square of its
    length to read.
    """
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc] # one of two
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - its shape
            if any(key.tag != _YAML_TEXT for key, _ in getattr(node, "value", ())):
                raise CorruptDataError("A key of YAML data is no text.")
            return super().construct_mapping(node, deep)

        def construct_yaml_int(self, node: Any) -> Any:
            return super().construct_yaml_int(_in_one_part(node))

        def construct_yaml_float(self, node: Any) -> Any:
            return super().construct_yaml_float(_in_one_part(node))

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    return Loader


def _in_one_part(node: Any) -> Any:
    if ":" in node.value:
        raise CorruptDataError("A number of YAML data is in base 60.")
    return node


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
        """Return the value of the YAML text."""
        return yaml.load(bytes(data), _yaml_loader())

    def _text(self, obj: Any) -> bytes:
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        return bytes(yaml.dump(obj, Dumper=dumper, sort_keys=False, allow_unicode=True).encode())


class PickleSerializer(BuiltinFormat):
    """The in-band pickle stream; `smart` loads it where something vouches for it."""

    format = SerializationFormat.PICKLE

    def holds(self, obj: Any) -> bool:  # noqa: ARG002 - the shared shape
        """Say yes: what cannot be pickled fails when it is written."""
        return True

    def dumps(self, obj: Any, /) -> bytes:
        """Return *obj* as a pickle."""
        return pickled(obj)
