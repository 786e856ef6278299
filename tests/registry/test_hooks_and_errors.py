"""Hooks and events tell what was written, and errors say what to do."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import pathlib
import time

import pytest

from ops.registry import (
    ErrorCode,
    ExperimentNotFoundError,
    HookType,
    InvalidValueError,
    MLOpsException,
    RunNotFoundError,
    RunStatus,
    wrap_exception,
)


@pytest.fixture
def told(operations):
    seen = []
    operations.emitter.subscribe(
        "*", lambda event: seen.append((str(event.event_type), event.data))
    )
    return lambda name: [data for kind, data in seen if kind == name]


def test_what_a_hook_changes_is_written_and_reported(tracker, registry, operations, told, artifact):
    changes = {
        HookType.PRE_RUN_START: {"name": "changed", "tags": {"by": "hook"}},
        HookType.PRE_RUN_END: {"status": "FAILED", "error": "by a hook"},
        HookType.PRE_METRIC_LOG: {"value": 2.0},
        HookType.PRE_MODEL_REGISTER: {"description": "by a hook"},
        HookType.PRE_MODEL_PROMOTE: {"stage": "Staging"},
    }
    for hook, change in changes.items():
        operations.hooks.register(hook, lambda data, change=change: {**data, **change})
    run = tracker.start_run(tracker.create_experiment("e").experiment_id, "asked")
    tracker.log_metric(run.run_id, "m", 1.0)
    tracker.end_run(run.run_id)
    found = tracker.get_run(run.run_id)
    assert (found.name, found.tags, found.metrics) == ("changed", {"by": "hook"}, {"m": 2.0})
    assert (found.status, found.error) == (RunStatus.FAILED, "by a hook")
    assert told("run_started")[0]["name"] == "changed"
    assert told("metric_logged")[0]["value"] == 2.0
    assert told("run_ended")[0]["status"] == "FAILED"
    assert told("run_failed")
    assert not told("run_completed")
    registry.register_model("m", artifact, "binary", "mine")
    assert registry.promote_model("m", 1, "Production").stage == "Staging"
    assert registry.get_model_version("m").metadata.description == "by a hook"
    assert told("model_promoted")[0]["stage"] == "Staging"


def test_a_hook_that_changes_data_in_place_is_heard_too(tracker, operations, experiment):
    operations.hooks.register(HookType.PRE_RUN_END, lambda data: data.update(status="CANCELLED"))
    run = tracker.start_run(experiment.experiment_id)
    assert tracker.end_run(run.run_id).status is RunStatus.CANCELLED


@pytest.mark.parametrize("answer", [{"run_id": "another"}, "text"])
def test_a_hook_cannot_change_what_an_operation_is_about(tracker, operations, experiment, answer):
    run = tracker.start_run(experiment.experiment_id)
    operations.hooks.register(HookType.PRE_METRIC_LOG, lambda _: answer)
    with pytest.raises(InvalidValueError, match="hook"):
        tracker.log_metric(run.run_id, "m", 1.0)
    assert tracker.get_run(run.run_id).metrics == {}


def test_a_path_that_a_hook_changes_is_the_one_that_is_written(storage, operations):
    operations.hooks.register(
        HookType.PRE_STORAGE_WRITE, lambda data: {"path": f"team/{data['path']}"}
    )
    storage.write_json(1, "a.json")
    assert storage.list_paths() == ["team/a.json"]


def test_an_error_runs_its_hook_once(registry, operations):
    seen = []
    operations.hooks.register(HookType.ON_ERROR, seen.append)
    with pytest.raises(MLOpsException):
        registry.promote_model("absent", 1, "Production")
    (data,) = seen
    assert (data["operation"], data["code"]) == ("promote_model", "MODEL_NOT_FOUND")


def test_a_whole_run_or_experiment_in_place_of_its_id_is_an_error_that_says_so(tracker, experiment):
    run = tracker.start_run(experiment.experiment_id)
    for call in (
        lambda: tracker.get_run(run),
        lambda: tracker.log_metric(run, "m", 1.0),
        lambda: tracker.set_tag(run, "a", "b"),
        lambda: tracker.end_run(run),
        lambda: tracker.log_artifact(run, __file__),
    ):
        with pytest.raises(RunNotFoundError, match=f"Pass the id of the run: '{run.run_id}'"):
            call()
    for call in (tracker.start_run, tracker.list_runs, tracker.search_runs):
        with pytest.raises(ExperimentNotFoundError, match="Pass the id of the experiment"):
            call(experiment)


@pytest.mark.parametrize("wrong", [0.9, (">",), (">", None), (1, 2), ("~", 0.9), {"a": 1}])
def test_an_odd_metric_filter_is_refused(tracker, experiment, wrong):
    with pytest.raises(InvalidValueError):
        tracker.search_runs(experiment.experiment_id, metric_filter={"auc": wrong})


class Colour(enum.Enum):
    RED = "red"


def test_parameters_have_documented_text_forms(tracker, experiment):
    given = {
        "enum": (Colour.RED, "red"),
        "time": (dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC), "2026-01-31T12:00:00+00:00"),
        "day": (dt.date(2026, 1, 31), "2026-01-31"),
        "span": (dt.timedelta(minutes=1), 60.0),
        "exact": (decimal.Decimal("1.10"), "1.10"),
        "path": (pathlib.PurePosixPath("/data/x"), "/data/x"),
        "function": (len, "repr:builtins.len"),
        "nested": ({"a": [Colour.RED, (1, 2)]}, {"a": ["red", [1, 2]]}),
    }
    run = tracker.start_run(experiment.experiment_id)
    tracker.log_parameters(run.run_id, {key: value for key, (value, _) in given.items()})
    found = tracker.get_run(run.run_id).parameters
    assert found == {key: text for key, (_, text) in given.items()}


def test_the_parameters_of_a_pipeline_are_logged(tracker, experiment):
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    run = tracker.start_run(experiment.experiment_id)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.5))
    tracker.log_parameters(run.run_id, pipeline.get_params())
    found = tracker.get_run(run.run_id).parameters
    assert found["standardscaler"] == "repr:StandardScaler()"
    assert found["logisticregression__C"] == 0.5


def test_a_value_that_cannot_be_kept_is_named_by_its_key(tracker, experiment):
    run = tracker.start_run(experiment.experiment_id)
    loop = []
    loop.append(loop)
    for value in ({"b": [object()]}, b"bytes", loop):
        with pytest.raises(InvalidValueError, match="'a"):
            tracker.log_parameters(run.run_id, {"fine": 1, "a": value})
    assert tracker.get_run(run.run_id).parameters == {}


def test_wrapped_errors_are_caught_as_those_of_this_package():
    cause = OSError("disk")
    error = wrap_exception(cause, ErrorCode.STORAGE_ERROR, "Failed to save", model="m")
    assert isinstance(error, MLOpsException)
    assert (error.error_code, error.__cause__) == ("STORAGE_ERROR", cause)
    assert str(error) == "Failed to save: disk"


def test_of_two_values_at_one_step_the_later_counts_when_the_clock_is_set_back(
    tracker, experiment, monkeypatch
):
    run = tracker.start_run(experiment.experiment_id)
    now = time.time_ns()
    for value, when in ((9.0, now), (1.0, now - 3_600 * 10**9)):
        monkeypatch.setattr(time, "time_ns", lambda when=when: when)
        tracker.log_metric(run.run_id, "m", value)
    monkeypatch.undo()
    assert tracker.get_run(run.run_id).metrics == {"m": 1.0}


def test_no_run_takes_less_than_no_time(tracker, experiment, monkeypatch):
    run = tracker.start_run(experiment.experiment_id)
    earlier = time.time_ns() - 3_600 * 10**9
    monkeypatch.setattr("ops.registry.tracking.tracker.time_ns", lambda: earlier)
    ended = tracker.end_run(run.run_id)
    assert ended.duration_seconds == 0
    assert ended.end_time == ended.start_time


def test_a_block_that_is_left_in_another_context_keeps_its_error(tracker, experiment):
    async def batches():
        with tracker.run_context(experiment.experiment_id) as run:
            yield run
            raise KeyError("what went wrong")

    async def main():
        made = batches()
        run = await asyncio.create_task(made.__anext__())
        with pytest.raises(KeyError, match="what went wrong"):
            await asyncio.create_task(made.__anext__())
        return run

    run = asyncio.run(main())
    assert tracker.get_run(run.run_id).status is RunStatus.FAILED


def test_blocks_within_blocks_are_children(tracker, experiment):
    home = experiment.experiment_id
    other = tracker.create_experiment("other").experiment_id
    with tracker.run_context(home) as outer:
        with tracker.run_context(home) as inner:
            pass
        with tracker.run_context(other) as elsewhere:
            pass
    with tracker.run_context(home) as after:
        pass
    assert inner.parent_run_id == outer.run_id
    assert (elsewhere.parent_run_id, after.parent_run_id) == (None, None)


def test_a_figure_without_a_suffix_is_a_picture(tracker, experiment):
    class Figure:
        def savefig(self, path):
            pathlib.Path(path).write_bytes(b"png")

    run = tracker.start_run(experiment.experiment_id)
    assert tracker.log_figure(run.run_id, Figure(), "plots/loss").path == "plots/loss.png"


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"experiment_id": "gone"}, InvalidValueError, "was deleted"),
        ({"experiment_id": "nowhere"}, ExperimentNotFoundError, "nowhere"),
        ({"parent_run_id": "nobody"}, RunNotFoundError, "nobody"),
    ],
)
def test_what_a_hook_chooses_for_a_run_must_be_there(
    tracker, experiment, operations, chosen, error, message
):
    gone = tracker.create_experiment("gone").experiment_id
    tracker.delete_experiment(gone)
    asked = {key: gone if value == "gone" else value for key, value in chosen.items()}
    operations.hooks.register(HookType.PRE_RUN_START, lambda data: data | asked)
    with pytest.raises(error, match=message):
        tracker.start_run(experiment.experiment_id)
    assert tracker.list_runs(experiment.experiment_id) == []
    assert tracker.list_runs(gone) == []
