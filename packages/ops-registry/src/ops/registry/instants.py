"""Times as the journals have them: whole nanoseconds since the epoch."""

from __future__ import annotations

import datetime as dt

__all__ = ["from_ns", "is_kept", "to_ns"]


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def from_ns(nanoseconds: int) -> dt.datetime:
    """Return nanoseconds since the epoch as an aware datetime, exact to the microsecond."""
    return _EPOCH + dt.timedelta(microseconds=nanoseconds // 1000)


def to_ns(when: dt.datetime) -> int:
    """Return an aware datetime as nanoseconds since the epoch; TypeError for what is none, as pandas.NaT."""
    if when != when:  # noqa: PLR0124 - NaT is a datetime, and the only one that differs from itself
        raise TypeError(f"{when!r} is no time.")
    return (when - _EPOCH) // dt.timedelta(microseconds=1) * 1000


def is_kept(nanoseconds: int) -> bool:
    """Whether a time has the 64 bits that tables have for one: 1677 to 2262."""
    return -(2**63) <= nanoseconds < 2**63
