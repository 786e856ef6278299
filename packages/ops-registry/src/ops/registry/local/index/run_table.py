"""The compacted index as a table: one Parquet file, read a column at a time, searched as columns.

Columns are wide: ``metrics.k`` (the last value), ``metrics_min.k``, ``metrics_max.k``, the steps of
both (``metrics_min_step.k``, ``metrics_max_step.k``), ``params.k`` and ``tags.k`` as texts. So a filter
reads the columns that it names and nothing else. ``row_json`` has the exact row; it is read for the
rows that were found, a row group at a time. Keys beyond some of a kind have no column of
their own, are found in ``row_json``, and the metadata records that there are such.

A test of a number is one comparison of Arrow over the whole column. A test of a text is evaluated once
for each distinct value, by the same function that tests single rows, and the answers are spread over
the column through its dictionary: the two evaluations cannot differ. The file stays open, so what
is read later is of the same version even when a compaction has replaced the file by then.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ops.registry.errors import CorruptStoreError, StorageError
from ops.registry.json_values import encode
from ops.registry.local.index import arrays
from ops.registry.local.index.stored_rows import StoredRow, row_of
from ops.registry.local.index.wide_rows import value_of, wide
from ops.registry.records import RunStatus
from ops.registry.search.filters import Both, Either, Inverse, Kind, Test, sort_key

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from ops.registry.run_rows import RunRow
    from ops.registry.search.filters import Node, Order

__all__ = ["ROW_GROUP", "RunTable", "Texts", "merged"]

ROW_GROUP = 8192
_KEPT_ANSWERS = 32
#: Of fewer rows than this share of all, the row groups are read that have them.
_FEW = 4
_SIGNS = {
    "=": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}


class RunTable:
    """The runs in one ``index.parquet``, for any number of threads: what two make at once is the same."""

    def __init__(self, path: pathlib.Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._source = pa.OSFile(str(path))
            self._file = pq.ParquetFile(self._source)
            self._schema = self._file.schema_arrow
            metadata = self._schema.metadata or {}
            self.through: int = int(metadata[b"through"])
            self.has_rare_keys: bool = metadata[b"rare"] == b"1"
            #: The first format had null for a parameter that was logged as None, as for one that was not logged.
            self._has_null_parameters = metadata.get(b"format", b"1") == b"1"
        except FileNotFoundError:
            raise
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the operating system
                raise StorageError(f"{str(path)!r} cannot be read: {error}.") from error
            raise _damaged(path, error) from error
        self.path = path
        self.count: int = self._file.metadata.num_rows
        self._names = frozenset(self._schema.names)
        self._columns: dict[str, Any] = {}
        self._texts: dict[str, Texts] = {}
        self._answers: dict[Hashable, Any] = {}
        self._json: dict[int, Any] = {}
        self._reading = threading.RLock()  # a signal handler may read amid a read of its thread

    def unfinished(self) -> list[str]:
        """Return the ids of the runs that had not ended when the table was written."""
        statuses = self.texts("status")
        final = [RunStatus(s).is_final for s in statuses.distinct]
        if all(final):
            return []
        found = self._indices(statuses.spread([not f for f in final]))
        ids = self.column("run_id")
        return [ids[i].as_py() for i in found]

    def mask_of(self, run_ids: Sequence[str]) -> Any:
        """Return a mask of the rows of these runs."""
        pc = arrays.compute()

        return pc.is_in(self.column("run_id"), value_set=arrays.texts(run_ids))

    def positions(
        self,
        node: Node | None,
        orders: tuple[Order, ...],
        limit: int | None,
        hidden: Any | None,
    ) -> list[int]:
        """Return where the rows are for which *node* holds, in *orders*, without those *hidden*."""
        if not orders:
            return self._first(self._meant(node, hidden), limit)
        return self.among(self._order(orders), node, limit, hidden)

    def among(
        self, rows: Any, node: Node | None, limit: int | None, hidden: Any | None
    ) -> list[int]:
        """Return those of *rows*, which are in some order, where *node* holds, without *hidden*."""
        mask = self._meant(node, hidden)
        if mask is not None:
            rows = rows.filter(arrays.compute().take(mask, rows))
        return _listed(rows.slice(0, limit))

    def matching(self, node: Node | None, hidden: Any | None) -> int:
        """Return how many rows there are for which *node* holds, without those *hidden*."""
        mask = self._meant(node, hidden)
        return self.count if mask is None else (arrays.compute().sum(mask).as_py() or 0)

    def rows(self, positions: Iterable[int]) -> list[RunRow]:
        """Return the exact rows at *positions*."""
        return [row_of(self._text_of(p)) for p in positions]

    def stored(self, positions: Sequence[int]) -> list[StoredRow]:
        """Return the rows at *positions*, to be decoded when they are looked at."""
        if len(positions) * _FEW < self.count:
            return [StoredRow(self._text_of(position)) for position in positions]
        texts = self._read(["row_json"]).column(0)  # not kept in memory
        if len(positions) < self.count or list(positions) != list(range(self.count)):
            texts = texts.take(arrays.wholes(positions))
        return [StoredRow(text) for text in texts.to_pylist()]

    def every_row(self) -> list[RunRow]:
        """Return all rows, keeping nothing of them in memory."""
        found = self._read(["row_json"]).column(0).to_pylist()
        return [row_of(text) for text in found]

    def read(self) -> Any:
        """Return the whole table."""
        return self._read(None)

    def current(self) -> Any:
        """Return the whole table as this version writes it."""
        table = self.read().replace_schema_metadata(None)
        if not self._has_null_parameters:
            return table
        for position, name in enumerate(table.schema.names):
            if name.startswith("params.") and table.column(position).null_count:
                values = self.texts(name).values
                table = table.set_column(position, table.schema.field(position), values)
        return table

    def _meant(self, node: Node | None, hidden: Any | None) -> Any | None:
        pc = arrays.compute()

        mask = None if node is None else self._mask(node)
        if hidden is None:
            return mask
        shown = pc.invert(hidden)
        return shown if mask is None else pc.and_(mask, shown)

    def _first(self, mask: Any | None, limit: int | None) -> list[int]:
        if mask is None:
            return list(range(self.count if limit is None else min(limit, self.count)))
        return self._indices(mask)[:limit]

    @staticmethod
    def _indices(mask: Any) -> list[int]:
        pc = arrays.compute()

        return _listed(pc.indices_nonzero(mask))

    def _mask(self, node: Node) -> Any:
        pc = arrays.compute()

        match node:
            case Both() | Either():
                join = pc.and_ if isinstance(node, Both) else pc.or_
                whole = self._mask(node.parts[0])
                for part in node.parts[1:]:
                    whole = join(whole, self._mask(part))
                return whole
            case Inverse():
                return pc.invert(self._mask(node.part))
            case Test():
                return self._tested(node)

    def _tested(self, test: Test) -> Any:
        import pyarrow as pa

        pc = arrays.compute()

        if test.kind in {Kind.TEXT, Kind.MIXED}:
            column = self.texts(test.field)
            return column.spread([test.accepts(v) for v in column.distinct], test.if_absent)
        values = self.numbers(test.field)
        if test.question == "null":  # one answer for all that have a value
            valued = pc.is_valid(values)
            return valued if test.accepts(0) else pc.invert(valued)
        if test.sign is None:
            requested = [
                test.if_absent if v is None else test.accepts(v) for v in values.to_pylist()
            ]
            return arrays.flags(requested)
        made = arrays.wholes if pa.types.is_integer(values.type) else arrays.numbers
        bound = made([test.bound])[0]  # type: ignore[list-item]  # a time's bound is whole
        return arrays.filled(getattr(pc, _SIGNS[test.sign])(values, bound), test.if_absent)

    def _order(self, orders: tuple[Order, ...]) -> Any:
        """Return all positions in *orders*; rows without a value, and NaN, come last."""
        return self.kept(orders, lambda: self._ordered(orders))

    def kept(self, what: Hashable, make: Callable[[], Any]) -> Any:
        """Return what *make* gave for *what* before: the table does not change."""
        found = self._answers.get(what)
        if found is None:
            if len(self._answers) >= _KEPT_ANSWERS:
                self._answers.clear()
            found = self._answers[what] = make()
        return found

    def _ordered(self, orders: tuple[Order, ...]) -> Any:
        import pyarrow as pa

        pc = arrays.compute()

        directions = ["descending" if order.descending else "ascending" for order in orders]
        # Stable, so that equal values stay in the order of the table: by start, oldest first.
        if len(orders) == 1:
            ranks = self._ranks(orders[0])
            return pc.array_sort_indices(ranks, order=directions[0], null_placement="at_end")
        names = [str(number) for number in range(len(orders))]
        table = pa.table([self._ranks(order) for order in orders], names=names)
        keys = list(zip(names, directions, strict=True))
        return pc.sort_indices(table, sort_keys=keys)  # nulls come last by default

    def _ranks(self, order: Order) -> Any:
        """Return what orders the rows by one field, null where there is no value."""
        import pyarrow as pa

        pc = arrays.compute()

        field, kind, _ = order
        if kind in {Kind.TEXT, Kind.MIXED}:
            ranks = self.texts(field).ranks(kind)
        else:
            ranks = self.numbers(field)
            if pa.types.is_floating(ranks.type):
                ranks = pc.if_else(pc.is_nan(ranks), arrays.null(ranks.type), ranks)
        return ranks

    def numbers(self, field: str) -> Any:
        """Return a column of numbers, times as nanoseconds."""
        import pyarrow as pa

        pc = arrays.compute()

        if field in self._names:
            column = self.column(field)
            if pa.types.is_timestamp(column.type):
                return pc.cast(column, pa.int64())
            return column
        if not self.has_rare_keys:
            return pa.nulls(self.count, pa.float64())
        return self._kept(field, arrays.numbers)

    def texts(self, field: str) -> Texts:
        """Return a column of texts."""
        import pyarrow as pa

        column = self._texts.get(field)
        if column is None:
            if field in self._names:
                values = self.column(field)
                if values.null_count and self._has_null_parameters and field.startswith("params."):
                    values = self._from_rows(field, arrays.texts)
            elif self.has_rare_keys:
                values = self._kept(field, arrays.texts)
            else:
                values = pa.nulls(self.count, pa.large_string())
            column = self._texts[field] = Texts(values)
        return column

    def _kept(self, field: str, made: Any) -> Any:
        """Return a column, made from the JSON of the rows when it is first needed."""
        column = self._columns.get(field)
        if column is None:
            column = self._columns[field] = self._from_rows(field, made)
        return column

    def _from_rows(self, field: str, made: Any) -> Any:
        group, _, key = field.partition(".")
        return made([value_of(r, group, key) for r in self.with_key(key)])

    def with_key(self, key: str) -> Iterable[RunRow | None]:
        """Yield the rows that may have *key* anywhere, None for the others."""
        pc = arrays.compute()

        needle = encode(key).decode()
        texts = self._read(["row_json"]).column(0)
        for text, here in zip(texts, pc.match_substring(texts, needle), strict=True):
            yield row_of(text.as_py()) if here.as_py() else None

    def column(self, name: str) -> Any:
        """Return a column that the table has."""
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self._read([name]).column(0).combine_chunks()
        return column

    def _text_of(self, position: int) -> str:
        group, row = divmod(position, ROW_GROUP)
        if group not in self._json:
            self._json[group] = self._read(["row_json"], group).column(0).combine_chunks()
        text: str = self._json[group][row].as_py()
        return text

    def _read(self, names: list[str] | None, group: int | None = None) -> Any:
        import pyarrow as pa

        try:
            with self._reading:
                if group is None:
                    return self._file.read(columns=names, use_threads=False)
                return self._file.read_row_group(group, columns=names, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error


class Texts:
    """A column of texts as its distinct values and, per row, which of them it has."""

    def __init__(self, values: Any) -> None:
        self.values = values
        coded = values.dictionary_encode()
        self.distinct: list[str] = coded.dictionary.to_pylist()
        self._codes = coded.indices

    def spread(self, answers: Sequence[bool], if_absent: bool = False) -> Any:  # noqa: FBT001, FBT002 - an answer like the others
        """Return a mask from the answer for each distinct value."""
        pc = arrays.compute()

        return arrays.filled(pc.take(arrays.flags(answers), self._codes), if_absent)

    def ranks(self, kind: Kind, meaning: Callable[[str], str] = str) -> Any:
        """Return numbers that order the rows as their texts, or what they mean, are ordered."""
        pc = arrays.compute()

        keys = [sort_key(kind, meaning(text)) for text in self.distinct]
        rank = {key: i for i, key in enumerate(sorted(set(keys)))}
        return pc.take(arrays.wholes([rank[key] for key in keys]), self._codes)


def merged(
    base: RunTable | None,
    rows: Sequence[RunRow],
    through: int,
    gone: frozenset[str] = frozenset(),
) -> Any:
    """Return the table of *base* without *gone*, and *rows* in place of what it has of the same runs."""
    import pyarrow as pa

    pc = arrays.compute()

    if base is None:
        table, rare = wide(rows)
    else:
        old = base.current()
        table, rare = wide(rows, frozenset(old.schema.names))
        old = old.filter(pc.invert(base.mask_of([*gone, *(r.run_id for r in rows)])))
        table = pa.concat_tables([old, table], promote_options="default")
        rare |= base.has_rare_keys
    table = table.take(
        pc.sort_indices(table, [("start_time", "ascending"), ("run_id", "ascending")])
    )
    metadata = {"through": str(through), "format": "2", "rare": str(int(rare))}
    return table.replace_schema_metadata(metadata)


def _listed(indices: Any) -> list[int]:
    found: list[int] = indices.to_pylist()
    return found


def _damaged(path: pathlib.Path, error: Exception) -> CorruptStoreError:
    return CorruptStoreError(
        f"The index {str(path)!r} is damaged: {error}.",
        suggestions=("Rebuild it from the journals: ops-registry fsck --repair.",),
    )
