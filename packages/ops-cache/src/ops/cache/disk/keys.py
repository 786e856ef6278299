"""The bytes of keys: equal keys have equal bytes, and keys can be read back.

A string is "s" and its UTF-8; any other key is "p" and the `repr` of a plain value, which
`ast.literal_eval` reads. In front stand the namespaces, each as "n", its length, ":" and its name.
"""

from __future__ import annotations

import ast
import math
import reprlib
from typing import TYPE_CHECKING, Any

from ops.cache.disk.records import MAX_KEY, MAX_TAG
from ops.cache.errors import InvalidKeyError
from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["decode_key", "encode_key", "encode_tag", "namespace_prefix"]

_DEEPEST = 100
_PLAIN = frozenset((str, bytes, int, bool, type(None)))


def encode_key(prefix: bytes, key: Hashable) -> bytes:
    """Return the bytes of *key* in the namespace whose prefix is given. Types count: 1, 1.0, True and "1" are four keys.

    Raises `InvalidKeyError` for anything but str, bytes, int, float, bool, None and tuples of them, nested
    at most 100 deep, which is what can be read back.
    """
    if type(key) is str:
        try:
            made = prefix + b"s" + key.encode()
        except UnicodeEncodeError:  # lone surrogates
            made = prefix + b"p" + repr(key).encode("ascii", "backslashreplace")
    else:
        _refuse_odd(key, key)
        made = prefix + b"p" + repr(key).encode("ascii", "backslashreplace")
    if len(made) >= MAX_KEY:
        raise InvalidKeyError(f"A key may take {MAX_KEY} bytes, and this one takes {len(made)}.")
    return made


def decode_key(data: bytes) -> Any:
    """Return the key that `encode_key` was given; raise `ValueError` for bytes that it never makes."""
    if data[:1] == b"s":
        return data[1:].decode()
    try:
        key = ast.literal_eval(data[1:].decode("ascii"))
        _refuse_odd(key, key)
    except (SyntaxError, TypeError, RecursionError, MemoryError, InvalidKeyError) as error:
        raise ValueError(f"no key has these bytes: {error}"[:300]) from error
    return key


def encode_tag(tag: object) -> bytes:
    """Return the bytes of a tag, none for None; raises `ValidationError` when it cannot be stored."""
    if tag is None:
        return b""
    data = tag.encode("utf-8", "surrogatepass") if isinstance(tag, str) else b""
    if not 0 < len(data) <= MAX_TAG:
        raise ValidationError(f"A tag is a str of 1 to {MAX_TAG} bytes, not {str(tag)[:80]!r}.")
    return data


def namespace_prefix(name: str) -> bytes:
    """Return what stands before the keys of a namespace."""
    data = name.encode()
    return b"n%d:%b" % (len(data), data)


def _refuse_odd(key: object, whole: object, depth: int = 0) -> None:
    if type(key) in _PLAIN:
        return
    if isinstance(key, float) and type(key) is float and math.isfinite(key):
        return
    if isinstance(key, tuple) and type(key) is tuple:
        if depth >= _DEEPEST:
            raise InvalidKeyError(f"A key on disk may be nested {_DEEPEST} deep, not deeper.")
        for part in key:
            _refuse_odd(part, whole, depth + 1)
        return
    raise InvalidKeyError(
        f"{reprlib.repr(whole)} cannot be a key on disk: {type(key).__qualname__} is no plain value.",
        suggestions=("Use a str, or CacheKeyBuilder().build(...) for anything with content.",),
    )
