"""Canonical digests: equal values of equal type have equal digests, in every process.

`_canonical` writes a value as bytes that depend on content and types alone: dicts and sets are
ordered by content, buffers enter without a copy, and what is longer than `LIMIT` bytes enters its
parent as a hash. An object that occurs often is therefore written once, and the work is linear in
what exists in memory, however often it is referred to. What has no canonical form raises: falling
back on an address or a `repr` would give a digest that means nothing tomorrow.

Small trees of builtins, the usual arguments of a cached call, take a shortcut: the same bytes made
by one call of `marshal`.

`ENCODER_VERSION` is part of every digest and grows whenever the bytes written here change.
"""

from __future__ import annotations

import hashlib
import marshal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import MissingExtraError, OpsError
from ops.serialize._canonical import (
    CONTAINERS,
    LIMIT,
    SCALARS,
    SHORT,
    Canonical,
    short_bytes,
)
from ops.serialize.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENCODER_VERSION", "digest"]

ENCODER_VERSION = 2

_PREFIX = b"ops%d" % ENCODER_VERSION
_dumps = marshal.dumps
_known: dict[str | None, Callable[[bytes], str]] = {}  # what _at_once made, by algorithm


def digest(obj: Any, *, algorithm: str | None = None) -> str:
    """Return the hex digest of *obj*: typed, and independent of process, order and identity.

    *algorithm* is "xxh3_128" (needs the `hash` extra), "blake2b", or any fixed-length name that
    `hashlib.new` knows. None takes xxh3_128 where it is installed and blake2b elsewhere; name one
    when digests travel between machines.

    Objects count by what pickle would keep of them and by their attributes, classes by their name,
    functions by name, code, defaults and the variables that they close over. Raises
    `UnsupportedTypeError` for an object that contains itself, is nested too deeply or has no
    content to speak of (a generator, a lock, a socket), and ValueError for an unknown algorithm.

    >>> digest({"a": 1, "b": 2}, algorithm="blake2b") == digest({"b": 2, "a": 1}, algorithm="blake2b")
    True
    >>> len({digest(value) for value in (1, True, 1.0, "1")})
    4
    """
    at_once = _known.get(algorithm) or _at_once(algorithm)
    kind = type(obj)
    if kind in SCALARS:
        if (kind is not str and kind is not bytes) or len(obj) <= LIMIT:
            data = _dumps(obj, 0)
            if len(data) <= LIMIT:
                return at_once(_PREFIX + data)
    elif kind in CONTAINERS and len(obj) <= SHORT:
        short = short_bytes(obj, kind)
        if short is not None:
            return at_once(_PREFIX + short)
    try:
        return at_once(_PREFIX + Canonical(_inner(algorithm)).node(obj))
    except (OpsError, MemoryError):
        raise
    except RecursionError:
        raise UnsupportedTypeError("The object is nested too deeply to have a digest.") from None
    except Exception as error:  # what the methods of the object, or a library's, may raise
        raise UnsupportedTypeError(
            f"A {kind.__module__}.{kind.__qualname__} has no digest: {type(error).__name__}: {error}"
        ) from error


@lru_cache(maxsize=32)
def _hasher(algorithm: str | None) -> Callable[[Any], Any]:
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


def _is_xxhash(new: Any) -> bool:
    return getattr(new, "__module__", "").partition(".")[0] in {"xxhash", "_xxhash"}


def _at_once(algorithm: str | None) -> Callable[[bytes], str]:
    """Return a function from bytes to their hex digest, without an object in between if there is."""
    new = _hasher(algorithm)
    made: Callable[[bytes], str] = lambda data: new(data).hexdigest()  # noqa: E731 - one of two
    if _is_xxhash(new):
        import xxhash

        made = xxhash.xxh3_128_hexdigest
    _known[algorithm] = made
    return made


@lru_cache(maxsize=32)
def _inner(algorithm: str | None) -> Callable[[Any], Any]:
    """Return the hash that stands for long parts: as wide as the algorithm allows."""
    new = _hasher(algorithm)
    if _is_xxhash(new) or algorithm not in {None, "blake2b"}:
        return new
    return lambda data: hashlib.blake2b(data, digest_size=32)
