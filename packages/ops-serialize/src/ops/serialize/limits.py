"""How much memory and time a load may take, whatever the data claims.

Whatever is allocated or walked is counted first, in one of three counts:

- bytes: what codecs make of the data, and what many small objects take, is bounded by `max_size`; without
  one by 1 GiB or 64 times the size of the data, whichever is more. The writers compress nothing that a
  reader would refuse by this default.
- copies: a part of a tree that many nodes refer to may be copied by each. A writer gives each node parts of
  its own, so copies of more than a small multiple of what is there are refused.
- steps: hashing, comparing and walking. They are in proportion to the data unless it was forged.
"""

from __future__ import annotations

from typing import Any

from ops.serialize.errors import CorruptDataError, TooLargeError

__all__ = ["Budget", "checked_max_size", "default_limit"]

_LEAST = 1 << 30
_TIMES = 64
_STEPS = 1 << 22
_COPIES = 24 << 20
_TIMES_COPIED = 2


def checked_max_size(max_size: int | None) -> int | None:
    """Return *max_size*; raises ValueError unless it is a number of bytes, or None."""
    given: Any = max_size
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if given is None or (is_number and given >= 1):
        return max_size
    raise ValueError(f"max_size is a number of bytes from 1, or None, not {given!r}.")


def default_limit(stored: int) -> int:
    """Return the bytes that data of *stored* bytes may take without a `max_size`."""
    return max(_LEAST, _TIMES * stored)


class Budget:
    """The bytes that one load may still allocate."""

    def __init__(self, stored: int, max_size: int | None = None) -> None:
        self.limit: int = default_limit(stored) if max_size is None else max_size
        # Small trees of data pass under any limit: their objects take less than importing them did.
        self._left = self.limit + (64 << 10) if max_size is not None else self.limit
        self._steps = _STEPS + stored
        self._is_given = max_size is not None
        self._copies = _COPIES if max_size is None else _TIMES_COPIED * max_size + (64 << 10)

    def take(self, size: int) -> None:
        """Count *size* bytes; raise `TooLargeError` when they exceed what is left."""
        self._left -= size
        if self._left < 0 or size < 0:
            raise TooLargeError(
                f"The data unpacks to more than the {self.limit} bytes that max_size allows.",
                suggestions=("Raise max_size if you know where the data comes from.",),
            )

    def add(self, size: int) -> None:
        """Allow what data of *size* bytes, which is there, may take in steps and copies."""
        self._steps += size
        if not self._is_given:
            self._copies += _TIMES_COPIED * size

    def copy(self, size: int) -> None:
        """Count *size* bytes of a part that others may share; raise `TooLargeError` beyond the limit."""
        self._copies -= size
        if self._copies < 0 or size < 0:
            raise TooLargeError("The nodes of the data copy the same parts again and again.")

    def take_time(self, steps: int) -> None:
        """Count steps of hashing and walking; raise `CorruptDataError` when there are too many."""
        self._steps -= steps
        if self._steps < 0:
            raise CorruptDataError("The parts of the data take too long to hash or to walk.")
