# mypy: disable-error-code="no-untyped-call"
# (MLflow's search utilities are not annotated)
"""What MLflow's pages chart about traces: counts, latencies, tokens, costs and scores, by time and by what they are of.

A query is rows of one kind (traces, spans, assessments), filters that leave some of them out, one value of each row, groups by
dimensions and intervals of time, and aggregations of each group, as MLflow's SQL store answers it with SQLite: percentiles are
interpolated between the two nearest values, rows without the value or a dimension do not count.
"""

from __future__ import annotations

import collections
import datetime as dt
import json
import math
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow.entities.trace_metrics import AggregationType, MetricDataPoint, MetricViewType
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import MAX_RESULTS_QUERY_TRACE_METRICS
from mlflow.tracing.constant import (
    AssessmentMetricDimensionKey,
    AssessmentMetricKey,
    SpanMetricDimensionKey,
    SpanMetricKey,
    TraceMetadataKey,
    TraceMetricDimensionKey,
    TraceMetricKey,
    TraceTagKey,
)
from mlflow.utils.search_utils import SearchTraceMetricsUtils

from ops.registry.mlflow.errors import invalid
from ops.registry.mlflow.trace_search import TraceSearching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlflow.entities.trace_metrics import MetricAggregation

    from ops.registry.mlflow.trace_filters import TraceView

__all__ = ["TraceMetrics"]

_NS_PER_MS = 1_000_000
_BUCKET = "time_bucket"
_NUMBERS = {AggregationType.AVG, AggregationType.MIN, AggregationType.MAX}
_NUMBERS = _NUMBERS | {AggregationType.PERCENTILE}
_COUNTS = {AggregationType.COUNT}
_SUMS = {*_NUMBERS, AggregationType.SUM}


class _Row(NamedTuple):
    """One row of a query: *time* in milliseconds, *item* a span or an assessment, None of a trace."""

    view: TraceView
    time: float
    item: Any


class _Metric(NamedTuple):
    aggregations: set[AggregationType]
    dimensions: set[str]
    value: Callable[[_Row], Any]


def _tokens(key: str) -> _Metric:
    name = {TraceMetricDimensionKey.TRACE_NAME}
    return _Metric(_SUMS, name, lambda row: row.view.numbers("usage").get(key))


def _cost(key: str) -> _Metric:
    models = {SpanMetricDimensionKey.SPAN_MODEL_NAME, SpanMetricDimensionKey.SPAN_MODEL_PROVIDER}
    return _Metric(_SUMS, models, lambda row: _finite(row.item.more.get("cost", {}).get(key)))


def _span_latency(row: _Row) -> int | None:
    return None if row.item.end is None else (row.item.end - row.item.start) // _NS_PER_MS


def _score(row: _Row) -> float | None:
    """Return the number that an assessment is: yes and no are one and nothing."""
    value = row.item["value"]
    if isinstance(value, str):
        return {"yes": 1.0, "no": 0.0}.get(value.strip().lower())
    return _finite(value) if isinstance(value, (bool, int, float)) else None


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


_METRICS: dict[MetricViewType, dict[str, _Metric]] = {
    MetricViewType.TRACES: {
        TraceMetricKey.TRACE_COUNT: _Metric(
            _COUNTS,
            {TraceMetricDimensionKey.TRACE_NAME, TraceMetricDimensionKey.TRACE_STATUS},
            lambda row: row.view.trace.trace_id,
        ),
        TraceMetricKey.SESSION_COUNT: _Metric(
            _COUNTS, set(), lambda row: row.view.metadata(TraceMetadataKey.TRACE_SESSION)
        ),
        TraceMetricKey.LATENCY: _Metric(
            _NUMBERS,
            {TraceMetricDimensionKey.TRACE_NAME},
            lambda row: row.view.trace.duration,
        ),
        **{key: _tokens(key) for key in TraceMetricKey.token_usage_keys()},
    },
    MetricViewType.SPANS: {
        SpanMetricKey.SPAN_COUNT: _Metric(
            _COUNTS,
            {
                SpanMetricDimensionKey.SPAN_NAME,
                SpanMetricDimensionKey.SPAN_TYPE,
                SpanMetricDimensionKey.SPAN_STATUS,
                SpanMetricDimensionKey.SPAN_MODEL_NAME,
                SpanMetricDimensionKey.SPAN_MODEL_PROVIDER,
            },
            lambda row: row.item.span_id,
        ),
        SpanMetricKey.LATENCY: _Metric(
            _NUMBERS,
            {SpanMetricDimensionKey.SPAN_NAME, SpanMetricDimensionKey.SPAN_STATUS},
            _span_latency,
        ),
        **{key: _cost(key) for key in SpanMetricKey.cost_keys()},
    },
    MetricViewType.ASSESSMENTS: {
        AssessmentMetricKey.ASSESSMENT_COUNT: _Metric(
            _COUNTS,
            {
                AssessmentMetricDimensionKey.ASSESSMENT_NAME,
                AssessmentMetricDimensionKey.ASSESSMENT_VALUE,
            },
            lambda row: row.item["id"],
        ),
        AssessmentMetricKey.ASSESSMENT_VALUE: _Metric(
            _NUMBERS, {AssessmentMetricDimensionKey.ASSESSMENT_NAME}, _score
        ),
    },
}
_DIMENSIONS: dict[str, Callable[[_Row], Any]] = {
    TraceMetricDimensionKey.TRACE_NAME: lambda row: row.view.trace.tags.get(TraceTagKey.TRACE_NAME),
    TraceMetricDimensionKey.TRACE_STATUS: lambda row: row.view.trace.state,
    SpanMetricDimensionKey.SPAN_NAME: lambda row: row.item.name,
    SpanMetricDimensionKey.SPAN_TYPE: lambda row: row.item.type,
    SpanMetricDimensionKey.SPAN_STATUS: lambda row: row.item.status,
    SpanMetricDimensionKey.SPAN_MODEL_NAME: lambda row: row.item.more.get("model"),
    SpanMetricDimensionKey.SPAN_MODEL_PROVIDER: lambda row: row.item.more.get("provider"),
    AssessmentMetricDimensionKey.ASSESSMENT_NAME: lambda row: row.item["name"],
    AssessmentMetricDimensionKey.ASSESSMENT_VALUE: lambda row: json.dumps(row.item["value"]),
}


class TraceMetrics(TraceSearching):
    """Answers queries for charts about traces."""

    def query_trace_metrics(
        self,
        experiment_ids: list[str],
        view_type: MetricViewType,
        metric_name: str,
        aggregations: list[MetricAggregation],
        dimensions: list[str] | None = None,
        filters: list[str] | None = None,
        time_interval_seconds: int | None = None,
        start_time_ms: int | None = None,
        end_time_ms: int | None = None,
        max_results: int = MAX_RESULTS_QUERY_TRACE_METRICS,
        page_token: str | None = None,  # noqa: ARG002 - MLflow's SQL store knows no pages either
    ) -> PagedList[MetricDataPoint]:
        """Return the points of a chart, by time and then by dimension; times are milliseconds, both ends included."""
        metric = _checked(view_type, metric_name, aggregations, dimensions or [])
        if time_interval_seconds and (start_time_ms is None or end_time_ms is None):
            raise invalid(
                "start_time_ms and end_time_ms are required if time_interval_seconds is set"
            )
        keeps = [_row_test(text, view_type) for text in filters or []]
        groups: dict[tuple[Any, ...], list[Any]] = collections.defaultdict(list)
        if not (dimensions or time_interval_seconds):
            groups[()] = []  # a count of nothing is a point too
        by_span_time = (
            view_type == MetricViewType.SPANS and metric_name in SpanMetricKey.cost_keys()
        )
        for row in _rows(self.trace_views(experiment_ids), view_type):
            time = (
                row.time
                if by_span_time or view_type != MetricViewType.SPANS
                else row.view.trace.time
            )
            is_in_time = (start_time_ms is None or time >= start_time_ms) and (
                end_time_ms is None or time < end_time_ms + 1
            )
            if not (is_in_time and all(holds(row) for holds in keeps)):
                continue
            value = metric.value(row)
            key = tuple(_DIMENSIONS[name](row) for name in dimensions or [])
            if value is None or None in key:
                continue
            if time_interval_seconds:
                key = (_bucket(row.time, time_interval_seconds), *key)
            groups[key].append(value)
        distinct = metric_name == TraceMetricKey.SESSION_COUNT
        names = [_BUCKET, *(dimensions or [])] if time_interval_seconds else dimensions or []
        points = []
        for key in sorted(groups)[:max_results]:
            values = list(set(groups[key])) if distinct else groups[key]
            results = {str(one): _aggregate(one, values) for one in aggregations}
            found = {name: value for name, value in results.items() if value is not None}
            if found:
                shown = {name: _shown(name, one) for name, one in zip(names, key, strict=True)}
                points.append(MetricDataPoint(metric_name, shown, found))
        return PagedList(points, None)


def _checked(
    view_type: MetricViewType,
    metric_name: str,
    aggregations: Sequence[MetricAggregation],
    dimensions: Sequence[str],
) -> _Metric:
    """Return what a query is about, or raise MLflow's error for one that makes no sense."""
    metrics = _METRICS[view_type]
    if metric_name not in metrics:
        raise invalid(f"metric_name must be one of {list(metrics)}, got '{metric_name}'")
    metric = metrics[metric_name]
    wrong = {one.aggregation_type for one in aggregations} - metric.aggregations
    if wrong:
        raise invalid(
            f"Found invalid aggregation_type(s): {sorted(one.value for one in wrong)}. "
            f"Supported aggregation types: {sorted(one.value for one in metric.aggregations)}"
        )
    unknown = set(dimensions) - metric.dimensions
    if unknown:
        raise invalid(
            f"Found invalid dimension(s): {sorted(unknown)}. "
            f"Supported dimensions: {sorted(metric.dimensions)}"
        )
    return metric


def _rows(views: Sequence[TraceView], view_type: MetricViewType) -> Iterator[_Row]:
    for view in views:
        time = view.trace.time
        if view_type == MetricViewType.TRACES:
            yield _Row(view, time, None)
        elif view_type == MetricViewType.SPANS:
            for span in view.spans():
                yield _Row(view, span.start / _NS_PER_MS, span)
        else:
            for one in view.trace.assessments.values():
                if one["valid"]:
                    yield _Row(view, time, one)


def _row_test(text: str, view_type: MetricViewType) -> Callable[[_Row], bool]:
    """Return what one filter asks of a row."""
    wanted = SearchTraceMetricsUtils.parse_search_filter(text)
    of, entity, key, value = wanted.view_type, wanted.entity, wanted.key, wanted.value
    if of == "trace":
        return _trace_test(entity, key, value)
    if of == "span":
        if view_type != MetricViewType.SPANS:
            raise invalid(
                f"Filtering by span is only supported for {MetricViewType.SPANS} view type, "
                f"got {view_type}"
            )
        return lambda row: bool(getattr(row.item, entity) == value)
    if view_type != MetricViewType.ASSESSMENTS:
        raise invalid(
            "Filtering by assessment is only supported for "
            f"{MetricViewType.ASSESSMENTS} view type, got {view_type}"
        )
    field = "kind" if entity == "type" else entity
    return lambda row: bool(row.item[field] == value)


def _trace_test(entity: str, key: str | None, value: str) -> Callable[[_Row], bool]:
    if entity == "status":
        return lambda row: row.view.trace.state == value
    if entity == "tag":
        return lambda row: row.view.trace.tags.get(str(key)) == value
    if key == TraceMetadataKey.SOURCE_RUN:
        return lambda row: row.view.is_of_run(value)
    return lambda row: row.view.metadata(str(key)) == value


def _bucket(time_ms: float, interval_seconds: int) -> int:
    """Return when the interval began that a time is in, in milliseconds."""
    size = interval_seconds * 1000
    return int(time_ms // size) * size


def _shown(name: str, value: Any) -> Any:
    if name != _BUCKET:
        return value
    return dt.datetime.fromtimestamp(value / 1000, tz=dt.UTC).isoformat()


def _aggregate(aggregation: MetricAggregation, values: Sequence[Any]) -> float | int | None:
    kind = aggregation.aggregation_type
    if kind == AggregationType.COUNT:
        return len(values)
    if not values:
        return None
    if kind == AggregationType.PERCENTILE:
        return _percentile(sorted(map(float, values)), float(aggregation.percentile_value or 0))
    found: Mapping[AggregationType, Callable[[Sequence[Any]], Any]] = {
        AggregationType.SUM: math.fsum if isinstance(values[0], float) else sum,
        AggregationType.AVG: statistics.fmean,
        AggregationType.MIN: min,
        AggregationType.MAX: max,
    }
    result: float | int = found[kind](values)
    return result


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """Return a percentile between the two nearest of the *ordered* values (Hyndman and Fan's method 7)."""
    offset = percent / 100 * (len(ordered) - 1)
    low = int(offset)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (offset - low) * (ordered[high] - ordered[low])
