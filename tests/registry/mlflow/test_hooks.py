"""Hooks and events are the same whichever interface writes: MLflow's is one of them."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException

from ops.observe.events import get_event_emitter
from ops.observe.hooks import get_hooks_manager
from ops.registry import HookType, MLOpsConfig, MLOpsContext, RunStatus

# MLflow calls its own stages deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")


@pytest.fixture
def hooks():
    manager = get_hooks_manager()
    yield manager
    manager.clear()


@pytest.fixture
def model(client, run_id, tmp_path):
    client.create_registered_model("m")
    client.create_model_version("m", str(tmp_path), run_id, await_creation_for=0)
    return "m"


def veto(data):
    raise PermissionError("vetoed")


def test_a_veto_stops_what_mlflow_writes(client, run_id, model, hooks, tmp_path):
    calls = {
        HookType.PRE_RUN_START: lambda: client.create_run("0"),
        HookType.PRE_METRIC_LOG: lambda: client.log_metric(run_id, "m", 1.0),
        HookType.PRE_RUN_END: lambda: client.set_terminated(run_id),
        HookType.PRE_MODEL_REGISTER: lambda: client.create_model_version(
            model, str(tmp_path), run_id, await_creation_for=0
        ),
        HookType.PRE_MODEL_PROMOTE: lambda: client.transition_model_version_stage(
            model, "1", "Staging"
        ),
    }
    for hook, call in calls.items():
        hooks.register(hook, veto)
        with pytest.raises(PermissionError, match="vetoed"):
            call()
        hooks.unregister(hook, veto)
    assert len(client.search_runs(["0"])) == 1
    assert client.get_run(run_id).info.status == "RUNNING"
    assert client.get_run(run_id).data.metrics == {}
    assert [v.version for v in client.search_model_versions("name='m'")] == [1]


def test_what_a_hook_changes_is_what_mlflow_reads(client, hooks):
    hooks.register(HookType.PRE_RUN_START, lambda data: {**data, "name": "named by a hook"})
    hooks.register(HookType.PRE_METRIC_LOG, lambda data: {**data, "value": data["value"] * 2})
    hooks.register(HookType.PRE_RUN_END, lambda data: {**data, "status": "FAILED"})
    run_id = client.create_run("0", run_name="asked").info.run_id
    client.log_metric(run_id, "m", 1.5)
    client.log_batch(run_id, metrics=[])
    client.set_terminated(run_id)
    found = client.get_run(run_id)
    assert found.info.run_name == "named by a hook"
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"m": 3.0}


def test_what_mlflow_writes_is_told_as_events(client, model, run_id):
    seen = []
    emitter = get_event_emitter()
    unsubscribe = emitter.subscribe("*", lambda event: seen.append(str(event.event_type)))
    try:
        client.log_metric(run_id, "m", 1.0)
        client.log_param(run_id, "p", 1)
        client.set_tag(run_id, "t", 1)
        client.set_terminated(run_id)
        client.transition_model_version_stage(model, "1", "Production")
    finally:
        if callable(unsubscribe):
            unsubscribe()
    assert seen == [
        "metric_logged",
        "parameter_logged",
        "tag_set",
        "run_ended",
        "run_completed",
        "model_promoted",
    ]


@pytest.fixture
def heard():
    seen = []
    unsubscribe = get_event_emitter().subscribe(
        "*", lambda event: seen.append(str(event.event_type))
    )
    yield seen
    unsubscribe()


def test_the_events_are_those_of_the_tracker(client, root, heard):
    home = client.create_experiment("by mlflow")
    client.set_experiment_tag(home, "a", "b")
    client.rename_experiment(home, "by mlflow again")
    run = client.create_run(home, run_name="r").info.run_id
    client.log_metric(run, "m", 1.0)
    client.log_param(run, "p", 1)
    client.set_tag(run, "t", "x")
    client.delete_tag(run, "t")
    client.set_terminated(run, "FAILED")
    client.update_run(run, name="renamed")
    client.delete_run(run)
    client.restore_run(run)
    client.delete_experiment(home)
    client.restore_experiment(home)
    through_mlflow, heard[:] = list(heard), []

    with MLOpsContext(MLOpsConfig(storage_path=root)) as context:
        tracker = context.experiment_tracker
        home = tracker.create_experiment("by the tracker").experiment_id
        tracker.set_experiment_tag(home, "a", "b")
        tracker.rename_experiment(home, "by the tracker again")
        run = tracker.start_run(home, "r").run_id
        tracker.log_metric(run, "m", 1.0)
        tracker.log_parameter(run, "p", 1)
        tracker.set_tag(run, "t", "x")
        tracker.delete_tag(run, "t")
        tracker.end_run(run, RunStatus.FAILED)
        tracker.rename_run(run, "renamed")
        tracker.delete_run(run)
        tracker.restore_run(run)
        tracker.delete_experiment(home)
        tracker.restore_experiment(home)
    assert heard == through_mlflow
    assert len(heard) == 15  # a run that has failed is two


def test_a_hook_may_choose_another_experiment_and_add_parameters(client, hooks):
    other = client.create_experiment("other")
    chosen = {"experiment_id": other, "parameters": {"depth": 3}}
    hooks.register(HookType.PRE_RUN_START, lambda data: data | chosen)
    made = client.create_run("0", run_name="r")
    assert made.info.experiment_id == other
    assert made.data.params == {"depth": "3"}
    assert client.get_run(made.info.run_id).data.params == {"depth": "3"}
    assert client.search_runs(["0"]) == []


def test_a_veto_creates_nothing_at_all(client, root, hooks):
    hooks.register(HookType.PRE_RUN_START, veto)
    with pytest.raises(PermissionError, match="vetoed"):
        client.create_run("0")
    assert not root.exists()


def test_a_run_has_a_name_that_can_be_shown(client):
    with pytest.raises(MlflowException, match="no name for a run"):
        client.create_run("0", run_name="a\x00b")
    with pytest.raises(MlflowException, match="no key"):
        client.create_run("0", tags={" ": "x"})
