"""Rows with an id: of each the last version counts, in whatever order they come.

An aggregate cannot be taken apart again, so rows with an id are kept as they are until the result is
requested. Then of each id one row is chosen: that of the greatest version (the declared version column,
else the slice that the row came with), and among equal versions always the same one, by content. So
adding is associative, commutative and idempotent, also for rows that change.

What outgrows the memory goes to disk, cut by a hash of the ids, and is chosen from part by part.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.rollups._columns import constant
from ops.metrics_collect.rollups._engine import KEY, bytes_of, whole
from ops.metrics_collect.rollups._spill import Spill, state_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["COUNTED", "LatestRows", "Version"]

#: Column of prepared rows: whether a row counts; one that does not still replaces an older version.
COUNTED = "__counted"
_SPACE, _ID, _VERSION, _SLICE = "__space", "__id", "__version", "__slice"


@dataclasses.dataclass(frozen=True, slots=True)
class Version:
    """How new rows are: the name of the version column, if any, and their slice.

    Attributes:
        column: a column of times or integers of the raw rows.
        slice: the end of the slice, as microseconds since 1970; 0 when there is none.
    """

    column: str | None = None
    slice: int = 0


class LatestRows:
    """Rows of *schema* with ids; see the module."""

    def __init__(self, schema: pa.Schema, memory_bytes: int) -> None:
        self._schema = pa.schema(
            [
                *schema,
                (COUNTED, pa.bool_()),
                (_SPACE, KEY),
                (_ID, pa.string()),
                (_VERSION, pa.int64()),
                (_SLICE, pa.int64()),
            ]
        )
        self._state_bytes = state_bytes(memory_bytes)
        self._held: list[pa.Table] = []
        self._bytes = 0
        self._spilled: Spill | None = None

    def __bool__(self) -> bool:
        return bool(self._held or self._spilled)

    def add(self, rows: pa.Table, space: str, ids: Any, versions: Any, slice_: int) -> None:
        """Add prepared *rows*; *ids* are texts without nulls, *versions* integers, both by row."""
        count = rows.num_rows
        if COUNTED not in rows.column_names:
            rows = rows.append_column(COUNTED, pa.array(np.ones(count, np.bool_)))
        columns = {name: rows.column(name) for name in self._schema.names[:-4]}
        columns |= {
            _SPACE: constant(space, count),
            _ID: ids,
            _VERSION: versions,
            _SLICE: pa.array(np.full(count, slice_, np.int64)),
        }
        self._append(pa.table(columns).cast(self._schema))

    def update(self, other: LatestRows) -> None:
        """Add all rows of another one."""
        for tables in other._parts():
            for table in tables:
                self._append(table)

    def winners(self) -> Iterator[pa.Table]:
        """Yield the rows that count, in tables of bounded size."""
        width = len(self._schema) - 5
        for tables in self._parts():
            rows = pa.concat_tables(tables).unify_dictionaries()
            tables.clear()
            counts = rows.column(COUNTED)
            chosen = _latest(rows)
            if chosen is not None:
                counts = pc.and_(counts, pa.array(chosen))
            rows = rows.select(range(width))
            yield rows if pc.all(counts).as_py() else rows.filter(counts)

    def _append(self, table: pa.Table) -> None:
        self._held.append(table)
        self._bytes += bytes_of(table)
        if self._bytes > self._state_bytes * 0.6:
            self._spill()

    def _spill(self) -> None:
        limit = self._state_bytes // 5
        self._spilled = self._spilled or Spill(self._schema, _hashes_of_ids, limit)
        self._spilled.append_all(self._held)
        self._bytes = 0

    def _parts(self) -> Iterator[list[pa.Table]]:
        """Yield tables such that all rows of one id are in one of the lists."""
        if self._spilled is None:
            if self._held:
                yield list(self._held)
            return
        if self._held:
            self._spill()
        yield from self._spilled.partitions()

    def __getstate__(self) -> dict[str, Any]:
        # On its way to another process: the spilled part must travel, its files cannot.
        held = [table for tables in self._parts() for table in tables]
        state = {**self.__dict__, "_held": held, "_spilled": None}
        return {**state, "_bytes": sum(table.nbytes for table in held)}


def _latest(table: pa.Table) -> npt.NDArray[np.bool_] | None:
    """Return for each row whether it counts, or None when all of them do."""
    codes = _codes(table)
    if bool((codes[1:] > codes[:-1]).all()):  # as they mostly come from a database
        return None
    order = np.argsort(codes, kind="stable")
    ranked = codes[order]
    repeated = ranked[1:] == ranked[:-1]
    if not bool(repeated.any()):
        return None
    # Only among rows that come more than once is there anything to choose.
    in_group = np.zeros(len(ranked), np.bool_)
    in_group[1:] |= repeated
    in_group[:-1] |= repeated
    rivals = order[in_group]
    versions = np.asarray(table.column(_VERSION))[rivals]
    slices = np.asarray(table.column(_SLICE))[rivals]
    ties = _content(table.take(pa.array(rivals)))
    rivals = rivals[np.lexsort((ties, slices, versions, codes[rivals]))]
    beaten = np.zeros(len(rivals), np.bool_)
    beaten[:-1] = codes[rivals][1:] == codes[rivals][:-1]
    counts = np.ones(len(codes), np.bool_)
    counts[rivals[beaten]] = False
    return counts


def _codes(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return a number for each row, equal for equal ids of one space."""
    spaces = whole(table.column(_SPACE))
    ids = whole(table.column(_ID))
    if len(spaces.dictionary) == 1:
        integers = _integers(ids)
        if integers is not None:
            return integers
    codes = whole(pc.dictionary_encode(ids))
    count = max(len(codes.dictionary), 1)
    found: npt.NDArray[np.int64] = np.asarray(spaces.indices, np.int64) * count
    return found + np.asarray(codes.indices, np.int64)


def _integers(ids: Any) -> npt.NDArray[np.int64] | None:
    """Return ids as integers, None when some are not the usual text of one ("007" is not)."""
    try:
        integers = ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    return np.asarray(integers) if integers.cast(pa.string()).equals(ids) else None


def _content(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return a rank for each row, by its content."""
    texts = [repr(row) for row in zip(*(c.to_pylist() for c in table.columns), strict=True)]
    ranks = {text: rank for rank, text in enumerate(sorted(set(texts)))}
    return np.array([ranks[text] for text in texts], np.int64)


def _hashes_of_ids(table: pa.Table) -> npt.NDArray[np.uint64]:
    ids = whole(table.column(_ID))
    integers = _integers(ids)
    if integers is None or not bool((np.abs(integers) < _SHORT).all()):
        # One by one, and those that are integers as below: a text has the same hash in every table.
        integers = np.array([_number_of(text) for text in ids.to_pylist()], np.int64)
    mixed = integers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(32))


def _number_of(text: str) -> int:
    if _INTEGER.fullmatch(text):
        return int(text)
    # Python's hash differs from process to process, and no spill leaves its own.
    return hash(text)


#: Integers that are sure to fit into 64 bits.
_SHORT = 10**17
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,16}")
