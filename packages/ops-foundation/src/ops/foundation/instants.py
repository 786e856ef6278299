"""Times in UTC for half-open intervals: *since* is the first time inside, *until* the first outside.

Every function but `now` gives the start of a minute, hour, day, week (Monday) or month. What is
`relative_to` another time starts from the period that contains it, so `days_ago(1)` is the start
of yesterday and `months_ago(1)`, called on 31 March, the start of February. Calendars are UTC's: days
have 24 hours here. Naive datetimes are refused, since their time zone is unknown.
"""

from __future__ import annotations

import datetime as dt

__all__ = [
    "days_ago",
    "hours_ago",
    "iso",
    "last_day",
    "last_hour",
    "last_month",
    "last_week",
    "minutes_ago",
    "months_ago",
    "now",
    "require_aware",
    "this_day",
    "this_hour",
    "this_minute",
    "this_month",
    "this_week",
    "weeks_ago",
]


def now() -> dt.datetime:
    """Return the current time."""
    return dt.datetime.now(dt.UTC)


def require_aware(time: dt.datetime) -> dt.datetime:
    """Return *time* in UTC; a naive one is a ValueError that names the remedies."""
    if time.utcoffset() is None:
        raise ValueError(
            f"{time!r} has no time zone; use datetime.now(datetime.UTC) "
            "or .replace(tzinfo=datetime.UTC) if it is meant as UTC."
        )
    return time.astimezone(dt.UTC)


def iso(time: dt.datetime) -> str:
    """Return *time* as ISO 8601 text in UTC, such as 2024-02-29T12:00:00+00:00."""
    return require_aware(time).isoformat()


def this_minute(relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the minute."""
    return _utc(relative_to).replace(second=0, microsecond=0)


def this_hour(relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the hour."""
    return _utc(relative_to).replace(minute=0, second=0, microsecond=0)


def this_day(relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the day."""
    return _utc(relative_to).replace(hour=0, minute=0, second=0, microsecond=0)


def this_week(relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the week, a Monday."""
    day = this_day(relative_to)
    return day - dt.timedelta(days=day.weekday())


def this_month(relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the month."""
    return this_day(relative_to).replace(day=1)


def last_hour(relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the hour before that of *relative_to* (default now)."""
    return hours_ago(1, relative_to)


def last_day(relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the day before."""
    return days_ago(1, relative_to)


def last_week(relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the week before."""
    return weeks_ago(1, relative_to)


def last_month(relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the month before."""
    return months_ago(1, relative_to)


def minutes_ago(n: int, relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the minute *n* minutes before that of *relative_to* (default now)."""
    return this_minute(relative_to) - dt.timedelta(minutes=n)


def hours_ago(n: int, relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the hour *n* hours before."""
    return this_hour(relative_to) - dt.timedelta(hours=n)


def days_ago(n: int, relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the start of the day *n* days before."""
    return this_day(relative_to) - dt.timedelta(days=n)


def weeks_ago(n: int, relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the Monday that starts the week *n* weeks before."""
    return this_week(relative_to) - dt.timedelta(weeks=n)


def months_ago(n: int, relative_to: dt.datetime | None = None) -> dt.datetime:
    """Return the first day of the month *n* months before that of *relative_to* (aware; default now), in UTC.

    >>> months_ago(2, dt.datetime(2026, 1, 31, tzinfo=dt.UTC)).isoformat()
    '2025-11-01T00:00:00+00:00'
    """
    first = this_month(relative_to)
    months = first.year * 12 + first.month - 1 - n
    return first.replace(year=months // 12, month=months % 12 + 1)


def _utc(time: dt.datetime | None) -> dt.datetime:
    return now() if time is None else require_aware(time)
