"""What the usage reports have in common: their tables, made of rollups.

Each function takes Arrow tables of rollups and gives a sheet; nothing here knows how it is drawn. A
node counts once per organization, however often it was automated and under however many of its names.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.dedup import host_identities
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.reports._model import Chart, Column, Formula, Sheet, table_rows

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
    """The rollups of a report as tables, each made once; a missing one is None.

    With *organizations*, tables have what belongs to these alone: events by their jobs, hosts of
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
            if self._organizations is not None:
                table = self._of_organizations(name, table, self._organizations)
            self._made[name] = table
        return self._made[name]

    def _of_organizations(self, name: str, table: pa.Table, wanted: frozenset[str]) -> pa.Table:
        names = pa.array(sorted(wanted), pa.string())
        if name == "job_host_summary":
            return table.filter(pc.is_in(table["organization_name"], names))
        if name == "main_host":
            of_these = [not wanted.isdisjoint(o) for o in table["organizations"].to_pylist()]
            return table.filter(pa.array(of_these, pa.bool_()))
        if name == "main_jobevent":
            runs = self["job_host_summary"].group_by(list(_RUN), use_threads=False).aggregate([])
            return table.join(runs, list(_RUN), join_type="left semi").sort_by(
                [(key, "ascending") for key in self._dataframes[name].index]
            )
        return table


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """A column of a sheet: where it comes from, and how it is shown."""

    name: str
    title: str
    kind: Any = "text"
    width: int = 20


_NODE_MEASURES = (
    ("organization_name", "count_distinct", _Field("", "Organizations", "integer")),
    ("host_runs", "sum", _Field("", "Host runs", "integer")),
    ("task_runs", "sum", _Field("", "Task runs", "integer")),
    ("first_automation", "min", _Field("", "First automation", "timestamp")),
    ("last_automation", "max", _Field("", "Last automation", "timestamp")),
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
        self._nodes: pa.Table | None = None

    def nodes(self, kind: str | None = None) -> pa.Table:
        """Return the rows of job_host_summary, of one kind of nodes, under the names of machines."""
        if self._nodes is None:
            self._nodes = self.machines(self._tables["job_host_summary"])
        table: pa.Table = self._nodes
        return table if kind is None else table.filter(pc.equal(table["managed_node_type"], kind))

    def machines(self, table: pa.Table) -> pa.Table:
        """Return *table* with each host named by its machine, if the configuration asks for that."""
        mode = self._settings.deduplicate
        if mode is None:
            return table
        names = host_identities(self._tables["main_host"].to_pylist(), mode)
        column = table["host_name"].combine_chunks().dictionary_encode()
        chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        chunk = chunk.chunk(0) if isinstance(chunk, pa.ChunkedArray) else chunk
        texts = pa.array([names.get(n, n) for n in chunk.dictionary.to_pylist()], pa.string())
        position = table.column_names.index("host_name")
        return table.set_column(position, "host_name", texts.take(chunk.indices))

    def machines_of_inventories(self, table: pa.Table) -> pa.Table:
        """Do as `machines` does for a table whose hosts have the names of their inventories."""
        mode = self._settings.deduplicate
        if mode is None:
            return table
        hosts = self._tables["main_host"].to_pylist()
        machines = host_identities(hosts, mode)
        known = {
            (host["install_uuid"], name): machines[host["host_name"]]
            for host in hosts
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
            return Sheet("Usage Reporting", columns, self._charged_once, self.header())
        columns = (
            Column("Organization", width=40),
            Column("Quantity", "integer"),
            Column("Unit price", "money"),
            Column("Extended fee", "money"),
        )
        return Sheet("Usage Reporting", columns, self._charge_rows, self.header())

    def _charged_once(self) -> Iterator[list[Any]]:
        hosts = len(pc.unique(self.nodes("direct")["host_name"]))
        if hosts:
            fee = hosts * self._price
            yield ["Managed nodes", hosts, self._price, Formula("=B{row}*C{row}", fee)]
            yield ["Sum", None, None, Formula("=SUM(D{first}:D{above})", fee)]

    def _charge_rows(self) -> Iterator[list[Any]]:
        counted = _distinct(self.nodes("direct"), "organization_name", "host_name")
        total = 0.0
        for organization, hosts in table_rows(counted, counted.column_names):
            fee = hosts * self._price
            total += fee
            yield [organization, hosts, self._price, Formula("=B{row}*C{row}", fee)]
        if counted.num_rows:
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
            Chart("Runs by organization", "Organization", ("Host runs", "Task runs"), "column"),
        ]
        return _sheet("Summary", table, fields, charts=charts if table.num_rows <= _CHARTED else ())

    def organizations(self) -> Sheet:
        """Return 'Usage by organizations'."""
        sheet = self.summary()
        return dataclasses.replace(sheet, title="Usage by organizations", charts=())

    def _by_organization(self) -> pa.Table:
        nodes = self.nodes()
        key = "organization_name"
        found = nodes.group_by(key, use_threads=False).aggregate(
            [("host_runs", "sum"), ("task_runs", "sum")]
        )
        found = found.rename_columns([n.removesuffix("_sum") for n in found.column_names])
        for name, kind in (("direct", "direct"), ("indirect", "indirect")):
            counted = _distinct(self.nodes(kind), key, "host_name").rename_columns([key, name])
            found = found.join(counted, key)
        jobs = _distinct(nodes, key, ["install_uuid", "job_remote_id"]).rename_columns(
            [key, "jobs"]
        )
        found = found.join(jobs, key).sort_by(key)
        for position, name in enumerate(found.column_names):
            if name in {"direct", "indirect", "jobs"}:
                found = found.set_column(position, name, pc.fill_null(found.column(position), 0))
        return found

    def managed(self, title: str, kind: str, organization: str | None = None) -> Sheet:
        """Return the nodes of a kind, of all organizations or of one."""
        # On the sheet of one organization, their number would be 1 in every row.
        measures = _NODE_MEASURES if organization is None else _NODE_MEASURES[1:]
        fields = [_Field("", "Host name", width=40), *(f for _, _, f in measures)]
        columns = tuple(Column(f.title, f.kind, f.width) for f in fields)
        wanted = [(name, how) for name, how, _ in measures]
        return Sheet(title, columns, lambda: self._managed_rows(kind, organization, wanted))

    def _managed_rows(
        self, kind: str, organization: str | None, wanted: Sequence[tuple[str, str]]
    ) -> Iterator[list[Any]]:
        nodes = self.nodes(kind)
        if organization is not None:
            nodes = nodes.filter(pc.equal(nodes["organization_name"], organization))
        grouped = nodes.group_by("host_name", use_threads=False).aggregate(list(wanted))
        names = ["host_name", *(f"{name}_{how}" for name, how in wanted)]
        return table_rows(grouped.sort_by("host_name"), names)

    def by_organization_sheets(self) -> list[Sheet]:
        """Return a sheet for each organization: its managed nodes."""
        names = pc.unique(self.nodes("direct")["organization_name"])
        return [self.managed(str(name), "direct", str(name)) for name in sorted(names.to_pylist())]

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
        table = self.machines(self._addressed(self._tables["main_jobevent"]))
        unused = f"No {label.lower()} used"  # its own row, so that the sheets add up
        named = pc.if_else(pc.equal(table[key], ""), unused, table[key])
        table = table.set_column(table.column_names.index(key), key, named)
        grouped = table.group_by(key, use_threads=False).aggregate(
            [("host_name", "count_distinct"), ("task_runs", "sum"), ("duration", "sum")]
        )
        fields = [
            _Field(key, label, width=50),
            _Field("host_name_count_distinct", "Managed nodes", "integer"),
            _Field("task_runs_sum", "Task runs", "integer"),
            _Field("duration_sum", "Duration (seconds)", "number"),
        ]
        return _sheet(title, grouped.sort_by(key), fields)

    def _addressed(self, table: pa.Table) -> pa.Table:
        """Return *table* with hosts named as job_host_summary names them: by ansible_host, if set.

        Events know the name in the inventory only; the summaries of the same job know both.
        """
        summaries = self._tables["job_host_summary"]
        keys = ["install_uuid", "job_remote_id", "original_host_name"]
        renamed = summaries.filter(
            pc.not_equal(summaries["host_name"], summaries["original_host_name"])
        )
        if not renamed.num_rows:
            return table
        of_jobs = renamed.group_by(keys, use_threads=False).aggregate([("host_name", "min")])
        of_jobs = of_jobs.rename_columns([*keys, "address"])
        columns = ["install_uuid", "job_remote_id", "host_name"]
        count = pa.array(range(table.num_rows), pa.int64())
        plain = table.select(columns).append_column("at", count)
        for name in columns:
            position = plain.column_names.index(name)
            plain = plain.set_column(position, name, plain[name].cast(pa.string()))
        for name in keys:
            position = of_jobs.column_names.index(name)
            of_jobs = of_jobs.set_column(position, name, of_jobs[name].cast(pa.string()))
        joined = plain.join(of_jobs, columns, keys).sort_by("at")
        address = joined["address"].cast(pa.string())
        names = pc.if_else(pc.is_null(address), joined["host_name"], address)
        return table.set_column(table.column_names.index("host_name"), "host_name", names)

    def jobs(self) -> Sheet:
        """Return 'Jobs'."""
        keys = ["job_remote_id", "install_uuid", "job_template_name", "organization_name"]
        measures = [
            ("host_name", "count_distinct"),
            ("host_runs", "sum"),
            ("task_runs", "sum"),
            ("job_created", "min"),
            ("last_automation", "max"),
        ]
        grouped = self.nodes().group_by(keys, use_threads=False).aggregate(measures)
        fields = [
            _Field("job_remote_id", "Job"),
            _Field("install_uuid", "Installation", width=38),
            _Field("job_template_name", "Job template", width=40),
            _Field("organization_name", "Organization", width=40),
            _Field("host_name_count_distinct", "Nodes", "integer"),
            _Field("host_runs_sum", "Host runs", "integer"),
            _Field("task_runs_sum", "Task runs", "integer"),
            _Field("job_created_min", "Created", "timestamp"),
            _Field("last_automation_max", "Last automation", "timestamp"),
        ]
        order = [("install_uuid", "ascending"), ("job_created_min", "ascending")]
        return _sheet("Jobs", grouped.sort_by([*order, ("job_remote_id", "ascending")]), fields)

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
        nodes = self.nodes("indirect")
        for name, facts in table_rows(nodes, ["host_name", "facts"]):
            for text in facts or ["{}"]:
                known = _object(text)
                kind = ("infra_type", "infra_bucket", "device_type")
                found.setdefault(tuple(str(known.get(k) or "") for k in kind), set()).add(name)
        for key, names in sorted(found.items()):
            yield [*key, len(names)]


def _distinct(table: pa.Table, key: str, what: str | Sequence[str]) -> pa.Table:
    """Count the different values of *what* for each value of *key*."""
    columns = [what] if isinstance(what, str) else list(what)
    pairs = table.group_by([key, *columns], use_threads=False).aggregate([])
    counted = pairs.group_by(key, use_threads=False).aggregate([(columns[0], "count")])
    return counted.select([key, f"{columns[0]}_count"]).sort_by(key)


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
