"""Times as the journals have them: whole nanoseconds since the epoch."""

from __future__ import annotations

import datetime as dt

__all__ = ["from_ns"]


def from_ns(nanoseconds: int) -> dt.datetime:
    """Return nanoseconds since the epoch as an aware datetime, exact to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return dt.datetime.fromtimestamp(seconds, dt.UTC).replace(microsecond=rest // 1000)
