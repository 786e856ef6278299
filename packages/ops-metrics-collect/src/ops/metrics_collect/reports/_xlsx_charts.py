"""Charts of a sheet: below a short table, so that a page shows both, and beside a long one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.metrics_collect.reports._model import Chart, Sheet

__all__ = ["has_charts_below", "insert_charts"]

_SHORT_ROWS = 40
_ROW_PIXELS = 20
_WIDTH_PIXELS = 760
_HEIGHT_PIXELS = 300
_FRAME_PIXELS = 110  # the title and the axis


def insert_charts(book: Any, page: Any, name: str, sheet: Sheet, top: int, count: int) -> None:
    """Draw the charts of *sheet*, whose page is called *name*, of *count* rows from line *top* on."""
    below = has_charts_below(sheet, count)
    line = top + count + 1 if below else top
    column = 0 if below else len(sheet.columns) + 1
    for chart in sheet.charts:
        height = _HEIGHT_PIXELS
        if chart.kind == "bar":
            height = max(height, _FRAME_PIXELS + count * (10 + 12 * len(chart.values)))
        drawn = _drawn(book, name, sheet, chart, top, count)
        drawn.set_size({"width": _WIDTH_PIXELS, "height": height})
        page.insert_chart(line, column, drawn)
        line += -(-height // _ROW_PIXELS) + 1


def has_charts_below(sheet: Sheet, count: int) -> bool:
    """Say whether *sheet*, of *count* rows, has charts that stand below its table."""
    return bool(sheet.charts) and count <= _SHORT_ROWS


def _drawn(book: Any, name: str, sheet: Sheet, chart: Chart, top: int, count: int) -> Any:
    titles = [c.title for c in sheet.columns]
    drawn = book.add_chart({"type": chart.kind})
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
    drawn.set_title({"name": chart.title, "name_font": {"size": 12}})
    if chart.kind == "bar":  # the first row at the top, and space for long names
        drawn.set_y_axis({"reverse": True, "interval_unit": 1, "num_font": {"size": 8}})
        drawn.set_x_axis({"label_position": "high", "num_format": "#,##0"})
        layout = {"x": 0.34, "y": 0.12, "width": 0.6, "height": 0.7}
        drawn.set_plotarea({"layout": layout})
    if chart.kind == "line":
        drawn.set_x_axis({"date_axis": True, "num_format": "yyyy-mm-dd"})
    if len(chart.values) == 1:  # the title names it
        drawn.set_legend({"none": True})
    else:
        drawn.set_legend({"position": "bottom"})
    return drawn
