"""The suite of runs with each backend of the fixtures, and what is special about local files."""

from __future__ import annotations

import json
import shutil

import pytest

from ops.registry import (
    ArtifactNotFoundError,
    InvalidValueError,
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


def test_a_parameter_that_cannot_be_kept_leaves_no_trace_of_the_run(tracker, experiment):
    with pytest.raises(InvalidValueError):
        tracker.start_run(experiment.experiment_id, parameters={"p": object()})
    assert not list((tracker.root / "runs").rglob("*.log"))


def test_a_folder_of_runs_that_was_removed_appears_again(tracker, experiment):
    first = tracker.start_run(experiment.experiment_id)
    tracker.close()
    shutil.rmtree(tracker.root / "runs")
    second = tracker.start_run(experiment.experiment_id)
    assert [r.run_id for r in tracker.list_runs(experiment.experiment_id)] == [second.run_id]
    assert second.run_id != first.run_id
