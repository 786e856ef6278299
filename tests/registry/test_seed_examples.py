"""The product's own examples, with only the import lines changed."""

from __future__ import annotations

import pathlib

import pytest


@pytest.fixture(autouse=True)
def elsewhere(no_current_context, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("model.pkl").write_bytes(b"model")


def test_registry_tracking_and_events_as_the_seed_shows_them():
    from ops.registry import EventType, ModelStage, get_event_emitter, get_mlops_context, init_mlops

    ctx = init_mlops(backend_type="local", storage_path="./mlops_data")
    assert get_mlops_context() is ctx
    seen = []
    subscription = get_event_emitter().subscribe(EventType.MODEL_REGISTERED, seen.append)
    registry = ctx.model_registry
    registry.register_model(
        name="credit_risk_model",
        artifact_path="model.pkl",
        artifact_type="sklearn",
        framework="scikit-learn",
        hyperparameters={"n_estimators": 100, "max_depth": 10},
        metrics={"accuracy": 0.92, "auc": 0.95},
        tags={"team": "ds", "project": "credit"},
    )
    subscription()
    registry.promote_model("credit_risk_model", 1, ModelStage.PRODUCTION)
    prod_model = registry.get_model_by_stage("credit_risk_model", ModelStage.PRODUCTION)
    assert (prod_model.version, len(seen)) == (1, 1)

    tracker = ctx.experiment_tracker
    exp = tracker.create_experiment(
        name="model_tuning_v1", description="Hyperparameter tuning", tags={"team": "ds"}
    )
    with tracker.run_context(exp.experiment_id, name="trial_1") as run:
        for epoch in range(10):
            tracker.log_metric(run.run_id, "loss", 0.5 - epoch * 0.05, step=epoch)
            tracker.log_metric(run.run_id, "accuracy", 0.7 + epoch * 0.03, step=epoch)
        tracker.log_artifact(run.run_id, "model.pkl")
    assert tracker.get_run(run.run_id).metrics["accuracy"] == pytest.approx(0.97)


def test_hooks_as_the_seed_shows_them():
    from ops.registry import HookType, get_hooks_manager, init_mlops

    registry = init_mlops(backend_type="local", storage_path="./mlops").model_registry
    hooks = get_hooks_manager()
    sent = []

    @hooks.register(HookType.PRE_MODEL_REGISTER)
    def validate_model(data):
        if data.get("metrics", {}).get("accuracy", 0) < 0.5:
            raise ValueError("Model accuracy too low")
        return data

    @hooks.register(HookType.POST_MODEL_REGISTER)
    def notify_slack(data):
        sent.append(f"New model: {data['name']}")
        return data

    try:
        with pytest.raises(ValueError, match="too low"):
            registry.register_model("m", "model.pkl", "x", "y", metrics={"accuracy": 0.1})
        registry.register_model("m", "model.pkl", "x", "y", metrics={"accuracy": 0.9})
    finally:
        hooks.unregister(HookType.PRE_MODEL_REGISTER, validate_model)
        hooks.unregister(HookType.POST_MODEL_REGISTER, notify_slack)
    assert sent == ["New model: m"]
