"""Looking at an array without copying it, and knowing afterwards that nothing was written meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.shm.errors import ViewChangedError
from ops.shm.layout import SEQ

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


class View:
    """A with block that gives *array* and checks SEQ at its end; the two loads enclose the block.

    *settle* returns SEQ when no write is under way, by waiting for one. A class and not a generator,
    because at a megabyte the block itself takes no longer than a generator's setting up.
    """

    __slots__ = ("_array", "_before", "_name", "_settle", "_words")

    def __init__(
        self, array: np.ndarray, words: memoryview, name: str, settle: Callable[[], int]
    ) -> None:
        self._array, self._words, self._name, self._settle = array, words, name, settle
        self._before = 0

    def __enter__(self) -> np.ndarray:
        before = self._words[SEQ]
        self._before = self._settle() if before & 1 else before
        return self._array

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._words[SEQ] != self._before:
            raise ViewChangedError(
                f"{self._name!r} was written while it was being read.",
                suggestions=("Repeat the block, or read under the lock with array().",),
            )
