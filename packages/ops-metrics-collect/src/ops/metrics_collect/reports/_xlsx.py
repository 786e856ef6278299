"""Renders a report as XLSX with xlsxwriter in constant memory: one row at a time, top to bottom.

Only a `Formula` of the report becomes a formula; every text is written as text, whatever it starts
with. Characters that XML forbids are dropped, texts are cut at Excel's limit, numbers that Excel
cannot hold are written as text, and a table that is longer than a sheet goes on in another one. Columns
are as wide as their texts, up to a limit beyond which these take several lines.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import pathlib
import re
import unicodedata
from itertools import islice
from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport
from ops.metrics_collect.reports._model import Formula
from ops.metrics_collect.reports._xlsx_charts import has_charts_below, insert_charts
from ops.metrics_collect.workspaces import workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ops.metrics_collect.reports._model import Column, Sheet

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
#: In characters: columns are as wide as their values, within limits.
_WIDTHS = {"integer": 10, "number": 13, "money": 13, "timestamp": 19, "day": 11}
_WIDEST = 64
_WIDEST_TITLE = 20
_PAGE_WIDTH = 200
_LINE_POINTS = 15
_MOST_LINES = 27  # of 15 points: a row has at most 409

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
        heading = {"bold": True, "bottom": 1, "text_wrap": True, "valign": "bottom"}
        self._heading = book.add_format(heading)
        self._indented_heading = book.add_format(heading | {"align": "left", "indent": 1})
        self._number_heading = book.add_format(heading | {"align": "right"})
        # At the top, as a text beside it may take several lines.
        aligned = {"valign": "top"}
        self._formats = {
            k: book.add_format(aligned | {"num_format": f}) for k, f in _FORMATS.items()
        }
        total = {"bold": True, "top": 1}
        self._totals = {
            k: book.add_format(total | {"num_format": f}) for k, f in _FORMATS.items()
        } | {"text": book.add_format(total)}
        indented = aligned | {"align": "left", "indent": 1}
        self._text, self._indented = book.add_format(aligned), book.add_format(indented)
        self._wrapped = {
            self._text: book.add_format(aligned | {"text_wrap": True}),
            self._indented: book.add_format(indented | {"text_wrap": True}),
        }

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
        widths = [_least_width(column) for column in sheet.columns]
        line = 0
        for preface in sheet.preface if first else ():
            for position, value in enumerate(preface):
                self._write(page, line, position, value, None)
            line += 1
        styles = self._styles(sheet)
        self._write_heading(page, line, sheet, widths)
        top = line + 1
        # Printed with its heading on every page.
        page.set_landscape()
        page.repeat_rows(line)
        page.set_footer("&L&A&R&P / &N")
        page.freeze_panes(top, 0)
        count = 0
        for row, is_total in _with_total(islice(rows, max(self._max_rows - top, 1)), sheet):
            chosen = [self._totals[c.kind] for c in sheet.columns] if is_total else styles
            lines = 1
            for position, value in enumerate(row):
                if type(value) is str and len(value) > widths[position]:
                    width = _width(value)
                    widths[position] = max(widths[position], min(width, _WIDEST))
                    lines = max(lines, min(-(-width // _WIDEST), _MOST_LINES))
            if lines > 1:
                page.set_row(top + count, _LINE_POINTS * lines)
                chosen = [self._text if style is None else style for style in chosen]
            for position, value in enumerate(row):
                self._write(page, top + count, position, value, chosen[position], top)
            count += 1
        for position, width in enumerate(widths):
            page.set_column(position, position, width + 1)
        pages = -(-sum(widths) // _PAGE_WIDTH)
        # Also with its charts where these stand below, and with its first column on every page.
        page.fit_to_pages(max(pages, 1), int(has_charts_below(sheet, count)))
        if pages > 1:
            page.repeat_columns(0)
        if first and count:
            insert_charts(self._book, page, name, sheet, top, count)
        following = next(rows, None)
        return None if following is None else _chained(following, rows)

    def _styles(self, sheet: Sheet) -> list[Any]:
        """Return the format of each column; a text that follows a number is set apart from it."""
        return [
            self._formats[column.kind]
            if column.kind != "text"
            else self._indented
            if before is not None and before.kind != "text"
            else None
            for before, column in zip([None, *sheet.columns], sheet.columns, strict=False)
        ]

    def _write_heading(self, page: Any, line: int, sheet: Sheet, widths: Sequence[int]) -> None:
        titles = [clean_text(column.title) for column in sheet.columns]
        lines = [-(-len(t) // max(w, 1)) for t, w in zip(titles, widths, strict=True)]
        if max(lines, default=1) > 1:
            page.set_row(line, _LINE_POINTS * max(lines))
        before = "text"
        for position, (column, title) in enumerate(zip(sheet.columns, titles, strict=True)):
            style = self._heading if before == "text" else self._indented_heading
            if column.kind != "text":
                style = self._number_heading
            page.write_string(line, position, title, style)
            before = column.kind

    def _write(
        self, page: Any, line: int, position: int, value: Any, style: Any, top: int = 0
    ) -> None:
        # Most cells are plain text and integers; they skip what the others need.
        if type(value) is str and len(value) <= _WIDEST and value.isprintable():
            page.write_string(line, position, value, style)
        elif type(value) is int and abs(value) < _EXACT_INTEGER:
            page.write_number(line, position, value, style)
        elif value is None:
            if top and style in self._totals.values():
                page.write_blank(line, position, None, style)
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
            # Above the table long texts reach over the cells beside them.
            text = clean_text(str(value))
            wrapped = self._wrapped.get(style, style) if top and len(text) > _WIDEST else style
            page.write_string(line, position, text, wrapped)


def _with_total(
    rows: Iterable[Sequence[Any]], sheet: Sheet
) -> Iterator[tuple[Sequence[Any], bool]]:
    """Yield rows, and whether each is the sum of the table."""
    if not sheet.total:
        yield from ((row, False) for row in rows)
        return
    there = list(rows)  # a table with a sum is short
    yield from ((row, row is there[-1]) for row in there)


def _least_width(column: Column) -> int:
    """Return the width, in characters, of a column without texts; long titles take several lines."""
    return max(column.width if column.kind == "text" else _WIDTHS[column.kind], _title(column))


def _title(column: Column) -> int:
    longest = max(map(len, column.title.split()), default=1)
    return max(longest, min(len(column.title), _WIDEST_TITLE)) + 1


def _width(text: str) -> int:
    """Return the width of a text in characters; those of East Asia have two."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _chained(first: Sequence[Any], rest: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    yield first
    yield from rest
