"""Signs of life: how many statements they take, who gives them, and what silence means."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ops.registry import CorruptStoreError, RunStatus
from ops.registry.databricks.tables import FORMAT
from ops.registry.local.liveness import MISSED_HEARTBEATS

pytestmark = pytest.mark.service


@pytest.fixture
def run(tracker, experiment):
    return tracker.start_run(experiment.experiment_id)


@pytest.fixture
def heart(tracker):
    return tracker._runs.heartbeat


def beats(tracker):
    rows = tracker.warehouse.rows("SELECT run_id FROM @ops_run_beats ORDER BY run_id")
    return [row["run_id"] for row in rows]


def test_a_run_is_stale_after_five_silent_intervals_and_not_before(tracker, run, heart):
    def back(seconds):
        tracker.warehouse.change(
            "UPDATE @ops_run_beats SET beat_at = beat_at - :us", us=round(seconds * 1e6)
        )

    back(30 * (MISSED_HEARTBEATS - 1))
    assert tracker.get_run(run.run_id).status is RunStatus.RUNNING
    back(30)
    assert tracker.get_run(run.run_id).status is RunStatus.STALE
    heart.send()
    assert tracker.get_run(run.run_id).status is RunStatus.RUNNING


def test_all_runs_of_a_process_beat_in_one_statement(tracker, experiment, heart, warehouse):
    runs = [tracker.start_run(experiment.experiment_id).run_id for _ in range(3)]
    tracker.end_run(runs.pop())
    before = len(warehouse.seen()["statements"])
    heart.send()
    assert len(warehouse.seen()["statements"]) == before + 1
    found = beats(tracker)
    assert [found.count(run_id) for run_id in runs] == [2, 2]
    assert len(found) == 5


def test_a_process_without_open_runs_says_nothing(tracker, run, heart, warehouse):
    tracker.end_run(run.run_id)
    tracker.flush()
    before = len(warehouse.seen()["statements"])
    heart.send()
    tracker.set_tag(run.run_id, "team", "ds")
    heart.send()  # somebody logged to it
    heart.send()
    sent = warehouse.seen()["statements"][before:]
    assert sum("ops_run_beats" in text for text in sent) == 1


def test_logging_takes_no_sign_of_life_more_often_than_the_interval(
    new_context, run, warehouse, tracker
):
    rank = new_context().experiment_tracker
    now = [0.0]
    rank._runs.heartbeat._clock = lambda: now[0]

    def logged_twenty_times():
        before = len(warehouse.seen()["statements"])
        for step in range(20):
            now[0] += 1.0
            rank.log_metric(run.run_id, "m", 1.0, step=step)
            rank.flush()
        sent = warehouse.seen()["statements"][before:]
        return sum("INSERT INTO" in s and "ops_run_beats" in s for s in sent)

    assert [logged_twenty_times() for _ in range(3)] == [1, 1, 0]


def test_without_a_heartbeat_there_are_no_signs_and_nothing_is_stale(
    new_context, experiment, years_later
):
    tracker = new_context(heartbeat_seconds=0).experiment_tracker
    run = tracker.start_run(experiment.experiment_id)
    tracker.log_metric(run.run_id, "m", 1.0)
    years_later()
    assert tracker.get_run(run.run_id).status is RunStatus.RUNNING
    assert beats(tracker) == []


def test_a_failed_heartbeat_does_not_disturb(tracker, run, heart, warehouse, caplog):
    warehouse.control(token="another")
    heart.send()
    warehouse.control(token="dapi-test")
    assert "gets no heartbeats" in caplog.text
    heart.send()
    assert len(beats(tracker)) == 2


def test_compacting_forgets_the_signs_of_runs_that_have_ended(tracker, experiment, run):
    ended = tracker.start_run(experiment.experiment_id)
    tracker.end_run(ended.run_id)
    tracker.compact()
    assert beats(tracker) == [run.run_id]


@pytest.mark.fault
def test_a_run_whose_process_was_killed_is_stale(
    tracker, experiment, schema, tmp_path, years_later
):
    program = f"""
import os, signal
from ops.registry import MLOpsConfig, MLOpsContext
context = MLOpsContext(MLOpsConfig("databricks", {str(tmp_path / "killed")!r}, "main", {schema!r}))
context.experiment_tracker.start_run({experiment.experiment_id!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    (found,) = tracker.list_runs(experiment.experiment_id)
    assert found.status is RunStatus.RUNNING
    years_later()
    (found,) = tracker.list_runs(experiment.experiment_id)
    assert found.status is RunStatus.STALE


# What another version has left

TABLES_1 = {
    "ops_experiments": "experiment_id STRING NOT NULL, name STRING NOT NULL, description STRING, "
    "tags STRING, created_at BIGINT",
    "ops_runs": "run_id STRING NOT NULL, experiment_id STRING NOT NULL, name STRING, status STRING, "
    "started_at BIGINT, ended_at BIGINT, parent_run_id STRING, error STRING, version BIGINT",
    "ops_run_metrics": "run_id STRING NOT NULL, experiment_id STRING NOT NULL, metric STRING NOT NULL, "
    "value DOUBLE, step BIGINT, logged_at BIGINT, writer STRING, place BIGINT",
    "ops_run_facts": "run_id STRING NOT NULL, experiment_id STRING NOT NULL, kind STRING NOT NULL, "
    "name STRING NOT NULL, body STRING, text STRING, number DOUBLE, logged_at BIGINT, writer STRING, "
    "place BIGINT",
    "ops_models": "name STRING NOT NULL, head STRING NOT NULL, version BIGINT",
    "ops_model_events": "event_id STRING NOT NULL, name STRING NOT NULL, parent STRING, place BIGINT, "
    "frame STRING",
    "ops_files": "path STRING NOT NULL, place STRING, size BIGINT, checksum STRING, version BIGINT",
}


@pytest.fixture
def of_format_1(fresh_schema, new_context):
    """A schema as the version before made it, with a run that it started."""
    warehouse = new_context().experiment_tracker.warehouse
    warehouse.define(f"CREATE SCHEMA IF NOT EXISTS {warehouse.scope}")
    for name, columns in (TABLES_1 | {"ops_format": "format BIGINT"}).items():
        warehouse.define(f"CREATE TABLE IF NOT EXISTS {warehouse.table(name)} ({columns})")
    warehouse.define(f"CREATE VOLUME IF NOT EXISTS {warehouse.table('ops_artifacts')}")
    for name, values in {
        "ops_experiments": "'e1', 'old', '', '{}', 1",
        "ops_runs": "'r1', 'e1', 'first', 'RUNNING', 1, NULL, NULL, NULL, 0",
        "ops_format": "1",
    }.items():
        warehouse.define(f"INSERT INTO {warehouse.table(name)} VALUES ({values})")
    return warehouse


def test_a_schema_of_format_1_is_migrated_when_it_is_needed(of_format_1, new_context):
    tracker = new_context().experiment_tracker
    (run,) = tracker.list_runs("e1")
    assert (run.name, run.status) == ("first", RunStatus.RUNNING)  # nobody said that it lives
    (row,) = tracker.warehouse.rows("SELECT max(format) AS now, count(*) AS steps FROM @ops_format")
    assert row == {"now": FORMAT, "steps": 2}
    (locks,) = tracker.warehouse.rows("SELECT count(*) AS n FROM @ops_experiments WHERE name = ''")
    assert locks == {"n": 1}
    assert [e.name for e in tracker.list_experiments()] == ["old"]
    tracker.log_metric("r1", "m", 1.0)
    assert tracker.end_run("r1").metrics == {"m": 1.0}
    with tracker.run_context("e1") as new:
        assert new.run_id in beats(tracker)


def test_two_who_migrate_at_once_both_go_on(of_format_1, new_context):
    import threading

    trackers = [new_context().experiment_tracker for _ in range(2)]
    found = []
    threads = [
        threading.Thread(target=lambda t=t: found.append(t.list_runs("e1"))) for t in trackers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(runs) for runs in found] == [1, 1]


def test_a_version_that_does_not_know_the_format_refuses_it(tracker, new_context, monkeypatch):
    tracker.list_experiments()
    monkeypatch.setattr("ops.registry.databricks.tables.FORMAT", FORMAT - 1)
    with pytest.raises(CorruptStoreError, match=rf"format {FORMAT}.*knows up to {FORMAT - 1}"):
        new_context().experiment_tracker.list_experiments()
