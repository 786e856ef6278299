"""Guidance for renewing a subscription: how many nodes there are, and which come and go.

It reads the controller's own counters of hosts (the rollup of main_hostmetric). A node that every
installation has deleted is deleted. A node whose whole automation fits into `ephemeral_days`, and began
longer ago than these, is ephemeral; the others are managed nodes.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute

from ops.foundation.instants import now, this_day
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.reports._model import Chart, Column, Report, Sheet, table_rows
from ops.metrics_collect.reports._settings import COMMON, Settings, time_of
from ops.metrics_collect.reports._usage import Tables, Usage
from ops.metrics_collect.rollups._columns import TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ops.metrics_collect.rollups import Rollup

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["ReportRenewalGuidance"]

_NAMES = (
    "host_name",
    "first_automation",
    "last_automation",
    "automated_counter",
    "days_automated",
    "deleted_counter",
    "last_deleted",
    "records",
    "records_active",
    "records_deleted",
    "names",
)
_COLUMNS = (
    Column("Host name", width=40),
    Column("First automation", "timestamp"),
    Column("Last automation", "timestamp"),
    Column("Number of Automations", "integer"),
    Column("Number of days between first_automation and last_automation", "integer"),
    Column("Number of Deletions", "integer"),
    Column("Last deleted", "timestamp"),
    Column("HostMetric record count", "integer"),
    Column("HostMetric active record count", "integer"),
    Column("HostMetric deleted record count", "integer"),
    Column("Host names", width=40),
    Column("Variables ansible_host"),
    Column("Serial Numbers"),
    Column("Machine UUIDs", width=34),
)
_SHEETS = (
    "usage_reporting",
    "managed_nodes",
    "managed_nodes_ephemeral",
    "managed_nodes_ephemeral_usage",
    "deleted_managed_nodes",
)


class ReportRenewalGuidance(Report):
    """*dataframes* holds "host_metric", and may hold "main_host" for `deduplicate`.

    *config*: that of `ReportCCSP` without `organizations`, and `ephemeral_days` (30) and
    `reference_date` (the end of the period, or now), from which the age of nodes is counted.

    Raises `ParameterError` for an unknown setting or sheet, and for a value of another kind.
    """

    def __init__(self, dataframes: Mapping[str, Rollup], config: Mapping[str, Any]) -> None:
        settings = Settings.of(config, COMMON | {"ephemeral_days", "reference_date"}, _SHEETS)
        self._tables = Tables(dataframes, ["host_metric"], type(self).__name__)
        self._wanted = settings.sheets
        self._usage = Usage(self._tables, settings)
        self._reference = time_of(config, "reference_date") or settings.until or now()
        self._ephemeral = _days(config.get("ephemeral_days", 30))
        self._kinds: dict[str, pa.Table] = {}

    def sheets(self) -> list[Sheet]:
        """Return the sheets in order."""
        makers: tuple[Callable[[], Sheet], ...] = (
            self._totals,
            lambda: self._nodes("Managed nodes", "managed"),
            lambda: self._nodes("Managed nodes ephemeral", "ephemeral"),
            self._ephemeral_usage,
            lambda: self._nodes("Deleted Managed nodes", "deleted"),
        )
        wanted = self._wanted
        keyed = zip(_SHEETS, makers, strict=True)
        return [make() for key, make in keyed if wanted is None or key in wanted]

    def _totals(self) -> Sheet:
        columns = (Column("Nodes", width=40), Column("Quantity", "integer"))
        chart = Chart("Nodes", "Nodes", ("Quantity",), "column")
        return Sheet("Usage Reporting", columns, self._total_rows, self._usage.header(), [chart])

    def _total_rows(self) -> Iterator[list[Any]]:
        yield ["Managed nodes", self._kind("managed").num_rows]
        yield ["Managed nodes ephemeral", self._kind("ephemeral").num_rows]
        yield ["Most ephemeral nodes on a day", max((n for _, n in self._per_day()), default=0)]
        yield ["Deleted Managed nodes", self._kind("deleted").num_rows]

    def _nodes(self, title: str, kind: str) -> Sheet:
        return Sheet(title, _COLUMNS, lambda: self._node_rows(kind))

    def _node_rows(self, kind: str) -> Iterator[list[Any]]:
        nothing = (set[str](), set[str](), set[str]())
        known = self._facts()
        for *row, names in table_rows(self._kind(kind), _NAMES):
            texts = [set(names), *known.get(row[0], nothing)]
            yield [*row, *(", ".join(sorted(text)) for text in texts)]

    def _facts(self) -> dict[str, tuple[set[str], set[str], set[str]]]:
        """Return the addresses, serial numbers and machine ids of each node, as its inventories have them."""
        found: dict[str, tuple[set[str], set[str], set[str]]] = {}
        if "main_host" not in self._tables:
            return found
        machines = self._usage.identities()
        for host in self._tables["main_host"].to_pylist():
            name = host["host_name"]
            for node in host["names"] if machines is None else [machines[name]]:
                addresses, serials, ids = found.setdefault(node, (set(), set(), set()))
                addresses |= {name} - {*host["names"]}
                serials |= {*host["serials"]}
                ids |= {*host["machine_ids"]}
        return found

    def _ephemeral_usage(self) -> Sheet:
        columns = (Column("Day", "day"), Column("Ephemeral nodes", "integer"))
        chart = Chart("Ephemeral nodes by day", "Day", ("Ephemeral nodes",), "line")
        return Sheet("Managed nodes ephemeral usage", columns, self._per_day, (), [chart])

    def _per_day(self) -> list[Sequence[Any]]:
        """Return (day, nodes in use) from the first day of an ephemeral node to the last."""
        changes: dict[dt.datetime, int] = {}
        # Those that were deleted since were in use as well.
        times = table_rows(self._kind("used"), ["first_automation", "last_automation"])
        for first, last in times:
            begin, end = this_day(first), this_day(last) + dt.timedelta(days=1)
            changes[begin] = changes.get(begin, 0) + 1
            changes[end] = changes.get(end, 0) - 1
        rows: list[Sequence[Any]] = []
        count = 0
        day = min(changes, default=None)
        while day is not None and day < max(changes):
            count += changes.get(day, 0)
            rows.append([day, count])
            day += dt.timedelta(days=1)
        return rows

    def _kind(self, kind: str) -> pa.Table:
        if not self._kinds:
            nodes = self._merged()
            lasted = pc.subtract(nodes["last_automation"], nodes["first_automation"])
            limit = pa.scalar(self._ephemeral, pa.duration("us"))
            # What is younger than the limit cannot be known to be ephemeral yet.
            begun = pa.scalar(self._reference - self._ephemeral, TIMESTAMP)
            short = pc.and_(
                pc.fill_null(pc.less_equal(lasted, limit), False),  # noqa: FBT003 - a value
                pc.fill_null(pc.less(nodes["first_automation"], begun), False),  # noqa: FBT003 - a value
            )
            deleted = nodes["deleted"]
            there = pc.invert(deleted)
            self._kinds = {
                "deleted": nodes.filter(deleted),
                "ephemeral": nodes.filter(pc.and_(there, short)),
                "managed": nodes.filter(pc.and_not(there, short)),
                "used": nodes.filter(short),
            }
        return self._kinds[kind]

    def _merged(self) -> pa.Table:
        """Return one row per machine, whatever installations and names it was counted under.

        A machine is deleted when every installation that counted it has deleted it.
        """
        counted = self._tables["host_metric"]
        counted = counted.append_column("names", counted["host_name"])
        table = self._usage.machines_of_inventories(counted)
        deleted = pc.and_(
            pc.is_valid(table["deleted_at"]),
            pc.fill_null(pc.greater_equal(table["deleted_at"], table["there_at"]), True),  # noqa: FBT003 - a value
        )
        table = table.append_column("deleted", deleted)
        table = table.append_column("records_deleted", deleted.cast(pa.int64()))
        merged = table.group_by("host_name", use_threads=False).aggregate(
            [(name, how) for name, how, _ in _MERGED]
        )
        merged = merged.select(["host_name", *(f"{name}_{how}" for name, how, _ in _MERGED)])
        merged = merged.rename_columns(["host_name", *(to for *_, to in _MERGED)])
        active = pc.subtract(merged["records"], merged["records_deleted"])
        lasted = pc.subtract(merged["last_automation"], merged["first_automation"])
        days = pc.divide(lasted.cast(pa.int64()), _DAY_MICROSECONDS)
        merged = merged.append_column("records_active", active)
        merged = merged.append_column("days_automated", pc.max_element_wise(days, 0))
        return merged.sort_by("host_name")


_DAY_MICROSECONDS = 86_400_000_000
#: Of the counters of a machine: column, how its values are combined, and the name of the result.
_MERGED = (
    ("first_automation", "min", "first_automation"),
    ("last_automation", "max", "last_automation"),
    ("automated_counter", "sum", "automated_counter"),
    ("deleted_counter", "sum", "deleted_counter"),
    ("last_deleted", "max", "last_deleted"),
    ("deleted", "min", "deleted"),
    ("deleted", "count", "records"),
    ("records_deleted", "sum", "records_deleted"),
    ("names", "list", "names"),
)


def _days(given: Any) -> dt.timedelta:
    try:
        days = dt.timedelta(days=float(given))
    except (TypeError, ValueError, OverflowError) as error:
        raise ParameterError(
            f"The configuration has ephemeral_days={given!r}: no number of days."
        ) from error
    if days <= dt.timedelta(0):
        raise ParameterError(f"The configuration has ephemeral_days={given!r}: it must be above 0.")
    return days
