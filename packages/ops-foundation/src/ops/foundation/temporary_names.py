"""How files on their way to another name are called, and known by everything that lists a folder.

`atomic_write` writes to `.<name>.<12 hexadecimal digits>.tmp` and renames it. What finds, counts, watches
or removes files leaves such names out: one belongs to a write that is going on, or that died. Only the
second kind may be removed, and only when it is old.
"""

from __future__ import annotations

import re

__all__ = ["TEMPORARY_SUFFIX", "is_temporary_name", "target_of_temporary_name"]

TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY = re.compile(r"\.(.*)\.[0-9a-f]{12}\.tmp", re.DOTALL)


def is_temporary_name(name: str) -> bool:
    """Return whether *name*, without its folder, is one that `atomic_write` gives its unfinished files."""
    return _TEMPORARY.fullmatch(name) is not None


def target_of_temporary_name(name: str) -> str | None:
    """Return the name, or the beginning of a long one, that an unfinished file is for; else None."""
    match = _TEMPORARY.fullmatch(name)
    return match[1] if match else None
