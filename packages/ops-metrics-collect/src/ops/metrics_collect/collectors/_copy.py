"""Results of PostgreSQL queries as CSV or Parquet parts, by COPY TO STDOUT.

The server renders CSV and sends it row by row, a message each; the rows go to the current part as
they are, so memory does not depend on the size of the result and values are not parsed here. Text
that has to be parsed here travels hex-coded as the first column: it holds no comma, quote or line
end then, so that a row can be cut without parsing it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.metrics_collect.collectors._watchdog import watched
from ops.metrics_collect.csv_parts import CsvParts, encode_row, part_path
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.rows import csv_to_parquet
from ops.metrics_collect.snapshots import snapshot

if TYPE_CHECKING:
    import os
    import pathlib
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["PART_BYTES", "TIMEOUT_SECONDS", "Format", "copy_to_parts"]

Format: TypeAlias = Literal["csv", "parquet"]

PART_BYTES = 50_000_000
TIMEOUT_SECONDS = 3600.0


def copy_to_parts(
    db: Any,
    name: str,
    query: str,
    parameters: Any = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    max_bytes: int = PART_BYTES,
    output_format: Format = "csv",
    timeout_seconds: float = TIMEOUT_SECONDS,
    columns: Sequence[str] | None = None,
    decode: Callable[[bytes], bytes] | None = None,
) -> list[str]:
    """Write the rows of *query* to files of at most *max_bytes* (of CSV) and return their paths.

    With *decode*, the first column of the query is not for the files: its bytes (hex on the wire,
    nothing for NULL) are turned into fields of CSV that stand at the end of the row; *columns* are
    the names of all columns of the files then. The server ends a statement after *timeout_seconds*; when
    it stops responding for longer than that, the connection is closed here, which raises psycopg's
    OperationalError.
    """
    if output_format not in {"csv", "parquet"}:
        raise ParameterError(f"output_format is csv or parquet, not {output_format!r}.")
    path = functools.partial(part_path, folder, name)
    # A line end closes a comment at the end of the query.
    with snapshot(db, statement_timeout_seconds=timeout_seconds), db.cursor() as cursor:
        names = columns or _columns(cursor, query, parameters)
        with CsvParts(encode_row(names), path, max_bytes=max_bytes) as parts:
            statement = f"copy ({query}\n) to stdout with (format csv, encoding 'UTF8')"
            with (
                watched(db, timeout_seconds) as progress,
                cursor.copy(statement, parameters) as rows,
            ):
                if decode is None:
                    for row in rows:
                        progress.note()
                        parts.write(row)
                else:
                    for row in rows:
                        progress.note()
                        raw, _, rest = bytes(row).partition(b",")
                        parts.write(rest[:-1] + b"," + decode(raw) + b"\n")
    if output_format == "parquet":
        return _in_parquet(parts.paths)
    return [str(p) for p in parts.paths]


def _in_parquet(paths: Sequence[pathlib.Path]) -> list[str]:
    """Replace files of CSV; all or nothing."""
    try:
        return [str(csv_to_parquet(path)) for path in paths]
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
            path.with_suffix(".parquet").unlink(missing_ok=True)
        raise


def _columns(cursor: Any, query: str, parameters: Mapping[str, Any] | None) -> list[str]:
    described = f"select * from ({query}\n) as described limit 0"  # noqa: S608 - the collector's own SQL
    cursor.execute(described, parameters)
    return [column.name for column in cursor.description]
