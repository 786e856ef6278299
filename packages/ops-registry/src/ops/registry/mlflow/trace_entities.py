# mypy: disable-error-code="no-untyped-call"
# (MLflow's entities are not annotated throughout)
"""Traces and assessments as MLflow's entities, and what of those entities is kept in a frame.

What is kept is `ops.registry.traces`. Numbers of tokens and costs are checked here as MLflow's SQL store checks them: whole
numbers of 64 bits, and finite floats; anything else counts as not given.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from mlflow.entities import (
    AssessmentError,
    AssessmentSource,
    Expectation,
    Feedback,
    IssueReference,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.exceptions import MlflowException
from mlflow.tracing.constant import CostKey, TokenUsageKey, TraceMetadataKey
from mlflow.tracing.utils import (
    SpanAggregationNode,
    aggregate_cost_from_span_nodes,
    aggregate_usage_from_span_nodes,
    generate_assessment_id,
)
from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _validate_length_limit

from ops.registry.mlflow.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow.entities import Assessment

    from ops.registry.traces.journal import Span
    from ops.registry.traces.state import Trace

__all__ = [
    "COST_KEYS",
    "SUM_KEYS",
    "USAGE_KEYS",
    "as_texts",
    "assessment_fields",
    "checked_name",
    "checked_session",
    "given_sums",
    "sums_of_spans",
    "to_assessment",
    "to_trace_info",
    "totals",
]

_LONGEST_NAME, _LONGEST_SESSION = 4096, 250
_BIGGEST = 2**63
USAGE_KEYS = tuple(TokenUsageKey.all_keys())
COST_KEYS = (CostKey.INPUT_COST, CostKey.OUTPUT_COST, CostKey.TOTAL_COST)
#: The metadata that stand for numbers of a trace, which MLflow keeps apart, and what of them is kept.
SUM_KEYS = {TraceMetadataKey.TOKEN_USAGE: "usage", TraceMetadataKey.COST: "cost"}


def to_trace_info(trace: Trace, artifacts: str, spans: Callable[[], list[Span]]) -> TraceInfo:
    """Return a trace as MLflow's entity.

    Args:
        trace: what is kept of it.
        artifacts: the address of the artifacts of its experiment.
        spans: returns its spans; called only if numbers of its spans have to be added up.
    """
    tags = dict(trace.tags)
    tags[MLFLOW_ARTIFACT_LOCATION] = append_to_uri_path(
        artifacts, "traces", trace.trace_id, "artifacts"
    )
    metadata = dict(trace.metadata)
    for key, kind in SUM_KEYS.items():
        numbers = totals(trace, kind, spans)
        if numbers:
            metadata[key] = json.dumps(numbers)
    return TraceInfo(
        trace_id=trace.trace_id,
        trace_location=TraceLocation.from_experiment_id(trace.experiment_id),
        request_time=trace.time,
        execution_duration=trace.duration,
        state=TraceState(trace.state),
        tags=tags,
        trace_metadata=metadata,
        client_request_id=trace.client_request_id,
        request_preview=trace.request,
        response_preview=trace.response,
        assessments=[to_assessment(trace.trace_id, one) for one in trace.assessments.values()],
    )


def totals(trace: Trace, kind: str, spans: Callable[[], list[Span]]) -> dict[str, Any]:
    """Return the numbers of a trace of the kind *usage* or *cost*, without those that it has not.

    *spans* is as in `to_trace_info`.
    """
    given = trace.usage if kind == "usage" else trace.cost
    frames = trace.summed.get(kind)
    found: dict[str, Any] = {}
    if frames is not None:
        known = trace.sums.get(kind)
        if known is None or known[0] != frames:
            known = frames, sums_of_spans(spans(), kind)
            trace.sums[kind] = known
        found = known[1]
    if not (found or given):
        return {}
    keys, checked = (USAGE_KEYS, _count) if kind == "usage" else (COST_KEYS, _cost)
    numbers = {key: checked((given if key in given else found).get(key)) for key in keys}
    return {key: value for key, value in numbers.items() if value is not None}


def sums_of_spans(spans: Iterable[Span], kind: str) -> dict[str, Any]:
    """Return what the spans of a trace come to; a span that has the sum of those below it counts for them."""
    nodes = [SpanAggregationNode(s.span_id, s.parent_id, s.more.get(kind)) for s in spans]
    added = aggregate_usage_from_span_nodes if kind == "usage" else aggregate_cost_from_span_nodes
    return added(nodes) or {}


def given_sums(metadata: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Take the numbers out of *metadata* and return them; one that makes no sense is None."""
    found: dict[str, dict[str, Any]] = {}
    for key, kind in SUM_KEYS.items():
        keys, checked = (USAGE_KEYS, _count) if kind == "usage" else (COST_KEYS, _cost)
        given = _mapping(metadata.pop(key, None))
        found[kind] = {one: checked(given[one]) for one in keys if one in given}
    return found


def as_texts(given: Mapping[str, Any]) -> dict[str, str]:
    """Return tags or metadata as texts, as a database makes them; those without a value are left out."""
    return {
        str(key): value if isinstance(value, str) else str(value)
        for key, value in given.items()
        if value is not None
    }


def checked_session(value: Any) -> Any:
    """Return the id of a session, or raise MLflow's error for one that is too long."""
    return _validate_length_limit("Session ID", _LONGEST_SESSION, value)


def checked_name(value: Any) -> Any:
    """Return the name of a trace, or raise MLflow's error for one that is too long."""
    return _validate_length_limit("Trace name", _LONGEST_NAME, value)


def assessment_fields(given: Assessment) -> dict[str, Any]:
    """Return what a frame keeps of an assessment; one without an id gets one."""
    if given.assessment_id is None:
        given.assessment_id = generate_assessment_id()
    error = None
    if given.feedback is not None:
        kind, value = "feedback", given.feedback.value
        error = given.feedback.error and given.feedback.error.to_dictionary()
    elif given.expectation is not None:
        kind, value = "expectation", given.expectation.value
    elif given.issue is not None:
        kind, value = "issue", given.issue.to_dictionary()
    else:
        raise invalid("Assessment must have either feedback, expectation, or issue value")
    try:
        json.dumps(value)
    except (TypeError, ValueError) as problem:
        raise invalid(f"The value of an assessment cannot be kept as JSON: {problem}") from problem
    return {
        "id": given.assessment_id,
        "kind": kind,
        "name": given.name,
        "value": value,
        "error": error or None,
        "source": [given.source.source_type, given.source.source_id],
        "created": given.create_time_ms,
        "updated": given.last_update_time_ms,
        "run": given.run_id,
        "span": given.span_id,
        "rationale": given.rationale,
        "overrides": given.overrides or None,
        "valid": True if given.valid is None else bool(given.valid),
        "metadata": dict(given.metadata) if given.metadata else None,
    }


def to_assessment(trace_id: str, kept: Mapping[str, Any]) -> Assessment:
    """Return an assessment of a trace as MLflow's entity."""
    fields: dict[str, Any] = {
        "source": AssessmentSource(*kept["source"]),
        "trace_id": trace_id,
        "metadata": dict(kept["metadata"]) if kept["metadata"] else None,
        "span_id": kept["span"],
        "create_time_ms": kept["created"],
        "last_update_time_ms": kept["updated"],
    }
    found: Assessment
    if kept["kind"] == "feedback":
        error = AssessmentError.from_dictionary(kept["error"]) if kept["error"] else None
        found = Feedback(
            name=kept["name"],
            value=kept["value"],
            error=error,
            rationale=kept["rationale"],
            **fields,
        )
    elif kept["kind"] == "expectation":
        found = Expectation(name=kept["name"], value=kept["value"], **fields)
    elif kept["kind"] == "issue":
        found = IssueReference(
            issue_id=kept["name"],
            issue_name=kept["value"].get("issue_name"),
            run_id=kept["run"],
            rationale=kept["rationale"],
            **fields,
        )
    else:
        raise MlflowException(f"An assessment of an unknown kind: {kept['kind']!r:.80}")
    found.overrides, found.valid = kept["overrides"], kept["valid"]
    found.run_id, found.assessment_id = kept["run"], kept["id"]
    return found


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
    except (InvalidOperation, ValueError):
        return None
    if not number.is_finite() or number != number.to_integral_value():
        return None
    return int(number) if -_BIGGEST <= number < _BIGGEST else None


def _cost(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
