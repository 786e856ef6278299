"""The CCSP usage report, as far as the job_host_summary rollup carries it.

Sheets: 'Usage Reporting' (hosts per organization with unit price, fee and sum), 'Managed nodes' and
'Indirectly Managed nodes'. A host counts once per organization, however often it was automated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute

from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.reports._model import Chart, Column, Formula, Report, Sheet, table_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ops.metrics_collect.rollups import Rollup

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["ReportCCSP"]

_USAGE = "Usage Reporting"


class ReportCCSP(Report):
    """*dataframes* holds "job_host_summary"; *config* company, sku, sku_description and price."""

    def __init__(self, dataframes: Mapping[str, Rollup], config: Mapping[str, Any]) -> None:
        if "job_host_summary" not in dataframes:
            raise ParameterError("ReportCCSP needs the dataframe 'job_host_summary'.")
        self._hosts = dataframes["job_host_summary"]
        self._config = config
        self._price = float(config.get("price", 0))

    def sheets(self) -> list[Sheet]:
        """Return the sheets in order."""
        return [
            self._usage(),
            self._nodes("Managed nodes", "direct"),
            self._nodes("Indirectly Managed nodes", "indirect"),
        ]

    def _usage(self) -> Sheet:
        labels = ("company", "sku", "sku_description", "period")
        preface = [[k.replace("_", " ").title(), self._config.get(k, "")] for k in labels]
        columns = (
            Column("Organization", width=40),
            Column("Quantity", "integer"),
            Column("Unit price", "money"),
            Column("Extended fee", "money"),
        )
        chart = Chart("Managed nodes by organization", "Organization", ("Quantity",), "bar")
        return Sheet(_USAGE, columns, self._usage_rows, [*preface, []], [chart])

    def _usage_rows(self) -> Iterator[list[Any]]:
        table = self._hosts.group()
        direct = table.filter(pc.equal(table["managed_node_type"], "direct"))
        pairs = direct.group_by(["organization_name", "host_name"], use_threads=False).aggregate([])
        counted = pairs.group_by("organization_name", use_threads=False).aggregate(
            [("host_name", "count")]
        )
        total = 0.0
        for organization, hosts in table_rows(
            counted.sort_by("organization_name"), ["organization_name", "host_name_count"]
        ):
            fee = hosts * self._price
            total += fee
            yield [organization, hosts, self._price, Formula("=B{row}*C{row}", fee)]
        if counted.num_rows:
            yield ["Sum", None, None, Formula("=SUM(D{first}:D{above})", total)]

    def _nodes(self, title: str, kind: str) -> Sheet:
        columns = (
            Column("Host name", width=40),
            Column("Organizations", "integer"),
            Column("Host runs", "integer"),
            Column("Task runs", "integer"),
            Column("First automation", "moment"),
            Column("Last automation", "moment"),
        )
        return Sheet(title, columns, lambda: self._node_rows(kind))

    def _node_rows(self, kind: str) -> Iterator[list[Any]]:
        table = self._hosts.group()
        nodes = table.filter(pc.equal(table["managed_node_type"], kind))
        measures = [
            ("organization_name", "count_distinct"),
            ("host_runs", "sum"),
            ("task_runs", "sum"),
            ("first_automation", "min"),
            ("last_automation", "max"),
        ]
        grouped = nodes.group_by("host_name", use_threads=False).aggregate(measures)
        names = ["host_name", *(f"{name}_{how}" for name, how in measures)]
        return table_rows(grouped.sort_by("host_name"), names)
