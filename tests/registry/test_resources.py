"""What a process uses stays bounded, however many runs it logs to and however long they are."""

from __future__ import annotations

import contextlib
import os
import pathlib

import pytest

from ops.registry import RunNotFoundError, RunStatus
from ops.registry.local import open_runs, tail
from ops.registry.local.index import open_indexes

pytestmark = pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="needs /proc")


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(open_runs, "MOST_JOURNALS", 4)
    monkeypatch.setattr(open_indexes, "MOST_INDEXES", 3)


@pytest.mark.usefixtures("few")
def test_any_number_of_runs_is_logged_to_with_few_files(tracker, experiment):
    before = open_files()
    runs = [tracker.start_run(experiment.experiment_id).run_id for _ in range(20)]
    for step in range(2):
        for run_id in runs:
            tracker.log_metric(run_id, "m", float(step), step)
    assert open_files() - before < 12
    for run_id in runs:
        assert tracker.get_run(run_id).status is RunStatus.RUNNING
        assert tracker.end_run(run_id).metrics == {"m": 1.0}
    for run_id in runs:
        tracker.set_tag(run_id, "reviewed", "yes")
    assert open_files() - before < 12
    found = tracker.search_runs(experiment.experiment_id, filter="tags.reviewed = 'yes'")
    assert len(found) == 20


@pytest.mark.usefixtures("few")
def test_any_number_of_experiments_is_used_with_few_files(tracker):
    before = open_files()
    homes = [tracker.create_experiment(f"e{n}").experiment_id for n in range(12)]
    for _ in range(2):
        for home in homes:
            with tracker.run_context(home):
                pass
    assert open_files() - before < 12
    assert [len(tracker.list_runs(home)) for home in homes] == [2] * 12


@pytest.mark.usefixtures("few")
def test_a_run_that_was_erased_is_not_made_again_by_logging_to_it(tracker, new_context, experiment):
    run_id = tracker.start_run(experiment.experiment_id).run_id
    for _ in range(6):
        tracker.start_run(experiment.experiment_id)
    new_context().experiment_tracker.erase_run(run_id)
    with pytest.raises(RunNotFoundError):
        tracker.log_metric(run_id, "m", 1.0)
    with contextlib.suppress(RunNotFoundError):
        tracker.get_run(run_id)
    folder = tracker.root / "runs" / experiment.experiment_id
    assert not list(folder.glob(f"{run_id}.*"))


def test_following_keeps_nothing_of_what_it_gave(tracker, experiment, monkeypatch):
    monkeypatch.setattr(tail, "MOST_BYTES", 1_000)
    run_id = tracker.start_run(experiment.experiment_id).run_id
    for step in range(300):
        tracker.log_metric(run_id, "m", float(step), step)
    follower = tracker.follower(run_id)
    seen, rounds = [], 0
    while len(seen) < 300:
        points, _ = follower.poll()
        seen += points
        rounds += 1
        assert not follower._reader.state.history
    assert [point.step for point in seen] == list(range(300))
    assert rounds > 5
    tracker.end_run(run_id)
    assert follower.poll()[0] == []
    assert [m.step for m in tracker.follow(run_id)] == list(range(300))
