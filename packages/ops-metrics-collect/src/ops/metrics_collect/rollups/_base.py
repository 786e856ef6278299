"""The base of all rollups: partial aggregates that merge in any order, each source counted once.

State is a table of partial aggregates with a row per key, and rows that wait to be grouped into it.
Sums, minima, maxima and unions of sets are associative and commutative, counts are sums of ones, hence
any order and any nesting of rollups gives one result (floating-point sums up to rounding). When the
state outgrows *memory_bytes* it goes to disk, cut by a hash of the keys, and is grouped part by part.

What was added is remembered: sources (the digest of a tarball, or the name the caller gives).
Adding a source again changes nothing. Rows with an id are kept, and of each id the last version counts (see
`_latest`). Two stored rollups that share
some but not all sources cannot be added, since aggregates cannot be taken apart: that is an error. So is
adding a tarball of which an extractor had selected other collections before.
A rollup whose `add` raised has an unknown part of that source in it and is to be thrown away.
"""

from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from ops.foundation.files import atomic_write
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.rollups._engine import (
    KEY,
    Measure,
    aggregate,
    bytes_of,
    concatenated,
    encoded,
    ordered,
)
from ops.metrics_collect.rollups._json import write_json
from ops.metrics_collect.rollups._latest import COUNTED, LatestRows, Version
from ops.metrics_collect.rollups._selection import versions_of, within
from ops.metrics_collect.rollups._sources import Sources, name_of
from ops.metrics_collect.rollups._spill import Spill, hashes_of_keys, state_bytes
from ops.metrics_collect.rows import read_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Executor

    import pandas as pd

    from ops.metrics_collect.extractor import Extractor
    from ops.metrics_collect.rollups._engine import Engine

__all__ = ["Measure", "Rollup"]

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

_METADATA = b"ops.metrics_collect"
_MEMORY_BYTES = 300_000_000
_SAMPLED = 1 << 20


class Rollup:
    """Aggregates of one or more collections.

    Subclasses set `collections`, `keys` (all text), `measures` and `schema_version`, may set `row_ids`
    (by collection: the name of the ids' space and the column), `times` (by collection: the column of
    times that decides in which period a row is) and `columns` (those that `prepare` reads), and define
    `prepare`, which turns raw rows (text columns) into rows with the columns of `fields`, and may add a
    column `COUNTED` that is false for rows that do not count.

    Args:
        engine: groups by "arrow" or by "duckdb" (extra `duckdb`).
        memory_bytes: what the state may take in memory before it goes to disk.

    Raises `ParameterError` for a subclass without `keys`.
    """

    collections: tuple[str, ...] = ()
    schema_version: ClassVar[int] = 2
    keys: Mapping[str, pa.DataType] = {}
    measures: tuple[Measure, ...] = ()
    row_ids: Mapping[str, tuple[str, str]] = {}
    times: Mapping[str, str] = {}
    columns: frozenset[str] | None = None

    def __init__(self, *, engine: Engine = "arrow", memory_bytes: int = _MEMORY_BYTES) -> None:
        if not self.keys:
            raise ParameterError("A rollup needs at least one key.")
        self._engine: Engine = engine
        self._memory_bytes = memory_bytes
        self._state_bytes = state_bytes(memory_bytes)
        self._table = self._schema.empty_table()
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._spill: Spill | None = None
        self._sources = Sources()
        self._latest = LatestRows(self._schema, memory_bytes)

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
        """Return rows with the columns of `fields` made of the rows *raw* of *collection*.

        *raw* has text columns; *config* is the configuration that travelled with them, as
        `install_uuid`.
        """
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
                raw = within(payload, self.times.get(payload.collection), extractor.period)
                column = self.version_column(payload.collection, payload.version_column)
                version = Version(column, payload.slice)
                self._add_rows(
                    raw, payload.config, payload.collection, payload.primary_key, version
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
        """Add raw rows: *data* is a CSV file, or a frame or table of them; once per *source* if it is named.

        *config* is what `prepare` gets as configuration (default: empty). *collection* is the one
        of `collections` that they are from; the first by default.
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

    def batches(self, *, encoded: bool = False) -> Iterator[pa.Table]:
        """Yield the result in tables of bounded size, in no particular order.

        With *encoded*, keys are dictionary-encoded, which takes a fraction of the memory.
        """
        schema = self._schema if encoded else self.fields
        for table in self._tables():
            result = table.cast(schema)
            del table
            yield result
            del result  # before the next one is grouped

    def add_parquet(self, path: str | os.PathLike[str]) -> Self:
        """Add the stored rollup *path*; one whose sources are all known changes nothing.

        Raises `ParameterError` when it is damaged, no rollup, or one of another collection or version.
        """
        try:
            sources = self._provenance(pq.read_schema(path).metadata, path)
            if self._sources.are_new(sources):
                with pq.ParquetFile(path, read_dictionary=list(self.keys)) as file:
                    for batch in file.iter_batches(1 << 20):
                        self._append(pa.Table.from_batches([batch]).select(self.fields.names))
                self._sources.add(sources)
        except (pa.ArrowException, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ParameterError(f"{str(path)!r} is no stored rollup: {reason}.") from error
        return self

    def merge(self, other: Rollup) -> Self:
        """Add another rollup of the same shape; rows that were added to both count once.

        Raises `ParameterError` when *other* has another shape.
        """
        if (other.collections, other.fields) != (self.collections, self.fields):
            raise ParameterError("Only rollups of one collection and shape can be merged.")
        if self._sources.are_new(other.sources):
            self._take_over(other)
        return self

    def _take_over(self, other: Rollup) -> None:
        for table in other._aggregated():
            self._append(table.cast(other.fields))
        self._latest.update(other._latest)
        self._sources.add(other.sources)

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
                rows = ordered(table, self.index) if table.num_rows else table
                del table  # before the next one is grouped
                to.write_table(rows.cast(schema), row_group_size=1 << 17)
                del rows

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the result as CSV; a set is a JSON list."""
        from pyarrow import csv

        with atomic_write(path, "wb") as file:
            csv.write_csv(_with_json_sets(self.group()), file)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the result as a JSON list of objects; times as ISO 8601 text, NaN and infinity as null."""
        with atomic_write(path) as file:
            write_json(self.group().to_pylist(), file)

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

    def row_id(self, collection: str, primary_key: str | None) -> tuple[str, str | None]:  # noqa: ARG002
        """Return the space of the ids of a collection and the column that holds them, if any.

        *primary_key* is what was declared when the rows were gathered: None for no key, the empty
        text when nothing is known.
        """
        space, column = self.row_ids.get(collection, ("", ""))
        return space, column or None

    def version_column(self, collection: str, declared: str | None) -> str | None:  # noqa: ARG002
        """Return the column that orders the versions of a row, if any.

        *declared* is what was declared when the rows of *collection* were gathered.
        """
        return declared

    def _add_rows(
        self,
        raw: pa.Table,
        config: Mapping[str, Any],
        collection: str,
        primary_key: str | None = "",
        version: Version | None = None,
    ) -> None:
        if not raw.num_rows:
            return
        rows = self.prepare(raw, config, collection)
        space, column = self.row_id(collection, primary_key)
        if column is not None and column in raw.column_names:
            ids = raw.column(column).cast(pa.string())
            version = version or Version(self.version_column(collection, None))
            versions = versions_of(raw, version.column)
            without = rows.slice(0, 0)
            if ids.null_count:
                known = ids.is_valid()
                without = rows.filter(ids.is_null())
                rows, ids, versions = (each.filter(known) for each in (rows, ids, versions))
            self._latest.add(
                encoded(rows, self.index),
                f"{config.get('install_uuid', '')}/{space}",
                ids,
                versions,
                version.slice,
            )
            rows = without
        if COUNTED in rows.column_names:
            rows = rows.filter(rows.column(COUNTED))
        if rows.num_rows:
            self._append(rows.select(self.fields.names))

    def _append(self, rows: pa.Table) -> None:
        rows = encoded(rows, self.index).cast(self._schema)
        self._pending.append(rows)
        self._pending_bytes += bytes_of(rows)
        if self._pending_bytes <= self._state_bytes * 0.35:
            return
        if not self._is_worth_grouping(rows):
            self._to_disk(self._pending)
            self._pending, self._pending_bytes = [], 0
            return
        self._compact()
        if self._table.nbytes > self._state_bytes // 5:
            self._to_disk([self._table])
            self._table = self._schema.empty_table()

    def _is_worth_grouping(self, rows: pa.Table) -> bool:
        """Return whether grouping makes rows fewer, by some: it takes several times their memory."""
        if self._spill is None and self._pending_bytes < _SAMPLED:
            return True
        sample = concatenated([rows.slice(0, 1 << 15).select(self.index)])
        distinct = sample.group_by(list(self.index), use_threads=False).aggregate([])
        return bool(distinct.num_rows < 0.75 * sample.num_rows)

    def _to_disk(self, tables: list[pa.Table]) -> None:
        limit = self._state_bytes // 5
        if self._spill is None:
            hashes = functools.partial(hashes_of_keys, keys=self.index)
            self._spill = Spill(self._schema, hashes, limit)
        self._spill.append_all(tables)

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
        if not self._latest:
            yield from self._aggregated()
            return
        # Into a rollup that is thrown away: the next row may replace one that counts now.
        result = self._emptied()
        for table in self._aggregated():
            result._append(table.cast(self.fields))  # noqa: SLF001 - of this class
        for rows in self._latest.winners():
            result._append(rows)  # noqa: SLF001 - as above
            del rows  # before the next ones are read
        yield from result._aggregated()  # noqa: SLF001 - as above

    def _emptied(self) -> Self:
        """Return a rollup of this shape without rows."""
        blank = object.__new__(type(self))
        vars(blank).update(vars(self))
        blank._table = self._schema.empty_table()
        blank._pending, blank._pending_bytes, blank._spill = [], 0, None
        blank._sources = Sources()
        blank._latest = LatestRows(self._schema, self._memory_bytes)
        return blank

    def _aggregated(self) -> Iterator[pa.Table]:
        """Yield what is grouped of rows without ids, as `_tables` does."""
        self._compact()
        if self._spill is None:
            yield self._table
            return
        if self._table.num_rows:
            self._to_disk([self._table])
            self._table = self._schema.empty_table()
        for partition in self._spill.partitions():
            yield self._grouped(partition)

    def _provenance(
        self, metadata: Mapping[bytes, bytes] | None, path: str | os.PathLike[str]
    ) -> frozenset[str]:
        stored = (metadata or {}).get(_METADATA)
        if stored is None:
            raise ParameterError(f"{str(path)!r} is no stored rollup: `rollup` has not written it.")
        known = json.loads(stored)
        expected = (self.collection, self.schema_version)
        found = (known.get("collection"), known.get("schema_version"))
        if found != expected:
            raise ParameterError(f"{str(path)!r} is a rollup of {found}, not of {expected}.")
        return frozenset(known["sources"])

    def __getstate__(self) -> dict[str, Any]:
        # On its way to another process: the spilled part must travel, its files cannot.
        state = dict(self.__dict__)
        tables = [table.cast(self._schema) for table in self._aggregated()]
        state |= {"_table": pa.concat_tables(tables), "_spill": None}
        return {**state, "_pending": [], "_pending_bytes": 0}


def _with_json_sets(table: pa.Table) -> pa.Table:
    for position, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [json.dumps(v, ensure_ascii=False) for v in table.column(position).to_pylist()]
            table = table.set_column(position, field.name, pa.array(texts, pa.string()))
    return table
