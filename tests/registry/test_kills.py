"""Four writers in four working directories, killed over and over: what was acknowledged is there.

`OPS_FAULTS=full` kills a thousand times and writes the figures beside the benchmarks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

KILLS = 1000 if os.environ.get("OPS_FAULTS") == "full" else 60

#: Writers are forked from one process that has imported everything, so that a kill costs
#: milliseconds; the parent itself never touches the store before the last writer is dead.
KILLER = """
import json, os, pathlib, random, signal, sys, time
import pyarrow.compute, pyarrow.parquet
from ops.registry import transfer
from ops.registry.local.index import run_index
from ops.registry.context import MLOpsConfig, MLOpsContext
from ops.registry.fsck import check

here, kills = pathlib.Path(sys.argv[1]), int(sys.argv[2])
run_index.SMALLEST_SEGMENT = 20_000
random.seed(7)

def write(place, log):
    os.chdir(place)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def done(*words):
        os.write(out, (" ".join(map(str, words)) + chr(10)).encode())
    context = MLOpsContext(MLOpsConfig(storage_path="../store"))
    tracker, registry = context.experiment_tracker, context.model_registry
    experiment = tracker.get_or_create_experiment("study").experiment_id
    while True:
        run = tracker.start_run(experiment, tags={"place": place.name}).run_id
        done("start", run)
        for step in range(random.randrange(12)):
            tracker.log_metric(run, "m", step, step=step)
            done("metric", run, step)
        tracker.log_parameters(run, {"depth": 3})
        done("param", run)
        if random.random() < 0.3:
            tracker.log_artifact(run, here / "model.bin")
            done("artifact", run)
        tracker.end_run(run)
        done("end", run)
        if random.random() < 0.3:
            made = registry.register_model("model", here / "model.bin", "binary", "mine")
            done("version", made.version)
            registry.promote_model("model", made.version, "Production")
            done("promoted", made.version)

(here / "model.bin").write_bytes(b"weights")
places = [here / f"place{k}" for k in range(4)]
for place in places:
    place.mkdir()

def begin(k, turn):
    pid = os.fork()
    if not pid:
        try:
            random.seed(turn)
            write(places[k], here / f"log{k}-{turn}")
        finally:
            os._exit(1)
    return pid

def acknowledged(word=b""):
    return sum(log.read_bytes().count(word + b" ") for log in here.glob("log*"))

def wait_until(enough, seconds=120):
    end = time.monotonic() + seconds
    while not enough():
        assert time.monotonic() < end, "the writers have stopped"
        time.sleep(0.002)

def size():
    return sum(entry.stat().st_size for entry in os.scandir(here) if entry.name.startswith("log"))

# The pace is the writers' own: a kill comes after some more acknowledgements, not after some time.
LINE = 40
writers = [begin(k, k) for k in range(4)]
began = time.monotonic()
for turn in range(kills):
    goal = size() + LINE * (random.expovariate(1 / 6) if turn % 25 else 100)
    wait_until(lambda: size() >= goal)
    k = random.randrange(4)
    os.kill(writers[k], signal.SIGKILL)
    _, status = os.waitpid(writers[k], 0)
    assert os.WIFSIGNALED(status), "a writer died of an error of its own"
    writers[k] = begin(k, 4 + turn)
wait_until(lambda: acknowledged(b"start") > kills, 600)
for pid in writers:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
seconds = time.monotonic() - began

acked = {}
for log in here.glob("log*"):
    for line in log.read_text().splitlines():
        kind, *rest = line.split()
        acked.setdefault(kind, []).append(rest)
context = MLOpsContext(MLOpsConfig(storage_path=str(here / "store")))
tracker, registry = context.experiment_tracker, context.model_registry
experiment = tracker.get_experiment_by_name("study").experiment_id
before = {r.run_id: r for r in tracker.list_runs(experiment)}
lost = [run for run, in acked["start"] if run not in before]
steps = {}
for run, step in acked["metric"]:
    steps[run] = max(steps.get(run, 0), int(step))
for run, step in steps.items():
    if len(tracker.get_metric_history(run, "m")) <= step:
        lost.append((run, "metrics"))
lost += [run for run, in acked["param"] if before[run].parameters != {"depth": 3}]
lost += [run for run, in acked["artifact"] if not before[run].artifacts]
lost += [run for run, in acked["end"] if before[run].status != "COMPLETED"]
alive = [r.run_id for r in before.values() if r.status not in {"COMPLETED", "STALE"}]
versions = [v.version for v in registry.list_model_versions("model")]
given = [int(v) for v, in acked["version"]]
production = [v for v in registry.list_model_versions("model") if v.stage == "Production"]
found = tracker.search_runs(experiment, filter="params.depth = 3 and status = 'COMPLETED'")
by_search = {r.run_id for r in found}
by_look = {i for i, r in before.items() if r.status == "COMPLETED" and r.parameters}
tracker.rebuild()
after = {r.run_id: r for r in tracker.list_runs(experiment)}
report = check(context, repair=True)
print(json.dumps({
    "kills": kills + 4,
    "seconds": round(seconds, 1),
    "runs_acknowledged": len(acked["start"]),
    "metrics_acknowledged": len(acked["metric"]),
    "versions_acknowledged": len(given),
    "lost": len(lost),
    "shown_as_running": len(alive),
    "versions_dense": versions == list(range(1, len(versions) + 1)),
    "versions_given_twice": len(given) - len(set(given)),
    "versions_missing": len(set(given) - set(versions)),
    "in_production": len(production),
    "search_differs": len(by_search ^ by_look),
    "index_differs_after_rebuild": sum(after.get(i) != r for i, r in before.items()),
    "torn_lines": report.torn_lines,
    "problems_after_repair": report.problems,
    "compacted": tracker._runs.index(experiment).parquet.stat().st_size > 0,
}))
"""


@pytest.mark.fault
@pytest.mark.timeout(1800)
def test_writers_in_four_places_lose_nothing_under_kills(tmp_path, fault_record):
    command = [sys.executable, "-c", KILLER, str(tmp_path), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    fault_record["four writers in four working directories"] = found
    assert found["versions_dense"]
    assert found["in_production"] == 1
    wrong = (
        "lost",
        "shown_as_running",
        "versions_given_twice",
        "versions_missing",
        "search_differs",
        "index_differs_after_rebuild",
    )
    assert found["problems_after_repair"] == []
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert found["runs_acknowledged"] > KILLS
