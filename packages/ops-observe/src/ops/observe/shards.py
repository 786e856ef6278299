"""What one thread has counted: shards that their thread alone writes, and every thread may read.

The sums are exact once writers pause, and never go back while they run. When a thread ends, its
`threading.local` values are dropped, a weak reference reports it, and the next read folds its shard
into the sum of those that have ended: no thread that still runs can be writing to it.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation.errors import ValidationError, text_of
from ops.observe.sketch import Sketch

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Mapping

__all__ = ["Epoch", "Key", "Series", "Shard", "Tags", "checked", "key_of", "series_of"]

Tags: TypeAlias = "Mapping[str, object] | None"
"""What distinguishes series of one name; values are shown as text."""
Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its sorted tags."""
Key: TypeAlias = "str | Series"


def key_of(name: str, tags: Tags) -> Key:
    """Return what a shard knows a series by: the name alone where there are no tags."""
    if not tags:
        return name
    return (
        name,
        tuple(
            sorted(
                (k if type(k) is str else _text(k), v if type(v) is str else _text(v))
                for k, v in tags.items()
            )
        ),
    )


def checked(key: Key) -> Key:
    """Return *key* with a name that every exporter can write; called where a series begins.

    Raises ValidationError when the name is no text: it would make every export fail later.
    """
    given: Any = key
    is_series = type(given) is tuple and len(given) == 2 and type(given[1]) is tuple
    name = given[0] if is_series else given
    if not isinstance(name, str):
        raise ValidationError(
            f"A metric's name is text, not {type(name).__name__}: {text_of(name)}."
        )
    return (_text(name), given[1]) if is_series else _text(name)


def _text(value: object) -> str:
    # Of a str enum the value, not "Color.RED".
    return str.__str__(value) if isinstance(value, str) else text_of(value)


def series_of(key: Key) -> Series:
    """Return name and tags."""
    return (key, ()) if isinstance(key, str) else key


class _Owner:
    """Lives as long as the thread whose shard it marks."""

    __slots__ = ("__weakref__",)


class Shard:
    """What one thread has counted."""

    __slots__ = ("counts", "owner", "sketches")

    def __init__(self, owner: weakref.ref[_Owner] | None = None) -> None:
        self.counts: dict[Key, float] = {}
        self.sketches: dict[tuple[str, Key], Sketch] = {}
        self.owner: weakref.ref[_Owner] | None = owner

    def absorb(self, other: Shard) -> None:
        """Count everything that *other* has counted."""
        for key, value in other.counts.copy().items():
            self.counts[key] = self.counts.get(key, 0) + value
        for name, sketch in other.sketches.copy().items():
            self.sketches.setdefault(name, Sketch(sketch.bounds)).merge(sketch)

    def remove(self, name: str, key: Key | None) -> bool:
        """Remove the series *key*, or all of *name*; return whether there was one."""
        gone = [k for k in self.counts.copy() if k == key or (key is None and _is_of(k, name))]
        for each in gone:
            self.counts.pop(each, None)
        lost = [
            k for k in self.sketches.copy() if k[1] == key or (key is None and _is_of(k[1], name))
        ]
        for found in lost:
            self.sketches.pop(found, None)
        return bool(gone or lost)


def _is_of(key: Key, name: str) -> bool:
    return series_of(key)[0] == name


_numbers = itertools.count()


class Epoch(threading.local):
    """The shards since the last reset. `__init__` runs again in each thread that first touches it."""

    counts: dict[Key, float]
    sketches: dict[tuple[str, Key], Sketch]

    def __init__(self, shards: dict[int, Shard], ended: deque[int]) -> None:
        owner = _Owner()
        number = next(_numbers)  # not its id: that is given out again before the shard is folded
        # The callback may run in the middle of anything, so it takes no lock: append is atomic.
        reference = weakref.ref(owner, lambda _: ended.append(number))
        shard = Shard(reference)
        self.owner: _Owner = owner
        self.counts = shard.counts
        self.sketches = shard.sketches
        shards[number] = shard
