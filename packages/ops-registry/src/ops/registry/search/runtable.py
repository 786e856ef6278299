"""The compacted index as a table: one Parquet file, read a column at a time, searched as columns.

Columns are wide: ``metrics.k`` (the last value), ``metrics_min.k``, ``metrics_max.k``, the steps of
both (``metrics_min_step.k``, ``metrics_max_step.k``), ``params.k`` and ``tags.k`` as texts. So a filter
reads the columns that it names and nothing else. ``row_json`` has the exact row; it is read for the
rows that were found, a row group at a time. Keys beyond `WIDE_KEYS` of a kind have no column of
their own, are found in ``row_json``, and the metadata says that there are such.

A test of a number is one comparison of Arrow over the whole column. A test of a text is asked once
for each distinct value, by the same function that asks single rows, and the answers are spread over
the column through its dictionary: the two evaluations cannot differ. The file stays open, so what
is read later is of the same version even when a compaction has replaced the file by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.disk.journal import decode, encode
from ops.registry.errors import CorruptStoreError
from ops.registry.records import RunStatus
from ops.registry.search import arrays
from ops.registry.search.filters import Both, Either, Inverse, Kind, Test, as_text, sort_key

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Mapping, Sequence

    from ops.registry.search.filters import Node, Order

__all__ = ["FIELDS", "ROW_GROUP", "WIDE_KEYS", "RunTable", "merged", "wide"]

#: The fields of a run without a group: how they compare, and where a row and the table have them.
FIELDS = {
    "run_id": (Kind.TEXT, "run_id"),
    "name": (Kind.TEXT, "name"),
    "status": (Kind.TEXT, "status"),
    "start_time": (Kind.TIME, "start"),
    "end_time": (Kind.TIME, "end"),
    "parent_run_id": (Kind.TEXT, "parent"),
    "deleted_at": (Kind.TIME, "deleted"),
}
#: Rarer keys are only in the JSON of a row: a table with thousands of columns helps nobody.
WIDE_KEYS = 500
ROW_GROUP = 8192
_KEPT_ORDERS = 32
_SIGNS = {
    "=": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}
#: Per metric: the prefix of the column and where its value is in the summary of a row.
_SUMMARY = {
    "metrics": 0,
    "metrics_min": 3,
    "metrics_max": 4,
    "metrics_min_step": 6,
    "metrics_max_step": 7,
}


class RunTable:
    """The runs in one ``index.parquet``; the caller excludes other threads."""

    def __init__(self, path: pathlib.Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._source = pa.OSFile(str(path))
            self._file = pq.ParquetFile(self._source)
            self._schema = self._file.schema_arrow
            metadata = self._schema.metadata or {}
            self.through = int(metadata[b"through"])
            self.has_rare_keys = metadata[b"rare"] == b"1"
        except FileNotFoundError:
            raise
        except (pa.ArrowException, KeyError, ValueError, OSError) as error:
            raise _damaged(path, error) from error
        self.path = path
        self.count: int = self._file.metadata.num_rows
        self._names = frozenset(self._schema.names)
        self._columns: dict[str, Any] = {}
        self._texts: dict[str, _Texts] = {}
        self._orders: dict[Order, Any] = {}
        self._json: dict[int, Any] = {}

    def unfinished(self) -> list[str]:
        """Return the ids of the runs that had not ended when the table was written."""
        statuses = self._text("status")
        final = [RunStatus(s).is_final for s in statuses.distinct]
        if all(final):
            return []
        found = self._indices(statuses.spread([not f for f in final]))
        ids = self._column("run_id")
        return [ids[i].as_py() for i in found]

    def places(self, run_ids: Sequence[str]) -> Any:
        """Return a mask of the rows of these runs."""
        pc = arrays.compute()

        return pc.is_in(self._column("run_id"), value_set=arrays.texts(run_ids))

    def positions(
        self, node: Node | None, order: Order | None, limit: int | None, hidden: Any | None
    ) -> list[int]:
        """Return where the rows are for which *node* holds, in *order*, without those *hidden*."""
        pc = arrays.compute()

        mask = self._meant(node, hidden)
        if order is None:
            return self._first(mask, limit)
        ranks = self._order(order)
        if mask is None:
            return _listed(ranks.slice(0, limit))
        found = ranks.filter(pc.take(mask, ranks))
        return _listed(found.slice(0, limit))

    def matching(self, node: Node | None, hidden: Any | None) -> int:
        """Return how many rows there are for which *node* holds, without those *hidden*."""
        mask = self._meant(node, hidden)
        return self.count if mask is None else (arrays.compute().sum(mask).as_py() or 0)

    def rows(self, positions: Iterable[int]) -> list[dict[str, Any]]:
        """Return the exact rows at *positions*."""
        return [decode(self._text_of(p).encode()) for p in positions]

    def every_row(self) -> list[dict[str, Any]]:
        """Return all rows, keeping nothing of them in memory."""
        found = self._read(["row_json"]).column(0).to_pylist()
        return [decode(text.encode()) for text in found]

    def read(self) -> Any:
        """Return the whole table."""
        return self._read(None)

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
            column = self._text(test.field)
            return column.spread([test.accepts(v) for v in column.distinct], test.if_absent)
        values = self._number(test.field)
        if test.sign is None:
            asked = [test.if_absent if v is None else test.accepts(v) for v in values.to_pylist()]
            return arrays.flags(asked)
        made = arrays.wholes if pa.types.is_integer(values.type) else arrays.numbers
        bound = made([test.bound])[0]  # type: ignore[list-item]  # a time's bound is whole
        return arrays.filled(getattr(pc, _SIGNS[test.sign])(values, bound), test.if_absent)

    def _order(self, order: Order) -> Any:
        """Return all positions in *order*; rows without a value, and NaN, come last."""
        found = self._orders.get(order)
        if found is None:
            if len(self._orders) >= _KEPT_ORDERS:
                self._orders.clear()
            found = self._orders[order] = self._ordered(order)
        return found

    def _ordered(self, order: Order) -> Any:
        import pyarrow as pa

        pc = arrays.compute()

        field, kind, descending = order
        direction = "descending" if descending else "ascending"
        if kind in {Kind.TEXT, Kind.MIXED}:
            ranks = self._text(field).ranks(kind)
        else:
            ranks = self._number(field)
            if pa.types.is_floating(ranks.type):
                ranks = pc.if_else(pc.is_nan(ranks), arrays.null(ranks.type), ranks)
        # Stable, so that equal values stay in the order of the table: by start, oldest first.
        return pc.array_sort_indices(ranks, order=direction, null_placement="at_end")

    def _number(self, field: str) -> Any:
        import pyarrow as pa

        pc = arrays.compute()

        if field in self._names:
            column = self._column(field)
            if pa.types.is_timestamp(column.type):
                return pc.cast(column, pa.int64())
            return column
        if not self.has_rare_keys:
            return pa.nulls(self.count, pa.float64())
        return self._kept(field, arrays.numbers)

    def _text(self, field: str) -> _Texts:
        import pyarrow as pa

        column = self._texts.get(field)
        if column is None:
            if field in self._names:
                values = self._column(field)
            elif self.has_rare_keys:
                values = self._kept(field, arrays.texts)
            else:
                values = pa.nulls(self.count, pa.large_string())
            column = self._texts[field] = _Texts(values)
        return column

    def _kept(self, field: str, made: Any) -> Any:
        """Return a column, made from the JSON of the rows when it is asked for the first time."""
        column = self._columns.get(field)
        if column is None:
            group, _, key = field.partition(".")
            column = self._columns[field] = made([_value(r, group, key) for r in self._with(key)])
        return column

    def _with(self, key: str) -> Iterable[dict[str, Any] | None]:
        """Yield the rows that may have *key*, None for the others."""
        pc = arrays.compute()

        needle = encode(key).decode()
        texts = self._read(["row_json"]).column(0)
        for text, here in zip(texts, pc.match_substring(texts, needle), strict=True):
            yield decode(text.as_py().encode()) if here.as_py() else None

    def _column(self, name: str) -> Any:
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
            if group is None:
                return self._file.read(columns=names, use_threads=False)
            return self._file.read_row_group(group, columns=names, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error


class _Texts:
    """A column of texts as its distinct values and, per row, which of them it has."""

    def __init__(self, values: Any) -> None:
        coded = values.dictionary_encode()
        self.distinct: list[str] = coded.dictionary.to_pylist()
        self._codes = coded.indices

    def spread(self, answers: Sequence[bool], if_absent: bool = False) -> Any:  # noqa: FBT001, FBT002 - an answer like the others
        """Return a mask from the answer for each distinct value."""
        pc = arrays.compute()

        return arrays.filled(pc.take(arrays.flags(answers), self._codes), if_absent)

    def ranks(self, kind: Kind) -> Any:
        """Return numbers that order the rows as their texts are ordered."""
        pc = arrays.compute()

        keys = [sort_key(kind, text) for text in self.distinct]
        rank = {key: i for i, key in enumerate(sorted(set(keys)))}
        return pc.take(arrays.wholes([rank[key] for key in keys]), self._codes)


def wide(
    rows: Sequence[Mapping[str, Any]], known: frozenset[str] = frozenset()
) -> tuple[Any, bool]:
    """Return rows as a table, and whether a key had to stay in the JSON.

    Columns that are *known* already come first; of the others the commonest keys get one.
    """
    import pyarrow as pa

    columns = {
        "run_id": arrays.texts([r["run_id"] for r in rows]),
        "name": arrays.texts([r["name"] for r in rows]),
        "status": arrays.texts([r["status"] for r in rows]),
        "start_time": arrays.instants([r["start"] for r in rows]),
        "end_time": arrays.instants([r["end"] for r in rows]),
        "parent_run_id": arrays.texts([r["parent"] for r in rows]),
        "deleted_at": arrays.instants([r.get("deleted") for r in rows]),
    }
    metrics, rare = _chosen(rows, "metrics", known)
    for key in metrics:
        summaries = [r["metrics"].get(key) for r in rows]
        for prefix, at in _SUMMARY.items():
            made = arrays.wholes if prefix.endswith("step") else arrays.numbers
            columns[f"{prefix}.{key}"] = made([None if s is None else s[at] for s in summaries])
    for kind in ("params", "tags"):
        keys, more = _chosen(rows, kind, known)
        rare |= more
        for key in keys:
            columns[f"{kind}.{key}"] = arrays.texts([_text(r[kind].get(key)) for r in rows])
    columns["row_json"] = arrays.texts([encode(r).decode() for r in rows])
    return pa.table(columns), rare


def merged(base: RunTable | None, rows: Sequence[Mapping[str, Any]], through: int) -> Any:
    """Return the table of *base* with *rows* in place of what it has of the same runs."""
    import pyarrow as pa

    pc = arrays.compute()

    if base is None:
        table, rare = wide(rows)
    else:
        old = base.read().replace_schema_metadata(None)
        table, rare = wide(rows, frozenset(old.schema.names))
        old = old.filter(pc.invert(base.places([r["run_id"] for r in rows])))
        table = pa.concat_tables([old, table], promote_options="default")
        rare |= base.has_rare_keys
    table = table.take(
        pc.sort_indices(table, [("start_time", "ascending"), ("run_id", "ascending")])
    )
    metadata = {"through": str(through), "format": "1", "rare": str(int(rare))}
    return table.replace_schema_metadata(metadata)


def _chosen(
    rows: Sequence[Mapping[str, Any]], kind: str, known: frozenset[str]
) -> tuple[list[str], bool]:
    counts: dict[str, int] = {}
    for row in rows:
        for key in row[kind]:
            counts[key] = counts.get(key, 0) + 1
    had = [name.removeprefix(f"{kind}.") for name in known if name.startswith(f"{kind}.")]
    room = WIDE_KEYS - len(had)
    new = sorted((k for k in counts if f"{kind}.{k}" not in known), key=lambda k: (-counts[k], k))
    chosen = [key for key in had if key in counts] + new[: max(room, 0)]
    return sorted(chosen), len(new) > max(room, 0)


def _value(row: Mapping[str, Any] | None, group: str, key: str) -> Any:
    """Return what the column *group*.*key* would have of a row."""
    if row is None:
        return None
    if group in _SUMMARY:
        summary = row["metrics"].get(key)
        return None if summary is None else summary[_SUMMARY[group]]
    return _text(row[group].get(key))


def _text(value: Any) -> str | None:
    return None if value is None else as_text(value)


def _listed(indices: Any) -> list[int]:
    found: list[int] = indices.to_pylist()
    return found


def _damaged(path: pathlib.Path, error: Exception) -> CorruptStoreError:
    return CorruptStoreError(
        f"The index {str(path)!r} is damaged: {error}.",
        suggestions=("Rebuild it from the journals: ops-registry fsck --repair.",),
    )
