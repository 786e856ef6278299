"""The pages of traces: the list of an experiment's, and one trace with its spans.

Traces are read from their journals, which need no mlflow; stores of other backends than local files have none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from ops.foundation.errors import ValidationError
from ops.registry.trace_copies import traces_of
from ops.registry.traces.selection import name_of, select_traces
from ops.registry.ui import api
from ops.registry.ui.runs_view import PAGE_SIZES, TableView, whole
from ops.registry.ui.span_tree import is_sound, matching, span_rows, total_tokens
from ops.registry.ui.span_view import shown, span_view
from ops.registry.ui.trace_list import STATES, TraceView, page_of_traces, rows_of, run_links

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

    from ops.registry.context import MLOpsContext
    from ops.registry.traces.book import TraceBook
    from ops.registry.traces.journal import Span
    from ops.registry.traces.state import Trace
    from ops.registry.ui.span_tree import SpanRow
    from ops.registry.ui.trace_list import TraceRow

__all__ = ["TracePages"]

#: So many spans are on a page: a browser lays out no more without a pause.
_MOST_SPANS = 500
_MOST_OF_RUN = 10
_MOST_PREVIEW = 4_000
_NAMES = (
    *("name", "status", "start_time", "duration_seconds", "request", "response"),
    *("session", "user", "trace_id", "client_request_id"),
)


class Show(Protocol):
    """Renders a template."""

    def __call__(
        self, request: Request, page_name: str, status: int = 200, /, **values: Any
    ) -> Response:
        """Return the page *page_name* with *values*."""
        ...


class TracePages:
    """Handlers; plain functions, as those of the other pages."""

    def __init__(self, context: MLOpsContext, show: Show) -> None:
        self._tracker = context.experiment_tracker
        self._show = show
        is_local = context.config.backend_type == "local"
        self._book: TraceBook | None = traces_of(context) if is_local else None

    @property
    def are_kept(self) -> bool:
        """Whether this store can have traces."""
        return self._book is not None

    def routes(self) -> list[Route]:
        """Return the addresses of the pages, and those of the JSON API."""
        return [
            Route("/experiments/{experiment_id}/traces", self.listing),
            Route("/traces/{trace_id:path}", self.trace),
            Route("/api/experiments/{experiment_id}/traces", self.listing_as_json),
            Route("/api/traces/{trace_id:path}", self.trace_as_json),
        ]

    def of_run(self, experiment_id: str, run_id: str) -> tuple[list[TraceRow], int]:
        """Return the newest traces of a run among those of its experiment, and how many there are."""
        if self._book is None or experiment_id not in self._book.experiments():
            return [], 0
        found = select_traces(self._book.of([experiment_id]), run_id=run_id)
        return rows_of(found[:_MOST_OF_RUN], self._tracker), len(found)

    def listing(self, request: Request) -> Response:
        """Show the traces of an experiment, newest first; for htmx only the table."""
        experiment = self._tracker.get_experiment(request.path_params["experiment_id"])
        traces = self._kept().of([experiment.experiment_id])
        problem, page = None, None
        try:
            view = TraceView.from_query(request.query_params)
            page = page_of_traces(traces, view, self._tracker)
        except ValidationError as error:  # a search that is not right yet
            query = request.query_params
            problem = str(error)
            view = TraceView(filter=query.get("filter", ""), text=query.get("text", ""))
        partial = request.headers.get("hx-request") == "true"
        return self._show(
            request,
            "_traces.html" if partial else "traces.html",
            400 if problem and not partial else 200,
            experiment=experiment,
            traces=view,
            page=page,
            problem=problem,
            any_traces=bool(traces),
            view=TableView(),
            saved=[],
            states=STATES,
            sizes=PAGE_SIZES,
            names=[*_NAMES, *_names_of(traces)],
        )

    def trace(self, request: Request) -> Response:
        """Show one trace; for htmx the span that was clicked alone; ``raw=1`` downloads that span."""
        trace = self._found(request)
        query = request.query_params
        wanted = query.get("span", "")
        spans, unreadable = self._spans(trace, contents=bool(wanted))
        chosen = next((span for span in spans if span.span_id == wanted), None)
        if wanted and chosen is None:
            raise HTTPException(404, f"This trace has no span {wanted!r:.80}.")
        if chosen is not None and query.get("raw") == "1":
            return _as_download(chosen)
        shown_span = None if chosen is None else span_view(chosen)
        if request.headers.get("hx-request") == "true" and shown_span is not None:
            return self._show(request, "_span.html", trace=trace, span=shown_span)
        rows = span_rows(spans)
        find = query.get("find", "").strip()
        found: Sequence[SpanRow] = matching(rows, find) if find else rows
        pages = max(-(-len(found) // _MOST_SPANS), 1)
        number = whole(query, "page", 1, 1, pages)
        first = (number - 1) * _MOST_SPANS
        return self._show(
            request,
            "trace.html",
            trace=trace,
            name=name_of(trace) or trace.trace_id,
            experiment=self._tracker.get_experiment(trace.experiment_id),
            runs=run_links(trace, self._tracker, {}),
            request_text=None if trace.request is None else shown(trace.request, _MOST_PREVIEW),
            response_text=None if trace.response is None else shown(trace.response, _MOST_PREVIEW),
            tokens=trace.usage.get("total_tokens") or total_tokens(spans),
            assessments=[_assessment(one) for one in trace.assessments.values()],
            unreadable=unreadable,
            span=shown_span,
            rows=found[first : first + _MOST_SPANS],
            first=first,
            found=len(found),
            total=len(rows),
            failed=sum(row.status == "ERROR" for row in rows),
            find=find,
            number=number,
            pages=pages,
        )

    def listing_as_json(self, request: Request) -> Response:
        """Give a page of an experiment's traces."""
        experiment = self._tracker.get_experiment(request.path_params["experiment_id"])
        view = TraceView.from_query(request.query_params)
        traces = self._kept().of([experiment.experiment_id])
        page = page_of_traces(traces, view, self._tracker)
        has_more = view.page < page.pages
        found = [_summary(row.trace) for row in page.rows]
        return api.json_response({"traces": found, "total": page.total, "has_more": has_more})

    def trace_as_json(self, request: Request) -> Response:
        """Give one trace with its spans, without what went in and out of them."""
        trace = self._found(request)
        rows = span_rows(self._spans(trace, contents=False)[0])
        return api.json_response({**_summary(trace), "spans": rows})

    def _kept(self) -> TraceBook:
        if self._book is None:
            raise HTTPException(404, "Traces are kept in stores of local files only.")
        return self._book

    def _found(self, request: Request) -> Trace:
        trace_id = request.path_params["trace_id"]
        found = self._kept().find(trace_id)
        if found is None:
            raise HTTPException(404, f"There is no trace {trace_id!r:.120}.")
        return found

    def _spans(self, trace: Trace, *, contents: bool) -> tuple[list[Span], bool]:
        """Return the spans, and whether some are not as this package writes them."""
        try:
            found = self._kept().journal(trace.experiment_id).spans(trace, contents=contents)
        except (TypeError, ValueError, KeyError):
            return [], True
        sound = [span for span in found if is_sound(span)]
        return sound, len(sound) < len(found)


def _names_of(traces: Sequence[Trace]) -> list[str]:
    """Return the names of tags and assessments for completion, from the newest traces."""
    found: dict[str, None] = {}
    for trace in traces[-200:]:
        found |= dict.fromkeys(f"tags.{key}" for key in trace.tags if not key.startswith("mlflow."))
        for one in trace.assessments.values():
            found |= dict.fromkeys((f"params.{one.get('name')}", f"metrics.{one.get('name')}"))
    return list(found)


def _assessment(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return an assessment as the page shows it, whatever a frame has."""
    source, updated = kept.get("source"), kept.get("updated")
    return {
        "name": str(kept.get("name")),
        "value": kept.get("value"),
        "error": kept.get("error"),
        "rationale": kept.get("rationale"),
        "source": " ".join(map(str, source)) if isinstance(source, list) else "",
        "span": str(kept.get("span") or ""),
        "updated": updated if isinstance(updated, int) else None,
        "is_valid": bool(kept.get("valid", True)),
    }


def _summary(trace: Trace) -> dict[str, Any]:
    return {
        "trace_id": trace.trace_id,
        "experiment_id": trace.experiment_id,
        "name": name_of(trace),
        "status": trace.state,
        "start_ms": trace.time,
        "duration_ms": trace.duration,
        "request": trace.request,
        "response": trace.response,
        "tags": trace.tags,
        "metadata": trace.metadata,
        "runs": trace.runs,
        "assessments": list(trace.assessments.values()),
    }


def _as_download(span: Span) -> Response:
    try:
        text = json.dumps(json.loads(span.content), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = span.content
    headers = {"Content-Disposition": 'attachment; filename="span.json"'}
    return Response(text.encode("utf-8", "replace"), media_type="application/json", headers=headers)
