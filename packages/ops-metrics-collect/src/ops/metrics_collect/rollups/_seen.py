"""Which row ids have been seen: sorted arrays of geometric sizes, 8 bytes per integer id.

New ids are sorted and looked up in each array by bisection; arrays of similar size are merged. Ids
that are no integers fall back to a set of texts.
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

    def add(self, ids: Any) -> Any:
        """Return a mask of the ids that are new (null is always new), and remember them."""
        try:
            integers = ids.cast(pa.int64())
        except pa.ArrowInvalid:
            return self._add_texts(ids)
        missing = np.asarray(integers.is_null())
        values = np.asarray(integers.fill_null(0), dtype=np.int64)
        fresh = self._first_of_equals(values, missing)
        for run in self._runs:
            position = np.minimum(np.searchsorted(run, values), len(run) - 1)
            fresh &= run[position] != values
        self._remember(np.sort(values[fresh & ~missing]))
        return pa.array(fresh | missing)

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
            values = np.sort(np.concatenate([self._runs.pop(), values]))
        self._runs.append(values)

    def _add_texts(self, ids: Any) -> Any:
        mask = []
        for value in ids.cast(pa.string()).to_pylist():
            mask.append(value is None or value not in self._texts)
            if value is not None:
                self._texts.add(value)
        return pa.array(mask, pa.bool_())
