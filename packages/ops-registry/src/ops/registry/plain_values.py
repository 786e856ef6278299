"""Values as JSON has them: copies of what the store keeps in memory.

What is returned is the caller's own. A caller that changes a dictionary it was given must not change what others
read, so every mapping that leaves the store is copied, with all that is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["copied", "copied_mapping"]


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
