"""A collector for any query over any DB-API 2 connection: SQLite, DuckDB, psycopg and others.

The query names its parameters `:since` and `:until` (and others of your own); they are rewritten to
the style that the connection's module declares and bound, never pasted. Rows stream from the cursor
into CSV parts (by COPY from PostgreSQL), so memory does not grow with the result.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.instants import iso
from ops.metrics_collect.collectors._base import CollectorFactory
from ops.metrics_collect.collectors._copy import copy_to_parts
from ops.metrics_collect.csv_parts import part_path, write_csv_parts
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.snapshots import is_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["bind_parameters", "query_collector"]

_BATCH_ROWS = 2000
_PART_BYTES = 50_000_000

# Quoted text, quoted names, comments and casts are skipped; what remains of ":word" is a parameter.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | :: | :(?P<name>[A-Za-z_]\w*) | (?P<percent>%)""",
    re.VERBOSE | re.DOTALL,
)


_END = re.compile(r"[\s;]+\Z")  # of a statement; COPY takes a query


def query_collector(
    name: str,
    sql: str,
    *,
    version: str = "1.0",
    primary_key: str | None = None,
    version_column: str | None = None,
    max_part_bytes: int = _PART_BYTES,
    time_value: Callable[[dt.datetime], Any] | None = None,
) -> CollectorFactory:
    """Return a factory `name(db=connection, since=…, until=…, output_dir=None)` for a query.

    *name* is the key of the collector. `since` and `until` are parameters exactly when *sql* names
    them, as is any other `:word`. *version*, *primary_key* and *version_column* are those of
    `collector`. Files of more than *max_part_bytes* (default 50 MB) are split. *time_value* turns a
    datetime into what the column is compared with; unless given, that is ISO 8601 text in UTC for
    SQLite, which has no such type, and the datetime itself for everything else.

    Raises `ParameterError` when the query is empty, when it names `:db` or `:output_dir`, or only one of `:since` and
    `:until`.

    >>> import sqlite3
    >>> runs = query_collector("runs", "select * from runs where id > :least", primary_key="id")
    >>> db = sqlite3.connect(":memory:")
    >>> runs.bind(db=db, least=3).key
    'runs'
    >>> db.close()
    """
    sql = _END.sub("", sql.removeprefix("\ufeff"))
    if not _TOKEN.sub(lambda m: "" if m[0].startswith(("--", "/*")) else m[0], sql).strip():
        raise ParameterError(f"Query {name!r} is empty.")
    named = sorted({m["name"] for m in _TOKEN.finditer(sql) if m["name"]})
    if reserved := {"db", "output_dir"} & {*named}:
        raise ParameterError(f"Query {name!r} must not name {sorted(reserved)}, which is taken.")
    if ("since" in named) != ("until" in named):
        raise ParameterError(f"Query {name!r} must name both :since and :until, or neither.")

    def query(**kwargs: Any) -> list[str]:
        values = {parameter: kwargs[parameter] for parameter in named}
        return _gather(
            name, sql, kwargs["db"], values, kwargs.get("output_dir"), max_part_bytes, time_value
        )

    query.__name__ = query.__qualname__ = name
    query.__doc__ = f"Collect the rows of the query {name!r}."
    # The signature is what the factory validates against.
    query.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # read by inspect
        [
            *(inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in ["db", *named]),
            inspect.Parameter("output_dir", inspect.Parameter.KEYWORD_ONLY, default=None),
        ]
    )
    return CollectorFactory(
        query, key=name, version=version, primary_key=primary_key, version_column=version_column
    )


def _gather(
    name: str,
    sql: str,
    db: Any,
    values: dict[str, Any],
    output_dir: str | None,
    max_part_bytes: int,
    time_value: Callable[[dt.datetime], Any] | None,
) -> list[str]:
    if is_postgres(db):
        # A client-side cursor would hold the whole result; COPY streams it.
        statement, parameters = bind_parameters(sql, values, "pyformat")
        return copy_to_parts(
            db, name, statement, parameters, folder=output_dir, max_bytes=max_part_bytes
        )
    cursor = db.cursor()
    # Of the cursor, since connections are often wrapped.
    module = type(cursor).__module__.split(".")[0]
    convert = time_value or (iso if module == "sqlite3" else _unchanged)
    bound = {k: convert(v) if isinstance(v, dt.datetime) else v for k, v in values.items()}
    paramstyle = getattr(sys.modules.get(module), "paramstyle", "qmark")
    statement, parameters = bind_parameters(sql, bound, paramstyle)
    try:
        cursor.execute(statement, parameters)
        if cursor.description is None:
            raise ParameterError(f"Query {name!r} gives no rows: it is no select.")
        columns = [column[0] for column in cursor.description]
        path = functools.partial(part_path, output_dir, name)
        parts = write_csv_parts(_rows(cursor), columns, path, max_bytes=max_part_bytes)
        return [str(p) for p in parts]
    finally:
        cursor.close()


def _unchanged(value: dt.datetime) -> dt.datetime:
    return value


def _rows(cursor: Any) -> Iterator[tuple[Any, ...]]:
    while batch := cursor.fetchmany(_BATCH_ROWS):
        yield from batch


def bind_parameters(
    sql: str, values: dict[str, Any], paramstyle: str
) -> tuple[str, dict[str, Any] | list[Any]]:
    """Rewrite `:name` for *paramstyle* (PEP 249) and return the statement and its parameters."""
    ordered: list[Any] = []

    def replace(match: re.Match[str]) -> str:
        if match["percent"]:
            return "%%" if paramstyle in {"format", "pyformat"} else "%"
        name = match["name"]
        if not name:
            text = match[0]
            return text.replace("%", "%%") if paramstyle in {"format", "pyformat"} else text
        ordered.append(values[name])
        return {
            "qmark": "?",
            "format": "%s",
            "numeric": f":{len(ordered)}",
            "named": f":{name}",
            "pyformat": f"%({name})s",
        }[paramstyle]

    statement = _TOKEN.sub(replace, sql)
    return statement, values if paramstyle in {"named", "pyformat"} else ordered
