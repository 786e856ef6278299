"""Values as JSON has them: what parameters become, and copies of what the store keeps in memory.

Parameters are any JSON value, and what has a usual text form: an `enum.Enum` is its value, dates and times are ISO
texts, `decimal.Decimal`, `uuid.UUID` and paths are texts, NumPy scalars and arrays are numbers and lists. Estimators,
functions and classes, which stand in ``pipeline.get_params()``, are kept as ``repr:`` and their repr, so that no reader
takes that text for a value. Everything else is refused, with the key it has.

What is returned is the caller's own. A caller that changes a dictionary it was given must not change what others
read, so every mapping that leaves the store is copied, with all that is in it.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import os
import uuid
from collections.abc import Mapping
from typing import Any

from ops.registry.errors import InvalidValueError
from ops.registry.validators import check_key, check_mapping

__all__ = ["copied", "copied_mapping", "plain_parameters"]

#: How much of a repr is kept.
_LONGEST_REPR = 1000
#: Bits of a whole number whose digits Python writes; it refuses more than 4 300 of them.
_LONGEST_INT = 14_000
_REPR_MARK = "repr:"
_TEXTS = (decimal.Decimal, uuid.UUID)
_TIMES = (dt.date, dt.time)  # a datetime is a date


def plain_parameters(what: str, values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return parameters as JSON has them, or refuse the one that cannot be kept, by its key.

    Raises:
        InvalidValueError: a key is no key, or a value has no form that is kept.
    """
    found = {}
    for key, value in check_mapping(what, values).items():
        try:
            found[check_key(key)] = _plain(key, value)
        except RecursionError:
            raise InvalidValueError(f"Parameter {key!r:.80} contains itself.") from None
    return found


def _plain(key: str, value: Any) -> Any:
    """Return one value, which is at *key*, as JSON has it."""
    if isinstance(value, enum.Enum):
        return _plain(key, value.value)
    if value is None or isinstance(value, (str, int, float)):
        if isinstance(value, int) and value.bit_length() > _LONGEST_INT:
            raise InvalidValueError(
                f"Parameter {key!r:.120} cannot be kept as JSON: it is a number of thousands of digits."
            )
        return value
    if isinstance(value, Mapping):
        found = {_name(key, k): _plain(f"{key}.{k}", v) for k, v in value.items()}
        if len(found) < len(value):  # 1 and "1", True and "true"
            raise InvalidValueError(f"Parameter {key!r:.120} has two keys of one text.")
        return found
    if isinstance(value, (list, tuple)):
        return [_plain(f"{key}[{i}]", v) for i, v in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [_plain(key, v) for v in sorted(value, key=repr)]
    return _in_its_form(key, value)


def _in_its_form(key: str, value: Any) -> Any:
    if isinstance(value, _TIMES):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    is_estimator = hasattr(value, "get_params")
    if hasattr(value, "tolist") and not is_estimator:
        found = value.tolist()
        if not hasattr(found, "tolist"):
            return _plain(key, found)
    if is_estimator or callable(value):
        # The repr of a function has its address, which is meaningless in another process.
        name = getattr(value, "__qualname__", None)
        text = repr(value) if name is None else f"{value.__module__}.{name}"
        return _REPR_MARK + text[:_LONGEST_REPR]
    raise InvalidValueError(
        f"Parameter {key!r:.120} cannot be kept: {type(value).__name__} is no JSON value: {value!r:.100}.",
        suggestions=("Log str(value) or repr(value) where the text is enough.",),
    )


def _name(key: str, name: object) -> str:
    if isinstance(name, str):
        return name
    if name is None:
        return "null"
    if isinstance(name, bool):  # as in JSON
        return "true" if name else "false"
    if isinstance(name, (int, float)):
        return str(name)
    raise InvalidValueError(f"Parameter {key!r:.120} has a key that is no text: {name!r:.80}.")


def copied(value: Any) -> Any:
    """Return a copy of dictionaries and lists, with all that is in them; all else cannot change."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def copied_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a mapping whose values are mostly plain."""
    found = dict(values)
    for key, value in found.items():
        if isinstance(value, (dict, list)):
            found[key] = copied(value)
    return found
