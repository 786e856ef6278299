"""What the usage reports need of large rollups, made in one pass, so that memory does not grow with their rows.

A rollup of summaries has a row for each host of each job. A report shows nodes, jobs and organizations,
which are far fewer: each table of the rollup is reduced to these as it comes, and then forgotten. Keys are
dictionary-encoded here, and plain text in what the sheets get (`grouped`).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.rollups._columns import TIMESTAMP
from ops.metrics_collect.rollups._engine import (
    KEY,
    SET,
    Measure,
    aggregate,
    concatenated,
    encoded,
    ordered,
    whole,
)
from ops.metrics_collect.rollups._spill import Spill, hashes_of_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["Addresses", "Events", "Summaries", "counted", "grouped", "renamed"]

_RUNS = (Measure("host_runs", "sum", pa.int64()), Measure("task_runs", "sum", pa.int64()))
_FIRST = Measure("first_automation", "min", TIMESTAMP)
_LAST = Measure("last_automation", "max", TIMESTAMP)
_CREATED = Measure("job_created", "min", TIMESTAMP)
_NODE = ("organization_name", "host_name", "managed_node_type")
_JOB = ("install_uuid", "job_remote_id", "job_template_name", "organization_name")
_USE = ("module_name", "collection_name", "role_name", "host_name")
_COUNT = Measure("count", "sum", pa.int64())
_MERGED_ROWS = 200_000
_SPILLED_BYTES = 5_000_000


class _Partial:
    """Groups that are combined whenever there are twice as many as are needed."""

    def __init__(self, keys: Sequence[str], measures: Sequence[Measure] = ()) -> None:
        self._keys = keys
        self._measures = measures
        self._names = [*keys, *(m.name for m in measures)]
        schema = pa.schema([*((k, KEY) for k in keys), *((m.name, m.type) for m in measures)])
        self._parts = [schema.empty_table()]

    def add(self, rows: pa.Table) -> None:
        """Add rows with encoded keys."""
        if rows.num_rows:
            self._parts.append(self._combined([rows.select(self._names)]))
        fresh = sum(part.num_rows for part in self._parts[1:])
        if fresh > self._parts[0].num_rows + _MERGED_ROWS:
            self.table()

    def table(self) -> pa.Table:
        """Return a row for each key, with encoded keys, in no particular order."""
        if len(self._parts) > 1:
            self._parts = [self._combined(self._parts)]
        return self._parts[0]

    def _combined(self, parts: list[pa.Table]) -> pa.Table:
        schema = self._parts[0].schema
        rows = concatenated(parts)
        pa.default_memory_pool().release_unused()
        return aggregate(rows, self._keys, self._measures, "arrow").select(self._names).cast(schema)


class Summaries:
    """The rollup of job_host_summary, reduced.

    Attributes:
        nodes: sums by organization, host and kind.
        jobs: sums by job, with `nodes`, the number of its hosts.
        facts: host names and facts of indirectly managed nodes.
    """

    def __init__(self, tables: Iterable[pa.Table], rename: Callable[[pa.Table], pa.Table]) -> None:
        nodes, jobs = _Partial(_NODE, (*_RUNS, _FIRST, _LAST)), _Jobs()
        facts = [pa.table({"host_name": pa.array([], KEY), "facts": pa.array([], SET)})]
        for table in tables:
            rows = rename(table)
            nodes.add(rows)
            jobs.add(rows)
            indirect = rows.filter(pc.equal(rows["managed_node_type"], "indirect"))
            facts.append(indirect.select(["host_name", "facts"]))
            del table, rows, indirect  # before the next one is made
        self.nodes = nodes.table()
        self.jobs = jobs.table()
        self.facts = pa.concat_tables(facts)


class _Jobs:
    """Jobs and their hosts: on disk until all are there, as they are nearly as many as the rows."""

    _measures = (*_RUNS, _CREATED, _LAST)

    def __init__(self) -> None:
        self._names = [*_JOB, "host_name", *(m.name for m in self._measures)]
        keys = [(name, KEY) for name in (*_JOB, "host_name")]
        schema = pa.schema([*keys, *((m.name, m.type) for m in self._measures)])
        hashes = functools.partial(hashes_of_keys, keys=_JOB)
        self._spill = Spill(schema, hashes, _SPILLED_BYTES)

    def add(self, rows: pa.Table) -> None:
        """Add rows with encoded keys."""
        if rows.num_rows:
            self._spill.append_all([rows.select(self._names)])

    def table(self) -> pa.Table:
        """Return a row for each job, with plain keys."""
        measures = (*self._measures, Measure("nodes", "sum", pa.int64()))
        parts = []
        for tables in self._spill.partitions():
            rows = concatenated(tables)
            tables.clear()
            hosts = aggregate(rows, (*_JOB, "host_name"), self._measures, "arrow")
            ones = pa.array(np.ones(hosts.num_rows, np.int64))
            parts.append(grouped(hosts.append_column("nodes", ones), _JOB, measures))
        self._spill.close()
        empty = [(name, pa.string()) for name in _JOB] + [(m.name, m.type) for m in measures]
        return pa.concat_tables([pa.schema(empty).empty_table(), *parts])


class Addresses:
    """How the summaries of a job name a host, by its name in the inventory: by ansible_host where set.

    Events know the name in the inventory only; the summaries of the same job know both.
    """

    _keys = ("install_uuid", "job_remote_id", "original_host_name")

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        pairs = _Partial((*self._keys, "host_name"))
        for table in tables:
            names = [table[n].cast(pa.string()) for n in ("host_name", "original_host_name")]
            pairs.add(table.filter(pc.not_equal(*names)))
            del table
        plain = grouped(pairs.table(), (*self._keys, "host_name"))
        self._table = plain.group_by(list(self._keys), use_threads=False).aggregate(
            [("host_name", "min")]
        )

    def apply(self, table: pa.Table) -> pa.Table:
        """Return a table of events with hosts named as in the summaries."""
        if not self._table.num_rows:
            return table
        columns = ["install_uuid", "job_remote_id", "host_name"]
        plain = pa.table({name: table[name].cast(pa.string()) for name in columns})
        plain = plain.append_column("at", pa.array(np.arange(table.num_rows)))
        joined = plain.join(self._table, columns, list(self._keys)).sort_by("at")
        names = pc.coalesce(joined["host_name_min"], joined["host_name"])
        position = table.column_names.index("host_name")
        return encoded(table.set_column(position, "host_name", names), ("host_name",))


class Events:
    """The rollup of main_jobevent, reduced: `uses` has sums by module, collection, role and host."""

    def __init__(self, tables: Iterable[pa.Table], rename: Callable[[pa.Table], pa.Table]) -> None:
        measures = (
            Measure("task_runs", "sum", pa.int64()),
            Measure("duration", "sum", pa.float64()),
        )
        uses = _Partial(_USE, measures)
        for table in tables:
            if table.num_rows:
                uses.add(rename(table))
            del table  # before the next one is made
        self.uses = uses.table()


def renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """Return *table* with the texts of its encoded `host_name` exchanged by *names*, if they are there."""
    column = whole(table["host_name"])
    texts = [names.get(name, name) for name in column.dictionary.to_pylist()]
    fewer = pa.array(texts, pa.string()).dictionary_encode()  # several may have become one
    indices = fewer.indices.take(column.indices)
    position = table.column_names.index("host_name")
    changed = pa.DictionaryArray.from_arrays(indices, fewer.dictionary)
    return table.set_column(position, "host_name", changed)


def grouped(table: pa.Table, keys: Sequence[str], measures: Sequence[Measure] = ()) -> pa.Table:
    """Return *table*, which has encoded keys, grouped and sorted by *keys*, which are plain text then."""
    names = [*keys, *(m.name for m in measures)]
    found = aggregate(concatenated([table.select(names)]), keys, measures, "arrow").select(names)
    found = encoded(found, keys)
    found = ordered(found, keys) if found.num_rows else found
    types = [pa.string()] * len(keys) + [m.type for m in measures]
    return found.cast(pa.schema(list(zip(names, types, strict=True))))


def counted(table: pa.Table, key: str, what: Sequence[str]) -> pa.Table:
    """Return the number of different values of *what* for each value of *key*, as `count`."""
    pairs = aggregate(concatenated([table.select([key, *what])]), [key, *what], (), "arrow")
    ones = pa.array(np.ones(pairs.num_rows, np.int64))
    return grouped(encoded(pairs, (key,)).append_column("count", ones), [key], [_COUNT])
