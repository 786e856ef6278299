"""Canonical digests: equal values of equal type have equal digests, in every process.

Plain trees of builtins become one `marshal` version 0 string. That version knows no references and
no interning flag, so the bytes depend on values alone, and it is written at C speed. Everything
else is walked, and each node writes a tag and then a self-delimiting body, so that two different
trees cannot write the same bytes. Dicts and sets are ordered by their content. Arrays and frames
are hashed from their buffers without a copy. What has no canonical form raises: falling back on an
address or a `repr` would give a digest that means nothing tomorrow.

`ENCODER_VERSION` is part of every digest and grows whenever the bytes written here change.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import marshal
import pathlib
import types
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import MissingExtraError
from ops.serialize.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["ENCODER_VERSION", "digest"]

ENCODER_VERSION = 1

_PLAIN = b"ops1m"  # the version, then how the rest was written
_DOUBLES = b"ops1d"
_WALKED = b"ops1w"
_SCALARS = frozenset((int, float, str, bytes, bool, type(None), complex))
_CONTAINERS = frozenset((list, tuple, dict))
_TEXTS = frozenset((str,))
_INTEGERS = frozenset((int,))
_dumps = marshal.dumps
_known: dict[str | None, Callable[[bytes], str]] = {}  # what _at_once made, by algorithm


class _NotPlain(Exception):  # noqa: N818 - control flow, never seen outside
    """The tree holds something that marshal cannot write canonically."""


def digest(obj: Any, *, algorithm: str | None = None) -> str:
    """Return the hex digest of *obj*: typed, and independent of process, order and identity.

    *algorithm* is "xxh3_128" (needs the `hash` extra), "blake2b", or any fixed-length name that
    `hashlib.new` knows. None takes xxh3_128 where it is installed and blake2b elsewhere; name one
    when digests travel between machines.

    >>> digest({"a": 1, "b": 2}, algorithm="blake2b") == digest({"b": 2, "a": 1}, algorithm="blake2b")
    True
    >>> len({digest(value) for value in (1, True, 1.0, "1")})
    4
    """
    at_once = _known.get(algorithm) or _at_once(algorithm)
    kind = type(obj)
    if kind in _SCALARS:
        return at_once(_PLAIN + _dumps(obj, 0))
    try:
        if kind in _CONTAINERS:
            try:
                return at_once(_encode_plain(obj, kind))
            except (_NotPlain, ValueError):
                pass  # ValueError: too deep for marshal
        hasher = _hasher(algorithm)(_WALKED)
        _Walk(hasher.update).node(obj)
    except RecursionError:
        raise UnsupportedTypeError(
            "The object is cyclic or nested too deeply to have a digest."
        ) from None
    return str(hasher.hexdigest())


@lru_cache(maxsize=32)
def _hasher(algorithm: str | None) -> Callable[[bytes], Any]:
    if algorithm in {None, "xxh3_128"}:
        try:
            import xxhash
        except ModuleNotFoundError as error:
            if algorithm is not None:
                raise MissingExtraError("xxhash", "ops-serialize[hash]") from error
        else:
            return xxhash.xxh3_128
    if algorithm in {None, "blake2b"}:
        return lambda data: hashlib.blake2b(data, digest_size=16)
    if algorithm not in hashlib.algorithms_available or str(algorithm).startswith("shake"):
        raise ValueError(
            f"The digest algorithm {algorithm!r} is unknown; "
            "use 'xxh3_128', 'blake2b' or a name of hashlib's with a fixed length, as 'sha256'."
        )
    return lambda data: hashlib.new(str(algorithm), data)


def _at_once(algorithm: str | None) -> Callable[[bytes], str]:
    """Return a function from bytes to their hex digest, without an object in between if there is."""
    new = _hasher(algorithm)
    made: Callable[[bytes], str] = lambda data: new(data).hexdigest()  # noqa: E731 - one of two
    if getattr(new, "__module__", "").partition(".")[0] in {"xxhash", "_xxhash"}:
        import xxhash

        made = xxhash.xxh3_128_hexdigest
    _known[algorithm] = made
    return made


def _encode_plain(obj: Any, kind: type) -> bytes:
    if kind is list and len(obj) > 16 and set(map(type, obj)) == {float}:
        return _DOUBLES + array("d", obj).tobytes()
    return _PLAIN + _dumps(_canonical(obj, kind), 0)


def _canonical(obj: Any, kind: type) -> Any:
    """Rebuild a container of builtins with dicts as sorted (…, keys, values), or raise `_NotPlain`."""
    if kind is dict:
        if not (_TEXTS.issuperset(map(type, obj)) or _INTEGERS.issuperset(map(type, obj))):
            raise _NotPlain
        keys = sorted(obj)
        # Ellipsis is no plain scalar here, so no tuple of the user can look like a dict.
        return (..., keys, _canonical_items(map(obj.__getitem__, keys)))
    if kind is tuple or kind is list:
        if _SCALARS.issuperset(map(type, obj)):
            return obj
        items = _canonical_items(obj)
        return tuple(items) if kind is tuple else items
    raise _NotPlain


def _canonical_items(items: Iterable[Any]) -> list[Any]:
    return [item if (kind := type(item)) in _SCALARS else _canonical(item, kind) for item in items]


class _Walk:
    """Writes any supported object to *write* as tagged, self-delimiting pieces."""

    def __init__(self, write: Callable[[Any], object]) -> None:
        self.write = write

    def tag(self, *parts: object) -> None:
        self.write(marshal.dumps(tuple(map(str, parts)), 0))

    def node(self, obj: Any) -> None:
        kind = type(obj)
        if kind in _SCALARS:
            self.write(b"m" + marshal.dumps(obj, 0))
        elif kind is list or kind is tuple:
            self.tag(kind.__name__, len(obj))
            for item in obj:
                self.node(item)
        elif kind is dict:
            self.unordered("dict", obj.items())
        elif kind is set or kind is frozenset:
            self.unordered(kind.__name__, obj)
        elif kind is bytearray or kind is memoryview:
            data = obj if kind is bytearray or obj.contiguous else obj.tobytes()
            shape = (obj.format, obj.shape) if isinstance(obj, memoryview) else ()
            self.tag(kind.__name__, memoryview(data).nbytes, *shape)
            self.write(data)
        else:
            self.other(obj, kind)

    def unordered(self, name: str, items: Any) -> None:
        self.tag(name, len(items))
        for part in sorted(map(_piece, items)):
            self.write(part)

    def other(self, obj: Any, kind: type) -> None:
        root = kind.__module__.partition(".")[0]
        if root == "numpy" and hasattr(obj, "dtype"):
            from ops.serialize._arrays import walk_numpy

            walk_numpy(self, obj)
        elif root == "pandas":
            from ops.serialize._arrays import walk_pandas

            walk_pandas(self, obj)
        elif root == "pyarrow":
            from ops.serialize._arrays import walk_arrow

            walk_arrow(self, obj)
        elif root == "torch":
            from ops.serialize._arrays import walk_torch

            walk_torch(self, obj)
        elif isinstance(obj, enum.Enum):
            self.tag("enum", kind.__module__, kind.__qualname__, obj.name)
        elif isinstance(obj, dt.date | dt.time | dt.timedelta | dt.tzinfo | pathlib.PurePath):
            zone = obj if isinstance(obj, dt.tzinfo) else getattr(obj, "tzinfo", None)
            if type(zone).__repr__ is object.__repr__ and zone is not None:
                raise UnsupportedTypeError(
                    f"A {type(zone).__qualname__} has no digest: its repr is an address."
                )
            self.tag("repr", kind.__module__, kind.__qualname__, repr(obj))
        elif isinstance(obj, type | types.BuiltinFunctionType | types.ModuleType):
            module = getattr(obj, "__module__", "")
            self.tag("name", module, getattr(obj, "__qualname__", obj.__name__))
            owner = getattr(obj, "__self__", None)
            if owner is not None and not isinstance(owner, types.ModuleType):
                self.node(owner)  # a bound method of a builtin: [1].append
        elif isinstance(obj, types.FunctionType):
            self.function(obj)
        elif isinstance(obj, types.CodeType):
            self.code(obj)
        elif dataclasses.is_dataclass(obj):
            self.tag("dataclass", kind.__module__, kind.__qualname__)
            self.unordered(
                "fields", [(f.name, getattr(obj, f.name)) for f in dataclasses.fields(obj)]
            )
        else:
            self.reduced(obj, kind)

    def function(self, obj: types.FunctionType) -> None:
        self.tag("function", obj.__module__, obj.__qualname__)
        self.code(obj.__code__)
        try:
            cells = tuple(cell.cell_contents for cell in obj.__closure__ or ())
        except ValueError as error:
            raise UnsupportedTypeError(
                f"{obj.__qualname__} has no digest: a variable it uses has no value yet."
            ) from error
        self.node((obj.__defaults__, obj.__kwdefaults__, cells))

    def code(self, obj: types.CodeType) -> None:
        self.tag("code", obj.co_argcount, obj.co_kwonlyargcount, obj.co_flags)
        self.node((obj.co_code, obj.co_names, obj.co_varnames, obj.co_freevars))
        self.node(obj.co_consts)

    def reduced(self, obj: Any, kind: type) -> None:
        """Write what pickle would rebuild the object from."""
        if obj is Ellipsis or obj is NotImplemented:
            self.tag("constant", repr(obj))
            return
        try:
            parts = obj.__reduce_ex__(5)
        except (TypeError, AttributeError) as error:
            raise UnsupportedTypeError(
                f"A {kind.__module__}.{kind.__qualname__} has no digest: {error}."
            ) from error
        self.tag("object", kind.__module__, kind.__qualname__)
        if isinstance(parts, str):
            self.tag(parts)
            return
        for part in parts[:3]:
            self.node(part)
        for items in parts[3:5]:
            self.node(None if items is None else list(items))


def _piece(obj: object) -> bytes:
    """Return a fixed-length stand-in of *obj* that orders it by content."""
    hasher = hashlib.blake2b(digest_size=32)
    _Walk(hasher.update).node(obj)
    return hasher.digest()
