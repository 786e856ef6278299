"""A report of any activity rollup: a summary with a chart, and every row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ops.metrics_collect.reports._model import Chart, Column, Report, Sheet, table_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.metrics_collect.rollups import DataframeActivity

__all__ = ["ReportActivity"]

_CHARTED_ROWS = 50


class ReportActivity(Report):
    """'Summary' adds up the rollup by *by* (its first key by default), 'Activity' shows its rows.

    *dataframe* is the rollup. *config* may hold `title` and other lines for the top of the summary.
    """

    def __init__(
        self,
        dataframe: DataframeActivity,
        config: Mapping[str, Any] | None = None,
        *,
        by: str | None = None,
    ) -> None:
        self._dataframe = dataframe
        self._config = dict(config or {})
        self._by = by or dataframe.index[0]

    def sheets(self) -> list[Sheet]:
        """Return the summary and the detail sheet."""
        table = self._dataframe.group()
        measures = [m for m in self._dataframe.measures if m.kind == "sum"]
        summary = table.group_by(self._by, use_threads=False).aggregate(
            [(m.name, "sum") for m in measures]
        )
        summary = summary.select([self._by, *(f"{m.name}_sum" for m in measures)])
        summary = summary.rename_columns([self._by, *(m.name for m in measures)])
        summary = summary.sort_by([("count", "descending"), (self._by, "ascending")])
        title = self._config.get("title", f"Activity: {self._dataframe.collection}")
        lines = [[k, v] for k, v in self._config.items() if k != "title"]
        charts = (
            [Chart(str(title), self._by, ("count",))] if summary.num_rows <= _CHARTED_ROWS else []
        )
        return [
            _sheet("Summary", summary, [[title], *lines, []], charts),
            _sheet("Activity", table),
        ]


def _sheet(title: str, table: pa.Table, preface: Any = (), charts: Any = ()) -> Sheet:
    names = table.column_names
    columns = [Column(n, _kind(table.schema.field(n).type)) for n in names]
    return Sheet(title, columns, lambda: table_rows(table, names), preface, charts)


def _kind(type_: pa.DataType) -> Any:
    if pa.types.is_timestamp(type_):
        return "timestamp"
    if pa.types.is_integer(type_):
        return "integer"
    return "number" if pa.types.is_floating(type_) else "text"
