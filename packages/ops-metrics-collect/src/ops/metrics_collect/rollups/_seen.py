"""Which row ids have been seen: sorted arrays of geometric sizes, 8 bytes per integer id.

New ids are sorted and looked up in each array by bisection; arrays of similar size are merged. Ids
mostly come in rising order, which is recognised and costs one comparison a row. Ids that are not the
usual text of an integer ("007" is none) are kept in a set of texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["SeenIds"]


class SeenIds:
    """A growing set of row ids."""

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.int64]] = []
        self._texts: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._runs or self._texts)

    def add(self, ids: Any) -> Any:
        """Return a mask of the ids that are new (null is always new), or None when all are.

        The ids are remembered.
        """
        try:
            integers = ids.cast(pa.int64())
        except pa.ArrowInvalid:
            return self._add_texts(ids)
        is_text = pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)
        if is_text and not integers.cast(ids.type).equals(ids):
            return self._add_texts(ids)
        if integers.null_count == 0:
            values = np.asarray(integers, dtype=np.int64)
            if bool((values[1:] > values[:-1]).all()) and not self._near(values):
                self._remember(values)
                return None
        missing = np.asarray(integers.is_null())
        values = np.asarray(integers.fill_null(0), dtype=np.int64)
        fresh = self._first_of_equals(values, missing) & ~self._known(values)
        self._remember(np.sort(values[fresh & ~missing]))
        return pa.array(fresh | missing)

    def intersection(self, other: SeenIds) -> SeenIds:
        """Return what both have seen."""
        both = SeenIds()
        for run in self._runs:
            both._remember(run[other._known(run)])
        both._texts = self._texts & other._texts
        return both

    def update(self, other: SeenIds) -> None:
        """Remember what the other has seen."""
        for run in other._runs:
            self._remember(run[~self._known(run)])
        self._texts |= other._texts

    def _near(self, values: npt.NDArray[np.int64]) -> bool:
        """Say whether sorted *values* lie within the range of something seen."""
        if not len(values):
            return False
        return any(run[0] <= values[-1] and values[0] <= run[-1] for run in self._runs)

    def _known(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        known = np.zeros(len(values), dtype=bool)
        for run in self._runs:
            position = np.minimum(np.searchsorted(run, values), len(run) - 1)
            known |= run[position] == values
        return known

    @staticmethod
    def _first_of_equals(
        values: npt.NDArray[np.int64], missing: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        fresh = np.zeros(len(values), dtype=bool)
        present = np.flatnonzero(~missing)
        _, first = np.unique(values[present], return_index=True)
        fresh[present[first]] = True
        return fresh

    def _remember(self, values: npt.NDArray[np.int64]) -> None:
        if not len(values):
            return
        while self._runs and len(self._runs[-1]) <= 2 * len(values):
            # Two sorted runs: the stable sort merges them, which is linear.
            values = np.sort(np.concatenate([self._runs.pop(), values]), kind="stable")
        self._runs.append(values)

    def _add_texts(self, ids: Any) -> Any:
        texts = ids.cast(pa.string()).to_pylist()
        # Some may have come as integers before, or will.
        integers = [_integer(text) for text in texts]
        column = pa.array(integers, pa.int64())
        fresh = self.add(column)
        mask = np.ones(len(texts), bool) if fresh is None else np.array(fresh, bool)
        for position, (text, integer) in enumerate(zip(texts, integers, strict=True)):
            if integer is None and text is not None:
                mask[position] = text not in self._texts
                self._texts.add(text)
        return pa.array(mask, pa.bool_())


def _integer(text: str | None) -> int | None:
    """Return the integer whose usual text this is, None when it is that of none."""
    try:
        value = int(text or "")
    except ValueError:
        return None
    return value if str(value) == text and -(1 << 63) <= value < 1 << 63 else None
