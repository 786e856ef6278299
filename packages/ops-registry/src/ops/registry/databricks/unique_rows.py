"""Names that two writers at once cannot both take: one lock row per table, which each of them must update.

A MERGE that inserts a missing name does not make it unique. Two of them see that the name is missing, insert a row
each, and touch no row in common; "INSERT … cannot conflict" and "UPDATE, DELETE, MERGE INTO … can conflict
when modifying the same row"
(https://docs.databricks.com/aws/en/optimizations/isolation/row-level-concurrency), so both may be committed.
Primary keys of Unity Catalog are not enforced (https://docs.databricks.com/aws/en/tables/constraints).

So each table with unique names has one row more, whose key is empty, and `taking` returns a MERGE that inserts
the name and updates this row in one commit. Of two at once, both change the lock row: one is committed, the
other fails with DELTA_CONCURRENT_APPEND.ROW_LEVEL_CHANGES (SQLSTATE 2D521), is repeated by the
`Warehouse` and finds the name. This holds with and without row-level concurrency, and in both isolation levels.

Two processes that make a schema at once may both insert the lock row. It does no harm: a MERGE updates all of them, and
of two snapshots of a table the later one has every lock row of the earlier one, or has seen its change. Readers leave
the lock row out by `NAMED`; `fsck` reports a table without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LOCKED", "NAMED", "renaming", "seed", "taking"]

#: The tables with unique names: the column of the name, that of the lock's counter, and the lock row.
LOCKED = {
    "ops_experiments": ("name", "created_at", "'', '', NULL, NULL, 0"),
    "ops_runs": ("run_id", "version", "'', '', NULL, NULL, NULL, NULL, NULL, NULL, 0"),
    "ops_models": ("name", "version", "'', '', 0"),
    "ops_files": ("path", "version", "'', NULL, NULL, NULL, 0"),
}
#: What holds for every row but the lock's, by table.
NAMED = {table: f"{key} <> ''" for table, (key, _, _) in LOCKED.items()}


def seed(table: str) -> str:
    """Return the statement that inserts the lock row of *table*."""
    return f"INSERT INTO @{table} VALUES ({LOCKED[table][2]})"  # noqa: S608 - literals of this package


def taking(
    table: str, source: str, columns: Sequence[str], *, inserts: str = "", updates: str = ""
) -> str:
    """Return a MERGE that inserts the rows whose names are free; count its rows not, read them afterwards.

    Args:
        table: A table of `LOCKED`.
        source: A query of the rows, which has *columns* in their order; the name is the first of them.
        columns: The columns that are inserted.
        inserts: Further columns with literals, such as ``version = 1``.
        updates: What is set in rows whose names are taken already, from ``s``; without, they stay as they are.
    """
    key, counter, _ = LOCKED[table]
    if columns[0] != key:
        raise ValueError(f"the first column of {table} is {key!r}, not {columns[0]!r}")
    empty = ", ".join(["''", *["NULL"] * (len(columns) - 1)])
    name, _, literal = inserts.partition(" = ")
    into = [*columns, *([name] if name else [])]
    values = [*(f"s.{column}" for column in columns), *([literal] if literal else [])]
    changed = f"WHEN MATCHED AND s.{key} <> '' THEN UPDATE SET {updates} " if updates else ""
    return (
        f"MERGE INTO @{table} t USING (SELECT {', '.join(columns)} FROM ({source}) q "  # noqa: S608 - literals of this package, values are parameters
        f"UNION ALL SELECT {empty}) s ON t.{key} = s.{key} "
        f"WHEN MATCHED AND s.{key} = '' THEN UPDATE SET {counter} = t.{counter} + 1 "
        f"{changed}"
        f"WHEN NOT MATCHED AND s.{key} <> '' THEN INSERT ({', '.join(into)}) "
        f"VALUES ({', '.join(values)})"
    )


def renaming(table: str, identity: str) -> str:
    """Return a MERGE that gives the row :id the name :name if that is free; read it afterwards.

    The lock row is updated with it, so of two at once one finds the other's name. *identity* is the column of :id.
    """
    key, counter, _ = LOCKED[table]
    return (
        f"MERGE INTO @{table} t USING (SELECT '' AS id, '' AS new UNION ALL "  # noqa: S608 - literals of this package, values are parameters
        f"SELECT :id AS id, :name AS new FROM (SELECT count(*) AS taken FROM @{table} "
        f"WHERE {key} = :name) q WHERE q.taken = 0) s ON t.{identity} = s.id "
        f"WHEN MATCHED AND s.id = '' THEN UPDATE SET {counter} = t.{counter} + 1 "
        f"WHEN MATCHED AND s.id <> '' THEN UPDATE SET {key} = s.new"
    )
