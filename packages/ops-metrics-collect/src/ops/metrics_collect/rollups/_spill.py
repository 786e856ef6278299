"""Rows on disk, cut by a hash: of the keys of partial aggregates, or of the ids of rows.

Rows with equal hashes fall into the same partition whenever they come, so each partition can be
worked on alone. There are few partitions, since each file has the texts of its keys; one that has
become too large is cut again by other bits of the hash when it is read. So memory is bounded by the limit,
not by the whole. Files are Arrow streams in a private folder that goes with the object.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ops.foundation.paths import listed
from ops.metrics_collect.rollups._engine import bytes_of, whole
from ops.metrics_collect.workspaces import Workspace

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

__all__ = ["Spill", "hashes_of_keys", "state_bytes"]

_BITS = 3
_PARTITIONS = 1 << _BITS
_DEEPEST = 6
_SMALLEST_LIMIT = 1 << 20
#: What reading, preparing and cutting a batch take, however many rows are kept.
_WORK_BYTES = 45_000_000


def state_bytes(memory_bytes: int) -> int:
    """Return how much of *memory_bytes* is for rows that are kept; the rest is for work on them."""
    return max(memory_bytes - _WORK_BYTES, memory_bytes // 3)


class Spill:
    """Rows in partitions.

    Args:
        schema: that of all tables.
        hashes: returns a 64-bit hash for each row of a table, by which rows that belong together meet.
        limit_bytes: of what is written at once; twice as much is read at once.
        depth: how often the rows have been cut before; each time other bits of the hash count.
    """

    def __init__(
        self,
        schema: pa.Schema,
        hashes: Callable[[pa.Table], npt.NDArray[np.uint64]],
        limit_bytes: int,
        depth: int = 0,
    ) -> None:
        self._schema = schema
        self._hashes = hashes
        self._limit = max(limit_bytes, _SMALLEST_LIMIT)
        self._depth = depth
        workspace = Workspace("metrics-spill-")
        self._folder = workspace.path
        self._files = 0
        # Also when the owner is forgotten without being closed.
        self._finalizer = weakref.finalize(self, workspace.close)

    def append_all(self, tables: list[pa.Table]) -> None:
        """Write the rows of *tables*, which is emptied.

        As many are written at once as the limit allows: each file has its own texts of the keys.
        """
        tables.reverse()
        while tables:
            some, size = [], 0
            while tables and size < self._limit:
                some.append(tables.pop())
                size += bytes_of(some[-1])
            whole = pa.concat_tables(some)
            some.clear()
            self._append(whole.unify_dictionaries().combine_chunks())

    def _append(self, table: pa.Table) -> None:
        hashes = self._hashes(table) >> np.uint64(_BITS * self._depth)
        numbers = (hashes % np.uint64(_PARTITIONS)).astype(np.uint8)
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(_PARTITIONS + 1))
        for number in range(_PARTITIONS):
            start, end = bounds[number], bounds[number + 1]
            if end > start:
                path = self._folder / f"{number:03}-{self._files:06}.arrows"
                with (
                    pa.OSFile(str(path), "wb") as sink,
                    pa.ipc.new_stream(sink, self._schema) as to,
                ):
                    to.write_table(_compacted(table.take(pa.array(order[start:end]))))
        self._files += 1

    def partitions(self) -> Iterator[list[pa.Table]]:
        """Yield tables such that all rows of one hash are in one of the lists."""
        for number in range(_PARTITIONS):
            paths = listed(self._folder, f"{number:03}-*.arrows")
            size = sum(path.stat().st_size for path in paths)
            # Cutting again costs as much as cutting did.
            if size > 2 * self._limit and self._depth < _DEEPEST:
                yield from self._cut_again(paths)
            elif paths:
                yield [_read(path) for path in paths]

    def _cut_again(self, paths: Sequence[pathlib.Path]) -> Iterator[list[pa.Table]]:
        finer = Spill(self._schema, self._hashes, self._limit, self._depth + 1)
        try:
            # Many small files at once, or there would be eight times as many smaller ones.
            tables, size = [], 0
            for path in paths:
                tables.append(_read(path))
                size += path.stat().st_size
                if size >= self._limit or path == paths[-1]:
                    finer.append_all(tables)  # which empties the list
                    size = 0
            yield from finer.partitions()
        finally:
            finer.close()

    def close(self) -> None:
        """Remove the files."""
        self._finalizer()


def _compacted(table: pa.Table) -> pa.Table:
    """Return *table* with only those texts in its dictionaries that its rows use."""
    for position, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type):
            continue
        column = whole(table.column(position))
        indices = np.asarray(column.indices)
        used = np.zeros(len(column.dictionary), np.bool_)
        used[indices] = True
        if used.all():
            continue
        numbers = np.cumsum(used, dtype=np.int32) - 1
        texts = column.dictionary.filter(pa.array(used))
        fewer = pa.DictionaryArray.from_arrays(pa.array(numbers[indices]), texts)
        table = table.set_column(position, field, fewer)
    return table


def hashes_of_keys(table: pa.Table, keys: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return a hash of the dictionary-encoded columns *keys* for each row."""
    mixed: npt.NDArray[np.uint64] = np.zeros(table.num_rows, np.uint64)
    for name in keys:
        column = whole(table.column(name))
        # Python's hash differs from process to process, and no spill leaves its own.
        hashes = [hash(text) & 0xFFFFFFFF for text in column.dictionary.to_pylist()]
        mixed = mixed * np.uint64(31) + np.array(hashes, np.uint64)[np.asarray(column.indices)]
    found: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(17))
    return found


def _read(path: pathlib.Path) -> pa.Table:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as stream:
        return stream.read_all()
