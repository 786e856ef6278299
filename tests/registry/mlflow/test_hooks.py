"""Hooks and events are the same whichever interface writes: MLflow's is one of them."""

from __future__ import annotations

import pytest

from ops.observe.events import get_event_emitter
from ops.observe.hooks import get_hooks_manager
from ops.registry import HookType

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
