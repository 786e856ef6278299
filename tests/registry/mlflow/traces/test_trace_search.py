"""Searches among traces find here what they find in MLflow's SQLite store: the same traces in both, in the same order."""

from __future__ import annotations

import itertools
import json

import pytest
from mlflow.entities import AssessmentSource, Expectation, Feedback, TraceState
from mlflow.exceptions import MlflowException

SESSION, USAGE, COST = "mlflow.trace.session", "mlflow.trace.tokenUsage", "mlflow.trace.cost"


def fill(at, ids, span, info):
    """Log traces that differ in all that a filter can ask for; half of them have spans."""
    for number, trace_id in enumerate(ids):
        tags = {"mlflow.traceName": f"name{number % 3}", "é": "ü"} if number % 4 else {}
        if number % 5 == 0:
            tags["team"] = ["blue", "Blue", "re_d%"][number % 3]
        metadata = {"model": f"m{number % 4}"} if number % 3 else {}
        if number % 2:
            metadata[SESSION] = f"s{number % 4}"
        if number % 6 == 0:
            metadata[USAGE] = json.dumps({"input_tokens": number, "total_tokens": number + 1})
        if number == 7:
            metadata[COST] = json.dumps({"total_cost": 0.25})
        if number == 8:
            metadata["mlflow.sourceRun"] = "run8"
        if number % 2 == 0:
            log_spans(at, trace_id, number, span)
        logged = info(
            trace_id,
            at.home,
            request_time=1_000 * (number // 2),
            execution_duration=None if number == 3 else number * 7 % 11,
            state=[TraceState.OK, TraceState.ERROR, TraceState.IN_PROGRESS][number % 3],
            client_request_id=f"c{number}" if number % 2 else None,
            tags=tags,
            trace_metadata=metadata,
            request_preview=f"in {number}",
        )
        at.store.start_trace(logged)
    at.store.link_traces_to_run([ids[1], ids[2]], "run8")
    assess(at, ids)


def log_spans(at, trace_id, number, span):
    parts = [
        span(trace_id, f"root{number % 3}", number=1, kind="CHAIN", start=1_000 * (number // 2)),
        span(
            trace_id,
            "tool" if number % 4 else "Search",
            number=2,
            parent=1,
            kind="TOOL",
            status="ERROR" if number % 6 == 0 else "UNSET",
            start=1_000 * (number // 2) + 1,
            attributes={"city": ["Zürich", "Bern", 'a "b"'][number % 3], "n": number},
        ),
    ]
    at.store.log_spans(at.home, parts)


def assess(at, ids):
    judge = AssessmentSource("LLM_JUDGE", "j")
    for number, value in enumerate([True, False, "yes", "No", 3, 4.5, ["a"], {"k": 1}, None]):
        at.store.create_assessment(
            Feedback("score", value, trace_id=ids[number], source=judge, metadata={"x": "y"})
        )
    at.store.create_assessment(Expectation("answer", "42", trace_id=ids[4], source=judge))
    # Of a session: it counts for all traces of s1.
    of_session = Feedback("polite", "yes", trace_id=ids[1], source=judge, metadata={SESSION: "s1"})
    at.store.create_assessment(of_session)
    first = at.store.create_assessment(Feedback("right", "no", trace_id=ids[9], source=judge))
    over = Feedback("right", "yes", trace_id=ids[9], source=judge, overrides=first.assessment_id)
    at.store.create_assessment(over)


FILTERS = [
    None,
    "",
    "status = 'OK'",
    "trace.status != 'ERROR'",
    "attributes.status IN ('OK', 'ERROR')",
    "status NOT IN ('OK')",
    "status LIKE 'E%'",
    "status ILIKE 'in%'",
    "timestamp_ms > 3000",
    "timestamp >= 3000 AND timestamp_ms < 6000",
    "timestamp = 3000",
    "timestamp != 3000",
    "execution_time > 3",
    "execution_time_ms <= 3",
    "trace.execution_time != 3",
    "end_time > 4003",
    "trace.end_time_ms <= 4003",
    "client_request_id = 'c5'",
    "client_request_id != 'c5'",
    "client_request_id LIKE 'c1%'",
    "client_request_id RLIKE '^c1[13]$'",
    "name = 'name1'",
    "trace.name LIKE 'name%'",
    "name ILIKE 'NAME_'",
    "name RLIKE 'e[12]'",
    "tags.team = 'blue'",
    "tag.team != 'blue'",
    "tags.team ILIKE 'BLUE'",
    "tags.team LIKE 're_d%'",
    "tags.team RLIKE 'lue$'",
    "tags.team IS NULL",
    "tags.team IS NOT NULL",
    "tags.`é` = 'ü'",
    "tags.`mlflow.traceName` IS NULL",
    "metadata.model = 'm1'",
    "request_metadata.model != 'm1'",
    "metadata.model LIKE 'm%' AND metadata.model != 'm2'",
    "metadata.model RLIKE '[02]'",
    "metadata.model IS NULL",
    "metadata.model IS NOT NULL",
    f"metadata.`{SESSION}` = 's1'",
    f"metadata.`{SESSION}` IS NULL",
    f"metadata.`{SESSION}` LIKE 's%'",
    f"metadata.`{USAGE}` IS NOT NULL",
    f"metadata.`{USAGE}` IS NULL",
    f"metadata.`{COST}` IS NOT NULL",
    f"metadata.`{COST}` = '{{\"total_cost\": 0.25}}'",
    f"metadata.`{COST}` != '{{\"total_cost\": 0.5}}'",
    "run_id = 'run8'",
    "metadata.`mlflow.sourceRun` = 'run8'",
    "metadata.`mlflow.sourceRun` != 'run8'",
    "span.name = 'Search'",
    "span.name != 'Search'",
    "span.name IN ('Search', 'root1')",
    "span.name NOT IN ('Search', 'root1')",
    "span.name LIKE 'root%'",
    "span.name ILIKE 'SEARCH'",
    "span.type = 'TOOL'",
    "span.status = 'ERROR'",
    "span.name = 'Search' AND span.status = 'ERROR'",
    "span.name = 'root0' AND span.status = 'ERROR'",
    "span.attributes.city LIKE '%Bern%'",
    "span.attributes.city ILIKE '%bern%'",
    "span.attributes.city LIKE '%Zürich%'",
    "span.attributes.city RLIKE 'Ber'",
    "span.attributes.city RLIKE '^Bern$'",
    "span.attributes.nothing LIKE '%'",
    "trace.text LIKE '%Zürich%'",
    "trace.text ILIKE '%BERN%'",
    "span.content LIKE '%root%'",
    "span.type = 'TOOL' AND timestamp_ms >= 4000",
    "feedback.score = 'true'",
    "feedback.score = 'yes'",
    "feedback.score != 'yes'",
    "feedback.score LIKE '%e%'",
    "feedback.score ILIKE '%NO%'",
    "feedback.score RLIKE '^4'",
    "feedback.score > 3",
    "feedback.score >= 3",
    "feedback.score < 4",
    "feedback.score <= 4.5",
    "feedback.score IS NULL",
    "feedback.score IS NOT NULL",
    "expectation.answer = '42'",
    "expectation.score = 'true'",
    "feedback.polite = 'yes'",
    "feedback.polite IS NULL",
    "feedback.polite IS NOT NULL",
    "feedback.right = 'yes'",
    "feedback.right = 'no'",
    "issue.id = 'i-1'",
    "prompt = 'p/1'",
    "status = 'OK' AND tags.team IS NOT NULL AND timestamp_ms > 0",
]
ORDERS = [
    None,
    ["timestamp_ms ASC"],
    ["timestamp DESC", "request_id DESC"],
    ["execution_time_ms ASC"],
    ["execution_time DESC"],
    ["status ASC", "timestamp_ms ASC"],
    ["request_id ASC"],
    ["name ASC"],
    ["tags.team DESC"],
    ["tag.team ASC"],
    ["metadata.model ASC", "execution_time DESC"],
    [f"metadata.`{SESSION}` DESC"],
    ["run_id ASC"],
    ["experiment_id DESC"],
]


@pytest.fixture
def filled(pair, new_id, span, info):
    """Both stores with the same traces, and the ids of these."""
    ids = [new_id() for _ in range(18)]
    for at in pair:
        fill(at, ids, span, info)
    return pair, ids


def found(at, text, **more):
    infos, _ = at.store.search_traces([at.home], text, **more)
    return [one.trace_id for one in infos]


def test_each_filter_finds_what_it_finds_in_sqlite(filled):
    """Attributes, tags, metadata, runs, spans, texts, assessments, with each sign that they allow."""
    (ours, theirs), ids = filled
    for at in (ours, theirs):
        at.store.link_prompts_to_trace(ids[5], [Prompt("p", 1), Prompt("q", 2)])
    different = [t for t in FILTERS if found(ours, t) != found(theirs, t)]
    assert different == []
    some = [text for text in FILTERS if 0 < len(found(ours, text)) < len(ids)]
    assert len(some) > len(FILTERS) * 0.8, "most of the filters must have something to decide"


class Prompt:
    def __init__(self, name, version):
        self.name, self.version = name, version


def test_each_order_is_that_of_sqlite(filled):
    """Missing values come last, ties by time and id, either way."""
    ours, theirs = filled[0]
    different = [
        o for o in ORDERS if found(ours, None, order_by=o) != found(theirs, None, order_by=o)
    ]
    assert different == []


def test_pages_have_all_traces_once_whatever_the_filter(filled):
    """A page ends after its number of traces, and the token leads to the next one."""
    (ours, theirs), _ = filled
    for text in (None, "span.type = 'TOOL'", "tags.team IS NULL"):
        pages = []
        for at in (ours, theirs):
            token, seen = None, []
            for _ in itertools.count():
                infos, token = at.store.search_traces([at.home], text, 4, None, token)
                seen.append([one.trace_id for one in infos])
                if token is None:
                    break
            pages.append(seen)
        assert pages[0] == pages[1]


def test_traces_are_what_they_are_in_sqlite(filled):
    """All that an entity has, but where things are."""
    (ours, theirs), ids = filled
    for trace_id in ids:
        assert plain(ours.store.get_trace_info(trace_id)) == plain(
            theirs.store.get_trace_info(trace_id)
        )
    many = [[plain(one) for one in at.store.batch_get_trace_infos(ids)] for at in (ours, theirs)]
    assert many[0] == many[1]


def plain(info):
    """Return a trace without what differs between any two stores: places, ids of assessments and their times."""
    fields = info.to_dict()
    fields["tags"].pop("mlflow.artifactLocation")
    del fields["trace_location"]
    fields["trace_metadata"] = dict(sorted(fields["trace_metadata"].items()))
    given = fields.pop("assessments", [])
    fields["assessments"] = sorted(
        (
            {k: v for k, v in one.items() if not k.endswith(("_id", "_time", "overrides"))}
            for one in given
        ),
        key=str,
    )
    return fields


BAD = [
    "nonsense",
    "status",
    "status = OK",
    "timestamp_ms LIKE 'a'",
    "tags.team > 'a'",
    "metadata.model IN ('a')",
    "span.duration = 'a'",
    "span.content = 'a'",
    "span.name > 'a'",
    "feedback.score > 'a'",
    "feedback.score = 3",
    "issue.id != 'a'",
    "prompt = 'p'",
    "prompt != 'p/1'",
    f"metadata.`{USAGE}` LIKE 'a'",
    "status = 'OK' OR status = 'ERROR'",
    "foo.bar = 'a'",
]


@pytest.mark.parametrize("text", BAD)
def test_a_filter_that_makes_no_sense_is_refused_as_in_sqlite(pair, text):
    codes = []
    for at in pair:
        with pytest.raises(MlflowException) as caught:
            at.store.search_traces([at.home], text)
        codes.append(caught.value.error_code)
    assert codes[0] == codes[1] == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    "more",
    [
        {"order_by": ["nonsense"]},
        {"order_by": ["span.name"]},
        {"order_by": [f"metadata.`{USAGE}`"]},
        {"order_by": ["status", "status DESC"]},
        {"max_results": 0},
        {"max_results": 10**9},
        {"locations": ["catalog.schema"]},
    ],
    ids=str,
)
def test_what_makes_no_sense_elsewhere_is_refused_as_in_sqlite(either, more):
    with pytest.raises(MlflowException):
        either.store.search_traces(
            **({"experiment_ids": [either.home]} if "locations" not in more else {}) | more
        )


def test_no_expression_and_no_pattern_takes_long(store, span, info, new_id):
    """What makes Python's re take years is one pass here: RE2 for RLIKE, the store's own matcher for LIKE."""
    trace_id = new_id()
    store.store.start_trace(info(trace_id, store.home, tags={"t": "a" * 4_000}))
    assert found(store, "tags.t RLIKE '^(a+)+$'") == [trace_id]
    assert found(store, "tags.t RLIKE '^(a+)+b$'") == []
    assert found(store, f"tags.t LIKE '{'%a' * 400}%b'") == []
    with pytest.raises(MlflowException, match="is refused"):
        found(store, "tags.t RLIKE '(?=a)'")
    with pytest.raises(MlflowException, match="20000 characters"):
        found(store, "tags.t = 'a' AND " * 2_000 + "tags.t = 'a'")


def test_sessions_that_have_ended_are_those_of_sqlite(filled):
    """By their last trace, with and without a filter on the first one."""
    ours, theirs = filled[0]
    for window in ((0, 10_000), (2_000, 8_000), (8_000, 9_000), (9_000, 20_000)):
        for more in ({}, {"filter_string": "metadata.model = 'm1'"}, {"max_results": 1}):
            found = [
                at.store.find_completed_sessions(at.home, *window, **more) for at in (ours, theirs)
            ]
            assert found[0] == found[1], (window, more)


def test_how_two_filters_go_together_is_that_of_sqlite(filled):
    ours, theirs = filled[0]
    filters = ["status = 'OK'", "span.type = 'TOOL'", "tags.team = 'nobody'", "timestamp_ms > 2000"]
    for one, other in itertools.product(filters, repeat=2):
        for base in (None, "timestamp_ms < 7000"):
            found = [
                repr(at.store.calculate_trace_filter_correlation([at.home], one, other, base))
                for at in (ours, theirs)
            ]
            assert found[0] == found[1], (one, other, base)
