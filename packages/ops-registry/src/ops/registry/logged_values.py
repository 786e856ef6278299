"""What other programs log beside numbers: kept with the run as files, and nothing of it lost.

``logged/values.jsonl`` has a line per value that is no number (a text, a list, a table, a histogram), with its name,
step and time; images and other media are files beside it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = ["VALUES", "flattened", "number_of", "safe_name", "value_line"]

#: The artifact with all values that are no numbers.
VALUES = "logged/values.jsonl"
_ODD = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


def flattened(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with names joined by "."; those with a ``_type`` are values of their own."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and "_type" not in value:
            flat |= flattened(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def number_of(value: Any) -> float | None:
    """Return a number, of JSON that has no NaN and no infinities too; None for anything else."""
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    return _ODD.get(value) if isinstance(value, str) else None


def value_line(key: str, step: int, when: int, value: Any, **more: Any) -> str:
    """Return the line of one value; *when* is nanoseconds since the epoch."""
    line = {"key": key, "step": step, "time_ns": when, "value": value, **more}
    return json.dumps(line, ensure_ascii=False, default=str) + "\n"


def safe_name(text: str) -> str:
    """Return a text as the name of an artifact, which may have "/", on every system."""
    parts = (_UNSAFE.sub("_", part).strip(". ")[:100] for part in text.split("/"))
    return "/".join(part for part in parts if part) or "value"
