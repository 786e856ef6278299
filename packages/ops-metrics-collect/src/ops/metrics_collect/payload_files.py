"""The files of collectors, checked before they are packed: what is shipped can be read.

A file that no reader could make rows of, or whose declared keys are no columns, is refused while the slice is
still a gap, with the name of the column. After it was shipped it would be a broken tarball for ever.
"""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
import pathlib
import uuid
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import name_hint
from ops.metrics_collect.csv_parts import well_formed
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.rows import SUFFIXES, count_rows, documents_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["document_text", "readable_rows", "require_rows"]


def require_rows(paths: Sequence[pathlib.Path]) -> None:
    """Raise `ParameterError` for a file that by its name holds no rows."""
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise ParameterError(
                f"{path.name!r} is no file of rows: its name has to end in {', '.join(SUFFIXES)}."
            )


def readable_rows(path: pathlib.Path, declared: Collection[str | None] = ()) -> int:
    """Return the number of rows of a file that a collector made.

    *declared* are columns that it must have. Raises `ParameterError`, which names the file and the
    column or line, when its rows could not be read again.
    """
    suffix = path.suffix.lower()
    columns = [column for column in declared if column]
    if suffix == ".csv":
        return _csv_rows(path, columns)
    if suffix == ".parquet":
        from pyarrow import parquet

        schema = parquet.read_schema(path)
        _require_columns(path, schema.names, columns)
        return count_rows(path)
    try:
        documents = documents_of(path)
    except ValueError as error:
        raise ParameterError(str(error)) from error
    for document in documents:
        _require_columns(path, list(document), columns)
    return len(documents)


def document_text(document: Mapping[Any, Any]) -> str:
    """Return what a collector gave as JSON; times, decimals and UUIDs are texts in it.

    Raises `ParameterError`, which names the field, for what JSON cannot hold.
    """
    fields = {}
    for key, value in document.items():
        try:
            fields[str(key)] = json.dumps(
                value, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_plain
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise ParameterError(f"The field {key!r} cannot be JSON: {error}.") from error
    if len(fields) != len(document):
        raise ParameterError(f"Two fields of {sorted(fields)} have one name in JSON.")
    names = {key: json.dumps(key, ensure_ascii=False) for key in fields}
    text = ", ".join(f"{names[key]}: {fields[key]}" for key in sorted(fields))
    return well_formed(f"{{{text}}}")


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | pathlib.PurePath):
        return str(value)
    raise TypeError(f"it holds a {type(value).__name__}")


def _csv_rows(path: pathlib.Path, declared: Sequence[str]) -> int:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, None)
            if header is None:
                return 0
            _require_columns(path, header, declared)
            rows = 0
            for row in lines:
                # In a file of one column a line of nothing is a NULL; in others it is nothing.
                if len(row) == len(header) or (not row and len(header) == 1):
                    rows += 1
                elif row:
                    raise ParameterError(
                        f"{path.name!r}, line {lines.line_num}: {len(row)} fields, and "
                        f"{len(header)} columns in the header."
                    )
            return rows
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path.name!r} is no UTF-8: {error}.") from error
    except csv.Error:  # a field of more than 131 072 characters; the limit is of the whole process
        return count_rows(path)


def _require_columns(path: pathlib.Path, columns: Sequence[str], declared: Sequence[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ParameterError(
            f"{path.name!r} has the column {twice[0]!r} twice.",
            suggestions=(f"Rename one of them in the query: … as {twice[0]}_2.",),
        )
    for name in declared:
        if name not in columns:
            raise ParameterError(
                f"{path.name!r} has no column {name!r}, which was declared; "
                f"{name_hint(name, columns)}"
            )
