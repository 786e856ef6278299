"""Times as the journals have them: whole nanoseconds since the epoch."""

from __future__ import annotations

import datetime as dt

__all__ = ["from_ns", "to_ns"]


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def from_ns(nanoseconds: int) -> dt.datetime:
    """Return nanoseconds since the epoch as an aware datetime, exact to the microsecond."""
    return _EPOCH + dt.timedelta(microseconds=nanoseconds // 1000)


def to_ns(when: dt.datetime) -> int:
    """Return an aware datetime as nanoseconds since the epoch."""
    return (when - _EPOCH) // dt.timedelta(microseconds=1) * 1000
