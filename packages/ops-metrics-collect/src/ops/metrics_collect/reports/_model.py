"""The content of a report, apart from how it is drawn: sheets of typed columns and rows.

A sheet has lines above its table (`preface`), the table, and charts of its columns. Rows come from a
function, so that a large sheet is never a list in memory and can be rendered more than once. A
`Formula` carries its value as well, for renderings that do not compute.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
import re
from typing import TYPE_CHECKING, Any, Literal

from ops.foundation.files import atomic_write
from ops.metrics_collect.rollups._json import finite

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pyarrow as pa

__all__ = ["Chart", "Column", "Formula", "Report", "Sheet", "table_rows"]


@dataclasses.dataclass(frozen=True, slots=True)
class Formula:
    """A formula of the report itself, and its value.

    "{row}" stands for the number of its row, "{above}" for the row before, "{first}" for the first row
    of the table.
    """

    text: str
    value: float


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a sheet.

    *title* stands at the top; *kind* decides how values are formatted; *width* is in characters, the
    least there is: a column of longer texts is drawn wider.
    """

    title: str
    kind: Literal["text", "integer", "number", "money", "timestamp", "day"] = "text"
    width: int = 12


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """A chart of the table's columns *values* over the column *categories*, all by title.

    *title* stands above it; *kind* is its shape.
    """

    title: str
    categories: str
    values: tuple[str, ...]
    kind: Literal["column", "bar", "line", "pie"] = "column"


@dataclasses.dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet; *rows* is called for each rendering.

    *title* is its name; *columns* are those of the table; *preface* are lines above it, *charts*
    stand below it, or beside it when it is long. With *total*, its last row is a sum.
    """

    title: str
    columns: Sequence[Column]
    rows: Callable[[], Iterable[Sequence[Any]]]
    preface: Sequence[Sequence[Any]] = ()
    charts: Sequence[Chart] = ()
    total: bool = False


class Report:
    """A report: subclasses define `sheets`."""

    def sheets(self) -> list[Sheet]:
        """Return the sheets in order."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as XLSX; needs the extra `report`."""
        from ops.metrics_collect.reports._xlsx import render

        render(self.sheets(), path)

    def to_csv(self, folder: str | os.PathLike[str]) -> list[pathlib.Path]:
        """Write the table of each sheet as a CSV file into *folder* and return the files.

        Text that a spreadsheet would take for a formula gets an apostrophe in front.
        """
        paths = []
        for sheet, path in self._files(folder, "csv"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(c.title for c in sheet.columns)
                writer.writerows([_defused(v) for v in row] for row in _plain(sheet))
            paths.append(path)
        return paths

    def to_parquet(self, folder: str | os.PathLike[str]) -> list[pathlib.Path]:
        """Write the table of each sheet as a Parquet file into *folder* and return the files."""
        import pyarrow as pa
        from pyarrow import parquet

        paths = []
        for sheet, path in self._files(folder, "parquet"):
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = list(zip(*_plain(sheet), strict=True)) or [()] * len(sheet.columns)
            arrays = [
                pa.array(values, type=_ARROW_TYPES[column.kind]())
                for column, values in zip(sheet.columns, columns, strict=True)
            ]
            table = pa.table(arrays, names=[c.title for c in sheet.columns])
            with atomic_write(path, "wb") as file:
                parquet.write_table(table, file, compression="zstd")
            paths.append(path)
        return paths

    def _files(
        self, folder: str | os.PathLike[str], suffix: str
    ) -> Iterator[tuple[Sheet, pathlib.Path]]:
        taken: set[str] = set()
        for sheet in self.sheets():
            name = stem = _file_name(sheet.title)
            number = 1
            while name.lower() in taken:
                number += 1
                name = f"{stem}-{number}"
            taken.add(name.lower())
            yield sheet, pathlib.Path(folder, f"{name}.{suffix}")

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the tables as one JSON object: titles of sheets to lists of rows by column title."""
        tables = {
            sheet.title: [
                {c.title: finite(v) for c, v in zip(sheet.columns, row, strict=True)}
                for row in _plain(sheet)
            ]
            for sheet in self.sheets()
        }
        with atomic_write(path) as file:
            json.dump(
                tables,
                file,
                indent=1,
                ensure_ascii=False,
                allow_nan=False,
                default=lambda v: v.isoformat(),
            )


def _arrow(name: str, *arguments: str) -> Callable[[], Any]:
    def type_() -> Any:
        import pyarrow as pa

        return getattr(pa, name)(*arguments)

    return type_


_ARROW_TYPES = {
    "text": _arrow("string"),
    "integer": _arrow("int64"),
    "number": _arrow("float64"),
    "money": _arrow("float64"),
    "timestamp": _arrow("timestamp", "us", "UTC"),
    "day": _arrow("timestamp", "us", "UTC"),
}


def table_rows(table: pa.Table, columns: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the rows of a table, converted batch by batch."""
    for batch in table.select(list(columns)).to_batches(max_chunksize=10_000):
        lists = [column.to_pylist() for column in batch.columns]
        yield from (list(row) for row in zip(*lists, strict=True))


def _plain(sheet: Sheet) -> Iterator[list[Any]]:
    for row in sheet.rows():
        yield [v.value if isinstance(v, Formula) else v for v in row]


def _defused(value: Any) -> Any:
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value


def _file_name(title: str) -> str:
    return re.sub(r"[^\w.-]+", "_", title).strip("._") or "sheet"
