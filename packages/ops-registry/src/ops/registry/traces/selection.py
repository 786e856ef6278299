"""Selecting traces: the fields that they have in the search language, and which of them a reader looks for.

This is the language of `ops.registry.search.filters`, which needs no mlflow; MLflow's clients have their own, in
`ops.registry.mlflow.trace_search`. ``tags.NAME`` is a tag or else a metadatum, ``params.NAME`` the value of an
assessment, ``metrics.NAME`` the same as a number (true is 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.search.filters import Kind
from ops.registry.search.selection import select

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ops.registry.search.filters import Lookup
    from ops.registry.traces.state import Trace

__all__ = ["FIELDS", "is_of_run", "name_of", "runs_of_trace", "select_traces", "valid_assessments"]

#: The fields of a trace without a group, in filters and orders.
FIELDS = {
    "trace_id": Kind.TEXT,
    "name": Kind.TEXT,
    "status": Kind.TEXT,
    "start_time": Kind.TIME,
    "duration_seconds": Kind.NUMBER,
    "request": Kind.TEXT,
    "response": Kind.TEXT,
    "session": Kind.TEXT,
    "user": Kind.TEXT,
    "client_request_id": Kind.TEXT,
}
_NEWEST_FIRST = "start_time DESC"
_NS_PER_MS = 1_000_000
#: The names under which MLflow keeps what has a field of its own here.
_NAME, _RUN = "mlflow.traceName", "mlflow.sourceRun"
_SESSION, _USER = "mlflow.trace.session", "mlflow.trace.user"


def select_traces(
    traces: Iterable[Trace],
    text: str | None = None,
    order_by: str | Sequence[str] | None = None,
    *,
    words: str = "",
    run_id: str | None = None,
) -> list[Trace]:
    """Return the traces for which all that is given holds, newest first unless *order_by* asks otherwise.

    Args:
        traces: those to choose from; they are only read.
        text: a filter in the search language.
        order_by: fields with ASC or DESC.
        words: a text that is in the name, the id, the request or the response, in small or capital letters.
        run_id: a run that they were logged in, or linked to.

    Raises:
        FilterError: the filter or the order is wrong.
    """
    wanted = words.strip().casefold()
    found = [
        trace
        for trace in traces
        if (run_id is None or is_of_run(trace, run_id)) and (not wanted or _has(trace, wanted))
    ]
    found.sort(key=lambda trace: trace.trace_id)  # so that equal times have one order
    return select(found, FIELDS, _lookup, text, order_by or _NEWEST_FIRST)


def is_of_run(trace: Trace, run_id: str) -> bool:
    """Whether a trace was logged in a run, or linked to it."""
    return trace.metadata.get(_RUN) == run_id or run_id in trace.runs


def runs_of_trace(trace: Trace) -> list[str]:
    """Return the ids of the runs that a trace was logged in or linked to."""
    source = trace.metadata.get(_RUN)
    return list(dict.fromkeys([*([source] if source else []), *map(str, trace.runs)]))


def name_of(trace: Trace) -> str:
    """Return the name of a trace, "" without one."""
    return trace.tags.get(_NAME, "")


def valid_assessments(trace: Trace) -> dict[str, Any]:
    """Return the value of each assessment that is valid, by name; of several the last."""
    return {
        str(one.get("name")): one.get("value")
        for one in trace.assessments.values()
        if one.get("valid", True)
    }


def _has(trace: Trace, wanted: str) -> bool:
    return any(
        text is not None and wanted in str(text).casefold()
        for text in (name_of(trace), trace.trace_id, trace.request, trace.response)
    )


def _lookup(trace: Trace) -> Lookup:
    def find(field: str) -> Any:
        group, dot, key = field.partition(".")
        return _grouped(trace, group, key) if dot else _PLAIN[field](trace)

    return find


def _grouped(trace: Trace, group: str, key: str) -> Any:
    if group == "tags":
        return trace.tags.get(key, trace.metadata.get(key))
    value = valid_assessments(trace).get(key)
    if group == "params":
        return value
    return float(value) if isinstance(value, int | float) else None


_PLAIN: Mapping[str, Any] = {
    "trace_id": lambda trace: trace.trace_id,
    "name": lambda trace: trace.tags.get(_NAME),
    "status": lambda trace: trace.state,
    "start_time": lambda trace: trace.time * _NS_PER_MS,
    "duration_seconds": lambda trace: None if trace.duration is None else trace.duration / 1000,
    "request": lambda trace: trace.request,
    "response": lambda trace: trace.response,
    "session": lambda trace: trace.metadata.get(_SESSION),
    "user": lambda trace: trace.metadata.get(_USER),
    "client_request_id": lambda trace: trace.client_request_id,
}
