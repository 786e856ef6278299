"""Values as short human-readable text: sizes, durations, numbers, times, bars.

Every function is pure and rolls over at the edge of a unit, so 1024**2 - 1 bytes are "1.00 MB" and
never "1024.00 KB". Tables are in `ops.foundation.tables`, colours in `ops.foundation.colors`;
their names are importable from here too.
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
from typing import TYPE_CHECKING

from ops.foundation.colors import Color, colorize_text
from ops.foundation.tables import display_width, format_table

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Color",
    "colorize_text",
    "create_progress_bar",
    "display_width",
    "format_bytes",
    "format_diff",
    "format_duration",
    "format_table",
    "format_timestamp",
    "humanize_number",
    "truncate_string",
]

_BYTE_PREFIXES = ("", "K", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q")
_NUMBER_UNITS = ("", "K", "M", "B", "T")


def format_bytes(n: float, precision: int = 2, *, binary: bool = False) -> str:
    """Return a size in bytes with a unit of 1024: "1.15 GB" for 1234567890, "512 B" for 512.

    Args:
        n: the size; any real number, also of numpy.
        precision: the digits after the point, of all units but bytes.
        binary: name the units as IEC 80000-13 does: "1.15 GiB".

    >>> format_bytes(1234567890), format_bytes(1234567890, 1, binary=True), format_bytes(512)
    ('1.15 GB', '1.1 GiB', '512 B')
    """
    value, unit = _scale(n, 1024, precision, len(_BYTE_PREFIXES), whole_first=True)
    prefix = _BYTE_PREFIXES[unit]
    return f"{value} {prefix}{'iB' if binary and prefix else 'B'}"


def humanize_number(n: float, precision: int = 1) -> str:
    """Return a number with a unit of 1000: "1.2M" for 1234567, "999" for 999."""
    value, unit = _scale(n, 1000, precision, len(_NUMBER_UNITS), whole_first=True)
    return f"{value}{_NUMBER_UNITS[unit]}"


def _scale(
    n: float, base: int, precision: int, units: int, *, whole_first: bool
) -> tuple[str, int]:
    n = _finite(n)
    if not math.isfinite(n):
        return str(n), 0
    value, unit = abs(n), 0
    while True:
        digits = 0 if whole_first and not unit and float(n).is_integer() else precision
        # What would be printed decides: 1023.999 KB prints as 1024.00 and so is 1.00 MB.
        if round(value, digits) < base or unit == units - 1:
            break
        value /= base
        unit += 1
    sign = "-" if n < 0 and round(value, digits) else ""
    return f"{sign}{value:.{digits}f}", unit


def _finite(n: float) -> float:
    """Return *n* as a number of Python, or an infinity for an integer that no float can hold.

    Fixed-width numbers wrap around: the absolute value of numpy's int8 -128 is -128.
    """
    try:
        return int(n) if float(n).is_integer() else float(n)
    except OverflowError:
        return math.copysign(math.inf, n > 0 or -1)


def format_duration(seconds: float | dt.timedelta) -> str:
    """Return a duration, of *seconds* or a timedelta, as text; parts of zero are left out.

    >>> [format_duration(seconds) for seconds in (0.85, 1.5, 123, 3723, 183600)]
    ['850ms', '1.5s', '2m 3s', '1h 2m 3s', '2d 3h']
    """
    if isinstance(seconds, dt.timedelta):
        seconds = seconds.total_seconds()
    seconds = _finite(seconds)
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 0:
        text = format_duration(-seconds)
        return text if text == "0s" else f"-{text}"
    if seconds == 0:
        return "0s"
    if round(seconds * 1e6) < 1000:
        microseconds = round(seconds * 1e6)
        return f"{microseconds}µs" if microseconds else "<1µs"
    if round(seconds * 1e3) < 1000:
        return f"{round(seconds * 1e3)}ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    if whole >= 86400:
        hours = round(whole / 3600)
        return _parts((hours // 24, "d"), (hours % 24, "h"))
    return _parts((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))


def _parts(*parts: tuple[int, str]) -> str:
    return " ".join(f"{n}{unit}" for n, unit in parts if n)


def format_timestamp(
    ts: float | dt.datetime,
    style: str = "iso",
    *,
    tz: dt.tzinfo | None = None,
    relative_to: dt.datetime | None = None,
) -> str:
    """Return a datetime as text.

    *ts* is seconds since the epoch or an aware datetime; *style* is "iso", "human", "relative",
    "date", "time" or a pattern of strftime. *tz* (default UTC) is the zone shown; *relative_to*
    (default now) is what "relative" counts from.
    """
    from ops.foundation.instants import require_aware

    zone = dt.UTC if tz is None else tz
    when = (
        require_aware(ts).astimezone(zone)
        if isinstance(ts, dt.datetime)
        else dt.datetime.fromtimestamp(ts, zone)
    )
    if style == "iso":
        return when.isoformat()
    if style == "relative":
        now = dt.datetime.now(dt.UTC) if relative_to is None else require_aware(relative_to)
        return _relative((now - when).total_seconds())
    patterns = {"human": "%Y-%m-%d %H:%M:%S %Z", "date": "%Y-%m-%d", "time": "%H:%M:%S"}
    pattern = patterns.get(style, style)
    if "%" not in pattern:
        raise ValueError(
            f"style={style!r} is neither iso, human, relative, date, time nor a strftime pattern."
        )
    return when.strftime(pattern)


_AGES = (
    (86400 * 365, "year"),
    (86400 * 30, "month"),
    (86400 * 7, "week"),
    (86400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)


def _relative(age_seconds: float) -> str:
    seconds = round(abs(age_seconds))
    for size, unit in _AGES:
        count = seconds // size
        if count:
            text = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{text} ago" if age_seconds > 0 else f"in {text}"
    return "just now"


def create_progress_bar(
    current: float,
    total: float,
    prefix: str = "",
    suffix: str = "",
    width: int = 40,
    fill: str = "█",
    empty: str = "░",
    *,
    show_percentage: bool = True,
    show_count: bool = False,
    show_time: bool = False,
    elapsed_time: float | None = None,
) -> str:
    """Return one line of progress; a *total* of zero is a finished job.

    *current* and *total* count the same unit. *prefix* and *suffix* stand before and after the bar,
    which has *width* characters: *fill* for what is done, *empty* for the rest. *show_percentage*
    and *show_count* add the share and the two numbers. *show_time* shows *elapsed_time* (seconds)
    and, from it, the time that is left. A share is rounded down, so that 100 % means done.

    >>> create_progress_bar(1, 4, "load ", width=8, fill="#", empty=".")
    'load |##......|  25.0%'
    """
    # In this order, as NaN is neither less nor more: what is not known is not done.
    share = 1.0 if total <= 0 else min(max(0.0, current / total), 1.0)
    done = int(width * share)
    parts = [f"{prefix}|{fill * done}{empty * (width - done)}|"]
    if show_percentage:
        # Truncated: 100 % is shown when it is done and not before.
        parts.append(f"{math.floor(share * 1000) / 10:5.1f}%")
    if show_count:
        parts.append(f"({current:g}/{total:g})")
    if show_time and elapsed_time is not None:
        left = (
            f", {format_duration(elapsed_time * (1 - share) / share)} left" if 0 < share < 1 else ""
        )
        parts.append(f"[{format_duration(elapsed_time)}{left}]")
    if suffix:
        parts.append(suffix)
    return " ".join(parts)


def format_diff(
    old: str | Sequence[str],
    new: str | Sequence[str],
    *,
    old_name: str = "old",
    new_name: str = "new",
    context: int = 3,
) -> str:
    """Return the unified diff from *old* to *new*, empty when they are equal.

    Both are a text or a sequence of lines. *old_name* and *new_name* stand in the head; *context*
    is the number of equal lines around each change.
    """
    before = old.splitlines() if isinstance(old, str) else list(old)
    after = new.splitlines() if isinstance(new, str) else list(new)
    lines = difflib.unified_diff(before, after, old_name, new_name, n=context, lineterm="")
    return "\n".join(lines)


def truncate_string(text: str, length: int, suffix: str = "…") -> str:
    """Return *text*, or its beginning with *suffix*, never longer than *length* characters."""
    if length < 0:
        raise ValueError(f"length={length} is negative.")
    if len(text) <= length:
        return text
    if len(suffix) >= length:
        return text[:length]
    return text[: length - len(suffix)] + suffix
