from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from ops.registry.journal import frame, parse
from ops.registry.runlog import RunReader

WRITER = """
import sys
from ops.registry.context import MLOpsConfig, MLOpsContext
context = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1]))
tracker, registry = context.experiment_tracker, context.model_registry
exp = tracker.get_or_create_experiment("study").experiment_id
while True:
    run = tracker.start_run(exp)
    for step in range(20):
        tracker.log_metric(run.run_id, "m", step, step=step)
        print("metric", run.run_id, step, flush=True)
    tracker.end_run(run.run_id)
    print("ended", run.run_id, flush=True)
    made = registry.register_model("model", sys.argv[2], "binary", "mine")
    print("version", made.version, flush=True)
"""


@pytest.mark.fault
def test_killed_writers_lose_nothing_they_acknowledged(tmp_path, new_context, artifact):
    logs = []
    for round_number in range(4):
        children = []
        for k in range(3):
            log = tmp_path / f"{round_number}-{k}.txt"
            logs.append(log)
            with log.open("w") as out:
                command = [sys.executable, "-c", WRITER, str(tmp_path / "store"), str(artifact)]
                children.append(subprocess.Popen(command, stdout=out, cwd="/"))
        deadline = time.monotonic() + 60
        while not all("version" in log.read_text() for log in logs[-3:]):
            assert all(c.poll() is None for c in children)
            assert time.monotonic() < deadline
            time.sleep(0.01)  # waits for the children's work, not for time to pass
        for child in children:
            child.send_signal(signal.SIGKILL)
            child.wait()

    lines = [ln.split() for log in logs for ln in log.read_text().split("\n")[:-1]]
    context = new_context()
    tracker, registry = context.experiment_tracker, context.model_registry
    versions = sorted(int(w[1]) for w in lines if w[0] == "version")
    known = [v.version for v in registry.list_model_versions("model")]
    assert len(set(versions)) == len(versions)
    assert set(versions) <= set(known)
    assert known == list(range(1, len(known) + 1))

    steps: dict[str, int] = {}
    for words in lines:
        if words[0] == "metric":
            steps[words[1]] = int(words[2])
    for run_id, step in steps.items():
        assert len(tracker.get_metric_history(run_id, "m")) > step
    exp = tracker.get_experiment_by_name("study").experiment_id
    before = {r.run_id: r for r in tracker.list_runs(exp)}
    assert all(before[w[1]].status == "COMPLETED" for w in lines if w[0] == "ended")
    assert set(steps) <= set(before)
    tracker.rebuild()
    after = {r.run_id: r for r in new_context().experiment_tracker.list_runs(exp)}
    assert {i: after[i] for i in before} == before


def test_a_run_cut_at_every_byte_still_reads_all_whole_lines(tracker, experiment):
    with tracker.run_context(experiment.experiment_id) as run:
        for step in range(3):
            tracker.log_metric(run.run_id, "m", float("nan"), step=step)
    folder = tracker.root / "runs" / experiment.experiment_id
    path = folder / f"{run.run_id}.main.log"
    data = path.read_bytes()
    for cut in range(data.index(b"\n") + 1, len(data)):
        path.write_bytes(data[:cut])
        points = RunReader(folder, run.run_id).poll().history.get("m", ())
        assert len(points) == min(3, data[:cut].count(b"\n") - 1)


def test_a_damaged_line_is_skipped_and_counted():
    whole = frame({"a": 1})
    assert parse(whole[:-4] + b"\n" + whole) == ([{"a": 1}], 1, 2 * len(whole) - 3)
