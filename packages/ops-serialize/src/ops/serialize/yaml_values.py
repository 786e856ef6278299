"""Typed values to the plain data that YAML holds, and the comparison of what comes back.

Writing goes by the value, reading by the type of the field, so what was written is read again before
it is handed out: a value that would not come back equal in value and type is refused while it is
still there.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
from pathlib import PurePath
from typing import Any

from ops.foundation.helpers import LazyImport
from ops.serialize.errors import ConfigError
from ops.serialize.plain_formats import is_text
from ops.serialize.yaml_tree import MAX_DEPTH

__all__ = ["Plain", "difference"]

_core: Any = LazyImport("pydantic_core", extra="ops-serialize[yaml]")

_MAX_NODES = 1_000_000
_NATIVE = frozenset((bool, int, float, bytes, dt.date, type(None)))


class Plain:
    """Turns one configuration into plain data."""

    def __init__(self) -> None:
        self._left = _MAX_NODES

    def value(self, value: Any, path: str = "$", depth: int = 0) -> Any:
        """Return *value* in the terms of YAML; raises `ConfigError` where there are none."""
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise ConfigError(
                "The value is cyclic, too deep or too large to be written to YAML.", path=path
            )
        depth += 1
        if type(value) in _NATIVE:
            return value
        if isinstance(value, enum.Enum):
            return _name(value)
        if isinstance(value, str):
            if not is_text(value):
                raise ConfigError("The text has no UTF-8 form, and so none in YAML.", path=path)
            return str(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {
                f.name: self.value(getattr(value, f.name), f"{path}.{f.name}", depth)
                for f in dataclasses.fields(value)
                if f.init
            }
        if isinstance(value, dict):
            return self._mapping(value, path, depth)
        if isinstance(value, list | tuple | collections.deque):
            return [self.value(item, f"{path}[{i}]", depth) for i, item in enumerate(value)]
        if isinstance(value, set | frozenset):
            return sorted((self.value(item, path, depth) for item in value), key=_order)
        return _scalar(value, path)

    def _mapping(self, value: Any, path: str, depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, item in value.items():
            name = self.value(key, path, depth)
            if isinstance(name, dict | list):
                raise ConfigError(
                    f"The key {key!r} is not one value, and so no key in YAML.", path=path
                )
            if name in made:
                raise ConfigError(f"Two keys are both {name!r} in YAML.", path=path)
            made[name] = self.value(item, f"{path}.{name}", depth)
        return made


def _order(item: Any) -> tuple[str, str]:
    number = f"{item:030.6f}" if isinstance(item, int | float) and math.isfinite(item) else ""
    return (type(item).__name__, number or repr(item))


def _name(member: Any) -> Any:
    """Return the name of an enum's member, or the names of the flags that make it up."""
    if not isinstance(member, enum.Flag) or member.name in type(member).__members__:
        return member.name
    kind = type(member)
    parts = [one for one in kind if one.value & member.value == one.value]
    combined = kind(0)
    for part in parts:
        combined |= part
    if len(parts) > 1 and combined == member:
        return "|".join(str(part.name) for part in parts)
    return int(member.value)


def _scalar(value: Any, path: str) -> Any:
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, dt.time):
        return value.isoformat()
    texts = PurePath | uuid.UUID | decimal.Decimal | complex
    if isinstance(value, texts) or type(value).__module__ == "ipaddress":
        return str(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()  # a NumPy scalar
    if isinstance(value, int | float | bytes | dt.date):
        raise ConfigError(f"A {type(value).__name__} has no form in YAML.", path=path)
    try:
        made = _core.to_jsonable_python(value, inf_nan_mode="constants")
    except Exception as error:  # of a serializer of the user, or the value has none
        raise ConfigError(f"A {type(value).__name__} has no form in YAML.", path=path) from error
    if type(made) not in {str, int, float}:
        raise ConfigError(f"A {type(value).__name__} has no form in YAML.", path=path)
    return made


def difference(one: Any, other: Any, path: str = "$") -> tuple[str, Any, Any] | None:
    """Return path and values of where *other* differs from *one* in value or type, or None."""
    if getattr(one, "ndim", None) == 0 and hasattr(one, "item"):
        one = one.item()
    if type(one) is not type(other):
        return path, one, other
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        for f in dataclasses.fields(one):
            if f.init or f.compare:
                pair = (getattr(one, f.name, None), getattr(other, f.name, None))
                if found := difference(*pair, f"{path}.{f.name}"):
                    return found
        return None
    if isinstance(one, dict):
        if len(one) != len(other):
            return path, one, other
        pairs: Any = zip(one.items(), other.items(), strict=True)
        for (key, value), (same, again) in pairs:
            if found := difference(key, same, path) or difference(value, again, f"{path}.{key}"):
                return found
        return None
    if isinstance(one, list | tuple | collections.deque):
        if len(one) != len(other):
            return path, one, other
        for i, (item, again) in enumerate(zip(one, other, strict=True)):
            if found := difference(item, again, f"{path}[{i}]"):
                return found
        return None
    if isinstance(one, set | frozenset):
        typed = [sorted((type(v).__name__, repr(v)) for v in values) for values in (one, other)]
        return None if one == other and typed[0] == typed[1] else (path, one, other)
    if isinstance(one, float) and math.isnan(one) and math.isnan(other):
        return None
    if isinstance(one, float | complex) and repr(one) != repr(other):
        return path, one, other  # 0.0 and -0.0
    return None if one == other else (path, one, other)
