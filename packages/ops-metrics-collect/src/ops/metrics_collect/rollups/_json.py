"""JSON that every parser reads: RFC 8259 knows no NaN and no infinity."""

from __future__ import annotations

import json
import math
from typing import IO, Any

__all__ = ["finite", "write_json"]


def write_json(rows: list[dict[str, Any]], file: IO[str]) -> None:
    """Write *rows*; times as ISO 8601 text, NaN and infinity as null."""
    plain = [{name: finite(value) for name, value in row.items()} for row in rows]
    json.dump(plain, file, indent=1, default=lambda v: v.isoformat(), allow_nan=False)


def finite(value: Any) -> Any:
    """Return *value*, or None for NaN and infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
