"""Traces are logged, changed, linked, returned and deleted here as in MLflow's SQLite store, which each test also asks."""

from __future__ import annotations

import asyncio
import json

import pytest
from mlflow.entities import TraceState
from mlflow.entities.trace_status import TraceStatus
from mlflow.exceptions import MlflowException, MlflowTracingException
from mlflow.tracing.otel.translation import translate_span_when_storing

from ops.registry.mlflow import trace_calls
from ops.registry.mlflow.trace_spans import stored_fields

USAGE, COST = "mlflow.chat.tokenUsage", "mlflow.llm.cost"
OF_TRACE = "mlflow.trace.tokenUsage"


def tokens(at, trace_id):
    return json.loads(at.store.get_trace_info(trace_id).trace_metadata.get(OF_TRACE, "null"))


def test_a_trace_is_what_its_client_logged(either, info, new_id):
    at, trace_id = either, new_id()
    made = at.store.start_trace(
        info(
            trace_id,
            at.home,
            tags={"mlflow.traceName": "ask", "a": "b"},
            trace_metadata={"k": "v", OF_TRACE: '{"input_tokens": 3}', "mlflow.trace.session": "s"},
            client_request_id="c",
            request_preview="in",
            response_preview="out",
        )
    )
    assert made == at.store.get_trace_info(trace_id)
    assert (made.request_time, made.execution_duration, made.state) == (1_000, 500, TraceState.OK)
    assert (made.request_preview, made.response_preview, made.client_request_id) == (
        "in",
        "out",
        "c",
    )
    assert made.experiment_id == at.home
    assert {"mlflow.traceName": "ask", "a": "b"}.items() <= made.tags.items()
    assert made.tags["mlflow.artifactLocation"].endswith(f"/traces/{trace_id}/artifacts")
    assert made.trace_metadata == {
        "k": "v",
        "mlflow.trace.session": "s",
        OF_TRACE: '{"input_tokens": 3}',
        "mlflow.trace.infoFinalized": "true",
    }


def test_spans_alone_make_a_trace_that_grows_with_them(either, span, new_id):
    """Times widen, a root span that ends gives the state, the first of the inputs and outputs are shown."""
    at, trace_id = either, new_id()
    at.store.log_spans(at.home, [span(trace_id, number=2, parent=1, start=1_500, end=3_000)])
    seen = at.store.get_trace_info(trace_id)
    assert (seen.request_time, seen.execution_duration) == (1_500, 1_500)
    assert (seen.state, seen.request_preview) == (TraceState.IN_PROGRESS, None)
    attributes = {"mlflow.spanInputs": {"q": "why"}, "mlflow.spanOutputs": "42"}
    root = span(trace_id, number=1, start=1_000, end=2_000, status="ERROR", attributes=attributes)
    at.store.log_spans(at.home, [root])
    seen = at.store.get_trace_info(trace_id)
    assert (seen.request_time, seen.execution_duration, seen.state) == (
        1_000,
        2_000,
        TraceState.ERROR,
    )
    assert (seen.request_preview, seen.response_preview) == ('{"q": "why"}', '"42"')
    assert seen.tags["mlflow.trace.spansLocation"] == "TRACKING_STORE"


def test_what_a_client_logs_of_a_trace_outweighs_what_spans_imply(either, span, info, new_id):
    """Whichever comes first: before it, spans fill in; after it, they change nothing that it had."""
    at, trace_id = either, new_id()
    used = {USAGE: {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}}
    at.store.log_spans(at.home, [span(trace_id, number=1, start=10, end=90_000, attributes=used)])
    assert tokens(at, trace_id) == used[USAGE]
    given = {OF_TRACE: '{"input_tokens": 30}'}
    at.store.start_trace(info(trace_id, at.home, request_preview="in", trace_metadata=given))
    at.store.log_spans(
        at.home, [span(trace_id, number=2, parent=1, start=1, end=99_000, attributes=used)]
    )
    seen = at.store.get_trace_info(trace_id)
    assert (seen.request_time, seen.execution_duration, seen.request_preview) == (1_000, 500, "in")
    assert tokens(at, trace_id) == {"input_tokens": 30, "output_tokens": 2, "total_tokens": 3}


def test_tokens_and_costs_of_all_batches_are_added_once(either, span, new_id):
    """A parent that has the sum of its children counts for them, wherever they were logged; a span again counts as last."""
    at, trace_id = either, new_id()

    def used(number, cost):
        return {
            USAGE: {"input_tokens": number, "output_tokens": 1, "total_tokens": number + 1},
            COST: {"input_cost": cost, "output_cost": 0.5, "total_cost": cost + 0.5},
        }

    def log(*spans):
        at.store.log_spans(at.home, list(spans))

    log(span(trace_id, number=2, parent=1, attributes=used(5, 0.25)))
    log(span(trace_id, number=3, parent=1, attributes=used(7, 0.25)))
    assert tokens(at, trace_id) == {"input_tokens": 12, "output_tokens": 2, "total_tokens": 14}
    log(span(trace_id, number=3, parent=1, attributes=used(8, 0.5)))
    assert tokens(at, trace_id)["input_tokens"] == 13
    log(span(trace_id, number=1, attributes=used(20, 1.0)), span(trace_id, number=4, parent=9))
    assert tokens(at, trace_id)["input_tokens"] == 20
    cost = json.loads(at.store.get_trace_info(trace_id).trace_metadata["mlflow.trace.cost"])
    assert cost == {"input_cost": 1.0, "output_cost": 0.5, "total_cost": 1.5}


def test_a_trace_with_spans_comes_back_as_it_was_logged(either, span, info, new_id):
    """The root first, then by time; a span logged again as it was logged last; texts of all languages."""
    at, trace_id = either, new_id()
    text = {
        "mlflow.spanInputs": {"q": "größer 你好 \U0001f600"},
        "mlflow.spanOutputs": ["x", 1.5, None],
    }
    parts = [
        span(trace_id, "late", number=3, parent=1, start=3_000, end=None),
        span(trace_id, "early", number=2, parent=1, start=2_000, status="ERROR", events=["boom"]),
        span(trace_id, "root", number=1, start=1_000, attributes=text),
    ]
    at.store.log_spans(at.home, parts[:1])
    at.store.log_spans(at.home, parts[1:])
    at.store.log_spans(at.home, [span(trace_id, "later", number=3, parent=1, start=3_000)])
    at.store.start_trace(info(trace_id, at.home))
    trace = at.store.get_trace(trace_id)
    assert [one.name for one in trace.data.spans] == ["root", "early", "later"]
    root, early, _ = trace.data.spans
    assert root.inputs == {"q": "größer 你好 \U0001f600"}
    assert root.outputs == ["x", 1.5, None]
    assert root.to_dict() == translate_span_when_storing(parts[2])
    assert (early.status.status_code, early.parent_id) == ("ERROR", root.span_id)
    assert [event.name for event in early.events] == ["boom"]
    assert trace.info == at.store.get_trace_info(trace_id)
    assert [one.to_dict() for one in at.store.batch_get_traces([trace_id])] == [trace.to_dict()]


def test_half_of_a_surrogate_pair_is_kept_too(either, span, new_id):
    """JSON can have it, UTF-8 cannot."""
    at, trace_id = either, new_id()
    at.store.log_spans(at.home, [span(trace_id, attributes={"half": "\ud83d"})])
    assert (
        at.store.get_trace(trace_id, allow_partial=True).data.spans[0].attributes["half"]
        == "\ud83d"
    )


def test_spans_of_several_traces_are_logged_at_once(either, span, new_id):
    at, ids = either, [new_id() for _ in range(3)]
    spans = [span(one, number=n) for n in (1, 2) for one in ids]
    assert at.store.log_spans(at.home, spans) == spans
    assert asyncio.run(at.store.log_spans_async(at.home, spans)) == spans
    assert at.store.log_spans(at.home, []) == []
    counts = [len(one.data.spans) for one in at.store.batch_get_traces(ids)]
    assert counts == [2, 2, 2]


def test_people_services_and_tags_are_read_from_spans(either, span, new_id):
    """Session and user by OpenTelemetry's names, what a resource is called, and tags that came through OTLP."""
    at, trace_id = either, new_id()
    plain = {
        "session.id": "s1",
        "user.id": "u1",
        "mlflow.traceTag.team": json.dumps("blue"),
        "mlflow.traceTag.mlflow.traceName": json.dumps("ask"),
    }
    resource = {"service.name": "shop", "n": 3, "telemetry.sdk.name": "x", "mlflow.secret": "y"}
    at.store.log_spans(at.home, [span(trace_id, plain=plain, resource=resource)])
    at.store.log_spans(
        at.home, [span(trace_id, number=2, plain={"session.id": "s2", "user.id": "u2"})]
    )
    seen = at.store.get_trace_info(trace_id)
    assert seen.trace_metadata["mlflow.trace.session"] == "s1"
    assert seen.trace_metadata["mlflow.trace.user"] == "u1"
    wanted = {"team": "blue", "mlflow.traceName": "ask", "service.name": "shop", "n": "3"}
    assert wanted.items() <= seen.tags.items()
    assert not {"telemetry.sdk.name", "mlflow.secret"} & seen.tags.keys()


def test_what_is_no_text_becomes_one(store, span, info, new_id):
    """Tags, metadata, sessions and users that a program gives as numbers; a frame that no reader takes would be lost."""
    at, ids = store, [new_id(), new_id()]
    at.store.log_spans(at.home, [span(ids[0], plain={"session.id": 7, "user.id": 8})])
    found = at.store.get_trace_info(ids[0]).trace_metadata
    assert (found["mlflow.trace.session"], found["mlflow.trace.user"]) == ("7", "8")
    at.store.start_trace(
        info(ids[1], at.home, tags={"n": 1, "none": None}, trace_metadata={"m": 2.5})
    )
    found = at.store.get_trace_info(ids[1])
    assert (found.tags["n"], found.trace_metadata["m"]) == ("1", "2.5")
    assert "none" not in found.tags
    assert at.store.traces.journal(at.home).unknown == 0


SPANS = {
    "own": {"attributes": {"mlflow.spanInputs": {"q": 1}, "mlflow.spanOutputs": "text"}},
    "json in text": {"attributes": {"mlflow.spanOutputs": '{"a": [1]}', "mlflow.x": '"quoted"'}},
    "white space": {"attributes": {"mlflow.spanOutputs": " \n[1]", "mlflow.y": "\t{}"}},
    "number in text": {"attributes": {"mlflow.spanOutputs": "1", "mlflow.z": "true"}},
    "model in inputs": {"attributes": {"mlflow.spanInputs": {"model": "gpt-4o", "q": 1}}},
    "model in outputs": {"attributes": {"mlflow.spanOutputs": {"model": "gpt-4o"}}},
    "usage": {"attributes": {USAGE: {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6}}},
    "usage and model": {
        "attributes": {USAGE: {"input_tokens": 5, "output_tokens": 5}, "mlflow.llm.model": "gpt-4o"}
    },
    "usage and cost": {
        "attributes": {
            USAGE: {"input_tokens": 5},
            COST: {"total_cost": 1.0},
            "mlflow.llm.model": "m",
        }
    },
    "events": {"events": ["gen_ai.content.prompt"]},
    "OpenTelemetry": {"plain": {"gen_ai.usage.input_tokens": 3, "gen_ai.request.model": "m"}},
    "OpenInference": {"plain": {"openinference.span.kind": "LLM", "input.value": "hi"}},
    "Traceloop": {"plain": {"traceloop.span.kind": "tool", "traceloop.entity.input": "{}"}},
    "nothing": {},
}


@pytest.mark.parametrize("name", SPANS)
def test_a_span_is_stored_as_mlflow_translates_it(span, name):
    """Most spans are MLflow's own and are not shown to its translators: they have nothing for those."""
    one = span("tr-1", **SPANS[name])
    assert stored_fields(one) == translate_span_when_storing(one)


def test_tags_are_set_and_removed(either, info, new_id):
    at, trace_id = either, new_id()
    at.store.start_trace(info(trace_id, at.home))
    at.store.set_trace_tag(trace_id, "a", "1")
    at.store.set_trace_tag(trace_id, "a", "2")
    at.store.set_trace_tag(trace_id, "mlflow.traceName", "other")
    assert {"a": "2", "mlflow.traceName": "other"}.items() <= at.store.get_trace_info(
        trace_id
    ).tags.items()
    at.store.delete_trace_tag(trace_id, "a")
    at.store.delete_trace_tag(trace_id, "mlflow.traceName")
    assert not {"a", "mlflow.traceName"} & at.store.get_trace_info(trace_id).tags.keys()
    for key in ("a", "mlflow.traceName"):
        with pytest.raises(MlflowException, match="No trace tag with key"):
            at.store.delete_trace_tag(trace_id, key)
    with pytest.raises(MlflowException):
        at.store.set_trace_tag(trace_id, "k" * 300, "v")


def test_traces_are_deleted_by_id_by_age_and_by_number(either, info, new_id):
    at, ids = either, [new_id() for _ in range(7)]
    for number, one in enumerate(ids):
        at.store.start_trace(info(one, at.home, request_time=number))
    assert at.store.delete_traces(at.home, trace_ids=[ids[6], "tr-none"]) == 1
    assert at.store.delete_traces(at.home, max_timestamp_millis=4, max_traces=2) == 2
    left, _ = at.store.search_traces([at.home])
    assert [one.trace_id for one in left] == [ids[5], ids[4], ids[3], ids[2]]
    assert at.store.delete_traces(at.home, max_timestamp_millis=4) == 3
    assert at.store.delete_traces(at.home, max_timestamp_millis=4) == 0
    with pytest.raises(MlflowException, match="not found"):
        at.store.get_trace_info(ids[0])
    for wrong in (
        {},
        {"max_timestamp_millis": 1, "trace_ids": ["a"]},
        {"max_timestamp_millis": 1, "max_traces": 0},
    ):
        with pytest.raises(MlflowException):
            at.store.delete_traces(at.home, **wrong)


def test_a_deleted_trace_may_be_logged_again_and_has_nothing_of_the_first(either, info, new_id):
    at, trace_id = either, new_id()
    at.store.start_trace(info(trace_id, at.home, tags={"a": "b"}))
    at.store.delete_traces(at.home, trace_ids=[trace_id])
    at.store.start_trace(info(trace_id, at.home))
    assert "a" not in at.store.get_trace_info(trace_id).tags


def test_traces_are_found_by_the_run_that_they_are_linked_to(either, info, new_id):
    at, ids = either, [new_id() for _ in range(3)]
    run_id = at.store.create_run(at.home, "u", 0, [], "run").info.run_id
    for one in ids:
        at.store.start_trace(info(one, at.home))
    at.store.link_traces_to_run(ids[:2], run_id)
    at.store.link_traces_to_run(ids[1:2], run_id)
    at.store.link_traces_to_run([], run_id)
    found, _ = at.store.search_traces([at.home], f"run_id = '{run_id}'", order_by=["request_id"])
    assert [one.trace_id for one in found] == ids[:2]
    with pytest.raises(MlflowException, match="more than 100"):
        at.store.link_traces_to_run([f"tr-{n}" for n in range(101)], run_id)


def test_a_link_may_come_before_its_trace_and_may_be_undone(store, info, new_id):
    """Spans are exported in the background; the link may be quicker. MLflow's own store does not unlink."""
    at, trace_id = store, new_id()
    run_id = at.store.create_run(at.home, "u", 0, [], "run").info.run_id
    at.store.link_traces_to_run([trace_id], run_id)
    at.store.start_trace(info(trace_id, at.home))
    assert len(at.store.search_traces([at.home], f"run_id = '{run_id}'")[0]) == 1
    at.store.unlink_traces_from_run([trace_id], run_id)
    assert at.store.search_traces([at.home], f"run_id = '{run_id}'")[0] == []


def test_what_is_not_there_is_missing(either, info):
    at = either
    for call in (
        lambda: at.store.get_trace_info("tr-none"),
        lambda: at.store.get_trace("tr-none"),
        lambda: at.store.delete_trace_tag("tr-none", "a"),
        lambda: at.store.start_trace(info("tr-x", "987654321")),
        lambda: at.store.deprecated_end_trace_v2("tr-none", 1, TraceStatus.OK, {}, {}),
    ):
        with pytest.raises(MlflowException) as caught:
            call()
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert at.store.batch_get_traces(["tr-none"]) == []
    assert at.store.batch_get_trace_infos(["tr-none"]) == []
    assert at.store.batch_get_traces([]) == []


def test_traces_are_returned_in_the_order_of_their_ids_and_by_experiment(either, span, new_id):
    at, ids = either, [new_id() for _ in range(3)]
    for one in ids:
        at.store.log_spans(at.home, [span(one)])
    wanted = [ids[2], ids[0], "tr-none"]
    for call in (at.store.batch_get_trace_infos, at.store.batch_get_traces):
        names = [getattr(one, "info", one).trace_id for one in call(wanted)]
        assert names == [ids[2], ids[0]]
        assert call(wanted, experiment_ids=["987654321"]) == []
        assert len(call(wanted, experiment_ids=[at.home])) == 2


def test_a_trace_is_not_returned_before_all_its_spans_have_come(
    either, span, info, new_id, monkeypatch
):
    """Its client notes how many there are; whoever asks for it waits a little, or takes what is there."""
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    at, trace_id = either, new_id()
    stats = {"mlflow.trace.sizeStats": json.dumps({"num_spans": 2})}
    at.store.log_spans(at.home, [span(trace_id)])
    at.store.start_trace(info(trace_id, at.home, trace_metadata=stats))
    with pytest.raises(MlflowException, match="not fully exported"):
        at.store.get_trace(trace_id)
    assert waits == list(trace_calls.WAITS)
    assert len(at.store.get_trace(trace_id, allow_partial=True).data.spans) == 1
    assert at.store.batch_get_traces([trace_id]) == []
    at.store.log_spans(at.home, [span(trace_id, number=2, parent=1)])
    assert len(at.store.get_trace(trace_id).data.spans) == 2


def test_a_trace_whose_spans_are_artifacts_is_not_looked_for_in_the_store(either, info, new_id):
    """Clients of MLflow 2 keep them there; MLflow's own error makes it look."""
    at, trace_id = either, new_id()
    at.store.start_trace(info(trace_id, at.home))
    with pytest.raises(MlflowTracingException, match="not stored in tracking store"):
        at.store.get_trace(trace_id)


def test_a_trace_of_mlflow_2_begins_and_ends(either):
    at = either
    begun = at.store.deprecated_start_trace_v2(at.home, 1_000, {"a": "1", "b": "1"}, {"t": "1"})
    assert (begun.status, begun.timestamp_ms, begun.execution_time_ms) == (
        TraceStatus.IN_PROGRESS,
        1_000,
        None,
    )
    ended = at.store.deprecated_end_trace_v2(
        begun.request_id, 3_500, TraceStatus.ERROR, {"b": "2"}, {"t": "2", "u": "3"}
    )
    assert (ended.status, ended.execution_time_ms) == (TraceStatus.ERROR, 2_500)
    assert ended.request_metadata == {"a": "1", "b": "2"}
    assert {"t": "2", "u": "3"}.items() <= ended.tags.items()


def test_a_deleted_experiment_takes_no_traces(either, info, new_id):
    at = either
    at.store.delete_experiment(at.home)
    with pytest.raises(MlflowException, match="active"):
        at.store.start_trace(info(new_id(), at.home))


def test_a_trace_goes_to_the_experiment_that_its_client_names(either, span, info, new_id):
    """Its spans may have been logged to another one by then."""
    at, trace_id = either, new_id()
    other = at.store.create_experiment(f"other-{trace_id}")
    at.store.log_spans(at.home, [span(trace_id)])
    at.store.start_trace(info(trace_id, other))
    at.store.log_spans(at.home, [span(trace_id, number=2, parent=1)])
    assert at.store.search_traces([at.home])[0] == []
    assert at.store.get_trace_info(trace_id).experiment_id == other
    assert len(at.store.get_trace(trace_id).data.spans) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": {"mlflow.traceName": "n" * 5_000}},
        {"trace_metadata": {"mlflow.trace.session": "s" * 300}},
    ],
    ids=["name", "session"],
)
def test_names_that_are_too_long_are_refused(either, info, new_id, fields):
    with pytest.raises(MlflowException, match=r"exceeds|length"):
        either.store.start_trace(info(new_id(), either.home, **fields))


@pytest.mark.parametrize(
    "text",
    [
        '{"input_tokens": 1.5, "output_tokens": 2, "total_tokens": true}',
        "nonsense",
        "[1]",
        '{"x": 1}',
    ],
)
def test_numbers_that_make_no_sense_are_left_out(either, info, new_id, text):
    at, trace_id = either, new_id()
    at.store.start_trace(info(trace_id, at.home, trace_metadata={OF_TRACE: text}))
    assert tokens(at, trace_id) == ({"output_tokens": 2} if "output" in text else None)
