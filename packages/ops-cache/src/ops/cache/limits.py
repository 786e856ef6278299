"""Limits for the results of `@cache`: what they may take, and the removal of what exceeds it.

What was used longest ago goes first. Used is when it was written, or read as far as the file system
records that: most note the first read after a write, and then one a day (`relatime`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    import datetime as dt
    import pathlib
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "CacheLimits",
    "Entry",
    "Watch",
    "entries_below",
    "entries_beyond",
    "entry_at",
    "reduce_entries",
    "remove_entry",
]

_SHARE = 20  # what exceeds a limit by one of so many parts is noticed


@dataclasses.dataclass(frozen=True, slots=True)
class CacheLimits:
    """The most that results may take; None is no limit.

    Args:
        bytes: of all results with their metadata.
        items: results.
        age: seconds, or a timedelta, since a result was last used.

    Raises:
        ValidationError: a limit is negative or no number.

    >>> import datetime as dt
    >>> CacheLimits(bytes=10 << 30, age=dt.timedelta(days=30)).items is None
    True
    """

    bytes: int | None = None
    items: int | None = None
    age: float | dt.timedelta | None = None

    def __post_init__(self) -> None:
        for name, limit in (("bytes", self.bytes), ("items", self.items), ("age", self.seconds)):
            if limit is not None and not limit >= 0:  # NaN too
                raise ValidationError(f"{name} is zero or more, or None, not {limit!r}.")

    @property
    def seconds(self) -> float | None:
        """The age in seconds."""
        age = self.age
        return age if age is None or isinstance(age, (int, float)) else age.total_seconds()

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return (self.bytes, self.items, self.age) != (None, None, None)


class Entry(NamedTuple):
    """One stored result: when it was used, in seconds since the epoch, its bytes and its file."""

    used: float
    size: int
    path: pathlib.Path


def entries_below(root: pathlib.Path) -> Iterator[Entry]:
    """Yield the results in the folders of *root*, which has one for each module."""
    with contextlib.suppress(FileNotFoundError):
        for folder in root.iterdir():
            if folder.is_dir() and not folder.is_symlink():
                for path in folder.glob("*.pkl"):
                    if entry := entry_at(path):
                        yield entry


def entry_at(path: pathlib.Path) -> Entry | None:
    """Return the result at *path*, None when there is none any more."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    size = status.st_size
    with contextlib.suppress(FileNotFoundError):
        size += os.lstat(path.with_suffix(".yaml")).st_size
    return Entry(max(status.st_atime, status.st_mtime), size, path)


def remove_entry(path: pathlib.Path) -> None:
    """Remove the result at *path*: the metadata first, without which it counts as missing."""
    path.with_suffix(".yaml").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def reduce_entries(entries: Iterable[Entry], limits: CacheLimits) -> int:
    """Remove those of *entries* that exceed *limits*, used longest ago first; return how many."""
    beyond = entries_beyond(entries, limits)
    for entry in beyond:
        remove_entry(entry.path)
    return len(beyond)


def entries_beyond(entries: Iterable[Entry], limits: CacheLimits) -> list[Entry]:
    """Return those of *entries* that exceed *limits*, used longest ago first."""
    left = sorted(entries)
    taken, seconds = sum(entry.size for entry in left), limits.seconds
    oldest = None if seconds is None else time.time() - seconds
    for count, entry in enumerate(left):
        if not (
            (limits.bytes is not None and taken > limits.bytes)
            or (limits.items is not None and len(left) - count > limits.items)
            or (oldest is not None and entry.used < oldest)
        ):
            return left[:count]
        taken -= entry.size
    return left


class Watch:
    """Decides, as results are stored, when to check whether a folder exceeds its limits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._looked: dict[pathlib.Path, float] = {}
        self._bytes: dict[pathlib.Path, int] = {}
        self._items: dict[pathlib.Path, int] = {}

    def is_due(self, folder: pathlib.Path, size: int, limits: CacheLimits) -> bool:
        """Note a new result of *size* bytes; True when enough came since the last look, or at first."""
        if not limits.is_set:
            return False
        now, seconds = self._clock(), limits.seconds
        with self._mutex:
            size += self._bytes.get(folder, 0)
            items = self._items.get(folder, 0) + 1
            looked = self._looked.get(folder)
            due = (
                looked is None
                or (limits.bytes is not None and size * _SHARE >= limits.bytes)
                or (limits.items is not None and items * _SHARE >= limits.items)
                or (seconds is not None and (now - looked) * _SHARE >= seconds)
            )
            self._bytes[folder], self._items[folder] = (0, 0) if due else (size, items)
            if due:
                self._looked[folder] = now
        return due
