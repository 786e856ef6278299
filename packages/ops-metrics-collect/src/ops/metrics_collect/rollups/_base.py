"""The base of all rollups: partial aggregates that merge in any order, each source counted once.

State is one table of partial aggregates with a row per key. Adding raw rows groups them and appends;
whenever the pending rows outgrow the compacted ones, all are grouped again, so memory follows the
number of keys, not of rows. Only sums, minima and maxima are kept: they are associative and
commutative, counts are sums of ones, hence any order and any nesting of rollups gives one result.

What was added is remembered: sources (the digest of a tarball, or the name the caller gives) and,
for data with a row id, the ids. Adding a source again changes nothing. Two stored rollups that share
some but not all sources cannot be added, since aggregates cannot be taken apart: that is an error.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from ops.foundation.files import atomic_write
from ops.metrics_collect.errors import ParameterError, StateError
from ops.metrics_collect.rollups._seen import SeenIds
from ops.metrics_collect.rows import read_batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from ops.metrics_collect.extractor import Extractor

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["Measure", "Rollup"]

Kind: TypeAlias = Literal["sum", "min", "max"]

_METADATA = b"ops.metrics_collect"
_PENDING_ROWS = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """An aggregated column: its name, how values are combined, and its Arrow type."""

    name: str
    kind: Kind
    type: pa.DataType


class Rollup:
    """Aggregates of one collection.

    Subclasses set `collection`, `keys`, `measures` and `schema_version`, may set `row_id`, and define
    `prepare`, which turns raw rows (text columns) into rows with exactly the columns of `fields`.
    """

    collection: str = ""
    schema_version: ClassVar[int] = 1
    keys: Mapping[str, pa.DataType] = {}
    measures: tuple[Measure, ...] = ()
    row_id: str | None = None

    def __init__(self) -> None:
        self._table = self.fields.empty_table()
        self._pending: list[pa.Table] = []
        self._sources: set[str] = set()
        self._seen: dict[str, SeenIds] = {}

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
        return frozenset(self._sources)

    def prepare(self, raw: pa.Table, config: Mapping[str, Any]) -> pa.Table:
        """Return rows with the columns of `fields` made of raw rows."""
        raise NotImplementedError

    def add(self, extractor: Extractor) -> Self:
        """Add this collection's rows of tarballs; those of a tarball added before are left out."""
        known = self.sources
        for payload in extractor.payloads():
            if payload.collection == self.collection and payload.source not in known:
                self._add_rows(pa.Table.from_batches([payload.batch]), payload.config)
                self._sources.add(payload.source)
        return self

    def add_csv(
        self,
        data: str | os.PathLike[str] | pd.DataFrame | pa.Table,
        *,
        source: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Self:
        """Add raw rows: a CSV file, or a frame or table of them; once per *source* if it is named."""
        if source is not None:
            if source in self._sources:
                return self
            self._sources.add(source)
        if isinstance(data, pa.Table):
            self._add_rows(data, config or {})
        elif isinstance(data, str | os.PathLike):
            for batch in read_batches(data):
                self._add_rows(pa.Table.from_batches([batch]), config or {})
        else:
            self._add_rows(pa.Table.from_pandas(data, preserve_index=False), config or {})
        return self

    def group(self) -> pa.Table:
        """Return the result: one row per key, sorted by key."""
        self._compact()
        return self._table

    def regroup(self) -> pa.Table:
        """Return the result of everything added, rollups included; the same as `group`."""
        return self.group()

    def add_parquet(self, path: str | os.PathLike[str]) -> Self:
        """Add a stored rollup; one whose sources are all known changes nothing."""
        table = pq.read_table(path)
        return self._merge(table.cast(self.fields), self._provenance(table.schema.metadata, path))

    def merge(self, other: Rollup) -> Self:
        """Add another rollup of the same shape."""
        if (other.collection, other.fields) != (self.collection, self.fields):
            raise ParameterError("Only rollups of one collection and shape can be merged.")
        return self._merge(other.group(), other.sources)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the result with its sources and schema version in the metadata."""
        provenance = {
            "rollup": type(self).__name__,
            "collection": self.collection,
            "schema_version": self.schema_version,
            "sources": sorted(self._sources),
        }
        table = self.group().replace_schema_metadata({_METADATA: json.dumps(provenance)})
        with atomic_write(path, "wb") as file:
            pq.write_table(table, file, compression="zstd")

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the result as CSV."""
        from pyarrow import csv

        with atomic_write(path, "wb") as file:
            csv.write_csv(self.group(), file)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the result as a JSON list of objects; moments as ISO 8601 text."""
        with atomic_write(path) as file:
            json.dump(self.group().to_pylist(), file, indent=1, default=lambda v: v.isoformat())

    def to_pandas(self) -> pd.DataFrame:
        """Return the result as a frame with `index` as its index."""
        frame: pd.DataFrame = self.group().to_pandas()
        return frame.set_index(list(self.index)) if self.index else frame

    def _add_rows(self, raw: pa.Table, config: Mapping[str, Any]) -> None:
        if self.row_id is not None and self.row_id in raw.column_names:
            seen = self._seen.setdefault(str(config.get("install_uuid", "")), SeenIds())
            raw = raw.filter(seen.add(raw.column(self.row_id)))
        if raw.num_rows:
            rows = self.prepare(raw, config)
            self._append(self._aggregate(rows.select(self.fields.names).cast(self.fields)))

    def _merge(self, table: pa.Table, sources: frozenset[str]) -> Self:
        shared = sources & self._sources
        if shared and shared != sources:
            raise StateError(
                f"{len(shared)} of {len(sources)} sources of this rollup have been added already, "
                "and aggregates cannot be taken apart.",
                suggestions=("Roll the sources up again into one.",),
            )
        if not shared:
            self._append(table)
            self._sources |= sources
        return self

    def _append(self, table: pa.Table) -> None:
        self._pending.append(table)
        if sum(t.num_rows for t in self._pending) > max(self._table.num_rows, _PENDING_ROWS):
            self._compact()

    def _compact(self) -> None:
        if self._pending:
            merged = self._aggregate(pa.concat_tables([self._table, *self._pending]))
            self._pending = []
            self._table = merged.sort_by([(k, "ascending") for k in self.keys])

    def _aggregate(self, rows: pa.Table) -> pa.Table:
        if not self.keys:
            raise ParameterError("A rollup needs at least one key.")
        grouped = rows.group_by(list(self.keys), use_threads=False).aggregate(
            [(m.name, m.kind) for m in self.measures]
        )
        columns = [*self.keys, *(f"{m.name}_{m.kind}" for m in self.measures)]
        return grouped.select(columns).rename_columns(self.fields.names).cast(self.fields)

    def _provenance(
        self, metadata: Mapping[bytes, bytes] | None, path: str | os.PathLike[str]
    ) -> frozenset[str]:
        known = json.loads((metadata or {}).get(_METADATA, b"{}"))
        expected = (self.collection, self.schema_version)
        found = (known.get("collection"), known.get("schema_version"))
        if found != expected:
            raise ParameterError(f"{path!s} is a rollup of {found}, not of {expected}.")
        return frozenset(known["sources"])


def text(raw: pa.Table, name: str, missing: str = "") -> Any:
    """Return a column as text, *missing* where it is null or absent."""
    if name not in raw.column_names:
        return pa.array([missing] * raw.num_rows, pa.string())
    return pc.fill_null(raw.column(name).cast(pa.string()), missing)


def number(raw: pa.Table, name: str, type_: pa.DataType | None = None) -> Any:
    """Return a column as numbers (64-bit integers by default), 0 where it is null or absent."""
    type_ = type_ or pa.int64()
    if name not in raw.column_names:
        return pa.array([0] * raw.num_rows, type_)
    return pc.fill_null(raw.column(name).cast(type_), pa.scalar(0, type_))


def moment(raw: pa.Table, name: str) -> Any:
    """Return a column as moments in UTC, null where absent; text without an offset is UTC."""
    utc = pa.timestamp("us", tz="UTC")
    if name not in raw.column_names:
        return pa.nulls(raw.num_rows, utc)
    column = raw.column(name)
    try:
        return column.cast(utc)
    except pa.ArrowInvalid:
        return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC")
