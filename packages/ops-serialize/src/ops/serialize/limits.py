"""How much memory and time a load may take, whatever the data claims.

What a file holds uncompressed is bounded by its own size. What codecs make of it, and what many small
objects take, is bounded by `max_size`: without one by 1 GiB or 64 times the size of the data, whichever is
more. The writers compress nothing that a reader would refuse by this default.
"""

from __future__ import annotations

from ops.serialize.errors import CorruptDataError, TooLargeError

__all__ = ["Budget", "default_limit"]

_LEAST = 1 << 30
_TIMES = 64
_STEPS = 1 << 22


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

    def take(self, size: int) -> None:
        """Count *size* bytes; raise `TooLargeError` when they exceed what is left."""
        self._left -= size
        if self._left < 0 or size < 0:
            raise TooLargeError(
                f"The data unpacks to more than the {self.limit} bytes that max_size allows.",
                suggestions=("Raise max_size if you know where the data comes from.",),
            )

    def add_time(self, steps: int) -> None:
        """Allow *steps* more, for data that has as many bytes."""
        self._steps += steps

    def take_time(self, steps: int) -> None:
        """Count steps of hashing; raise `CorruptDataError` when there are too many."""
        self._steps -= steps
        if self._steps < 0:
            raise CorruptDataError("The keys of the data take too long to hash.")
