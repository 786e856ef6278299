"""How a pickle describes the dtype of an array, and so how many bytes of raw content follow it.

joblib writes arrays raw into the middle of a stream. Where their dtype is not one that NumPy itself
writes, their size is not known, and what follows cannot be found.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = [
    "DTYPE",
    "UNKNOWN",
    "Symbol",
    "bounded_size",
    "dtype_text",
    "has_objects",
    "is_plain_dtype",
    "item_size",
]

UNKNOWN = "?"
DTYPE = "numpy.dtype()"
_MOST_DIMENSIONS = 64


class Symbol:
    """Something that only running the stream would make: an import, or what a call returned."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: Any = None) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None


def bounded_size(shape: Any, item_size: int, most: int) -> int | None:
    """Return the bytes of an array, or None for more than *most*, or for a shape that is none."""
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        return None
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
        return None
    size = item_size
    for n in shape:
        size *= n
    return size if size <= most else None


def dtype_text(dtype: Symbol) -> str:
    """Return the text that *dtype* was made from, "?" when it was no text."""
    first = dtype.arguments[0] if isinstance(dtype.arguments, tuple) and dtype.arguments else None
    return first if isinstance(first, str) else UNKNOWN


_ITEM = re.compile(r"[<>|=]?([biufcSUVmM])(\d{1,9})")
_OBJECT = re.compile(r"\|?O8?")


def item_size(text: str) -> int:
    """Return the bytes of an item; raise ValueError for an unknown dtype."""
    found = _ITEM.fullmatch(text)
    if found is None:
        raise ValueError(f"the dtype {text!r} of an array is not known")
    return int(found[2]) * (4 if found[1] == "U" else 1)


def has_objects(dtype: Symbol) -> bool:
    """Say whether joblib pickles an array of *dtype*; raise ValueError where that is not clear."""
    if not is_plain_dtype(dtype, dtype.state):
        raise ValueError("the dtype of an array is not one that NumPy writes")
    inner = _inner(dtype.state)
    parts = [has_objects(part) for part in inner]  # all of them, since each may be unclear
    objects = any(parts)
    if inner and objects != bool(dtype.state[7] & 1):
        raise ValueError("it is not clear whether an array holds objects")
    return objects or bool(_OBJECT.fullmatch(dtype_text(dtype)))


def _inner(state: Any) -> list[Symbol]:
    """Return the dtypes of which the dtype with *state* is made."""
    if not isinstance(state, tuple):
        return []
    base = [state[2][0]] if state[2] else []
    return [*base, *(field[0] for field in (state[4] or {}).values())]


def is_plain_dtype(dtype: Symbol, state: Any) -> bool:
    """Say whether *state* is what NumPy itself writes for a dtype of this name."""
    text = dtype_text(dtype)
    found = _ITEM.fullmatch(text)
    if found is None and not _OBJECT.fullmatch(text):
        return False
    if state is None:
        return True
    if not isinstance(state, tuple) or len(state) not in {8, 9} or state[0] not in {3, 4}:
        return False
    order, base, names, fields, size, alignment, flags = state[1:8]
    if not (isinstance(order, str) and len(order) == 1 and order in "<>|="):
        return False
    if not all(type(n) is int and -1 <= n < 1 << 31 for n in (size, alignment, flags)):
        return False
    if found is not None and found[1] in "SUV":
        if size != item_size(text):
            return False
    elif size != -1 or base or names or fields:
        return False
    return _is_plain_base(base) and _are_plain_fields(names, fields)


def _is_plain_base(base: Any) -> bool:
    return base is None or (isinstance(base, tuple) and len(base) == 2 and _is_dtype(base[0]))


def _are_plain_fields(names: Any, fields: Any) -> bool:
    if names is None and fields is None:
        return True
    if not isinstance(names, tuple) or not isinstance(fields, dict):
        return False
    return all(isinstance(name, str) for name in names) and all(
        isinstance(field, tuple)
        and len(field) in {2, 3}
        and _is_dtype(field[0])
        and type(field[1]) is int
        for field in fields.values()
    )


def _is_dtype(part: Any) -> bool:
    return isinstance(part, Symbol) and part.name == DTYPE
