"""The behaviour suites on the Databricks backend, against the stand-in warehouse."""

from __future__ import annotations

import pytest

from ops.registry import BackendUnavailableError, RunNotFoundError, RunStatus
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


def test_a_deleted_run_is_hidden_from_every_process_until_it_is_restored(
    tracker, experiment, new_context
):
    home = experiment.experiment_id
    kept, gone = (tracker.start_run(home, name).run_id for name in ("kept", "gone"))
    tracker.log_metric(gone, "m", 1.0)
    tracker.delete_run(gone)
    other = new_context().experiment_tracker
    for one in (tracker, other):
        assert [run.run_id for run in one.list_runs(home)] == [kept]
        assert one.count_runs(home) == 1
        (found,) = one.search_runs(home, filter="deleted_at IS NOT NULL and metrics.m > 0")
        assert (found.run_id, found.deleted_at is not None) == (gone, True)
        assert {run.run_id for run in one.list_runs(home, include_deleted=True)} == {kept, gone}
    assert other.restore_run(gone).deleted_at is None
    tracker.delete_run(gone)
    tracker.restore_run(gone)
    assert {run.run_id for run in tracker.list_runs(home)} == {kept, gone}
    assert tracker.get_run(gone).metrics == {"m": 1.0}
    for call in (tracker.delete_run, tracker.restore_run, tracker.erase_run):
        with pytest.raises(RunNotFoundError):
            call("no-such-run")


def test_an_erased_run_leaves_no_row_and_no_file(tracker, experiment, new_context, tmp_path):
    home = experiment.experiment_id
    kept, gone = (tracker.start_run(home, name).run_id for name in ("kept", "gone"))
    (tmp_path / "weights").write_bytes(b"weights")
    for run_id in (kept, gone):
        tracker.log_metric(run_id, "m", 1.0)
        tracker.log_parameter(run_id, "p", 1)
        tracker.log_artifact(run_id, tmp_path / "weights")
    tracker.delete_run(gone)
    tracker.erase_run(gone)
    with pytest.raises(RunNotFoundError):
        new_context().experiment_tracker.get_run(gone)
    for table in ("runs", "run_metrics", "run_facts", "run_beats", "run_deletions"):
        rows = tracker.warehouse.rows(f"SELECT DISTINCT run_id FROM @ops_{table}")
        assert gone not in {row["run_id"] for row in rows}, table
    volume = tracker._files._volume
    assert not list(volume.files(f"runs/{gone}"))
    assert len(list(volume.files(f"runs/{kept}"))) == 1
    assert tracker.get_run(kept).metrics == {"m": 1.0}


def test_a_deletion_is_copied_between_stores(tracker, experiment, new_context):
    run_id = tracker.start_run(experiment.experiment_id).run_id
    tracker.end_run(run_id)
    tracker.delete_run(run_id)
    copy = tracker.export_run(run_id)
    assert copy.deleted is not None
    tracker.restore_run(run_id)
    tracker._runs.adopt(copy, experiment.experiment_id, [])
    assert tracker.export_run(run_id).deleted == copy.deleted
    copy.deleted = None
    tracker._runs.adopt(copy, experiment.experiment_id, [])
    assert tracker.get_run(run_id).deleted_at is None


def test_what_the_tables_cannot_keep_is_refused_before_anything_is_done(tracker, experiment):
    run_id = tracker.start_run(experiment.experiment_id).run_id
    with pytest.raises(BackendUnavailableError, match="local folder"):
        tracker.artifact_folder(run_id)
    assert [run.run_id for run in tracker.list_runs(experiment.experiment_id)] == [run_id]
