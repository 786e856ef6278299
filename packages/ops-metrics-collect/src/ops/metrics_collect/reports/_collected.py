"""What was collected when, and what of the time between was not."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.metrics_collect.reports._model import Column, Sheet, table_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.metrics_collect.reports._usage import Tables

__all__ = ["collection_status"]

_Bounds: TypeAlias = tuple[dt.datetime | None, dt.datetime | None]


def collection_status(tables: Tables, bounds: _Bounds) -> Sheet:
    """Return 'Data collection status', of the time between *bounds*."""
    columns = (
        Column("Collector", width=34),
        Column("Installation", width=38),
        Column("Since", "timestamp"),
        Column("Until", "timestamp"),
        Column("Status"),
        Column("Started", "timestamp"),
        Column("Elapsed (seconds)", "number"),
    )
    return Sheet("Data collection status", columns, lambda: _rows(tables, bounds))


def _rows(tables: Tables, bounds: _Bounds) -> Iterator[list[Any]]:
    names = ["collector", "install_uuid", "since", "until", "status"]
    measures = ["collection_start_timestamp", "elapsed"]
    collected: dict[tuple[str, str], list[list[Any]]] = {}
    table = tables["data_collection_status"]
    for collector, install, *row in table_rows(table, [*names, *measures]):
        times = [dt.datetime.fromisoformat(t) if t else None for t in row[:2]]
        collected.setdefault((collector, install), []).append([*times, *row[2:]])
    for key, rows in sorted(collected.items()):
        done = [(r[0], r[1]) for r in rows if r[0] and r[1] and r[2] != "failed"]
        tried = [(r[0], r[1]) for r in rows if r[0] and r[1]]
        missing = [[s, u, "gap", None, None] for s, u in _gaps(done, tried, bounds)]
        for row in sorted([*rows, *missing], key=_by_interval):
            yield [*key, *row]


def _gaps(
    done: list[tuple[dt.datetime, dt.datetime]],
    tried: list[tuple[dt.datetime, dt.datetime]],
    bounds: _Bounds,
) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Yield what of the report's period, or of what was tried, is not done."""
    if not tried:
        return
    start = bounds[0] or min(s for s, _ in tried)
    end = bounds[1] or max(u for _, u in tried)
    for since, until in sorted(done):
        if since > start:
            yield start, min(since, end)
        start = max(start, until)
    if start < end:
        yield start, end


def _by_interval(row: Sequence[Any]) -> tuple[str, str]:
    return (str(row[0] or ""), str(row[1] or ""))
