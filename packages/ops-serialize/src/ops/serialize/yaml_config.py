"""YamlConfig: dataclasses that live in YAML files which people read and edit.

Text becomes plain data in `yaml_tree`, plain data become typed values in `typed_yaml`, and typed values
plain data again in `yaml_values`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.files import atomic_write
from ops.foundation.helpers import LazyImport
from ops.serialize import typed_yaml
from ops.serialize.errors import ConfigError
from ops.serialize.yaml_tree import NUMBERS
from ops.serialize.yaml_values import Plain, difference

if TYPE_CHECKING:
    from ops.foundation.files import StrPath

__all__ = ["YamlConfig"]

_yaml: Any = LazyImport("yaml", extra="ops-serialize[yaml]")
_FIELD = re.compile(r"    (\w+)\s*:[^#]*(?:#\s*(.*))?$")


class YamlConfig:
    """Base of dataclasses that are saved to and loaded from YAML files.

    Field types are checked and converted both ways by pydantic: numbers, texts, Path, Enum and Flag,
    times, tuple, set, Optional, Union, Literal, NewType, NamedTuple, TypedDict, Sequence, Mapping, nested
    dataclasses, and lists and dicts of all of these. What would not come back equal is not written.

    >>> import dataclasses
    >>> @dataclasses.dataclass
    ... class Training(YamlConfig):
    ...     depth: int = 6
    >>> print(Training(depth=12).to_yaml_text(), end="")
    depth: 12
    """

    def to_yaml(self, file_path: StrPath, *, with_comments: bool = False) -> None:
        """Write the fields to *file_path*, whole or not at all; folders are created.

        *with_comments* puts the comment of each field's line in the class above it.
        Raises ConfigError for a value that would not come back equal in value and type.
        """
        path = Path(file_path)
        text = self.to_yaml_text(with_comments=with_comments)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(text)

    @classmethod
    def from_yaml(cls, file_path: StrPath, *, env: bool = False) -> Self:
        """Read an instance from *file_path*; *env* fills in `${NAME}` and `${NAME:-default}`.

        Raises ConfigError that names path, line, column and reason, OSError.
        """
        try:
            text = Path(file_path).read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{file_path} is no UTF-8 text: {error.reason} at byte {error.start}.",
                suggestions=("Save the file with the encoding UTF-8.",),
            ) from None
        return cls._read(text, str(file_path), env=env)

    def to_yaml_text(self, *, with_comments: bool = False) -> str:
        """Return what `to_yaml` writes; *with_comments* adds the documentation of each field.

        Raises `ConfigError` for a value that would come back as another one.
        """
        cls = type(self)
        _require_dataclass(cls)
        plain = Plain().value(self)
        text = _dumped(plain) if not with_comments else _with_comments(cls, plain)
        again = typed_yaml.read(text, cls, source="what would be written", env=False)
        if found := difference(self, again):
            path, value, other = found
            raise ConfigError(
                f"{value!r} ({type(value).__name__}) would come back as "
                f"{other!r} ({type(other).__name__}).",
                path=path,
                suggestions=("Give the field a type that YAML can distinguish.",),
            )
        return text

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


def _dumped(plain: Any) -> str:
    options = {"sort_keys": False, "allow_unicode": True, "width": 100}
    return str(_yaml.dump(plain, Dumper=_dumper(), **options))


def _with_comments(cls: type[Any], plain: dict[str, Any]) -> str:
    notes = _comments(cls)
    parts = []
    for name, value in plain.items():
        if notes.get(name):
            parts.append(f"# {notes[name]}\n")
        parts.append(_dumped({name: value}))
    return "".join(parts) or "{}\n"


@functools.lru_cache(maxsize=1)
def _dumper() -> Any:
    """Return a dumper without aliases that quotes what YAML 1.1 or 1.2 would not read as text."""
    base = getattr(_yaml, "CSafeDumper", None) or _yaml.SafeDumper

    class Dumper(base):  # type: ignore[misc,valid-type] # chosen at run time
        def ignore_aliases(self, _data: Any) -> bool:
            return True

    for (
        number
    ) in NUMBERS:  # also what PyYAML would leave unquoted, and our reader not take for text
        Dumper.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    Dumper.add_representer(float, _float_node)
    return Dumper


def _float_node(dumper: Any, value: float) -> Any:
    text = repr(value)
    special = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}
    return dumper.represent_scalar("tag:yaml.org,2002:float", special.get(text, text))


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
