from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time

import pytest

from ops.foundation.processes import this_process
from ops.registry import InvalidValueError
from ops.registry.local.liveness import MISSED_HEARTBEATS, with_liveness

ELSEWHERE = """
import sys
from ops.registry.context import MLOpsConfig, MLOpsContext
tracker = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])).experiment_tracker
match sys.argv[2:]:
    case ["log", run_id]:
        tracker.log_metric(run_id, "m", 2.0, step=1)
    case ["end", run_id]:
        tracker.log_metric(run_id, "m", 3.0, step=2)
        tracker.end_run(run_id)
"""


@pytest.fixture
def elsewhere(context):
    def call(*words):
        command = [sys.executable, "-c", ELSEWHERE, str(context.path), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return call


def test_following_yields_what_other_processes_log_until_the_end(tracker, experiment, elsewhere):
    run = tracker.start_run(experiment.experiment_id)
    tracker.log_metric(run.run_id, "m", 1.0)
    rounds = iter(["log", "end"])

    def others_work(seconds):
        assert seconds == 0.25
        elsewhere(next(rounds), run.run_id)

    found = tracker.follow(run.run_id, interval_seconds=0.25, sleep=others_work)
    assert [m.value for m in found] == [1.0, 2.0, 3.0]


def test_only_processes_that_can_be_judged_make_a_run_stale(tracker, experiment):
    run = tracker.start_run(experiment.experiment_id)
    (row,) = tracker._runs.index(experiment.experiment_id).rows()
    assert row.run_id == run.run_id
    assert row.owners[0][2] == this_process()

    def nobody(identity):
        return False

    boot, namespace, identity = row.owners[0]
    folder = tracker._runs.folder(experiment.experiment_id)
    assert with_liveness(row, folder, nobody).status == "STALE"
    for other in ([boot, namespace + 1, identity], ["other boot", namespace, identity], None):
        far = dataclasses.replace(row, owners=[row.owners[0], other])
        assert with_liveness(far, folder, nobody).status == "RUNNING"


def test_a_run_of_another_machine_is_stale_when_its_heart_is_silent(tracker, experiment):
    tracker.start_run(experiment.experiment_id)
    (row,) = tracker._runs.index(experiment.experiment_id).rows()
    far = dataclasses.replace(row, owners=[["another boot", 1, 2]])
    folder = tracker._runs.folder(experiment.experiment_id)

    def status(later, row=far):
        return with_liveness(row, folder, now=lambda: time.time() + later).status

    silent = tracker._runs.heartbeat_seconds * MISSED_HEARTBEATS + 5
    assert status(0) == "RUNNING"
    assert status(silent) == "STALE"
    assert status(silent, dataclasses.replace(far, heartbeat_seconds=0)) == "RUNNING"
    path = folder / f"{row.run_id}.main.log"
    os.utime(path, (time.time() + silent, time.time() + silent))
    assert status(silent) == "RUNNING"


def test_the_heart_touches_the_journals_of_open_runs(tracker, experiment):
    run = tracker.start_run(experiment.experiment_id)
    path = tracker._runs.folder(experiment.experiment_id) / f"{run.run_id}.main.log"
    os.utime(path, (0, 0))
    tracker._runs._open.heartbeat.send()
    assert path.stat().st_mtime > 1e9
    tracker.end_run(run.run_id)
    os.utime(path, (0, 0))
    tracker._runs._open.heartbeat.send()
    assert path.stat().st_mtime == 0


def test_a_folder_is_logged_file_by_file(tracker, experiment, tmp_path):
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "a.txt").write_text("a")
    (tmp_path / "out" / "deep" / "b.txt").write_text("b")
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_artifacts(run.run_id, tmp_path / "out", "results")
    found = tracker.get_run(run.run_id).artifacts
    assert [a.path for a in found] == ["results/a.txt", "results/deep"]


def test_a_figure_is_kept_in_the_format_of_its_name(tracker, experiment):
    class Figure:
        def savefig(self, path):
            path.write_bytes(path.suffix.encode())

    with tracker.run_context(experiment.experiment_id) as run:
        kept = tracker.log_figure(run.run_id, Figure(), "plots/curve.png")
        with pytest.raises(InvalidValueError, match="savefig"):
            tracker.log_figure(run.run_id, object(), "x.png")
    folder = tracker.root / "artifacts" / run.run_id
    assert (folder / kept.path).read_bytes() == b".png"
    assert [p.name for p in folder.iterdir()] == ["plots"]


def test_a_run_that_is_over_is_read_once_more_without_waiting_and_not_again(tracker, experiment):
    run_id = tracker.start_run(experiment.experiment_id).run_id
    tracker.log_metric(run_id, "m", 1.0)
    tracker.end_run(run_id)
    follower = tracker.follower(run_id)
    assert [m.value for m in follower.poll()[0]] == [1.0]
    assert follower.is_ending
    assert not follower.is_behind  # who polls until it is not would never wait
    assert follower.poll() == ([], True)
    waited = []
    assert [m.value for m in tracker.follow(run_id, sleep=waited.append)] == [1.0]
    assert waited == []
