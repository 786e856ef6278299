"""The base of all rollups: partial aggregates that merge in any order, each source counted once.

State is a table of partial aggregates with a row per key, and rows that wait to be grouped into it.
Sums, minima, maxima and unions of sets are associative and commutative, counts are sums of ones, hence
any order and any nesting of rollups gives one result (floating-point sums up to rounding). When the
state outgrows *memory_bytes* it goes to disk, cut by a hash of the keys, and is grouped part by part.

What was added is remembered: sources (the digest of a tarball, or the name the caller gives) and,
for data with a row id, the ids. Adding a source again changes nothing. Two stored rollups that share
some but not all sources cannot be added, since aggregates cannot be taken apart: that is an error. So is
adding a tarball of which an extractor had selected other collections before.
A rollup whose `add` raised has an unknown part of that source in it and is to be thrown away.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ops.foundation.files import atomic_write
from ops.metrics_collect.errors import ParameterError, StateError
from ops.metrics_collect.rollups._engine import (
    KEY,
    Measure,
    aggregate,
    concatenated,
    encoded,
    ordered,
)
from ops.metrics_collect.rollups._seen import SeenIds
from ops.metrics_collect.rollups._sources import Sources, name_of
from ops.metrics_collect.rollups._spill import Spill
from ops.metrics_collect.rows import read_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Executor

    import pandas as pd

    from ops.metrics_collect.extractor import Extractor
    from ops.metrics_collect.rollups._engine import Engine

__all__ = ["Measure", "Rollup"]

_METADATA = b"ops.metrics_collect"
_MEMORY_BYTES = 200_000_000


class Rollup:
    """Aggregates of one or more collections.

    Subclasses set `collections`, `keys` (all text), `measures` and `schema_version`, may set `row_ids`
    (by collection: the name of the ids' space and the column) and `columns` (those that `prepare`
    reads), and define `prepare`, which turns raw rows (text columns) into rows with the columns of
    `fields`. *engine* groups by "arrow" or by "duckdb" (extra `duckdb`).
    """

    collections: tuple[str, ...] = ()
    schema_version: ClassVar[int] = 2
    keys: Mapping[str, pa.DataType] = {}
    measures: tuple[Measure, ...] = ()
    row_ids: Mapping[str, tuple[str, str]] = {}
    columns: frozenset[str] | None = None

    def __init__(self, *, engine: Engine = "arrow", memory_bytes: int = _MEMORY_BYTES) -> None:
        if not self.keys:
            raise ParameterError("A rollup needs at least one key.")
        self._engine: Engine = engine
        self._memory_bytes = memory_bytes
        self._table = self._schema.empty_table()
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._spill: Spill | None = None
        self._sources = Sources()
        self._seen: dict[str, SeenIds] = {}

    @property
    def collection(self) -> str:
        """The first of `collections`."""
        return self.collections[0]

    @property
    def fields(self) -> pa.Schema:
        """The columns of the result with their types, known also when it is empty."""
        return pa.schema([*self.keys.items(), *((m.name, m.type) for m in self.measures)])

    @property
    def index(self) -> tuple[str, ...]:
        """The columns that identify a row of the result."""
        return tuple(self.keys)

    @property
    def sources(self) -> frozenset[str]:
        """What has been added."""
        return frozenset(self._sources.names)

    def prepare(self, raw: pa.Table, config: Mapping[str, Any], collection: str) -> pa.Table:
        """Return rows with the columns of `fields` made of raw rows of *collection*."""
        raise NotImplementedError

    def add(self, extractor: Extractor, *, executor: Executor | str | None = None) -> Self:
        """Add the rows of tarballs; those of a tarball added before are left out.

        With *executor* (any of concurrent.futures, `client.get_executor()` of Dask, or the address of a
        Dask scheduler, extra `dask`), each tarball is rolled up there, where its path must lead to it; a
        row that came in two of them still counts once.
        """
        if executor is not None:
            from ops.metrics_collect.rollups._parallel import add_in_parallel

            add_in_parallel(self, extractor, executor)
            return self
        selected = extractor.selected(self.collections)
        for part in extractor.split():
            source = ""
            for payload in part.payloads(self.collections, self.columns):
                if not source:
                    source = name_of(payload.source, selected)
                    if not self._sources.are_new([source]):
                        break
                    self._sources.add([source])
                self._add_rows(
                    pa.Table.from_batches([payload.batch]), payload.config, payload.collection
                )
            extractor.broken |= part.broken
        return self

    def add_csv(
        self,
        data: str | os.PathLike[str] | pd.DataFrame | pa.Table,
        *,
        source: str | None = None,
        config: Mapping[str, Any] | None = None,
        collection: str | None = None,
    ) -> Self:
        """Add raw rows: a CSV file, or a frame or table of them; once per *source* if it is named.

        *collection* says which of `collections` they are of; the first one by default.
        """
        if source is not None:
            if source in self._sources.names:
                return self
            self._sources.add([source])
        known, name = config or {}, collection or self.collection
        if isinstance(data, pa.Table):
            self._add_rows(data, known, name)
        elif isinstance(data, str | os.PathLike):
            for batch in read_batches(data, self.columns):
                self._add_rows(pa.Table.from_batches([batch]), known, name)
        else:
            self._add_rows(pa.Table.from_pandas(data, preserve_index=False), known, name)
        return self

    def group(self, *, sort: bool = True) -> pa.Table:
        """Return the result: one row per key, sorted by key (or not, which is faster)."""
        tables = list(self._tables())
        table = tables[0] if len(tables) == 1 else concatenated(tables)
        if sort and table.num_rows:
            table = ordered(table, self.index)
        return table.cast(self.fields)

    def regroup(self, *, sort: bool = True) -> pa.Table:
        """Return the result of everything added, rollups included; the same as `group`."""
        return self.group(sort=sort)

    def batches(self) -> Iterator[pa.Table]:
        """Yield the result in tables of bounded size, in no particular order."""
        for table in self._tables():
            yield table.cast(self.fields)

    def add_parquet(self, path: str | os.PathLike[str]) -> Self:
        """Add a stored rollup; one whose sources are all known changes nothing."""
        with pq.ParquetFile(path, read_dictionary=list(self.keys)) as file:
            sources = self._provenance(file.schema_arrow.metadata, path)
            if self._sources.are_new(sources):
                for batch in file.iter_batches(1 << 20):
                    self._append(pa.Table.from_batches([batch]).select(self.fields.names))
                self._sources.add(sources)
        return self

    def merge(self, other: Rollup) -> Self:
        """Add another rollup of the same shape, and remember what it has seen.

        Raises StateError when some rows, by their ids, have been added to both.
        """
        if (other.collections, other.fields) != (self.collections, self.fields):
            raise ParameterError("Only rollups of one collection and shape can be merged.")
        if self._sources.are_new(other.sources):
            for space, ids in other._seen.items():
                if space in self._seen and self._seen[space].intersection(ids):
                    raise StateError(
                        f"Some rows of {space.rpartition('/')[2]!r} are in both rollups, "
                        "and aggregates cannot be taken apart.",
                        suggestions=("Roll the sources up again into one.",),
                    )
            self._take_over(other)
        return self

    def _take_over(self, other: Rollup) -> None:
        for table in other.batches():
            self._append(table)
        self._sources.add(other.sources)
        for space, ids in other._seen.items():
            self._seen.setdefault(space, SeenIds()).update(ids)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the result with its sources and schema version in the metadata."""
        provenance = {
            "rollup": type(self).__name__,
            "collection": self.collection,
            "schema_version": self.schema_version,
            "sources": sorted(self._sources.names),
        }
        schema = self._schema.with_metadata({_METADATA: json.dumps(provenance)})
        tables = self._tables()
        with (
            atomic_write(path, "wb") as file,
            pq.ParquetWriter(file, schema, compression="zstd") as to,
        ):
            for table in tables:
                sorted_ = ordered(table, self.index) if table.num_rows else table
                to.write_table(sorted_.cast(schema), row_group_size=1 << 17)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the result as CSV; a set is a JSON list."""
        from pyarrow import csv

        with atomic_write(path, "wb") as file:
            csv.write_csv(_with_json_sets(self.group()), file)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the result as a JSON list of objects; moments as ISO 8601 text."""
        with atomic_write(path) as file:
            json.dump(self.group().to_pylist(), file, indent=1, default=lambda v: v.isoformat())

    def to_pandas(self) -> pd.DataFrame:
        """Return the result as a frame with `index` as its index."""
        frame: pd.DataFrame = self.group().to_pandas()
        return frame.set_index(list(self.index))

    @property
    def _schema(self) -> pa.Schema:
        """`fields` with encoded keys: what the state is made of."""
        return pa.schema(
            [*((k, KEY) for k in self.keys), *((m.name, m.type) for m in self.measures)]
        )

    def _add_rows(self, raw: pa.Table, config: Mapping[str, Any], collection: str) -> None:
        space, column = self.row_ids.get(collection, ("", ""))
        if column in raw.column_names:
            key = f"{config.get('install_uuid', '')}/{space}"
            mask = self._seen.setdefault(key, SeenIds()).add(raw.column(column))
            raw = raw if mask is None else raw.filter(mask)
        if raw.num_rows:
            self._append(self.prepare(raw, config, collection).select(self.fields.names))

    def _append(self, rows: pa.Table) -> None:
        rows = encoded(rows, self.index).cast(self._schema)
        self._pending.append(rows)
        self._pending_bytes += rows.nbytes
        if self._pending_bytes > self._memory_bytes // 2:
            self._compact()
            if self._table.nbytes > self._memory_bytes // 4:
                self._spill = self._spill or Spill(self._schema, self.index)
                self._spill.append(self._table)
                self._table = self._schema.empty_table()

    def _compact(self) -> None:
        if self._pending:
            tables = [self._table, *self._pending] if self._table.num_rows else self._pending
            self._pending, self._pending_bytes = [], 0
            self._table = self._grouped(tables)

    def _grouped(self, tables: list[pa.Table]) -> pa.Table:
        rows = concatenated(tables)
        tables.clear()  # they are as large as the rows
        pa.default_memory_pool().release_unused()  # what reading needed, before grouping needs more
        grouped = aggregate(rows, self.index, self.measures, self._engine)
        return encoded(grouped, self.index).cast(self._schema)

    def _tables(self) -> Iterator[pa.Table]:
        """Yield the grouped result, whole or by partition; each key is in one table only."""
        self._compact()
        if self._spill is None:
            yield self._table
            return
        if self._table.num_rows:
            self._spill.append(self._table)
            self._table = self._schema.empty_table()
        for partition in self._spill.partitions():
            yield self._grouped(partition)

    def _provenance(
        self, metadata: Mapping[bytes, bytes] | None, path: str | os.PathLike[str]
    ) -> frozenset[str]:
        known = json.loads((metadata or {}).get(_METADATA, b"{}"))
        expected = (self.collection, self.schema_version)
        found = (known.get("collection"), known.get("schema_version"))
        if found != expected:
            raise ParameterError(f"{path!s} is a rollup of {found}, not of {expected}.")
        return frozenset(known["sources"])

    def __getstate__(self) -> dict[str, Any]:
        # On its way to another process: the spilled part must travel, its files cannot.
        state = dict(self.__dict__)
        state |= {"_table": self.group(sort=False).cast(self._schema), "_spill": None}
        return {**state, "_pending": [], "_pending_bytes": 0}


def _with_json_sets(table: pa.Table) -> pa.Table:
    for position, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [json.dumps(v, ensure_ascii=False) for v in table.column(position).to_pylist()]
            table = table.set_column(position, field.name, pa.array(texts, pa.string()))
    return table
