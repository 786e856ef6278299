# mypy: disable-error-code="no-untyped-call"
# (MLflow's search utilities are not annotated)
"""MLflow's searches among traces: its grammar, its order, its pages; sessions; and how two filters go together.

All traces of the experiments are in memory without their spans. What is decided by that is decided first; spans are read in
the order of the answer, and no more once the page is full.
"""

from __future__ import annotations

import collections
import functools
import itertools
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.store.analytics.trace_correlation import calculate_npmi_from_counts
from mlflow.store.tracking import SEARCH_TRACES_DEFAULT_MAX_RESULTS
from mlflow.tracing.analysis import TraceFilterCorrelationResult
from mlflow.tracing.constant import TraceMetadataKey
from mlflow.utils.search_utils import SearchTraceUtils
from mlflow.utils.validation import _resolve_experiment_ids_and_locations

from ops.registry.mlflow.assessment_calls import AssessmentCalls
from ops.registry.mlflow.errors import invalid
from ops.registry.mlflow.experiment_calls import check_max_results
from ops.registry.mlflow.trace_entities import SUM_KEYS
from ops.registry.mlflow.trace_filters import TraceFilter, TraceView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mlflow.entities import TraceInfo
    from mlflow.genai.scorers.online.entities import CompletedSession

__all__ = ["TraceSearching"]

Key = tuple[Any, ...]


class TraceSearching(AssessmentCalls):
    """Finds traces and sessions."""

    def search_traces(
        self,
        experiment_ids: list[str] | None = None,
        filter_string: str | None = None,
        max_results: int = SEARCH_TRACES_DEFAULT_MAX_RESULTS,
        order_by: list[str] | None = None,
        page_token: str | None = None,
        model_id: str | None = None,  # noqa: ARG002 - clients make a filter of it
        locations: list[str] | None = None,
    ) -> tuple[list[TraceInfo], str | None]:
        """Return a page of the traces that MLflow's filter finds, newest first unless ordered, and the token of the next."""
        homes = _resolve_experiment_ids_and_locations(experiment_ids, locations)
        check_max_results(max_results)
        key = _order(order_by or [])
        start = SearchTraceUtils.parse_start_offset_from_page_token(page_token)
        scope = self.trace_views(homes)
        wanted = TraceFilter(filter_string, scope)
        ordered = sorted(filter(wanted.may_keep, scope), key=key)
        found = filter(wanted.has_span, ordered)
        page = [self._info(v.trace) for v in itertools.islice(found, start, start + max_results)]
        if len(page) < max_results:
            return page, None
        return page, SearchTraceUtils.create_page_token(start + max_results).decode()

    def find_completed_sessions(
        self,
        experiment_id: str,
        min_last_trace_timestamp_ms: int,
        max_last_trace_timestamp_ms: int,
        max_results: int | None = None,
        filter_string: str | None = None,
    ) -> list[CompletedSession]:
        """Return the sessions whose last trace is in a span of time, those that ended first first.

        A filter is about the first trace of a session.
        """
        from mlflow.genai.scorers.online.entities import CompletedSession

        scope = self.trace_views([str(experiment_id)])
        wanted = TraceFilter(filter_string, scope)
        sessions: dict[str, list[TraceView]] = collections.defaultdict(list)
        for view in scope:
            session = view.metadata(TraceMetadataKey.TRACE_SESSION)
            if session is not None:
                sessions[session].append(view)
        found = []
        for session, views in sessions.items():
            first, last = min(v.trace.time for v in views), max(v.trace.time for v in views)
            is_in_time = min_last_trace_timestamp_ms <= last <= max_last_trace_timestamp_ms
            if is_in_time and any(wanted.keeps(v) for v in views if v.trace.time == first):
                found.append(CompletedSession(session, first, last))
        found.sort(key=lambda one: (one.last_trace_timestamp_ms, one.session_id))
        return found if max_results is None else found[:max_results]

    def calculate_trace_filter_correlation(
        self,
        experiment_ids: list[str],
        filter_string1: str,
        filter_string2: str,
        base_filter: str | None = None,
    ) -> TraceFilterCorrelationResult:
        """Return how often traces that *base_filter* keeps are kept by both of two filters."""
        scope = self.trace_views(list(experiment_ids))
        base = TraceFilter(base_filter, scope)
        among = [view for view in scope if base.keeps(view)]
        first, second = (
            {id(view) for view in among if wanted.keeps(view)}
            for wanted in (TraceFilter(filter_string1, scope), TraceFilter(filter_string2, scope))
        )
        counts = len(first & second), len(first), len(second), len(among)
        npmi = calculate_npmi_from_counts(*counts)
        joint, in_first, in_second, total = counts
        return TraceFilterCorrelationResult(
            npmi=npmi.npmi,
            npmi_smoothed=npmi.npmi_smoothed,
            filter1_count=in_first,
            filter2_count=in_second,
            joint_count=joint,
            total_count=total,
        )

    def trace_views(self, experiment_ids: Iterable[str] | None) -> list[TraceView]:
        """Return the traces of experiments, of all without any ids."""
        homes = self.traces.experiments() if experiment_ids is None else map(str, experiment_ids)
        return [
            TraceView(trace, self.traces.journal(trace.experiment_id))
            for trace in self.traces.of(homes)
        ]


def _order(order_by: Sequence[str]) -> Callable[[TraceView], Key]:
    """Return what to sort traces by: MLflow's clauses, then the newest, then their ids."""
    parts: list[tuple[Callable[[TraceView], Any], bool]] = []
    seen: set[tuple[str, str]] = set()
    for clause in order_by:
        kind, key, ascending = SearchTraceUtils.parse_order_by_for_search_traces(clause)
        if (kind, key) in seen:
            raise MlflowException(f"`order_by` contains duplicate fields: {list(order_by)}")
        seen.add((kind, key))
        parts.append((_value(kind, key), ascending))
    if ("attribute", "timestamp_ms") not in seen:
        parts.append((lambda view: view.trace.time, False))
    if ("attribute", "request_id") not in seen:
        parts.append((lambda view: view.trace.trace_id, True))
    return lambda view: tuple(
        itertools.chain.from_iterable(_sortable(of(view), ascending) for of, ascending in parts)
    )


def _value(kind: str, key: str) -> Callable[[TraceView], Any]:
    if SearchTraceUtils.is_request_metadata(kind, "="):
        if key in SUM_KEYS:
            raise invalid(
                f"Ordering by reserved metadata '{key}' is not supported because it is "
                "represented by multiple columns."
            )
        return lambda view: view.metadata(key)
    if SearchTraceUtils.is_tag(kind, "="):
        return lambda view: view.trace.tags.get(key)
    if not SearchTraceUtils.is_attribute(kind, key, "="):
        raise invalid(f"Invalid identifier type '{kind}'")
    if key == "experiment_id":
        return lambda view: _numbered(view.trace.experiment_id)
    return lambda view: view.attribute(key)


def _numbered(experiment_id: str) -> tuple[bool, int, str]:
    """Return what to sort experiments by: numbers by their value, before all others."""
    is_number = experiment_id.isdecimal()
    return not is_number, int(experiment_id) if is_number else 0, experiment_id


def _sortable(value: Any, ascending: bool) -> Key:  # noqa: FBT001 - one of a pair
    """Return a value to sort by: those that are missing come last either way."""
    if value is None:
        return (True, 0)
    if ascending:
        return (False, value)
    return (False, -value if isinstance(value, (int, float)) else _Reversed(value))


@functools.total_ordering
class _Reversed:
    """Sorts the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(self.value == other.value)

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.value < self.value)

    __hash__ = None  # type: ignore[assignment]  # made to be sorted by alone
