"""Catalogs and schemas as workspaces have them: with dashes, digits first, and letters of all languages."""

from __future__ import annotations

import uuid

import pytest

from ops.registry import MLOpsConfig, MLOpsContext

pytestmark = pytest.mark.service


@pytest.mark.parametrize("catalog", ["dev-catalog", "2024-ünit-catalog"])
def test_names_that_need_quotes_are_quoted(warehouse, tmp_path, operations, artifact, catalog):
    schema = f"{uuid.uuid4().hex[:8]}-ml"
    config = MLOpsConfig("databricks", str(tmp_path / "here"), catalog=catalog, schema=schema)
    with MLOpsContext(config, operations=operations) as context:
        tracker, registry = context.experiment_tracker, context.model_registry
        experiment = tracker.create_experiment("e").experiment_id
        run = tracker.start_run(experiment).run_id
        tracker.log_metric(run, "loss", 0.5)
        tracker.log_artifact(run, artifact)
        tracker.end_run(run)
        made = registry.register_model("m", artifact, "binary", "mine", tags={"team": "a"})
        assert tracker.get_run(run).metrics == {"loss": 0.5}
        assert len(tracker.search_runs(experiment, filter="metrics.loss < 1")) == 1
        assert f"/Volumes/{catalog}/{schema}/" in made.artifact_uri
        target = registry.download_artifact("m", 1, tmp_path / "copy.bin")
        assert target.read_bytes() == artifact.read_bytes()
