"""Charts of traces have the points that MLflow's SQLite store gives them: each metric, dimension, filter and interval."""

from __future__ import annotations

import json

import pytest
from mlflow.entities import AssessmentSource, Feedback, TraceState
from mlflow.entities.trace_metrics import AggregationType, MetricAggregation, MetricViewType
from mlflow.exceptions import MlflowException

COUNT, AVG = MetricAggregation(AggregationType.COUNT), MetricAggregation(AggregationType.AVG)
NUMBERS = [
    AVG,
    MetricAggregation(AggregationType.MIN),
    MetricAggregation(AggregationType.MAX),
    MetricAggregation(AggregationType.PERCENTILE, 50),
    MetricAggregation(AggregationType.PERCENTILE, 90),
]
SUMS = [*NUMBERS, MetricAggregation(AggregationType.SUM)]
USAGE, COST = "mlflow.chat.tokenUsage", "mlflow.llm.cost"
SESSION = "mlflow.trace.session"
TRACES, SPANS, ASSESSMENTS = MetricViewType.TRACES, MetricViewType.SPANS, MetricViewType.ASSESSMENTS

QUERIES = [
    (TRACES, "trace_count", [COUNT], ["trace_name", "trace_status"]),
    (TRACES, "session_count", [COUNT], []),
    (TRACES, "latency", NUMBERS, ["trace_name"]),
    (TRACES, "input_tokens", SUMS, ["trace_name"]),
    (TRACES, "total_tokens", SUMS, ["trace_name"]),
    (TRACES, "cache_read_input_tokens", SUMS, []),
    (SPANS, "span_count", [COUNT], ["span_name", "span_type", "span_status"]),
    (SPANS, "span_count", [COUNT], ["span_model_name", "span_model_provider"]),
    (SPANS, "latency", NUMBERS, ["span_name", "span_status"]),
    (SPANS, "total_cost", SUMS, ["span_model_name"]),
    (SPANS, "input_cost", SUMS, ["span_model_provider"]),
    (ASSESSMENTS, "assessment_count", [COUNT], ["assessment_name", "assessment_value"]),
    (ASSESSMENTS, "assessment_value", NUMBERS, ["assessment_name"]),
]
OF_TRACES = [
    "trace.status = 'OK'",
    "trace.tag.team = 'blue'",
    "trace.tag.`mlflow.traceName` = 'name1'",
    "trace.metadata.model = 'm1'",
    f"trace.metadata.`{SESSION}` = 's1'",
    "trace.metadata.`mlflow.sourceRun` = 'run1'",
    'trace.metadata.`mlflow.trace.tokenUsage` = \'{"input_tokens": 3, "total_tokens": 3}\'',
]
FILTERS = {
    TRACES: OF_TRACES,
    SPANS: [*OF_TRACES, "span.name = 'tool'", "span.status = 'ERROR'", "span.type = 'LLM'"],
    ASSESSMENTS: [*OF_TRACES, "assessment.name = 'score'", "assessment.type = 'feedback'"],
}


@pytest.fixture
def filled(pair, new_id, span, info):
    ids = [new_id() for _ in range(12)]
    for at in pair:
        for number, one in enumerate(ids):
            used = {"input_tokens": number, "output_tokens": 0, "total_tokens": number}
            used["cache_read_input_tokens"] = number // 2
            cost = {"input_cost": number / 4, "output_cost": 0.5, "total_cost": number / 4 + 0.5}
            more = {USAGE: used, COST: cost, "mlflow.llm.model": f"gpt{number % 2}"}
            if number % 3:
                more["mlflow.llm.provider"] = f"p{number % 3}"
            status = "ERROR" if number % 4 == 0 else "OK"
            begin = 40_000 * number
            root = span(
                one, f"root{number % 2}", kind="CHAIN", start=begin, end=begin + 100 + number
            )
            tool = span(
                one, "tool", number=2, parent=1, status=status, start=begin + 1, attributes=more
            )
            at.store.log_spans(at.home, [root, tool] if number % 5 else [root])
            metadata = {"model": f"m{number % 2}"}
            if number % 3:
                metadata[SESSION] = f"s{number % 4}"
            if number == 3:
                metadata["mlflow.trace.tokenUsage"] = json.dumps(
                    {"input_tokens": 3, "total_tokens": 3}
                )
            logged = info(
                one,
                at.home,
                request_time=begin,
                execution_duration=None if number == 2 else number * 3 % 7,
                state=TraceState.OK if number % 2 else TraceState.ERROR,
                tags={"mlflow.traceName": f"name{number % 3}", "team": "blue"}
                if number % 3
                else {},
                trace_metadata=metadata,
            )
            at.store.start_trace(logged)
        at.store.link_traces_to_run(ids[4:7], "run1")
        judge = AssessmentSource("CODE", "c")
        for number, value in enumerate([True, False, "yes", "no", 3, 0.25, "other", None, ["a"]]):
            given = Feedback(
                "score" if number % 2 else "other", value, trace_id=ids[number], source=judge
            )
            first = at.store.create_assessment(given)
        at.store.create_assessment(
            Feedback("score", 9, trace_id=ids[8], source=judge, overrides=first.assessment_id)
        )
    return pair


def points(at, view, metric, aggregations, dimensions, **more):
    answer = at.store.query_trace_metrics([at.home], view, metric, aggregations, dimensions, **more)
    return [(one.metric_name, one.dimensions, rounded(one.values)) for one in answer]


def rounded(values):
    return {name: round(value, 9) for name, value in values.items()}


@pytest.mark.parametrize(
    "query", QUERIES, ids=lambda query: f"{query[0]}-{query[1]}-{len(query[3])}"
)
def test_each_query_is_answered_as_in_sqlite(filled, query):
    ours, theirs = filled
    view, metric, aggregations, dimensions = query
    by_time = {"time_interval_seconds": 100, "start_time_ms": 0, "end_time_ms": 10**9}
    cases = [
        {},
        by_time,
        {"start_time_ms": 80_000, "end_time_ms": 200_000},
        {"start_time_ms": 80_001},
        {"max_results": 1, **by_time},
        *({"filters": [text]} for text in FILTERS[view]),
        {"filters": FILTERS[view][:2], **by_time},
    ]
    for more in cases:
        for chosen in ([], dimensions):
            ask = (view, metric, aggregations, chosen)
            assert points(ours, *ask, **more) == points(theirs, *ask, **more), (chosen, more)
    assert points(ours, *query)


@pytest.mark.parametrize(
    ("view", "metric", "aggregations", "more"),
    [
        (TRACES, "nonsense", [COUNT], {}),
        (TRACES, "trace_count", [AVG], {}),
        (TRACES, "trace_count", [COUNT], {"dimensions": ["span_name"]}),
        (TRACES, "trace_count", [COUNT], {"time_interval_seconds": 60}),
        (TRACES, "trace_count", [COUNT], {"filters": ["span.name = 'a'"]}),
        (SPANS, "span_count", [COUNT], {"filters": ["assessment.name = 'a'"]}),
        (SPANS, "span_count", [COUNT], {"filters": ["span.name != 'a'"]}),
        (SPANS, "span_count", [COUNT], {"filters": ["nonsense"]}),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(either, view, metric, aggregations, more):
    with pytest.raises(MlflowException) as caught:
        either.store.query_trace_metrics([either.home], view, metric, aggregations, **more)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
