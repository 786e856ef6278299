"""Pure functions on dicts and lists: nothing that is passed in is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "chunk_list",
    "ensure_list",
    "first_not_none",
    "flatten_dict",
    "merge_dicts",
    "safe_get",
]

T = TypeVar("T")


def merge_dicts(*mappings: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a new dict in which later mappings win and mappings inside are merged alike.

    Mappings and lists inside are copied, so changing the result changes no argument.

    >>> merge_dicts({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}})
    {'a': {'x': 1, 'y': 2}}
    """
    merged: dict[Any, Any] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            old = merged.get(key)
            if isinstance(old, dict) and isinstance(value, Mapping):
                merged[key] = merge_dicts(old, value)
            else:
                merged[key] = _copy(value)
    return merged


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_copy(v) for v in value]
    return value


def flatten_dict(
    mapping: Mapping[str, Any],
    *ambiguous: str,
    separator: str | None = None,
    sep: str | None = None,
    parent_key: str = "",
) -> dict[str, Any]:
    """Return one level: `{"a": {"b": 1}}` becomes `{"a.b": 1}`; empty mappings stay as values.

    Args:
        mapping: the nested mappings.
        ambiguous: nothing. A second positional argument is the separator in some libraries and the
            prefix of all keys in others; it raises TypeError.
        separator: what stands between the keys of a path, "." by default.
        sep: the same by its short name.
        parent_key: the path that all keys are put below.

    Raises ValueError when two paths give one key, rather than losing a value.
    """
    if ambiguous:
        given = ambiguous[0]
        raise TypeError(
            f"flatten_dict(mapping, {given!r}) means two things; "
            f"say separator={given!r} or parent_key={given!r}."
        )
    if separator is not None and sep is not None:
        raise TypeError("separator and sep are one argument; give one of them.")
    between = separator if separator is not None else "." if sep is None else sep
    flat: dict[str, Any] = {}
    for key, value in _leaves(mapping, between, f"{parent_key}{between}" if parent_key else ""):
        if key in flat:
            raise ValueError(f"Two paths give the key {key!r}; choose another separator.")
        flat[key] = value
    return flat


def _leaves(mapping: Mapping[Any, Any], separator: str, path: str) -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, separator, name + separator)
        else:
            yield name, value


def chunk_list(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return slices of *size* items; the last may be shorter."""
    if size < 1:
        raise ValueError(f"size={size} must be at least 1.")
    return [items[i : i + size] for i in range(0, len(items), size)]


def ensure_list(value: Any) -> list[Any]:
    """Return a list: of nothing for None, of itself for text, bytes and mappings, else of members."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        return [value]
    return list(value)


def first_not_none(*values: T | None, default: T | None = None) -> T | None:
    """Return the first value that is not None, else *default*."""
    return next((v for v in values if v is not None), default)


def safe_get(data: Any, path: str | Sequence[Any], default: Any = None) -> Any:
    """Return what lies at *path* ("a.b.0", or a sequence of keys) in *data*, else *default*.

    *data* is nested mappings and sequences; a step into a sequence is an index. Nothing is raised.

    >>> safe_get({"runs": [{"id": 7}]}, "runs.0.id"), safe_get({}, "runs.0.id", "none")
    (7, 'none')
    """
    for step in path.split(".") if isinstance(path, str) else path:
        try:
            if isinstance(data, Mapping):
                data = data[step]
            elif isinstance(data, Sequence) and not isinstance(data, str | bytes):
                data = data[int(step)]
            else:
                return default
        except (KeyError, IndexError, ValueError, TypeError):
            return default
    return data
