"""One page of the list of traces: which of them, and what a row has."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ops.foundation.errors import ValidationError
from ops.registry.errors import NotFoundError
from ops.registry.traces.selection import (
    name_of,
    runs_of_trace,
    select_traces,
    valid_assessments,
)
from ops.registry.ui.runs_view import whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ops.registry.traces.state import Trace
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["STATES", "TracePage", "TraceRow", "TraceView", "page_of_traces", "rows_of", "run_links"]

STATES = ("OK", "ERROR", "IN_PROGRESS")
_SESSION = "mlflow.trace.session"
_MOST_RUNS, _MOST_ASSESSMENTS = 10, 6


@dataclasses.dataclass(frozen=True, slots=True)
class TraceView:
    """What the reader asks for; the fields are those of the address, and *run* is the id of one that they are of."""

    filter: str = ""
    text: str = ""
    status: str = ""
    run: str = ""
    order: str = ""
    page: int = 1
    size: int = 50

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> TraceView:
        """Read the query of an address; raises `ValidationError` for what makes no sense."""
        status = query.get("status", "")
        if status not in {"", *STATES}:
            raise ValidationError(f"status is one of {', '.join(STATES)}, not {status!r:.80}.")
        texts = {name: query.get(name, "").strip() for name in ("filter", "text", "run", "order")}
        return cls(
            **texts,
            status=status,
            page=whole(query, "page", 1, 1, 1_000_000),
            size=whole(query, "size", 50, 1, 1000),
        )

    def address(self, **changes: Any) -> str:
        """Return the query of this view with some fields changed; what is the default is left out."""
        fields = dataclasses.asdict(self) | changes
        usual = dataclasses.asdict(TraceView())
        return "?" + urlencode({k: v for k, v in fields.items() if v != usual[k]})


@dataclasses.dataclass(frozen=True, slots=True)
class TraceRow:
    """A trace as the list has it; *tokens* is None where spans would have to be read, *runs* are (id, name or None)."""

    trace: Trace
    name: str
    tokens: int | None
    session: str
    assessments: Sequence[tuple[str, Any]]
    runs: Sequence[tuple[str, str | None]]

    @property
    def duration_seconds(self) -> float | None:
        """How long it took."""
        return None if self.trace.duration is None else self.trace.duration / 1000


@dataclasses.dataclass(frozen=True, slots=True)
class TracePage:
    """The rows of one page of *total* traces."""

    rows: Sequence[TraceRow]
    total: int
    pages: int


def page_of_traces(
    traces: Iterable[Trace], view: TraceView, tracker: ExperimentTracker
) -> TracePage:
    """Return one page of those of *traces* that *view* is about; raises `FilterError` for a wrong search."""
    found = select_traces(
        (trace for trace in traces if view.status in {"", trace.state}),
        view.filter or None,
        view.order or None,
        words=view.text,
        run_id=view.run or None,
    )
    start = (view.page - 1) * view.size
    rows = rows_of(found[start : start + view.size], tracker)
    return TracePage(rows, len(found), -(-len(found) // view.size))


def rows_of(traces: Iterable[Trace], tracker: ExperimentTracker) -> list[TraceRow]:
    """Return what the list shows of *traces*."""
    names: dict[str, str | None] = {}
    return [
        TraceRow(
            trace,
            name_of(trace),
            _known_tokens(trace),
            trace.metadata.get(_SESSION, ""),
            list(valid_assessments(trace).items())[:_MOST_ASSESSMENTS],
            run_links(trace, tracker, names),
        )
        for trace in traces
    ]


def run_links(
    trace: Trace, tracker: ExperimentTracker, names: dict[str, str | None]
) -> list[tuple[str, str | None]]:
    """Return (id, name) of the runs of *trace*, None for one that is not here; *names* keeps those that were found."""
    found = runs_of_trace(trace)[:_MOST_RUNS]
    for run_id in found:
        if run_id not in names:
            names[run_id] = None
            with contextlib.suppress(NotFoundError, ValidationError):
                run = tracker.get_run(run_id)
                names[run_id] = run.name or run.run_id
    return [(run_id, names[run_id]) for run_id in found]


def _known_tokens(trace: Trace) -> int | None:
    """Return the tokens that a trace was given, or that one frame of its spans came to."""
    known = trace.sums.get("usage")
    summed = known[1] if known is not None and known[0] == trace.summed.get("usage") else {}
    found = trace.usage.get("total_tokens", summed.get("total_tokens"))
    return found if isinstance(found, int) and not isinstance(found, bool) else None
