"""Several writers of one run, threads and processes: what is first, what is last, and what it costs."""

from __future__ import annotations

import time

import pytest

from ops.registry import RunStatus
from ops.registry.disk import journal
from ops.registry.disk.journal import JournalWriter
from ops.registry.fsck import check
from ops.registry.local import metric_tables, run_journals
from ops.registry.local.index.run_index import RunIndex


@pytest.fixture
def clock_set_back(monkeypatch):
    """Sets all clocks back by an hour."""

    def set_back():
        now = time.time_ns() - 3_600 * 10**9
        monkeypatch.setattr(time, "time_ns", lambda: now)
        for module in ("logging_api", "tracker", "run_life"):
            monkeypatch.setattr(f"ops.registry.tracking.{module}.time_ns", lambda: now)

    return set_back


def test_what_was_logged_last_counts_though_the_clock_was_set_back(
    tracker, experiment, clock_set_back, new_context
):
    run = tracker.start_run(experiment.experiment_id, tags={"t": "first"}).run_id
    tracker.log_parameter(run, "p", "first")
    clock_set_back()
    tracker.log_parameter(run, "p", "second")
    tracker.set_tag(run, "t", "second")
    found = new_context().experiment_tracker.get_run(run)
    assert (found.parameters["p"], found.tags["t"]) == ("second", "second")
    assert check(new_context()).is_sound


def test_another_process_counts_as_later_than_what_it_found(
    tracker, experiment, clock_set_back, new_context
):
    other = new_context().experiment_tracker
    run = tracker.start_run(experiment.experiment_id, tags={"t": "first"}).run_id
    tracker.log_parameter(run, "p", "first")
    clock_set_back()
    other.log_parameter(run, "p", "second")
    other.set_tag(run, "t", "second")
    other.set_tag(run, "t", "third")
    found = tracker.get_run(run)
    assert (found.parameters["p"], found.tags["t"]) == ("second", "third")


def test_the_last_end_of_a_run_counts_though_the_clock_was_set_back(
    tracker, experiment, clock_set_back
):
    run = tracker.start_run(experiment.experiment_id).run_id
    tracker.end_run(run, RunStatus.FAILED, "no space")
    clock_set_back()
    tracker.end_run(run, RunStatus.COMPLETED)
    assert tracker.get_run(run).status is RunStatus.COMPLETED


def test_logging_beside_another_process_reads_what_is_new_and_nothing_again(
    tracker, experiment, new_context, monkeypatch
):
    other = new_context().experiment_tracker
    run = tracker.start_run(experiment.experiment_id).run_id
    decoded = []
    decode = journal.decode
    monkeypatch.setattr(journal, "decode", lambda body: decoded.append(1) or decode(body))
    for step in range(100):
        tracker.log_metric(run, "ours", 1.0, step)
        other.log_metric(run, "theirs", 1.0, step)
    assert len(decoded) < 300


def test_a_thread_that_logs_while_another_ends_the_run_is_heard(tracker, experiment, monkeypatch):
    run = tracker.start_run(experiment.experiment_id).run_id
    append = JournalWriter.append_frames

    def ended_before(self, data, **options):
        monkeypatch.undo()
        tracker.end_run(run)
        return append(self, data, **options)

    monkeypatch.setattr(JournalWriter, "append_frames", ended_before)
    tracker.log_metric(run, "late", 1.0)
    (found,) = tracker.search_runs(experiment.experiment_id, filter="metrics.late = 1")
    assert found.status is RunStatus.COMPLETED


def test_what_a_thread_logs_between_the_end_and_the_index_is_found(
    tracker, experiment, new_context, monkeypatch
):
    run = tracker.start_run(experiment.experiment_id).run_id
    put = RunIndex.put

    def logged_before(self, row, **options):
        monkeypatch.undo()
        tracker.log_metric(run, "late", 1.0)
        put(self, row, **options)

    monkeypatch.setattr(RunIndex, "put", logged_before)
    tracker.end_run(run)
    for one in (tracker, new_context().experiment_tracker):
        (found,) = one.search_runs(experiment.experiment_id, filter="metrics.late = 1")
        assert found.metrics == {"late": 1.0}


def test_a_table_that_is_older_than_the_view_is_not_believed(
    context, tracker, experiment, monkeypatch
):
    monkeypatch.setattr(run_journals, "IN_JSON", 1)
    monkeypatch.setattr(run_journals, "IN_PARQUET", 2)
    run = tracker.start_run(experiment.experiment_id).run_id
    for step in range(4):
        tracker.log_metric(run, "m", float(step), step)
    tracker.end_run(run)
    # Of another process that ended the run too, had read less, and was killed before its view.
    path = context.paths_of_runs(experiment.experiment_id) / f"{run}.metrics.parquet"
    metric_tables.write_points(path, {"m": metric_tables.read_points(path, "m")[:2]})
    assert [m.step for m in tracker.get_metric_history(run, "m")] == [0, 1, 2, 3]
