"""The suite of runs with each backend of the fixtures, and what is special about local files."""

from __future__ import annotations

import json

import pytest

from ops.registry import (
    ArtifactNotFoundError,
)
from ops.registry.conformance import TrackerBehaviour


class TestTracker(TrackerBehaviour):
    """Runs here with the backends of conftest."""


def test_texts_and_dicts_become_artifacts(tracker, experiment):
    run = tracker.start_run(experiment.experiment_id)
    kept = tracker.log_dict(run.run_id, {"a": [1]}, "notes/a.json")
    with open(kept.uri) as file:
        assert json.load(file) == {"a": [1]}
    with pytest.raises(ValueError):
        tracker.log_text(run.run_id, "x", "../../outside")
    with pytest.raises(ArtifactNotFoundError):
        tracker.log_artifact(run.run_id, "/nowhere/model.pkl")
