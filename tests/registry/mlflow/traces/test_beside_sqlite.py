"""What MLflow's own tests of traces look at, asked of our store and of SQLite at once: spans' attributes, texts, deletions, refusals."""

from __future__ import annotations

import pytest
from mlflow.entities import AssessmentSource, Expectation, Feedback, TraceState
from mlflow.exceptions import MlflowException

_STATES = (
    TraceState.OK,
    TraceState.ERROR,
    TraceState.IN_PROGRESS,
    TraceState.STATE_UNSPECIFIED,
)
_FILTERS = [
    "span.attributes.llm.model LIKE '%gpt-%'",
    "span.attributes.llm.model ILIKE '%GPT-1%'",
    "span.attributes.`llm.model` LIKE '%gpt-2%'",
    "span.attributes.number LIKE '%3%'",
    "span.attributes.nested LIKE '%x5%'",
    "span.attributes.escaped LIKE '%te%'",
    "span.attributes.text LIKE '%ümlaut%'",
    "span.attributes.missing LIKE '%'",
    "span.attributes.number > '2'",
    "span.attributes.number LIKE '%' AND span.name = 'kid'",
    "span.name = 'kid' AND span.status = 'ERROR'",
    "span.name IN ('kid', 'Kid5')",
    "span.name NOT IN ('kid')",
    "span.name RLIKE '^K.d[0-9]$'",
    "span.type = 'llm'",
    "span.type IN ('LLM', 'CHAIN')",
    "span.status = 'error'",
    "span.content ILIKE '%HELLO 3%'",
    "span.content = 'x'",
    "span.bogus = 'x'",
    "span.duration > 1",
    "trace.text LIKE '%hello%'",
    "tags.n NOT IN ('1', '2')",
    "tags.k.with.dots = 'v1'",
    "tags.missing IS NULL",
    "tags.n = '3' OR tags.n = '4'",
    "tags.n = '3' and",
    "(tags.n = '3')",
    "tags.n = 3",
    "metadata.`user.x` != '3'",
    "metadata.nope IS NULL",
    "status = 'BOGUS'",
    "status NOT IN ('OK')",
    "timestamp_ms >= 1030 AND timestamp_ms <= 1050",
    "timestamp_ms LIKE '1'",
    "execution_time_ms < 300",
    "end_time > 1200",
    "client_request_id ILIKE 'C3'",
    "request_preview ILIKE 'Q3%'",
    "response_preview = 'r3'",
    "run_id IN ('run1', 'run2')",
    "run_id IS NULL",
    "metadata.mlflow.trace.session = 's1'",
    "prompt = 'x'",
    "bogus = 1",
    "feedback.good = 'true'",
    "feedback.good = 'True'",
    "feedback.score > 3",
    "feedback.list LIKE '%1%'",
    "feedback.missing IS NULL",
    "expectation.want LIKE '%e%'",
    "expectation.good = 'true'",
    "feedback.text IN ('yes')",
]
_ORDERS = [
    ["timestamp_ms"],
    ["tags.n DESC"],
    ["tags.missing ASC", "timestamp_ms ASC"],
    ["metadata.user.x DESC"],
    ["client_request_id DESC"],
    ["request_id DESC"],
    ["run_id ASC"],
    ["session_id ASC"],
    ["feedback.score DESC"],
    ["timestamp_ms SIDEWAYS"],
    ["bogus"],
]


@pytest.fixture
def both(pair):
    """Calls a function with both stores, and requires that it returns, or refuses, the same."""

    def ask(call):
        answers = []
        for end in pair:
            try:
                answers.append(call(end.store, end.home))
            except MlflowException as error:
                answers.append(error.error_code)
        assert answers[0] == answers[1]
        return answers[0]

    return ask


@pytest.fixture
def ids(both, span, info, new_id):
    made = [new_id() for _ in range(8)]
    for n, trace_id in enumerate(made):
        start, end = 1_000 + n * 10, 1_000 + n * 10 + (n * 100 or 1)

        def log(store, home, n=n, trace_id=trace_id, start=start, end=end):
            fields = {
                "request_time": start,
                "execution_duration": end - start,
                "state": _STATES[n % 4],
                "tags": {"n": str(n), "k.with.dots": f"v{n % 2}"},
                "trace_metadata": {
                    "user.x": str(n),
                    "mlflow.sourceRun": f"run{n % 3}",
                    "mlflow.trace.session": f"s{n % 2}",
                },
                "client_request_id": f"c{n}",
                "request_preview": f"q{n} what's 100% _up",
                "response_preview": f"r{n}",
            }
            store.start_trace(info(trace_id, home, **fields))
            attributes = {
                "llm.model": f"gpt-{n}",
                "number": n,
                "nested": {"a": [1, {"b": f"x{n}"}]},
                "escaped": "quo\"te's %_\\",
                "text": "ümlaut",
                "mlflow.spanInputs": {"q": f"hello {n}"},
            }
            root = span(trace_id, "root", start=start, end=end, attributes=attributes)
            kid = span(
                trace_id,
                "kid" if n < 4 else f"Kid{n}",
                number=2,
                parent=1,
                kind="TOOL",
                status="ERROR" if n == 3 else "OK",
                start=start,
                end=end,
            )
            return [one.span_id for one in store.log_spans(home, [root, kid])]

        both(log)
    return made


@pytest.fixture
def judged(both, ids):
    source = AssessmentSource("HUMAN", "me")
    values = {"good": True, "score": 4.5, "text": "yes", "list": [1, 2], "none": None}
    for trace_id, (name, value) in zip(ids, values.items(), strict=False):

        def judge(store, _home, trace_id=trace_id, name=name, value=value):
            one = Feedback(name=name, value=value, source=source, trace_id=trace_id)
            return store.create_assessment(one).name

        both(judge)
    both(
        lambda store, _: (
            store.create_assessment(
                Expectation(name="want", value="yes", source=source, trace_id=ids[1])
            ).name
        )
    )
    return ids


def found(store, home, **options):
    traces, token = store.search_traces(locations=[home], **options)
    return [one.trace_id for one in traces], token is None


def test_filters_and_orders_find_the_same(both, judged):
    for text in _FILTERS:
        both(lambda store, home, text=text: found(store, home, filter_string=text))
    for order in _ORDERS:
        both(lambda store, home, order=order: found(store, home, order_by=order))
    for most in (0, -1, 1, 8, 501, 1_000_000, None):
        both(lambda store, home, most=most: found(store, home, max_results=most))
    both(lambda store, home: found(store, home, page_token="bogus"))
    assert both(lambda store, home: found(store, home, filter_string="tags.n = '3'"))[0]


def test_deletions_take_the_same(both, judged):
    ids = judged
    for options in (
        {},
        {"max_timestamp_millis": 1, "trace_ids": ["x"]},
        {"max_timestamp_millis": 9_999, "max_traces": 0},
        {"max_timestamp_millis": -1},
        {"trace_ids": [ids[0]], "max_traces": 1},
        {"trace_ids": []},
        {"trace_ids": [ids[0], "nope"]},
        {"max_timestamp_millis": 1_030, "max_traces": 2},
        {"max_timestamp_millis": 1_030},
    ):
        both(lambda store, home, options=options: store.delete_traces(home, **options))
        both(lambda store, home: found(store, home, order_by=["timestamp_ms ASC"]))
    assert both(lambda store, _: store.get_trace_info(ids[0])) == "RESOURCE_DOES_NOT_EXIST"
    assert len(both(found)[0]) == 4


def test_tags_and_batches_are_the_same(both, ids):
    for key, value in (("x", "y"), ("", "v"), ("k" * 251, "v"), ("k", "v" * 9_000), ("a/b c", "ü")):
        both(lambda store, _, key=key, value=value: store.set_trace_tag(ids[0], key, value))
        both(lambda store, _, key=key: store.get_trace_info(ids[0]).tags.get(key))
    for _ in range(2):  # the second time it is gone
        both(lambda store, _: store.delete_trace_tag(ids[0], "x"))
    for wanted in ([], [ids[1], "nope", ids[0], ids[0]]):
        both(
            lambda store, _, wanted=wanted: [
                (one.info.trace_id, [each.name for each in one.data.spans])
                for one in store.batch_get_traces(wanted)
            ]
        )
