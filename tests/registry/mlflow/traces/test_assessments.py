"""Assessments of traces are kept here as in MLflow's SQLite store, which each test also asks."""

from __future__ import annotations

import pytest
from mlflow.entities import AssessmentError, AssessmentSource, Expectation, Feedback, IssueReference
from mlflow.entities.assessment import ExpectationValue, FeedbackValue
from mlflow.exceptions import MlflowException

HUMAN = AssessmentSource("HUMAN", "ada")


@pytest.fixture
def at(either, info, new_id):
    """A store with a trace."""
    either.trace_id = new_id()
    either.store.start_trace(info(either.trace_id, either.home))
    return either


def feedback(at, value=True, **more):
    given = {"name": "score", "value": value, "trace_id": at.trace_id, "source": HUMAN} | more
    return at.store.create_assessment(Feedback(**given))


def again(at, one):
    return at.store.get_assessment(at.trace_id, one.assessment_id)


@pytest.mark.parametrize("value", [True, 3, 4.5, "yes", ["a", 1], {"k": [1]}, None], ids=repr)
def test_feedback_comes_back_as_it_was_given(at, value):
    made = feedback(at, value, rationale="why", metadata={"a": "b"}, span_id="s-1")
    assert made.assessment_id.startswith("a-")
    assert again(at, made) == made
    assert (made.value, type(made.value)) == (value, type(value))
    assert (made.rationale, made.metadata, made.span_id, made.valid) == (
        "why",
        {"a": "b"},
        "s-1",
        True,
    )
    assert (made.source, made.trace_id) == (HUMAN, at.trace_id)
    assert at.store.get_trace_info(at.trace_id).assessments == [made]


def test_an_error_a_run_an_expectation_and_an_issue_are_kept(at):
    error = AssessmentError("CODE", "message", "stack")
    made = feedback(at, None, error=error)
    assert again(at, made).error == error
    run = feedback(at, metadata={"mlflow.assessment.sourceRunId": "r1"})
    assert again(at, run).run_id == "r1"
    expected = at.store.create_assessment(
        Expectation("answer", {"x": 1}, trace_id=at.trace_id, source=HUMAN, metadata={"m": "n"})
    )
    assert again(at, expected) == expected
    assert (expected.value, expected.metadata) == ({"x": 1}, {"m": "n"})
    issue = at.store.create_assessment(
        IssueReference(issue_id="i-1", issue_name="slow", trace_id=at.trace_id, source=HUMAN)
    )
    assert again(at, issue).issue_name == "slow"
    assert len(at.store.search_traces([at.home], "issue.id = 'i-1'")[0]) == 1


def test_an_update_changes_what_it_is_given(at):
    made = feedback(at, "poor", rationale="why", metadata={"keep": "1", "change": "1"})
    changed = at.store.update_assessment(
        at.trace_id, made.assessment_id, feedback=FeedbackValue("good"), metadata={"change": "2"}
    )
    assert changed == again(at, changed)
    assert (changed.value, changed.rationale, changed.name) == ("good", "why", "score")
    assert changed.metadata == {"keep": "1", "change": "2"}
    assert changed.create_time_ms == made.create_time_ms <= changed.last_update_time_ms
    renamed = at.store.update_assessment(
        at.trace_id, made.assessment_id, name="other", rationale="so"
    )
    assert (renamed.name, renamed.rationale, renamed.value) == ("other", "so", "good")
    assert renamed.source == HUMAN


def test_a_kind_stays_what_it_is(at):
    made = feedback(at)
    expected = at.store.create_assessment(Expectation("a", 1, trace_id=at.trace_id, source=HUMAN))
    with pytest.raises(MlflowException, match="Cannot update expectation value on a Feedback"):
        at.store.update_assessment(at.trace_id, made.assessment_id, expectation=ExpectationValue(1))
    with pytest.raises(MlflowException, match="Cannot update feedback value on an Expectation"):
        at.store.update_assessment(at.trace_id, expected.assessment_id, feedback=FeedbackValue(1))
    with pytest.raises(MlflowException, match="Cannot specify both"):
        at.store.update_assessment(
            at.trace_id,
            made.assessment_id,
            expectation=ExpectationValue(1),
            feedback=FeedbackValue(1),
        )
    changed = at.store.update_assessment(
        at.trace_id, expected.assessment_id, expectation=ExpectationValue(2)
    )
    assert again(at, changed).value == 2


def test_what_is_overridden_is_invalid_as_long_as_that_is_there(at):
    first = feedback(at, "poor")
    second = feedback(at, "good", overrides=first.assessment_id)
    assert (again(at, first).valid, again(at, second).valid) == (False, True)
    at.store.update_assessment(at.trace_id, first.assessment_id, rationale="still")
    assert again(at, first).valid is False
    at.store.delete_assessment(at.trace_id, second.assessment_id)
    assert again(at, first).valid is True
    with pytest.raises(MlflowException, match="not found"):
        feedback(at, overrides="a-none")


def test_an_assessment_is_deleted_once_and_that_may_be_repeated(at):
    made = feedback(at)
    for _ in range(2):
        at.store.delete_assessment(at.trace_id, made.assessment_id)
    with pytest.raises(MlflowException, match=r"Assessment with ID .* not found for trace"):
        again(at, made)


def test_what_is_not_there_is_missing(at):
    for call in (
        lambda: at.store.get_assessment("tr-none", "a"),
        lambda: at.store.get_assessment(at.trace_id, "a"),
        lambda: at.store.update_assessment("tr-none", "a", rationale="x"),
        lambda: at.store.create_assessment(Feedback("x", 1, trace_id="tr-none", source=HUMAN)),
    ):
        with pytest.raises(MlflowException) as caught:
            call()
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_assessments_come_with_the_trace_that_is_logged(at, info, new_id):
    trace_id = new_id()
    given = [Feedback("score", 1, source=HUMAN), Expectation("answer", "42", source=HUMAN)]
    made = at.store.start_trace(info(trace_id, at.home, assessments=given))
    assert [(one.name, one.value, one.trace_id) for one in made.assessments] == [
        ("score", 1, trace_id),
        ("answer", "42", trace_id),
    ]


def test_a_value_that_is_no_json_is_refused(store, info, new_id):
    trace_id = new_id()
    store.store.start_trace(info(trace_id, store.home))
    with pytest.raises(MlflowException, match="cannot be kept as JSON"):
        store.store.create_assessment(Feedback("x", {1, 2}, trace_id=trace_id, source=HUMAN))
    assert store.store.get_trace_info(trace_id).assessments == []


def test_an_id_is_given_once(store, info, new_id):
    trace_id = new_id()
    store.store.start_trace(info(trace_id, store.home))
    given = Feedback("x", 1, trace_id=trace_id, source=HUMAN)
    store.store.create_assessment(given)
    with pytest.raises(MlflowException, match="already"):
        store.store.create_assessment(given)
