"""The behaviour suites on the Databricks backend, against the stand-in warehouse."""

from __future__ import annotations

import pytest

from ops.registry import BackendUnavailableError, RunStatus
from ops.registry.conformance import RegistryBehaviour, StorageBehaviour, TrackerBehaviour

pytestmark = pytest.mark.service


class TestTracker(TrackerBehaviour):
    """Runs here in tables."""


class TestRegistry(RegistryBehaviour):
    """Runs here in tables and a volume."""


class TestStorage(StorageBehaviour):
    """Runs here in a table and a volume."""


def test_a_run_that_was_reopened_goes_on(tracker, experiment):
    run_id = tracker.start_run(experiment.experiment_id).run_id
    tracker.end_run(run_id, RunStatus.FAILED, "no")
    again = tracker.reopen_run(run_id)
    assert (again.status, again.end_time, again.error) == (RunStatus.RUNNING, None, None)
    tracker.log_metric(run_id, "m", 1.0)
    assert tracker.end_run(run_id).metrics == {"m": 1.0}


def test_what_the_tables_cannot_keep_is_refused_before_anything_is_done(tracker, experiment):
    run_id = tracker.start_run(experiment.experiment_id).run_id
    for call in (tracker.delete_run, tracker.restore_run, tracker.erase_run):
        with pytest.raises(BackendUnavailableError, match="deletion of runs"):
            call(run_id)
    with pytest.raises(BackendUnavailableError, match="local folder"):
        tracker.artifact_folder(run_id)
    assert [run.run_id for run in tracker.list_runs(experiment.experiment_id)] == [run_id]
