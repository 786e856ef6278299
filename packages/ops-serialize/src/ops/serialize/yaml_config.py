"""YamlConfig: dataclasses that live in YAML files which people read and edit."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import inspect
import re
import uuid
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.files import atomic_write
from ops.foundation.helpers import LazyImport
from ops.serialize import typed_yaml
from ops.serialize.errors import ConfigError
from ops.serialize.plain_formats import is_text

if TYPE_CHECKING:
    from ops.foundation.files import StrPath

__all__ = ["YamlConfig"]

_yaml: Any = LazyImport("yaml", extra="ops-serialize[yaml]")
_FIELD = re.compile(r"    (\w+)\s*:[^#]*(?:#\s*(.*))?$")


class YamlConfig:
    """Base of dataclasses that are saved to and loaded from YAML files.

    Field types are checked and converted both ways: Path, Enum, datetime, tuple, set, Optional, Union,
    Literal, nested dataclasses, lists and dicts of all of these.
    """

    def to_yaml(self, file_path: StrPath, *, with_comments: bool = False) -> None:
        """Write the fields to *file_path*, whole or not at all; folders are created.

        *with_comments* puts the comment of each field's line in the class above it.
        Raises ConfigError for a value that YAML cannot hold.
        """
        path = Path(file_path)
        text = self.to_yaml_text(with_comments=with_comments)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(text)

    @classmethod
    def from_yaml(cls, file_path: StrPath, *, env: bool = False) -> Self:
        """Read an instance from *file_path*; *env* fills in `${NAME}` and `${NAME:-default}`.

        Raises ConfigError that names place and reason, OSError.
        """
        text = Path(file_path).read_text(encoding="utf-8")
        return cls._read(text, str(file_path), env=env)

    def to_yaml_text(self, *, with_comments: bool = False) -> str:
        """Return what `to_yaml` writes."""
        _require_dataclass(type(self))
        plain = _plain(self, "$")
        dumper = getattr(_yaml, "CSafeDumper", None) or _yaml.SafeDumper
        options = {"Dumper": dumper, "sort_keys": False, "allow_unicode": True, "width": 100}
        if not with_comments:
            return str(_yaml.dump(plain, **options))
        notes = _comments(type(self))
        parts = []
        for name, value in plain.items():
            if notes.get(name):
                parts.append(f"# {notes[name]}\n")
            parts.append(_yaml.dump({name: value}, **options))
        return "".join(parts)

    @classmethod
    def from_yaml_text(cls, text: str, *, env: bool = False) -> Self:
        """Read an instance from YAML text; raises ConfigError."""
        return cls._read(text, "the text", env=env)

    @classmethod
    def _read(cls, text: str, source: str, *, env: bool) -> Self:
        _require_dataclass(cls)
        value: Self = typed_yaml.read(text, cls, source=source, env=env)
        return value


def _require_dataclass(cls: type[Any]) -> None:
    if not dataclasses.is_dataclass(cls):
        raise ConfigError(f"{cls.__name__} is no dataclass; put @dataclass above it.")


def _plain(value: Any, path: str) -> Any:
    """Return *value* in the terms of YAML; raises ConfigError where that would lose something."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _plain(getattr(value, f.name), f"{path}.{f.name}")
            for f in dataclasses.fields(value)
            if f.init
        }
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return {_plain(k, path): _plain(v, f"{path}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted(
            (_plain(item, path) for item in value), key=lambda item: (str(type(item)), item)
        )
    if isinstance(value, dt.datetime | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, str) and not is_text(value):
        raise ConfigError(f"The text at {path} has no UTF-8 form, and so none in YAML.")
    if value is None or type(value) in {bool, int, float, str, bytes, dt.date}:
        return value
    scalar: Any = value
    if getattr(scalar, "ndim", None) == 0 and hasattr(scalar, "item"):
        return scalar.item()  # a NumPy scalar
    if isinstance(scalar, uuid.UUID | decimal.Decimal):
        return str(scalar)
    raise ConfigError(f"{type(value).__name__} at {path} has no form in YAML.")


def _comments(cls: type[Any]) -> dict[str, str]:
    """Return the comment behind each field, or in the lines above it, as the source has them."""
    try:
        lines = inspect.getsource(cls).splitlines()
    except (OSError, TypeError):
        return {}
    notes: dict[str, str] = {}
    above: list[str] = []
    for line in lines:
        if line.strip().startswith("#"):
            above.append(line.strip().lstrip("#: "))
            continue
        match = _FIELD.match(line)
        if match:
            notes[match[1]] = match[2] or " ".join(above)
        above = []
    return notes
