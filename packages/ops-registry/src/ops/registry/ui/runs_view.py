"""One page of the table of runs: which runs, which columns, what differs between them."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.registry.records import Run
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = [
    "CHART_SIZES",
    "PAGE_SIZES",
    "RunPage",
    "RunRow",
    "TableView",
    "columns_of",
    "page_of_runs",
    "runs_of",
    "value_of",
    "whole",
]

PAGE_SIZES = (25, 50, 100, 250)
#: So many runs a workspace draws: curves of more cannot be distinguished.
CHART_SIZES = (10, 25, 50, 100)
SUMMARIES = ("last", "best", "min", "max")
_MOST_COLUMNS = 40
_NEWEST_FIRST = "start_time DESC"
_SMALLER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "perplexity", "seconds", "duration")


@dataclasses.dataclass(frozen=True, slots=True)
class TableView:
    """What the reader asks for; the fields are those of the address.

    *columns* are those to show: none are the usual ones, "*" all.
    """

    filter: str = ""
    order: str = ""
    page: int = 1
    size: int = 50
    summary: Literal["last", "best", "min", "max"] = "last"
    differing: bool = False
    tree: bool = False
    deleted: bool = False
    columns: tuple[str, ...] = ()

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> TableView:
        """Read the query of an address; raises `ValidationError` for what makes no sense."""
        summary: Any = query.get("summary", "last")
        if summary not in SUMMARIES:
            raise ValidationError(f"summary is one of {', '.join(SUMMARIES)}, not {summary!r}.")
        return cls(
            filter=query.get("filter", "").strip(),
            order=query.get("order", "").strip(),
            page=whole(query, "page", 1, 1, 1_000_000),
            size=whole(query, "size", 50, 1, 1000),
            summary=summary,
            differing=query.get("differing") == "1",
            tree=query.get("tree") == "1",
            deleted=query.get("deleted") == "1",
            columns=tuple(unquote(c) for c in query.get("columns", "").split(",") if c),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class RunRow:
    """A run, how deep it is nested in the tree, and its cells by column."""

    run: Run
    depth: int
    cells: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class RunPage:
    """The rows of one page of *total* runs. *varying* columns have more than one value in it.

    *left_out* is how many of the columns that were wanted are not shown, because there are too many.
    """

    rows: Sequence[RunRow]
    columns: Sequence[str]
    all_columns: Sequence[str]
    varying: frozenset[str]
    total: int
    pages: int
    left_out: int = 0


def page_of_runs(tracker: ExperimentTracker, experiment_id: str, view: TableView) -> RunPage:
    """Return one page; only its own runs are read."""
    runs, total = runs_of(tracker, experiment_id, view)
    every = columns_of(runs)
    cells = {run.run_id: {c: value_of(run, c, view.summary) for c in every} for run in runs}
    varying = frozenset(c for c in every if len({str(cells[run.run_id][c]) for run in runs}) > 1)
    picked = every if "*" in view.columns else [c for c in every if c in view.columns]
    wanted = picked if view.columns else _usual(every)
    if view.differing:
        wanted = [c for c in wanted if c in varying]
    chosen = wanted if view.columns else _shared_out(wanted, varying)
    placed = _as_tree(runs) if view.tree else [(run, 0) for run in runs]
    rows = [RunRow(run, depth, cells[run.run_id]) for run, depth in placed]
    pages = -(-total // view.size)
    left_out = len(wanted) - len(chosen)
    return RunPage(rows, chosen, every, varying, total, pages, left_out)


def runs_of(
    tracker: ExperimentTracker, experiment_id: str, view: TableView
) -> tuple[list[Run], int]:
    """Return the runs of one page, and how many there are on all."""
    wanted = view.filter or None
    runs = tracker.search_runs(
        experiment_id,
        filter=wanted,
        order_by=view.order or _NEWEST_FIRST,
        limit=view.size,
        offset=(view.page - 1) * view.size,
        include_deleted=view.deleted,
    )
    total = tracker.count_runs(experiment_id, filter=wanted, include_deleted=view.deleted)
    return runs, total


def value_of(run: Run, column: str, summary: str = "last") -> Any:
    """Return the value of a column such as `metrics.auc` or `params.depth`, None where it is not."""
    group, _, key = column.partition(".")
    if group == "params":
        return run.parameters.get(key)
    if group == "tags":
        return run.tags.get(key)
    found = run.metric_summaries.get(key)
    if found is None:
        return run.metrics.get(key)
    if summary == "best":
        small = any(word in key.lower() for word in _SMALLER_IS_BETTER)
        summary = "min" if small else "max"
    return {"last": found.last, "min": found.minimum, "max": found.maximum}[summary]


def columns_of(runs: Sequence[Run]) -> list[str]:
    """Return the columns that *runs* have: metrics, parameters, tags."""
    metrics = dict.fromkeys(f"metrics.{key}" for run in runs for key in run.metrics)
    params = dict.fromkeys(f"params.{key}" for run in runs for key in run.parameters)
    tags = dict.fromkeys(f"tags.{key}" for run in runs for key in run.tags)
    return [*sorted(metrics), *sorted(params), *sorted(tags)]


def _usual(columns: Sequence[str]) -> list[str]:
    """Leave out what MLflow's client writes to every run."""
    return [c for c in columns if not c.startswith("tags.mlflow.")]


def _shared_out(columns: Sequence[str], varying: frozenset[str]) -> list[str]:
    """Return as many of *columns* as a page shows, in their order.

    Metrics, parameters and tags get the same share, so that many of one kind leave the others in sight; those that
    vary come first.
    """
    kinds: dict[str, list[str]] = {}
    for column in sorted(columns, key=lambda c: c not in varying):
        kinds.setdefault(column.partition(".")[0], []).append(column)
    rounds = itertools.zip_longest(*kinds.values())
    fair = [column for each in rounds for column in each if column is not None]
    kept = set(fair[:_MOST_COLUMNS])
    return [column for column in columns if column in kept]


def _as_tree(runs: Sequence[Run]) -> list[tuple[Run, int]]:
    """Order each run behind its parent, if that is on the page too."""
    here = {run.run_id for run in runs}
    children: dict[str | None, list[Run]] = {}
    for run in runs:
        parent = run.parent_run_id if run.parent_run_id in here else None
        children.setdefault(parent, []).append(run)
    placed: list[tuple[Run, int]] = []
    waiting = [(run, 0) for run in reversed(children.get(None, []))]
    while waiting:
        run, depth = waiting.pop()
        placed.append((run, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(run.run_id, []))]
    return placed


def whole(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """Return a number of an address; raises `ValidationError` for what is none, or out of bounds."""
    text = query.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9 or not least <= int(text) <= most:
        raise ValidationError(f"{name} is a whole number from {least} to {most}, not {text!r:.80}.")
    return int(text)
