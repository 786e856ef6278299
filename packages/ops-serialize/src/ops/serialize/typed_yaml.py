"""YAML nodes to typed values: the tree is composed but not constructed, so that every error has a place.

A value is built from its node and the type that a dataclass field asks for. What does not fit is a
`ConfigError` with the path into the document (`$.data.path`), the line and the column.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import functools
import os
import re
import types
import typing
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, Literal, Union, get_args, get_origin

from ops.foundation.helpers import LazyImport
from ops.serialize.errors import ConfigError

_yaml: Any = LazyImport("yaml", extra="ops-serialize[yaml]")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_TEXT = "tag:yaml.org,2002:str"
_SIMPLE = frozenset({str, int, float, bool})
_SEQUENCES: dict[Any, Any] = {list: list, tuple: tuple, set: set, frozenset: frozenset}


def read(text: str, cls: type[Any], *, source: str, env: bool) -> Any:
    """Return an instance of the dataclass *cls*; raises ConfigError that names *source*."""
    loader = getattr(_yaml, "CSafeLoader", None) or _yaml.SafeLoader
    try:
        opened = loader(text)
        try:
            node = opened.get_single_node()
            if node is None:
                raise ConfigError(f"{source} is empty; {cls.__name__} needs a mapping.")
            return _Reader(opened, source, len(text), env=env).value(node, cls, "$")
        except RecursionError:
            raise ConfigError(f"{source} is nested too deeply.") from None
        finally:
            opened.dispose()
    except _yaml.YAMLError as error:
        raise ConfigError(f"{source} is no valid YAML: {error}") from error


class _Reader:
    """Builds values from the nodes of one document."""

    def __init__(self, loader: Any, source: str, length: int, *, env: bool) -> None:
        self._loader, self._source, self._env = loader, source, env
        # Aliases of aliases double with every line; what people write repeats itself less.
        self._left = 1000 + 10 * length

    def value(self, node: Any, hint: Any, path: str) -> Any:
        if hint is str and node.tag == _TEXT and not self._env:
            return node.value
        if hint in _SIMPLE:
            return self._scalar(node, hint, path)
        self._left -= 1
        if not self._left:
            raise self._error(node, path, "the aliases expand to more than the text is worth")
        origin = get_origin(hint)
        if hint is Any or hint is object:
            return self._plain(node)
        if origin in {Union, types.UnionType}:
            return self._union(node, get_args(hint), path)
        if origin is Literal:
            return self._literal(node, get_args(hint), path)
        if hint is None or hint is type(None):
            return self._none(node, path)
        if dataclasses.is_dataclass(origin or hint):
            return self._dataclass(node, hint, path)
        if (origin or hint) in _SEQUENCES:
            return self._sequence(node, origin or hint, get_args(hint), path)
        if (origin or hint) is dict:
            return self._mapping(node, get_args(hint) or (Any, Any), path)
        if isinstance(hint, type):
            return self._scalar(node, hint, path)
        raise self._error(node, path, f"the type {hint} of the field cannot be read from YAML")

    def _dataclass(self, node: Any, cls: Any, path: str) -> Any:
        hints, fields = _schema(cls)
        cls = get_origin(cls) or cls
        values = {}
        for key_node, value_node in self._pairs(node, path, cls.__name__):
            key = key_node.value
            if key not in fields:
                near = difflib.get_close_matches(key, fields, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {sorted(fields)}"
                raise self._error(key_node, path, f"{cls.__name__} has no field {key!r}{hint}")
            if key in values:
                raise self._error(key_node, path, f"{key!r} stands here twice")
            values[key] = self.value(value_node, hints[key], f"{path}.{key}")
        missing = [
            name
            for name, field in fields.items()
            if name not in values
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise self._error(node, path, f"{cls.__name__} needs {', '.join(missing)}")
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise self._error(node, path, f"{cls.__name__} refused the values: {error}") from error

    def _union(self, node: Any, hints: tuple[Any, ...], path: str) -> Any:
        errors = []
        for hint in sorted(hints, key=lambda h: h is str):  # text last: it is the least specific
            try:
                return self.value(node, hint, path)
            except ConfigError as error:
                errors.append(error)
        names = " or ".join(getattr(hint, "__name__", str(hint)) for hint in hints)
        if len([h for h in hints if h is not type(None)]) == 1:
            raise errors[0]
        raise self._error(node, path, f"{self._shown(node)} is no {names}")

    def _literal(self, node: Any, choices: tuple[Any, ...], path: str) -> Any:
        value = self._plain(node)
        for choice in choices:
            if type(choice) is type(value) and choice == value:
                return choice
        raise self._error(node, path, f"{value!r} is none of {list(choices)}")

    def _none(self, node: Any, path: str) -> None:
        if self._plain(node) is not None:
            raise self._error(node, path, f"{self._shown(node)} is not null")

    def _sequence(self, node: Any, kind: Any, hints: tuple[Any, ...], path: str) -> Any:
        if node.id != "sequence":
            raise self._error(node, path, f"{self._shown(node)} is no list")
        items = node.value
        if kind is tuple and hints and hints[-1] is not Ellipsis:
            if len(items) != len(hints):
                raise self._error(node, path, f"{len(items)} items where {len(hints)} belong")
            each = hints
        else:
            each = (hints[0] if hints else Any,) * len(items)
        pairs = zip(items, each, strict=True)
        return kind(self.value(n, h, f"{path}[{i}]") for i, (n, h) in enumerate(pairs))

    def _mapping(self, node: Any, hints: tuple[Any, ...], path: str) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in self._pairs(node, path, "dict"):
            key = self.value(key_node, hints[0], path)
            if key in found:
                raise self._error(key_node, path, f"{key!r} stands here twice")
            found[key] = self.value(value_node, hints[1], f"{path}.{key_node.value}")
        return found

    def _pairs(self, node: Any, path: str, what: str) -> Any:
        if node.id != "mapping":
            raise self._error(node, path, f"{self._shown(node)} is no mapping for {what}")
        self._loader.flatten_mapping(node)  # merge keys: `<<: *base`
        return node.value

    def _scalar(self, node: Any, hint: type[Any], path: str) -> Any:
        if node.id != "scalar":
            raise self._error(node, path, f"{hint.__name__} is one value, not {self._shown(node)}")
        value = self._plain(node)
        try:
            return _converted(value, hint, self._text(node))
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            reason = str(error) if isinstance(error, _RefusedError) else ""
            message = f"{value!r} is no {hint.__name__}{reason}"
            raise self._error(node, path, message) from error

    def _plain(self, node: Any) -> Any:
        if self._env and node.id == "scalar" and "${" in node.value:
            filled = self._text(node)
            tag = (
                node.tag
                if node.style
                else self._loader.resolve(_yaml.ScalarNode, filled, (True, False))
            )
            node = _yaml.ScalarNode(tag, filled, node.start_mark, node.end_mark, node.style)
        try:
            return self._loader.construct_object(node, deep=True)
        except (ValueError, OverflowError) as error:  # 2024-13-01 looks like a date
            raise self._error(node, "$", f"{self._shown(node)} is no value: {error}") from error

    def _text(self, node: Any) -> str:
        if not self._env:
            return str(node.value)

        def fill(match: re.Match[str]) -> str:
            value = os.environ.get(match[1], match[2])
            if value is None:
                raise self._error(node, "$", f"the environment variable {match[1]} is not set")
            return value

        return _VARIABLE.sub(fill, node.value)

    def _shown(self, node: Any) -> str:
        return repr(node.value) if node.id == "scalar" else f"a {node.id}"

    def _error(self, node: Any, path: str, message: str) -> ConfigError:
        mark = node.start_mark
        return ConfigError(
            f"{message}, in {self._source}.", path=path, line=mark.line + 1, column=mark.column + 1
        )


@functools.lru_cache(maxsize=256)
def _schema(cls: Any) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    """Return the types of a dataclass's fields, resolved, and its fields; slow, so kept."""
    origin = get_origin(cls) or cls
    fields = {f.name: f for f in dataclasses.fields(origin) if f.init}
    given = dict(zip(getattr(origin, "__parameters__", ()), get_args(cls), strict=False))
    hints = typing.get_type_hints(origin)
    return {name: _filled(hint, given) for name, hint in hints.items()}, fields


def _filled(hint: Any, given: dict[Any, Any]) -> Any:
    """Return *hint* with the type variables of a generic dataclass replaced."""
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, Any)
    open_ones = getattr(hint, "__parameters__", ())
    return hint[tuple(given.get(one, Any) for one in open_ones)] if open_ones else hint


class _RefusedError(ValueError):
    """Carries why a conversion was refused."""


def _converted(value: Any, hint: type[Any], text: str) -> Any:
    """Return *value* as *hint*; raises ValueError, TypeError or KeyError."""
    if issubclass(hint, Enum):
        return _member(value, hint)
    if hint is bool or hint is str or hint is bytes:
        if type(value) is not hint:
            raise _RefusedError("; write it in quotes" if hint is str else "")
        return value
    if hint is int:
        if type(value) is not int:
            raise _RefusedError
        return value
    if hint is float:
        if type(value) is bool:
            raise _RefusedError
        return float(value if isinstance(value, int | float) else text)  # YAML 1.1: 1e-3 is text
    if issubclass(hint, PurePath):
        return (Path if hint is PurePath else hint)(_as_text(value))
    if hint is dt.datetime:
        return (
            value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(_as_text(value))
        )
    if hint is dt.date:
        if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
            raise _RefusedError
        return value
    if hint is dt.time:
        return dt.time.fromisoformat(_as_text(value))
    if hint is dt.timedelta:
        return dt.timedelta(seconds=float(value))
    return hint(_as_text(value))


def _member(value: Any, hint: type[Enum]) -> Enum:
    for member in hint:
        if value == member.name or (type(value) is type(member.value) and value == member.value):
            return member
    raise _RefusedError(f"; there are {[member.name for member in hint]}")


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _RefusedError
    return value
