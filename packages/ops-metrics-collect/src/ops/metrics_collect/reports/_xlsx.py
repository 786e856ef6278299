"""Renders a report as XLSX with xlsxwriter in constant memory: one row at a time, top to bottom.

Only a `Formula` of the report becomes a formula; every text is written as text, whatever it starts
with. Characters that XML forbids are dropped, texts are cut at Excel's limit, numbers that Excel
cannot hold are written as text, and a table that is longer than a sheet goes on in another one.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import pathlib
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport
from ops.metrics_collect.reports._model import Formula
from ops.metrics_collect.workspaces import workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.metrics_collect.reports._model import Sheet

__all__ = ["MAX_ROWS", "clean_text", "render", "require_xlsx", "sheet_name"]

MAX_ROWS = 1_048_576
_MAX_TEXT = 32_767
_MAX_NAME = 31
_EXACT_INTEGER = 2**53
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FORMATS = {
    "integer": "#,##0",
    "number": "#,##0.00",
    "money": "#,##0.00",
    "timestamp": "yyyy-mm-dd hh:mm:ss",
    "day": "yyyy-mm-dd",
}

xlsxwriter: Any = LazyImport("xlsxwriter", "ops-metrics-collect[report]")


def render(
    sheets: Sequence[Sheet], path: str | os.PathLike[str], *, max_rows: int = MAX_ROWS
) -> None:
    """Write *sheets* to *path*, which is replaced when all is written; at most *max_rows* a sheet."""
    target = pathlib.Path(path)
    with workspace(".report-", target.parent) as folder:
        unfinished = folder / "report.xlsx"
        options = {"constant_memory": True, "tmpdir": str(folder), "strings_to_formulas": False}
        with xlsxwriter.Workbook(str(unfinished), options) as book:
            # A fixed date of creation: equal reports are equal files.
            book.set_properties({"created": dt.datetime(2000, 1, 1, tzinfo=dt.UTC)})
            _Renderer(book, max_rows).render(sheets)
        os.replace(unfinished, target)  # noqa: PTH105 - PathLike


def require_xlsx() -> None:
    """Raise `MissingExtraError` if the extra `report` is not installed."""
    xlsxwriter.import_module()


def sheet_name(title: str, taken: set[str]) -> str:
    """Return a name that Excel accepts and that is not taken (case does not count), and take it."""
    clean = re.sub(r"[\[\]:*?/\\]", " ", clean_text(title)).strip().strip("'").strip() or "Sheet"
    if clean.lower() == "history":  # reserved by Excel
        clean += "_"
    name, number = _cut(clean, _MAX_NAME).rstrip(" '"), 2
    while name.lower() in taken:
        suffix = f" ({number})"
        name, number = _cut(clean, _MAX_NAME - len(suffix)).rstrip() + suffix, number + 1
    taken.add(name.lower())
    return name


def clean_text(text: str) -> str:
    """Return *text* without characters that a sheet cannot hold, and not too long for a cell."""
    text = _FORBIDDEN.sub("", text)
    return text if _units(text) <= _MAX_TEXT else _cut(text, _MAX_TEXT - 1) + "…"


def _units(text: str) -> int:
    """Return how long Excel takes *text* to be: in units of UTF-16, of which an emoji has two."""
    return len(text.encode("utf-16-le")) // 2


def _cut(text: str, units: int) -> str:
    """Return as much of *text* as fits, never half a character."""
    return text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", "ignore")


class _Renderer:
    def __init__(self, book: Any, max_rows: int) -> None:
        self._book = book
        self._max_rows = max_rows
        self._taken: set[str] = set()
        self._heading = book.add_format({"bold": True, "bottom": 1})
        self._number_heading = book.add_format({"bold": True, "bottom": 1, "align": "right"})
        self._formats = {k: book.add_format({"num_format": f}) for k, f in _FORMATS.items()}

    def render(self, sheets: Sequence[Sheet]) -> None:
        for sheet in sheets:
            rows = iter(sheet.rows())
            first = True
            while True:
                rest = self._render_part(sheet, rows, first=first)
                if rest is None:
                    break
                rows, first = rest, False

    def _render_part(
        self, sheet: Sheet, rows: Iterator[Sequence[Any]], *, first: bool
    ) -> Iterator[Sequence[Any]] | None:
        name = sheet_name(sheet.title, self._taken)
        page = self._book.add_worksheet(name)
        for position, column in enumerate(sheet.columns):
            page.set_column(position, position, column.width)
        line = 0
        for preface in sheet.preface if first else ():
            for position, value in enumerate(preface):
                self._write(page, line, position, value, None)
            line += 1
        for position, column in enumerate(sheet.columns):
            style = self._heading if column.kind == "text" else self._number_heading
            page.write_string(line, position, clean_text(column.title), style)
        top = line + 1
        # Printed as wide as the table, with its heading on every page.
        page.set_landscape()
        page.fit_to_pages(1, 0)
        page.repeat_rows(line)
        page.freeze_panes(top, 0)
        count = 0
        for row in islice(rows, max(self._max_rows - top, 1)):
            for position, (column, value) in enumerate(zip(sheet.columns, row, strict=True)):
                self._write(page, top + count, position, value, self._formats.get(column.kind), top)
            count += 1
        for number, chart in enumerate(sheet.charts if first and count else ()):
            self._chart(page, name, sheet, chart, top, count, number)
        following = next(rows, None)
        return None if following is None else _chained(following, rows)

    def _write(
        self, page: Any, line: int, position: int, value: Any, style: Any, top: int = 0
    ) -> None:
        # Most cells are plain text and integers; they skip what the others need.
        if type(value) is str and value.isprintable() and len(value) <= _MAX_TEXT // 2:
            page.write_string(line, position, value)
        elif type(value) is int and abs(value) < _EXACT_INTEGER:
            page.write_number(line, position, value, style)
        elif value is None:
            return
        elif isinstance(value, Formula):
            page.write_formula(
                line,
                position,
                value.text.format(row=line + 1, above=line, first=top + 1),
                style,
                value.value,
            )
        elif isinstance(value, bool):
            page.write_boolean(line, position, value)
        elif isinstance(value, dt.datetime):
            utc = value.astimezone(dt.UTC) if value.tzinfo else value
            page.write_datetime(line, position, utc.replace(tzinfo=None), style)
        elif (
            isinstance(value, int | float) and math.isfinite(value) and abs(value) < _EXACT_INTEGER
        ):
            page.write_number(line, position, value, style)
        else:
            page.write_string(line, position, clean_text(str(value)))

    def _chart(
        self, page: Any, name: str, sheet: Sheet, chart: Any, top: int, count: int, number: int
    ) -> None:
        titles = [c.title for c in sheet.columns]
        drawn = self._book.add_chart({"type": chart.kind})
        labels = titles.index(chart.categories)
        for title in chart.values:
            values = titles.index(title)
            drawn.add_series(
                {
                    "name": title,
                    "categories": [name, top, labels, top + count - 1, labels],
                    "values": [name, top, values, top + count - 1, values],
                }
            )
        drawn.set_title({"name": chart.title})
        if len(chart.values) == 1:  # the title names it
            drawn.set_legend({"none": True})
        # Beside the table, not above: long lines at the top reach over several columns.
        page.insert_chart(top - 1 + 16 * number, len(titles) + 1, drawn)


def _chained(first: Sequence[Any], rest: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    yield first
    yield from rest
