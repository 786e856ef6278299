"""Rows on disk, cut by a hash: of the keys of partial aggregates, or of the ids of rows.

Rows with equal hashes fall into the same partition whenever they come, so each partition can be
worked on alone: memory is bounded by the largest partition, not by the whole. Files are Arrow streams
in a private folder that goes with the object.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ops.metrics_collect.workspaces import Workspace

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

__all__ = ["Spill", "hashes_of_keys"]

_PARTITIONS = 32


class Spill:
    """Rows in partitions.

    Args:
        schema: that of all tables.
        hashes: returns a 64-bit hash for each row of a table, by which rows that belong together meet.
    """

    def __init__(
        self, schema: pa.Schema, hashes: Callable[[pa.Table], npt.NDArray[np.uint64]]
    ) -> None:
        self._schema = schema
        self._hashes = hashes
        workspace = Workspace("metrics-spill-")
        self._folder = workspace.path
        self._files = 0
        # Also when the owner is forgotten without being closed.
        self._finalizer = weakref.finalize(self, workspace.close)

    def append(self, table: pa.Table) -> None:
        """Write the rows of *table*, a file for each partition that gets some."""
        numbers = self._hashes(table) % np.uint64(_PARTITIONS)
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(_PARTITIONS + 1))
        table = table.take(pa.array(order))
        for number in range(_PARTITIONS):
            start, end = bounds[number], bounds[number + 1]
            if end > start:
                path = self._folder / f"{number:03}-{self._files:06}.arrows"
                with (
                    pa.OSFile(str(path), "wb") as sink,
                    pa.ipc.new_stream(sink, self._schema) as to,
                ):
                    to.write_table(table.slice(start, end - start).combine_chunks())
        self._files += 1

    def partitions(self) -> Iterator[list[pa.Table]]:
        """Yield the tables of each partition that has rows."""
        for number in range(_PARTITIONS):
            paths = sorted(self._folder.glob(f"{number:03}-*.arrows"))
            if paths:
                yield [_read(path) for path in paths]

    def close(self) -> None:
        """Remove the files."""
        self._finalizer()


def hashes_of_keys(table: pa.Table, keys: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return a hash of the dictionary-encoded columns *keys* for each row."""
    mixed: npt.NDArray[np.uint64] = np.zeros(table.num_rows, np.uint64)
    for name in keys:
        column = table.column(name).combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        # Python's hash differs from process to process, and no spill leaves its own.
        hashes = [hash(text) & 0xFFFFFFFF for text in column.dictionary.to_pylist()]
        mixed = mixed * np.uint64(31) + np.array(hashes, np.uint64)[np.asarray(column.indices)]
    found: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(17))
    return found


def _read(path: pathlib.Path) -> pa.Table:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as stream:
        return stream.read_all()
