"""A rollup of any collection: rows counted and columns added up by columns of your choice."""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.rollups._base import Rollup
from ops.metrics_collect.rollups._columns import TIMESTAMP, number, text, utc_times
from ops.metrics_collect.rollups._engine import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DataframeActivity"]


class DataframeActivity(Rollup):
    """Rollup of *collection* by the columns *by*.

    Gives `count`, the sum of each column in *sums* as `<name>_total` (64-bit floats) and, when
    *time* is given, `first` and `last`.

    Args:
        collection: the key of a collector.
        by: columns; the result has a row for each combination of their values.
        sums: columns of numbers that are added up.
        time: a column of times; with it, a period selects rows by this column.
        row_id: the column that identifies a row: of rows with one id the last version counts. By
            default the primary key that was declared when they were gathered (for tarballs of
            earlier versions, which do not say, the column "id"); None for rows without one.
        order_by: the column, of times or integers, that orders the versions of a row. By default the
            version column that was declared when they were gathered, else the slice.
        options: `engine` and `memory_bytes`, see `Rollup`.

    Raises `ParameterError` when *by* is empty.

    >>> import pandas as pd
    >>> rollup = DataframeActivity("runs", by=["model"], sums=["seconds"])
    >>> frame = pd.DataFrame({"id": ["1", "2"], "model": ["a", "a"], "seconds": ["1.5", "2"]})
    >>> rollup.add_csv(frame).group().to_pylist()
    [{'model': 'a', 'count': 2, 'seconds_total': 3.5}]
    """

    def __init__(
        self,
        collection: str,
        *,
        by: Sequence[str],
        sums: Sequence[str] = (),
        time: str | None = None,
        row_id: str | EllipsisType | None = ...,
        order_by: str | None = None,
        **options: Any,
    ) -> None:
        if not by:
            raise ParameterError("DataframeActivity needs at least one column in by=.")
        self.collections: tuple[str, ...] = (collection,)
        self.keys: Mapping[str, pa.DataType] = dict.fromkeys(by, pa.string())
        self._row_id = row_id
        self._order_by = order_by
        self.times: Mapping[str, str] = {collection: time} if time else {}
        ids = "id" if isinstance(row_id, EllipsisType) else row_id
        self.columns: frozenset[str] | None = frozenset(
            c for c in (*by, *sums, time, ids, order_by) if c
        )
        self._sums = tuple(sums)
        self._time = time
        spans = (Measure("first", "min", TIMESTAMP), Measure("last", "max", TIMESTAMP))
        self.measures: tuple[Measure, ...] = (
            Measure("count", "sum", pa.int64()),
            *(Measure(f"{name}_total", "sum", pa.float64()) for name in sums),
            *(spans if time else ()),
        )
        names = self.fields.names
        if len(set(names)) != len(names):
            raise ParameterError(f"Columns of the result must differ: {names}.")
        super().__init__(**options)

    def row_id(self, collection: str, primary_key: str | None) -> tuple[str, str | None]:
        """Return the space of the ids and the column that holds them, if any."""
        if not isinstance(self._row_id, EllipsisType):
            return collection, self._row_id
        return collection, "id" if primary_key == "" else primary_key

    def version_column(self, collection: str, declared: str | None) -> str | None:  # noqa: ARG002
        """Return the column that orders the versions of a row, if any."""
        return self._order_by or declared

    def prepare(self, raw: pa.Table, config: Mapping[str, Any], collection: str) -> pa.Table:  # noqa: ARG002
        """Pick the key columns and turn the measured ones into numbers and times.

        Raises `ParameterError` when a column is missing.
        """
        # A misspelt column of times or ids would count every row, in every period.
        named = {*self.keys, *self._sums, self._time, self._row_id, self._order_by} - {None, ...}
        if missing := named - set(raw.column_names):
            raise ParameterError(f"{self.collection!r} has no columns {sorted(map(str, missing))}.")
        columns = {name: text(raw, name) for name in self.keys}
        columns["count"] = pa.array(np.ones(raw.num_rows, np.int64))
        columns |= {f"{name}_total": number(raw, name, pa.float64()) for name in self._sums}
        if self._time:
            columns |= dict.fromkeys(("first", "last"), utc_times(raw, self._time))
        return pa.table(columns)
