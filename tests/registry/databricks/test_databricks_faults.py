"""What goes wrong between here and a warehouse: nothing is lost, done twice, or said aloud."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import traceback

import pytest

from ops.registry import (
    AlreadyExistsError,
    BackendUnavailableError,
    CorruptStoreError,
    ModelNotFoundError,
    ModelStage,
    StorageError,
)
from ops.registry.databricks import Warehouse, WarehouseAccess

pytestmark = pytest.mark.service


@pytest.fixture
def run_id(tracker, experiment):
    return tracker.start_run(experiment.experiment_id).run_id


def together(*calls, allowed=()):
    """Run calls in threads that start at once; return what each returned, or raised if it may."""
    results = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def one(place, call):
        gate.wait()
        try:
            results[place] = call()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, allowed):
            raise result
    return results


def test_a_busy_warehouse_is_asked_again(tracker, run_id, warehouse):
    warehouse.control(fail=[[503, {"Retry-After": "1"}]])
    assert tracker.get_run(run_id).run_id == run_id


def test_an_expired_token_is_an_error_that_does_not_show_it(tracker, run_id, warehouse, caplog):
    caplog.set_level(logging.DEBUG)
    warehouse.control(token="another")
    with pytest.raises(BackendUnavailableError, match="DATABRICKS_TOKEN") as caught:
        tracker.get_run(run_id)
    said = "".join(traceback.format_exception(caught.value)) + repr(tracker.warehouse)
    assert "dapi-test" not in said + caplog.text + repr(tracker.warehouse.access)
    warehouse.control(token="dapi-test")


def test_logging_goes_on_while_the_warehouse_refuses(tracker, run_id, warehouse):
    warehouse.control(token="another")
    for step in range(3):
        tracker.log_metric(run_id, "loss", 1.0 / (step + 1), step=step)
    with pytest.raises(BackendUnavailableError):
        tracker.flush()
    warehouse.control(token="dapi-test")
    assert [m.step for m in tracker.get_metric_history(run_id, "loss")] == [0, 1, 2]


def test_what_conflicts_is_tried_again(registry, tracker, run_id, warehouse, artifact):
    warehouse.control(conflicts=4)
    assert registry.register_model("m", artifact, "binary", "mine").version == 1
    warehouse.control(conflicts=4)
    tracker.log_metric(run_id, "loss", 1.0)
    assert tracker.end_run(run_id).metrics == {"loss": 1.0}


def test_four_writers_get_versions_that_are_dense_and_unique(new_context, artifact):
    registries = [new_context().model_registry for _ in range(4)]

    def registering(registry):
        return lambda: [
            registry.register_model("m", artifact, "binary", "mine").version for _ in range(4)
        ]

    got = together(*map(registering, registries))
    assert sorted(number for numbers in got for number in numbers) == list(range(1, 17))
    assert [v.version for v in registries[0].list_model_versions("m")] == list(range(1, 17))


def test_of_four_promotions_at_once_one_version_is_left_in_production(new_context, artifact):
    registries = [new_context().model_registry for _ in range(4)]
    for _ in registries:
        registries[0].register_model("m", artifact, "binary", "mine")
    got = together(
        *(
            lambda r=r, n=n: r.promote_model("m", n, ModelStage.PRODUCTION).version
            for n, r in enumerate(registries, 1)
        )
    )
    assert sorted(got) == [1, 2, 3, 4]
    stages = [str(v.stage) for v in registries[0].list_model_versions("m")]
    assert sorted(stages) == ["Archived", "Archived", "Archived", "Production"]


def test_of_four_who_create_one_experiment_one_does(new_context):
    trackers = [new_context().experiment_tracker for _ in range(4)]
    creating = (lambda t=t: t.create_experiment("study") for t in trackers)
    got = together(*creating, allowed=AlreadyExistsError)
    assert sum(isinstance(one, AlreadyExistsError) for one in got) == 3
    assert len(trackers[0].list_experiments()) == 1


def test_four_ranks_log_to_one_run(new_context):
    trackers = [new_context().experiment_tracker for _ in range(4)]
    run = trackers[0].start_run(trackers[0].create_experiment("study").experiment_id)

    def logging_(rank, tracker):
        def call():
            for step in range(5):
                tracker.log_metric(run.run_id, f"loss.{rank}", step, step=step)
            tracker.flush()

        return call

    assert together(*(logging_(*pair) for pair in enumerate(trackers))) == [None] * 4
    summaries = trackers[0].get_run(run.run_id).metric_summaries
    assert {key: s.count for key, s in summaries.items()} == {f"loss.{r}": 5 for r in range(4)}


def test_an_answer_that_is_lost_does_nothing_twice(tracker, run_id, registry, warehouse, artifact):
    tracker.log_metric(run_id, "loss", 1.0)
    warehouse.control(lose=1)
    tracker.flush()
    assert tracker.get_run(run_id).metric_summaries["loss"].count == 1
    warehouse.control(lose=2)
    assert registry.register_model("m", artifact, "binary", "mine").version == 1
    warehouse.control(lose=2)
    registry.promote_model("m", 1, ModelStage.PRODUCTION)
    found = registry.get_model_version("m")
    assert [str(c.stage) for c in found.stage_history] == ["None", "Production"]


def test_an_experiment_whose_answer_is_lost_is_created_once(tracker, warehouse):
    tracker.list_experiments()
    warehouse.control(lose=1)
    made = tracker.create_experiment("study")
    assert [e.experiment_id for e in tracker.list_experiments()] == [made.experiment_id]


def test_a_run_whose_start_was_answered_by_nobody_is_one_run(tracker, experiment, warehouse):
    tracker.flush()
    warehouse.control(lose=2)  # of its sign of life, and of the run
    run = tracker.start_run(experiment.experiment_id)
    where = experiment.experiment_id
    assert [r.run_id for r in tracker.list_runs(where)] == [run.run_id]
    for asked in ({}, {"filter": "status = 'RUNNING'"}):
        assert [r.run_id for r in tracker.search_runs(where, **asked)] == [run.run_id]
        assert tracker.count_runs(where, **asked) == 1
    assert tracker.end_run(run.run_id).run_id == run.run_id


def test_an_upload_that_is_cut_off_is_repeated(registry, warehouse, artifact, tmp_path):
    warehouse.control(cut=1)
    registry.register_model("m", artifact, "binary", "mine")
    assert registry.download_artifact("m", 1, tmp_path / "out").read_bytes() == b"weights"


def test_an_upload_that_is_always_cut_off_leaves_no_version(registry, warehouse, artifact):
    warehouse.control(cut=100)
    with pytest.raises(StorageError):
        registry.register_model("m", artifact, "binary", "mine")
    warehouse.control(cut=0)
    with pytest.raises(ModelNotFoundError):
        registry.get_model_version("m")
    assert not (registry.root / "artifacts").exists()
    assert list(registry.warehouse.staging.iterdir()) == []


def test_a_damaged_file_is_not_handed_out(registry, warehouse, artifact, tmp_path):
    made = registry.register_model("m", artifact, "binary", "mine")
    stored = warehouse.root.joinpath(*made.artifact_uri.split("/")[1:])
    stored.write_bytes(b"other")
    with pytest.raises(CorruptStoreError):
        registry.download_artifact("m", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    stored.unlink()
    with pytest.raises(LookupError):
        registry.download_artifact("m", 1, tmp_path / "out")


def test_no_file_passes_outside_the_staging_folder(registry, artifact, tmp_path):
    made = registry.register_model("m", artifact, "binary", "mine")
    with pytest.raises(StorageError, match="staging_allowed_local_path"):
        registry.warehouse.transfer(f"GET '{made.artifact_uri}' TO '{tmp_path}/evil'")
    assert not (tmp_path / "evil").exists()


def test_a_newer_schema_is_refused(tracker, warehouse, new_context):
    tracker.list_experiments()
    tracker.warehouse.change("INSERT INTO @ops_format VALUES (99)")
    with pytest.raises(CorruptStoreError, match="format 99"):
        new_context(durability="commit").experiment_tracker.list_experiments()


def test_names_with_quotes_are_values_and_nothing_else(tracker, registry, tmp_path):
    name = "x'); DROP TABLE ops_runs; -- :p0 `\\"
    made = tracker.create_experiment(name, tags={name: name})
    with tracker.run_context(made.experiment_id, name) as run:
        tracker.log_metric(run.run_id, name, 1.0)
        tracker.set_tag(run.run_id, name, name)
        tracker.log_text(run.run_id, "text", "it's/ä b.txt")
    found = tracker.get_run(run.run_id)
    assert (found.name, found.tags, found.metrics) == (name, {name: name}, {name: 1.0})
    out = tracker.download_run_artifact(run.run_id, "it's/ä b.txt", tmp_path)
    assert out.read_bytes() == b"text"
    path = tmp_path / "it's ä;.bin"
    path.write_bytes(b"1")
    registry.register_model(name, path, "binary", "mine")
    assert registry.download_artifact(name, 1, tmp_path / "got").read_bytes() == b"1"
    assert [v.name for v in registry.search_models("name like 'x%'")] == [name]


@pytest.mark.fault
def test_what_a_killed_process_logged_is_sent_by_the_next(
    tracker, run_id, new_context, schema, tmp_path
):
    program = f"""
import os, signal
import ops.registry.databricks.spool as spool
spool.INTERVAL_SECONDS = 3600
from ops.registry import MLOpsConfig, MLOpsContext
context = MLOpsContext(MLOpsConfig("databricks", {str(tmp_path / "machine1")!r}, "main", {schema!r}))
for step in range(100):
    context.experiment_tracker.log_metric({run_id!r}, "loss", 1.0, step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert tracker.get_metric_history(run_id, "loss") == []
    next_one = new_context().experiment_tracker  # on machine1
    assert len(next_one.get_metric_history(run_id, "loss")) == 100
    assert list(next_one.root.joinpath("spool").glob("*.log")) == []


def test_secrets_are_in_no_repr_and_never_sent_in_the_clear():
    access = WarehouseAccess("adb.example.net", "/sql/1", "dapi-secret", "id", "other-secret")
    assert "secret'" not in repr(access)
    assert "-secret" not in repr(access)
    with pytest.raises(ValueError, match="http://"):
        WarehouseAccess("http://adb.example.net", "/sql/1", "dapi-secret")
    with pytest.raises(ValueError, match="http://"):
        WarehouseAccess("http://127.0.0.1.example.net", "/sql/1", "dapi-secret")
    with pytest.raises(ValueError, match="http://"):
        WarehouseAccess("http://127.0.0.1:80@example.net", "/sql/1", "dapi-secret")


@pytest.mark.parametrize(
    "name", ["", "a b", "x`;DROP", "a.b", "a/b", "a\\b", "a'b", 'a"b', "a\n", "a" * 256]
)
def test_a_schema_needs_a_plain_name(name, tmp_path):
    with pytest.raises(ValueError, match="schema="):
        Warehouse(WarehouseAccess("h", "/p", "t"), "main", name, tmp_path)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_spool_and_turns_of_its_own(tracker, run_id):
    tracker.log_metric(run_id, "loss", 1.0)
    begun, over = threading.Event(), threading.Event()

    def hold():
        spool = tracker._runs.spool
        with spool._mutex, spool._sending, tracker.warehouse._mutex:
            begun.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:
        signal.alarm(30)
        tracker.log_metric(run_id, "loss", 2.0)
        tracker.flush()
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    over.set()
    thread.join()
    assert ended == 0
    tracker.flush()
    assert tracker.get_run(run_id).metric_summaries["loss"].count == 2
