"""Stores that MLflow 1, 2 and 3 wrote, imported without mlflow."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import datetime as dt
import hashlib
import json
import math
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys

import pytest

from ops.foundation.errors import LockTimeout
from ops.foundation.locks import FileLock
from ops.registry import InvalidValueError, MLOpsConfig, MLOpsContext, RunStatus
from ops.registry.__main__ import main
from ops.registry.fsck import check
from ops.registry.importing import run_writer
from ops.registry.importing.formats import foreign_store
from ops.registry.importing.store_import import import_foreign
from ops.registry.local.run_store import RunStore
from ops.registry.transfer import copy_store

FILES = [
    "mlflow-1.30.1-mlruns",
    "mlflow-2.9.2-mlruns",
    "mlflow-3.1.4-mlruns",
    "mlflow-3.12.0-mlruns",
]
SQLITE = "mlflow-3.17.0-sqlite"
LARGEST = sys.float_info.max
STATUS = {"FINISHED": "COMPLETED", "KILLED": "CANCELLED"}


@pytest.fixture
def target(tmp_path, operations):
    """The store that imports go into, which is not there yet."""
    with MLOpsContext(
        MLOpsConfig("local", str(tmp_path / "target")), operations=operations
    ) as made:
        yield made


@pytest.fixture
def bring(target):
    """Imports a folder or file into the store, and returns what was brought."""

    def bring(path, **options):
        return import_foreign(foreign_store(path), target, **options)

    return bring


def source_of(folder):
    return folder if (folder / "mlflow.db").exists() else folder / "mlruns"


def number(value, *, sql):
    found = float(value) + 0.0 if sql else float(value)  # SQLite has no zero that is negative
    return math.copysign(LARGEST, found) if sql and math.isinf(found) else found


def points(histories, *, sql):
    """Return the points that were logged as something that can be compared, NaN too."""
    found = [
        (key, repr(number(value, sql=sql)), when, step)
        for key, history in histories.items()
        for value, when, step in history
    ]
    return collections.Counter(dict.fromkeys(found, 1) if sql else found)


def milliseconds(when):
    return (
        None
        if when is None
        else (when - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
    )


@pytest.mark.parametrize("name", [*FILES, SQLITE])
def test_all_that_was_logged_is_there(name, foreign, bring, target):
    folder, expected = foreign(name)
    done = bring(source_of(folder))
    assert done.refused == []
    assert done.runs == expected["counts"]["runs"]
    tracker = target.experiment_tracker
    for wanted in expected["runs"].values():
        run = tracker.get_run(wanted["run_id"])
        assert run.name == wanted["run_name"]
        assert run.status == STATUS.get(wanted["status"], wanted["status"])
        assert (run.deleted_at is not None) == (wanted["lifecycle_in_store"] == "deleted")
        assert milliseconds(run.start_time) == wanted["start_time"]
        if wanted["end_time"] != "clock":
            assert milliseconds(run.end_time) == wanted["end_time"]
        assert run.parameters == {k: str(v) for k, v in wanted["params"].items()}
        assert wanted["tags"].items() <= run.tags.items()
        assert run.parent_run_id == wanted["tags"].get("mlflow.parentRunId")
        logged = {
            key: [h if h[1] is not None else [h[0], 0, h[2]] for h in history]
            for key, history in wanted["metrics"].items()
        }
        clocked = {key for key, history in wanted["metrics"].items() if history[0][1] is None}
        found = {
            key: [
                [m.value, 0 if key in clocked else milliseconds(m.timestamp), m.step]
                for m in tracker.get_metric_history(run.run_id, key)
            ]
            for key in run.metrics
        }
        sql = name == SQLITE
        assert points(found, sql=sql) == points(logged, sql=sql)
        artifacts = {a.path: {"bytes": a.size, "sha256": a.checksum} for a in run.artifacts}
        assert wanted["artifacts"].items() <= artifacts.items()
        tracker.verify_artifacts(run)
    assert check(target).is_sound


@pytest.mark.parametrize("name", [*FILES, SQLITE])
def test_experiments_keep_their_ids_and_deleted_ones_stay_deleted(name, foreign, bring, target):
    folder, expected = foreign(name)
    bring(source_of(folder))
    found = {e.name: e for e in target.experiment_tracker.list_experiments(include_deleted=True)}
    assert found.keys() == expected["experiments"].keys()
    for title, wanted in expected["experiments"].items():
        assert found[title].experiment_id == wanted["experiment_id"]
        assert found[title].tags == wanted["tags"]
        assert (found[title].deleted_at is not None) == (wanted["lifecycle"] == "deleted")


@pytest.mark.parametrize("name", [*FILES[1:], SQLITE])
def test_models_keep_the_numbers_of_their_versions(name, foreign, bring, target):
    folder, expected = foreign(name)
    bring(source_of(folder))
    registry = target.model_registry
    for title, wanted in expected["registered_models"].items():
        if not wanted["versions"]:
            assert registry.history(title)[0]["op"] == "create"
            continue
        there = {v.version: v for v in registry.list_model_versions(title)}
        kept = {int(n): v for n, v in wanted["versions"].items() if not v["deleted"]}
        assert there.keys() == kept.keys()
        for count, version in kept.items():
            assert str(there[count].stage) == version["stage"]
            assert there[count].metadata.description == version["description"]
            assert there[count].metadata.tags == version["tags"]
            assert there[count].metadata.experiment_run_id == version["run_id"]
            assert (pathlib.Path(there[count].artifact_uri) / "MLmodel").is_file()
            assert there[count].artifact_uri.startswith(str(target.path))
        aliases = {a: str(v.version) for v in there.values() for a in v.aliases}
        assert aliases == wanted["aliases"]
        highest = max(map(int, wanted["versions"]))
        added = target.path / "more"
        added.mkdir()
        (added / "model.txt").write_text("another")
        assert (
            registry.register_model(title, added / "model.txt", "text", "none").version
            == highest + 1
        )


@pytest.mark.parametrize("name", [FILES[0], FILES[3], SQLITE])
def test_an_import_that_is_repeated_changes_nothing(name, foreign, bring, target):
    folder, expected = foreign(name)
    bring(source_of(folder))
    before = {p: p.read_bytes() for p in target.path.rglob("*.log") if p.is_file()}
    again = bring(source_of(folder))
    assert again.runs_there == expected["counts"]["runs"]
    assert (again.runs, again.runs_changed, again.points, again.files, again.versions) == (0,) * 5
    assert {p: p.read_bytes() for p in before} == before


def test_a_run_that_goes_on_gets_what_is_new(foreign, bring, target):
    folder, expected = foreign(FILES[3])
    bring(folder / "mlruns")
    wanted = next(r for r in expected["runs"].values() if r["run_name"] == "empty")
    run_id = wanted["run_id"]
    tracker = target.experiment_tracker
    tracker.set_tag(run_id, "ours", "kept")
    run = folder / "mlruns" / wanted["folder"]
    (run / "metrics" / "loss").write_text(
        "1790028800000 0.5 0\n1790028801000 0.25 1\n1790028802000 0.1"
    )
    (run / "params" / "depth").write_text("3")
    (run / "artifacts" / "late.txt").write_text("late")
    assert bring(folder / "mlruns").runs_changed == 1
    (run / "metrics" / "loss").write_text(
        "1790028800000 0.5 0\n1790028801000 0.25 1\n1790028802000 0.125 2\n"
    )
    (run / "artifacts" / "late.txt").write_text("later")
    meta = (run / "meta.yaml").read_text()
    (run / "meta.yaml").write_text(
        meta.replace("status: 1", "status: 3").replace("end_time: null", "end_time: 1790028803000")
    )
    done = bring(folder / "mlruns")
    assert (done.runs_changed, done.points, done.files) == (1, 1, 1)
    found = tracker.get_run(run_id)
    assert found.status is RunStatus.COMPLETED
    assert found.tags["ours"] == "kept"
    assert found.parameters == {"depth": "3"}
    assert [(m.step, m.value) for m in tracker.get_metric_history(run_id, "loss")] == [
        (0, 0.5),
        (1, 0.25),
        (2, 0.125),
    ]
    assert [a.checksum for a in found.artifacts] == [hashlib.sha256(b"later").hexdigest()]
    tracker.verify_artifacts(found)


def test_what_was_changed_here_stays_until_the_source_changes_it(foreign, bring, target):
    folder, expected = foreign(FILES[3])
    bring(folder / "mlruns")
    tracker, registry = target.experiment_tracker, target.model_registry
    wanted = next(
        r
        for r in expected["runs"].values()
        if r["run_name"] == "sweep-0" and r["lifecycle_in_store"] == "active"
    )
    tracker.set_tag(wanted["run_id"], "kind", "ours")
    registry.promote_model("price model é", 1, "Staging")
    registry.set_alias("price model é", "champion", 1)
    run = folder / "mlruns" / wanted["folder"]
    (run / "tags" / "more").write_text("theirs")
    bring(folder / "mlruns")
    assert {"kind": "ours", "more": "theirs"}.items() <= tracker.get_run(
        wanted["run_id"]
    ).tags.items()
    assert str(registry.get_model_version("price model é", 1).stage) == "Staging"
    assert registry.get_model_by_alias("price model é", "champion").version == 1
    (run / "tags" / "kind").write_text("theirs too")
    (folder / "mlruns/models/price model é/aliases/old-one").write_text("3")
    bring(folder / "mlruns")
    assert tracker.get_run(wanted["run_id"]).tags["kind"] == "theirs too"
    assert registry.get_model_by_alias("price model é", "old-one").version == 3


def test_an_import_that_is_killed_anywhere_goes_on(foreign, target, tmp_path):
    folder, expected = foreign(FILES[3])
    program = """
import os, sys
from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.importing.formats import foreign_store
from ops.registry.importing.store_import import import_foreign
left = int(sys.argv[3])
def dying(event, arguments):
    global left
    if event in {"open", "os.rename", "os.mkdir"} and "target" in str(arguments[0]):
        left -= 1
        if left == 0:
            os._exit(9)
sys.addaudithook(dying)
with MLOpsContext(MLOpsConfig(storage_path=sys.argv[2])) as context:
    import_foreign(foreign_store(sys.argv[1]), context)
"""
    where = [str(folder / "mlruns"), str(target.path)]
    codes = []
    for calls in (3, 90, 260):
        command = [sys.executable, "-c", program, *where, str(calls)]
        codes.append(subprocess.run(command, check=False).returncode)
    assert codes == [9, 9, 9]
    done = import_foreign(foreign_store(folder / "mlruns"), target)
    assert done.runs + done.runs_there == expected["counts"]["runs"]
    assert done.runs_there > 0
    assert check(target).is_sound
    tracker = target.experiment_tracker
    assert listed(tracker) == {wanted["run_id"] for wanted in expected["runs"].values()}
    for wanted in expected["runs"].values():
        count = sum(map(len, wanted["metrics"].values()))
        run = tracker.get_run(wanted["run_id"])
        assert count == sum(len(tracker.get_metric_history(run.run_id, key)) for key in run.metrics)
        tracker.verify_artifacts(run)


def listed(tracker):
    """The runs that the indexes have."""
    homes = [one.experiment_id for one in tracker.list_experiments(include_deleted=True)]
    return {run.run_id for home in homes for run in tracker.list_runs(home, include_deleted=True)}


def test_what_an_import_has_written_until_it_is_interrupted_is_listed(foreign, bring, target):
    folder, _ = foreign(FILES[2])

    def interrupt(done, _):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(folder / "mlruns", progress=interrupt)
    assert len(listed(target.experiment_tracker)) == 5


def test_new_runs_come_into_the_index_some_at_a_time(foreign, bring, target, monkeypatch):
    folder, expected = foreign(FILES[2])
    monkeypatch.setattr(run_writer, "_TOGETHER", 3)
    put = []
    index_written = RunStore.index_written

    def counted(self, runs):
        put.append(sum(map(len, runs.values())))
        index_written(self, runs)

    monkeypatch.setattr(RunStore, "index_written", counted)
    bring(folder / "mlruns")
    runs = expected["counts"]["runs"]
    assert put == [3] * (runs // 3) + [runs % 3]
    assert len(listed(target.experiment_tracker)) == runs


def test_two_imports_into_a_store_do_not_work_at_once(foreign, target):
    folder, _ = foreign(FILES[0])
    source = foreign_store(folder / "mlruns")
    lock = FileLock(target.paths.experiment_tracking / "import.lock", timeout=0)
    with lock, concurrent.futures.ThreadPoolExecutor(1) as another:
        waiting = another.submit(import_foreign, source, target)
        with pytest.raises(LockTimeout):
            waiting.result()


def test_native_search_finds_imported_runs(foreign, bring, target):
    folder, _ = foreign(FILES[2])
    bring(folder / "mlruns")
    tracker = target.experiment_tracker
    ids = [e.experiment_id for e in tracker.list_experiments()]
    found = tracker.search_runs(ids, filter="params.lr = '0.1' and metrics.score > 0.4")
    assert [run.name for run in found] == ["sweep-0"]
    assert len(tracker.search_runs(ids, include_deleted=True)) == 15


def test_the_command_says_what_it_brought(foreign, tmp_path, capsys, monkeypatch):
    folder, _ = foreign(FILES[3])
    for name in [name for name in os.environ if name.startswith(("MLFLOW", "OPS_MLOPS"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    assert main(["import", "mlruns/", "--to", "../store", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["runs"], told["versions"], told["refused"]) == (25, 5, [])
    assert told["left_out"] == ["1 traces of experiment 502284782031147450"]
    assert main(["import", str(folder / "mlruns"), "--to", "../store", "--experiment", "nope"]) == 2
    assert main(["import", str(folder), "--to", "../store"]) == 2


def test_only_what_is_named_is_brought(foreign, bring, target):
    folder, _ = foreign(FILES[3])
    done = bring(folder / "mlruns", experiments=["old trials"], models=[])
    assert (done.experiments, done.runs, done.models) == (1, 10, 0)
    done = bring(folder / "mlruns", experiments=[], models=["greeting"])
    assert (done.runs, done.versions) == (0, 2)
    with pytest.raises(InvalidValueError, match="no experiment 'nowhere'"):
        bring(folder / "mlruns", experiments=["nowhere"])


def test_progress_counts_runs_and_models(foreign, bring):
    folder, _ = foreign(FILES[1])
    steps = []
    bring(folder / "mlruns", progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 28) for n in range(1, 29)]


def test_an_id_that_is_taken_by_another_experiment_is_not_given_twice(foreign, bring, target):
    folder, _ = foreign(SQLITE)
    tracker = target.experiment_tracker
    mine = tracker.create_experiment("mine")
    tracker.adopt_experiment(dataclasses.replace(mine, experiment_id="1", name="other"))
    bring(folder)
    names = {e.name: e.experiment_id for e in tracker.list_experiments()}
    assert names["other"] == "1"
    assert len(set(names.values())) == len(names)
    assert len(tracker.list_runs(names["sales/forecast é β"], include_deleted=True)) == 15


def test_an_imported_store_can_be_copied_on(foreign, bring, target, tmp_path):
    folder, expected = foreign(FILES[3])
    bring(folder / "mlruns")
    with MLOpsContext(MLOpsConfig("local", str(tmp_path / "copy"))) as copy:
        assert copy_store(target, copy).runs == expected["counts"]["runs"]
        assert copy.model_registry.list_model_versions("price model é")


def test_artifacts_elsewhere_are_found_where_the_caller_says(foreign, target, tmp_path):
    folder, _ = foreign(SQLITE)
    shutil.move(folder / "mlruns", tmp_path / "artifacts")
    done = import_foreign(foreign_store(folder), target)
    assert done.files == 0
    assert done.left_out[0].startswith("artifacts: ")
    found = foreign_store(folder / "mlflow.db", artifacts=[tmp_path / "artifacts"])
    assert import_foreign(found, target).files == 34


def test_an_older_database_without_newer_tables_is_read(foreign, bring, target):
    folder, _ = foreign(SQLITE)
    database = sqlite3.connect(folder / "mlflow.db")
    newer = ["logged_models", "logged_model_params", "logged_model_tags", "logged_model_metrics"]
    newer += [
        "registered_model_aliases",
        "inputs",
        "input_tags",
        "datasets",
        "trace_info",
        "experiment_tags",
    ]
    for table in newer:
        database.execute(f"DROP TABLE {table}")
    database.execute("DROP INDEX idx_experiments_workspace")
    database.execute("ALTER TABLE runs DROP COLUMN deleted_time")
    database.execute("ALTER TABLE model_versions DROP COLUMN storage_location")
    database.commit()
    database.close()
    done = bring(folder)
    assert (done.refused, done.runs, done.points) == (
        [
            "model 'price model é' version 1: its files are in no run and no logged model: 'models:/m-a4c75abdb03840bc88ec015f318f4b9b'",
            "model 'price model é' version 3: its files are in no run and no logged model: 'models:/m-e477a138191c439ba7cb43478680ea07'",
        ],
        25,
        678,
    )


def test_runs_of_a_store_with_many_are_indexed(bring, target, tmp_path):
    root = tmp_path / "mlruns"
    experiment = root / "1"
    experiment.mkdir(parents=True)
    (experiment / "meta.yaml").write_text(
        "experiment_id: '1'\nname: many\ncreation_time: 1790000000000\n"
    )
    for count in range(60):
        run_id = f"{count:032x}"
        for kind in ("metrics", "params", "tags", "artifacts"):
            (experiment / run_id / kind).mkdir(parents=True)
        (experiment / run_id / "meta.yaml").write_text(
            f"run_id: {run_id!r}\nrun_uuid: {run_id!r}\nexperiment_id: '1'\nstatus: 3\nstart_time: 1790000000000\nend_time: 1790000001000\nlifecycle_stage: active\n"
        )
        (experiment / run_id / "metrics" / "loss").write_text(
            "".join(f"{1790000000000 + s} {1 / (s + 1)} {s}\n" for s in range(20))
        )
        (experiment / run_id / "params" / "n").write_text(str(count))
    assert bring(root).runs == 60
    assert len(target.experiment_tracker.search_runs("1", filter="params.n = '17'")) == 1
