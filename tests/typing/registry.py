"""How users call ops.registry."""

from __future__ import annotations

from typing import assert_type

from ops.registry import ModelStage, ModelVersion, RunStatus, init_mlops


def train() -> int:
    context = init_mlops(backend_type="local", storage_path="./mlops")
    tracker, registry = context.experiment_tracker, context.model_registry
    experiment = tracker.create_experiment("tuning", tags={"team": "ds"})
    with tracker.run_context(experiment.experiment_id, "trial") as run:
        tracker.log_metric(run.run_id, "loss", 0.5, step=1)
        tracker.log_parameters(run.run_id, {"depth": 3, "names": ["a"]})
    assert_type(tracker.get_run(run.run_id).status, RunStatus)
    version = registry.register_model(
        name="m", artifact_path="model.opsf", artifact_type="sklearn", framework="scikit-learn"
    )
    assert_type(version, ModelVersion)
    registry.promote_model("m", version.version, ModelStage.PRODUCTION)
    return version.version
