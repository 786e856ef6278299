"""A rollup of any collection: rows counted and columns added up by columns of your choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.rollups._base import Measure, Rollup, moment, number, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DataframeActivity"]

_MOMENT = pa.timestamp("us", tz="UTC")


class DataframeActivity(Rollup):
    """Rollup of *collection* by the columns *by*.

    Gives `count`, the sum of each column in *sums* as `<name>_total` (64-bit floats) and, when
    *time* names a column of moments, `first` and `last`. Rows with an id in the column *row_id* that
    was seen before count once.
    """

    def __init__(
        self,
        collection: str,
        *,
        by: Sequence[str],
        sums: Sequence[str] = (),
        time: str | None = None,
        row_id: str | None = "id",
    ) -> None:
        if not by:
            raise ParameterError("DataframeActivity needs at least one column in by=.")
        self.collection = collection
        self.keys = dict.fromkeys(by, pa.string())
        self.row_id = row_id
        self._sums = tuple(sums)
        self._time = time
        spans = (Measure("first", "min", _MOMENT), Measure("last", "max", _MOMENT))
        self.measures = (
            Measure("count", "sum", pa.int64()),
            *(Measure(f"{name}_total", "sum", pa.float64()) for name in sums),
            *(spans if time else ()),
        )
        names = self.fields.names
        if len(set(names)) != len(names):
            raise ParameterError(f"Columns of the result must differ: {names}.")
        super().__init__()

    def prepare(self, raw: pa.Table, config: Mapping[str, Any]) -> pa.Table:  # noqa: ARG002
        """Pick the key columns and turn the measured ones into numbers and moments."""
        missing = {*self.keys, *self._sums} - set(raw.column_names)
        if missing:
            raise ParameterError(f"{self.collection!r} has no columns {sorted(missing)}.")
        columns = {name: text(raw, name) for name in self.keys}
        columns["count"] = pa.array([1] * raw.num_rows, pa.int64())
        columns |= {f"{name}_total": number(raw, name, pa.float64()) for name in self._sums}
        if self._time:
            columns |= dict.fromkeys(("first", "last"), moment(raw, self._time))
        return pa.table(columns)
