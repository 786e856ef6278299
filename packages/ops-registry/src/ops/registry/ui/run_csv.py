"""The runs of a table as CSV: all that the search finds, in the columns that the table shows.

A text that a spreadsheet would run as a formula gets an apostrophe in front, since a name may come from any user.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import TYPE_CHECKING, Any

from ops.registry.ui.runs_view import page_of_runs, runs_of, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.registry.records import Run
    from ops.registry.tracking.tracker import ExperimentTracker
    from ops.registry.ui.runs_view import TableView

__all__ = ["csv_of_runs"]

_AT_ONCE = 500
_HEADS = ("run_id", "name", "status", "start_time", "duration_seconds")


def csv_of_runs(tracker: ExperimentTracker, experiment_id: str, view: TableView) -> Iterator[str]:
    """Yield the text of the table; only some hundred runs are in memory."""
    columns = page_of_runs(tracker, experiment_id, view).columns
    yield _lines([[*_HEADS, *columns]])
    page = dataclasses.replace(view, page=1, size=_AT_ONCE)
    while True:
        runs, total = runs_of(tracker, experiment_id, page)
        yield _lines(
            [[*_fixed(run), *(value_of(run, c, view.summary) for c in columns)] for run in runs]
        )
        if not runs or page.page * _AT_ONCE >= total:
            return
        page = dataclasses.replace(page, page=page.page + 1)


def _fixed(run: Run) -> list[Any]:
    return [run.run_id, run.name, str(run.status), run.start_time.isoformat(), run.duration_seconds]


def _lines(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([_safe(value) for value in row] for row in rows)
    return text.getvalue()


def _safe(value: Any) -> Any:
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value
