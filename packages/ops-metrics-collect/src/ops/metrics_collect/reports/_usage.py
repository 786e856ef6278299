"""What the usage reports have in common: their tables, made of rollups.

Each function takes Arrow tables of rollups and gives a sheet; nothing here knows how it is drawn. A
node counts once per organization, however often it was automated and under however many of its names.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.dedup import host_identities
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.reports._model import Chart, Column, Formula, Sheet, table_rows
from ops.metrics_collect.reports._reduction import (
    Addresses,
    Events,
    Summaries,
    counted,
    grouped,
    renamed,
)
from ops.metrics_collect.rollups._columns import TIMESTAMP
from ops.metrics_collect.rollups._engine import Measure, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ops.metrics_collect.reports._settings import Settings
    from ops.metrics_collect.rollups import Rollup

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["Tables", "Usage"]

_CHARTED = 30
_RUN = ("install_uuid", "job_remote_id")


class Tables:
    """The rollups of a report: small ones as tables, each made once, and large ones table by table.

    With *organizations*, there is what belongs to these alone: events by their jobs, hosts of
    inventories by the organizations of these. What was collected is of no organization.
    """

    def __init__(
        self,
        dataframes: Mapping[str, Rollup],
        needed: Sequence[str],
        who: str,
        organizations: frozenset[str] | None = None,
    ) -> None:
        missing = [name for name in needed if name not in dataframes]
        if missing:
            raise ParameterError(f"{who} needs the dataframe {', '.join(map(repr, missing))}.")
        self._dataframes = dataframes
        self._organizations = organizations
        self._made: dict[str, pa.Table] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._dataframes

    def __getitem__(self, name: str) -> pa.Table:
        if name not in self._made:
            table = self._dataframes[name].group()
            if self._organizations is not None and name == "main_host":
                wanted = self._organizations
                of_these = [not wanted.isdisjoint(o) for o in table["organizations"].to_pylist()]
                table = table.filter(pa.array(of_these, pa.bool_()))
            self._made[name] = table
        return self._made[name]

    def summaries(self) -> Iterator[pa.Table]:
        """Yield the tables of job_host_summary, with encoded keys."""
        for table in self._dataframes["job_host_summary"].batches(encoded=True):
            if self._organizations is None:
                yield table
                continue
            names = pa.array(sorted(self._organizations), pa.string())
            yield table.filter(pc.is_in(table["organization_name"].cast(pa.string()), names))

    def events(self, jobs: pa.Table) -> Iterator[pa.Table]:
        """Yield the tables of main_jobevent, with encoded keys; *jobs* are those that are reported."""
        runs = jobs.select(list(_RUN)).group_by(list(_RUN), use_threads=False).aggregate([])
        runs = runs.append_column("reported", pa.array([True] * runs.num_rows, pa.bool_()))
        for table in self._dataframes["main_jobevent"].batches(encoded=True):
            if self._organizations is None:
                yield table
                continue
            plain = pa.table({name: table[name].cast(pa.string()) for name in _RUN})
            plain = plain.append_column("at", pa.array(range(table.num_rows), pa.int64()))
            joined = plain.join(runs, list(_RUN)).sort_by("at")
            yield table.filter(joined["reported"].is_valid())


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """A column of a sheet: where it comes from, and how it is shown."""

    name: str
    title: str
    kind: Any = "text"
    width: int = 12


_NODE_MEASURES = (
    Measure("host_runs", "sum", pa.int64()),
    Measure("task_runs", "sum", pa.int64()),
    Measure("first_automation", "min", TIMESTAMP),
    Measure("last_automation", "max", TIMESTAMP),
)
_NODE_COLUMNS = (
    Column("Host name", width=40),
    Column("Organizations", "integer"),
    Column("Host runs", "integer"),
    Column("Task runs", "integer"),
    Column("First automation", "timestamp"),
    Column("Last automation", "timestamp"),
)


class Usage:
    """Sheets of the usage of nodes, from the tables of a report and its configuration.

    `deduplicate` of the settings needs the dataframe main_host.
    """

    def __init__(self, tables: Tables, settings: Settings) -> None:
        if settings.deduplicate is not None and "main_host" not in tables:
            raise ParameterError("deduplicate needs the dataframe 'main_host'.")
        self._tables = tables
        self._settings = settings
        self._price = settings.price
        self._summaries: Summaries | None = None
        self._events: Events | None = None
        self._names: dict[str, str] | None = None

    def nodes(self, kind: str | None = None) -> pa.Table:
        """Return sums by organization, machine and kind (or those of one kind), with encoded keys."""
        nodes = self._reduced().nodes
        if kind is None:
            return nodes
        return nodes.filter(pc.equal(nodes["managed_node_type"].cast(pa.string()), kind))

    def _reduced(self) -> Summaries:
        if self._summaries is None:
            self._summaries = Summaries(self._tables.summaries(), self.machines)
        return self._summaries

    def machines(self, table: pa.Table) -> pa.Table:
        """Return *table* with each host named by its machine, if the configuration asks for that."""
        names = self.identities()
        return table if names is None else renamed(encoded(table, ("host_name",)), names)

    def identities(self) -> dict[str, str] | None:
        """Return the machine of each host of main_host; None if the configuration asks for none."""
        mode = self._settings.deduplicate
        if mode is not None and self._names is None:
            self._names = host_identities(self._tables["main_host"].to_pylist(), mode)
        return self._names

    def machines_of_inventories(self, table: pa.Table) -> pa.Table:
        """Do as `machines` does for a table whose hosts have the names of their inventories."""
        machines = self.identities()
        if machines is None:
            return table
        known = {
            (host["install_uuid"], name): machines[host["host_name"]]
            for host in self._tables["main_host"].to_pylist()
            for name in host["names"]
        }
        names = [
            known.get((install, name), machines.get(name, name))
            for install, name in table_rows(table, ["install_uuid", "host_name"])
        ]
        position = table.column_names.index("host_name")
        return table.set_column(position, "host_name", pa.array(names, pa.string()))

    def header(self) -> list[list[Any]]:
        """Return the lines above the first table."""
        return [*(list(line) for line in self._settings.lines), []]

    def charges(self, *, once: bool = False) -> Sheet:
        """Return 'Usage Reporting': nodes by organization, with unit price, fee and sum.

        With *once*, a node is charged once however many organizations automated it: one line.
        """
        if once:
            columns = (
                Column("Nodes", width=40),
                Column("Quantity", "integer"),
                Column("Unit price", "money"),
                Column("Extended fee", "money"),
            )
            return Sheet("Usage Reporting", columns, self._charged_once, self.header(), total=True)
        columns = (
            Column("Organization", width=40),
            Column("Quantity", "integer"),
            Column("Unit price", "money"),
            Column("Extended fee", "money"),
        )
        return Sheet("Usage Reporting", columns, self._charge_rows, self.header(), total=True)

    def _charged_once(self) -> Iterator[list[Any]]:
        hosts = grouped(self.nodes("direct"), ["host_name"]).num_rows
        if hosts:
            fee = hosts * self._price
            yield ["Managed nodes", hosts, self._price, Formula("=B{row}*C{row}", fee)]
            yield ["Sum", None, None, Formula("=SUM(D{first}:D{above})", fee)]

    def _charge_rows(self) -> Iterator[list[Any]]:
        charged = counted(self.nodes("direct"), "organization_name", ["host_name"])
        total = 0.0
        for organization, hosts in table_rows(charged, charged.column_names):
            fee = hosts * self._price
            total += fee
            yield [organization, hosts, self._price, Formula("=B{row}*C{row}", fee)]
        if charged.num_rows:
            yield ["Sum", None, None, Formula("=SUM(D{first}:D{above})", total)]

    def summary(self) -> Sheet:
        """Return 'Summary': the metrics of each organization, with charts of them."""
        table = self._by_organization()
        fields = [
            _Field("organization_name", "Organization", width=40),
            _Field("direct", "Managed nodes", "integer"),
            _Field("indirect", "Indirectly managed nodes", "integer", 24),
            _Field("jobs", "Jobs", "integer"),
            _Field("host_runs", "Host runs", "integer"),
            _Field("task_runs", "Task runs", "integer"),
        ]
        charts = [
            Chart("Managed nodes by organization", "Organization", ("Managed nodes",), "bar"),
            # Of their own, as there are many more of the one than of the other.
            Chart("Host runs by organization", "Organization", ("Host runs",), "bar"),
            Chart("Task runs by organization", "Organization", ("Task runs",), "bar"),
        ]
        return _sheet("Summary", table, fields, charts=charts if table.num_rows <= _CHARTED else ())

    def organizations(self) -> Sheet:
        """Return 'Usage by organizations'."""
        sheet = self.summary()
        return dataclasses.replace(sheet, title="Usage by organizations", charts=())

    def _by_organization(self) -> pa.Table:
        key = "organization_name"
        found = grouped(self.nodes(), [key], _NODE_MEASURES[:2])
        jobs = encoded(self._reduced().jobs.select([key, *_RUN]), (key, *_RUN))
        numbers = {
            "direct": counted(self.nodes("direct"), key, ["host_name"]),
            "indirect": counted(self.nodes("indirect"), key, ["host_name"]),
            "jobs": counted(jobs, key, _RUN),
        }
        for name, table in numbers.items():
            count = dict(table_rows(table, table.column_names))
            values = [count.get(organization, 0) for organization in found[key].to_pylist()]
            found = found.append_column(name, pa.array(values, pa.int64()))
        return found

    def managed(self, title: str, kind: str, organization: str | None = None) -> Sheet:
        """Return the nodes of a kind, of all organizations or of one."""
        # On the sheet of one organization, their number would be 1 in every row.
        columns = [c for c in _NODE_COLUMNS if organization is None or c.title != "Organizations"]
        return Sheet(title, columns, lambda: self._managed_rows(kind, organization))

    def _managed_rows(self, kind: str, organization: str | None) -> Iterator[list[Any]]:
        key, nodes = "host_name", self.nodes(kind)
        names = [m.name for m in _NODE_MEASURES]
        if organization is not None:
            organizations = nodes["organization_name"].cast(pa.string())
            nodes = nodes.filter(pc.equal(organizations, organization))
            return table_rows(grouped(nodes, [key], _NODE_MEASURES), [key, *names])
        # Both are sorted by the same names.
        count = counted(nodes, key, ["organization_name"])["count"]
        rows = grouped(nodes, [key], _NODE_MEASURES).append_column("count", count)
        return table_rows(rows, [key, "count", *names])

    def by_organization_sheets(self) -> list[Sheet]:
        """Return a sheet for each organization: its managed nodes."""
        found = grouped(self.nodes("direct"), ["organization_name"])
        names = found["organization_name"].to_pylist()
        return [self.managed(name, "direct", name) for name in names]

    def inventory(self) -> Sheet:
        """Return 'Inventory Scope': the hosts of the inventories, automated or not."""
        fields = [
            _Field("host_name", "Host name", width=40),
            _Field("organizations", "Organizations", width=30),
            _Field("inventories", "Inventories", width=30),
            _Field("serials", "Serial numbers"),
            _Field("machine_ids", "Machine ids", width=34),
            _Field("last_automation", "Last automation", "timestamp"),
            _Field("install_uuid", "Installation", width=38),
        ]
        return _sheet("Inventory Scope", self.machines(self._tables["main_host"]), fields)

    def events(self, title: str, key: str, label: str) -> Sheet:
        """Return the usage of modules, collections or roles (the column *key*)."""
        uses = self._uses()
        unused = f"No {label.lower()} used"  # its own row, so that the sheets add up
        texts = uses[key].cast(pa.string())
        named = pc.if_else(pc.equal(texts, ""), unused, texts)
        uses = encoded(uses.set_column(uses.column_names.index(key), key, named), (key,))
        measures = [
            Measure("task_runs", "sum", pa.int64()),
            Measure("duration", "sum", pa.float64()),
        ]
        table = grouped(uses, [key], measures)
        # In whatever order they were added: the last digits of a sum depend on that.
        seconds = pc.round(table["duration"], 6)
        table = table.set_column(table.column_names.index("duration"), "duration", seconds)
        table = table.append_column("nodes", counted(uses, key, ["host_name"])["count"])
        fields = [
            _Field(key, label, width=50),
            _Field("nodes", "Managed nodes", "integer"),
            _Field("task_runs", "Task runs", "integer"),
            _Field("duration", "Duration (seconds)", "number"),
        ]
        return _sheet(title, table, fields)

    def _uses(self) -> pa.Table:
        """Return the usage by module, collection, role and host, named as the summaries name it."""
        if self._events is None:
            addresses = functools.cache(lambda: Addresses(self._tables.summaries()))
            tables = self._tables.events(self._reduced().jobs)
            self._events = Events(tables, lambda table: self.machines(addresses().apply(table)))
        return self._events.uses

    def jobs(self) -> Sheet:
        """Return 'Jobs'."""
        fields = [
            _Field("job_remote_id", "Job"),
            _Field("install_uuid", "Installation", width=38),
            _Field("job_template_name", "Job template", width=40),
            _Field("organization_name", "Organization", width=40),
            _Field("nodes", "Nodes", "integer"),
            _Field("host_runs", "Host runs", "integer"),
            _Field("task_runs", "Task runs", "integer"),
            _Field("job_created", "Created", "timestamp"),
            _Field("last_automation", "Last automation", "timestamp"),
        ]
        order = (
            "install_uuid",
            "job_created",
            "job_remote_id",
            "organization_name",
            "job_template_name",
        )
        jobs = self._reduced().jobs.sort_by([(name, "ascending") for name in order])
        return _sheet("Jobs", jobs, fields)

    def infrastructure(self) -> Sheet:
        """Return 'Infrastructure Summary': indirectly managed nodes by what their facts say."""
        columns = (
            Column("Infrastructure type"),
            Column("Bucket"),
            Column("Device type"),
            Column("Nodes", "integer"),
        )
        return Sheet("Infrastructure Summary", columns, self._infrastructure_rows)

    def _infrastructure_rows(self) -> Iterator[list[Any]]:
        found: dict[tuple[str, ...], set[str]] = {}
        for name, facts in table_rows(self._reduced().facts, ["host_name", "facts"]):
            for text in facts or ["{}"]:
                known = _object(text)
                kind = ("infra_type", "infra_bucket", "device_type")
                found.setdefault(tuple(str(known.get(k) or "") for k in kind), set()).add(name)
        for key, names in sorted(found.items()):
            yield [*key, len(names)]


def _sheet(title: str, table: pa.Table, fields: Sequence[_Field], *, charts: Any = ()) -> Sheet:
    columns = tuple(Column(f.title, f.kind, f.width) for f in fields)
    names = [f.name for f in fields]
    return Sheet(title, columns, _rows(table, names), (), charts)


def _rows(table: pa.Table, names: Sequence[str]) -> Callable[[], Iterator[list[Any]]]:
    def rows() -> Iterator[list[Any]]:
        for row in table_rows(table, names):
            yield [", ".join(v) if isinstance(v, list) else v for v in row]

    return rows


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
