"""About how many bytes a value keeps in memory, and limits on sizes."""

from __future__ import annotations

import sys
from itertools import chain
from typing import Any

from ops.foundation.errors import ValidationError

__all__ = ["approximate_size", "positive_limit"]


def approximate_size(value: object) -> int:
    """Return the bytes that *value* keeps: buffers by `nbytes`, built-in containers with contents.

    Objects met twice count once. Attributes of other objects are not followed; give a cache a
    `sizeof` of your own where that matters.
    """
    seen: set[int] = set()
    total = 0
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        size = sys.getsizeof(item)
        nbytes = getattr(item, "nbytes", None)
        # A view of an array reports a small object; what it keeps alive is the data.
        total += max(size, nbytes) if isinstance(nbytes, int) else size
        if isinstance(item, dict):
            stack.extend(chain.from_iterable(item.items()))
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack.extend(item)
    return total


def positive_limit(name: str, limit: int | None) -> int | None:
    """Return *limit*, or raise `ValidationError` when it is below 1."""
    if limit is not None and not limit >= 1:  # NaN too
        msg = f"{name} must be at least 1, not {limit!r}."
        raise ValidationError(msg, suggestions=("Use None for no limit.",))
    return limit
