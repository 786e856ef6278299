"""JSON as stores have it: strict, one line, and with what JSON cannot say.

It has no NaN and no infinities: they are written as ``{"$float": "nan"}``; a mapping of the user that has such a key
itself is written as ``{"$dict": [[key, value], ...]}``.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

from ops.registry.errors import InvalidValueError

__all__ = ["canonical", "decode", "encode"]

_MARKS = (b'"$float"', b'"$dict"')


def encode(value: Any) -> bytes:
    """Return *value* as one line of strict JSON; what JSON cannot say is an `InvalidValueError`."""
    try:
        body = _dumps(value)
    except ValueError:  # a NaN or an infinity (or a cycle, which _escape reports)
        return _escaped(value)
    except TypeError as error:
        raise InvalidValueError(f"A value cannot be kept as JSON: {error}.") from error
    return _escaped(value) if any(mark in body for mark in _MARKS) else body


def canonical(value: Any) -> str:
    """Return JSON to compare by: NaN equals NaN there, and the order of keys means nothing."""
    return json.dumps(value, sort_keys=True, default=_plain)


def decode(body: bytes) -> Any:
    """Return what `encode` was given."""
    if b'"$' in body:  # one of the marks, or a text that looks like it
        return json.loads(body, object_hook=_unescape)
    found, end = _decoder.raw_decode(body.decode())  # what `json.loads` does, in half of its time
    return found if end == len(body) else json.loads(body)


def _dumps(value: Any) -> bytes:
    return _encoder.encode(value).encode()


def _plain(value: Any) -> Any:
    """Turn NumPy scalars and arrays, and paths, into what JSON has."""
    if hasattr(value, "tolist"):
        found = value.tolist()
        if not hasattr(found, "tolist"):  # as a mock of unittest has, without end
            return found
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    raise TypeError(f"{type(value).__name__} is no JSON value: {value!r:.100}")


_decoder = json.JSONDecoder()
_encoder = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_plain
)


def _escaped(value: Any) -> bytes:
    try:
        return _dumps(_escape(value))
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: thousands of digits
        raise InvalidValueError(f"A value cannot be kept as JSON: {error}.") from error


def _escape(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, dict):
        if value.keys() & {"$float", "$dict"}:
            return {"$dict": [[str(k), _escape(v)] for k, v in value.items()]}
        return {k: _escape(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escape(v) for v in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return _escape(_plain(value))


def _unescape(found: dict[str, Any]) -> Any:
    if found.keys() == {"$float"}:
        return float(found["$float"])
    if found.keys() == {"$dict"}:
        return dict(found["$dict"])
    return found
