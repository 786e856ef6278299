"""Which raw rows are in a period, and which version of a row each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.rollups._columns import TIMESTAMP, utc_times

if TYPE_CHECKING:
    import datetime as dt

    from ops.metrics_collect.extractor import Payload

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["versions_of", "within"]


def within(
    payload: Payload, column: str | None, period: tuple[dt.datetime | None, dt.datetime | None]
) -> pa.Table:
    """Return the rows of *payload* that are in the period by their time, else by their slice."""
    raw = pa.Table.from_batches([payload.batch])
    start, end = period
    if start is None and end is None:
        return raw
    since = payload.since
    by_slice = since is None or not (
        (start is not None and since < start) or (end is not None and since >= end)
    )
    if column is None or column not in raw.column_names:
        return raw if by_slice else raw.slice(0, 0)
    times = utc_times(raw, column)
    mask = pa.array(np.ones(raw.num_rows, np.bool_))
    if start is not None:
        mask = pc.and_(mask, pc.greater_equal(times, pa.scalar(start, TIMESTAMP)))
    if end is not None:
        mask = pc.and_(mask, pc.less(times, pa.scalar(end, TIMESTAMP)))
    return raw.filter(pc.fill_null(mask, by_slice))


def versions_of(raw: pa.Table, column: str | None) -> Any:
    """Return the versions of rows as integers: times in microseconds, 0 where there is none."""
    if column is None or column not in raw.column_names:
        return pa.array(np.zeros(raw.num_rows, np.int64))
    try:
        return pc.fill_null(raw.column(column).cast(pa.int64()), 0)
    except pa.ArrowInvalid:
        return pc.fill_null(utc_times(raw, column).cast(pa.int64()), 0)
