"""Stores that earlier code wrote are read as they were meant; how they were made is in ``golden/make_store.py``."""

from __future__ import annotations

import json
import math
import pathlib
import tarfile

import pytest

from ops.registry import MLOpsConfig, MLOpsContext, ModelStage, RunStatus
from ops.registry.fsck import check
from ops.registry.transfer import copy_store

_GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture
def golden(tmp_path, operations):
    with tarfile.open(_GOLDEN / "store-1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    with MLOpsContext(
        MLOpsConfig(storage_path=tmp_path / "store"), operations=operations
    ) as context:
        yield context


@pytest.fixture
def runs():
    return json.loads((_GOLDEN / "store-1.json").read_text())


def test_runs_of_an_old_store_come_back_whole(golden, runs):
    tracker = golden.experiment_tracker
    whole = tracker.get_run(runs["whole"])
    assert whole.status is RunStatus.COMPLETED
    assert whole.parameters == {
        "depth": 3,
        "nested": {"x": [1, None]},
        "none": None,
        "inf": math.inf,
    }
    assert whole.metrics["loss"] == 1 / 30
    assert whole.metrics["rank1"] == 2.0
    assert whole.metric_summaries["loss"].count == 30
    assert [a.path for a in whole.artifacts] == ["models/weights.bin", "folder"]
    tracker.verify_artifacts(whole)
    assert [m.step for m in tracker.get_metric_history(runs["whole"], "loss")] == list(range(30))
    failed = tracker.get_run(runs["failed"])
    assert (failed.status, failed.error) == (RunStatus.FAILED, "ValueError: no")
    assert failed.parent_run_id == runs["whole"]
    assert tracker.get_run(runs["killed"]).metrics == {"loss": 0.5}
    assert tracker.get_run(runs["late"]).tags == {"reviewed": "yes"}


def test_a_long_history_of_an_old_store_comes_back(golden, runs):
    history = golden.experiment_tracker.get_metric_history(runs["long"], "m")
    assert [(m.step, m.value) for m in history] == [(i, float(i % 7)) for i in range(12_000)]


def test_old_indexes_are_searched(golden, runs):
    tracker = golden.experiment_tracker
    study = tracker.get_experiment_by_name("study")
    assert (study.description, dict(study.tags)) == ("the first", {"team": "ds"})
    found = tracker.search_runs(study.experiment_id, filter="params.depth = 3")
    assert [run.run_id for run in found] == [runs["whole"]]
    found = tracker.search_runs(study.experiment_id, filter="tags.reviewed = 'yes'")
    assert [run.run_id for run in found] == [runs["late"]]
    assert len(tracker.list_runs(study.experiment_id)) == 4


def test_models_of_an_old_store_keep_stages_aliases_and_files(golden, runs, tmp_path):
    registry = golden.model_registry
    assert registry.list_models() == ["Net Größe", "credit"]
    assert [(v.version, str(v.stage)) for v in registry.list_model_versions("credit")] == [
        (1, "Production"),
        (2, "Archived"),
        (3, "Staging"),
    ]
    third = registry.get_model_by_alias("credit", "champion")
    assert third.metadata.tags == {"n": "3", "team": "ds"}
    assert third.metadata.description == "the good one"
    assert third.metadata.experiment_run_id == runs["whole"]
    assert registry.get_model_by_stage("credit", ModelStage.PRODUCTION).version == 1
    out = registry.download_artifact("credit", 2, tmp_path / "out")
    assert out.read_bytes() == b"weights2"
    assert registry.register_model("credit", out, "binary", "mine").version == 5


def test_a_transaction_that_old_code_left_unfinished_is_undone_where_the_store_lies_now(golden):
    assert golden.storage.read_json("settings/a.json") == {"v": "old"}
    assert not golden.storage.exists("b.json")


def test_an_old_store_is_sound_and_can_be_copied(golden, tmp_path):
    report = check(golden)
    assert report.problems == []
    with MLOpsContext(MLOpsConfig(storage_path=tmp_path / "copy")) as other:
        copied = copy_store(golden, other)
    assert (copied.experiments, copied.runs, copied.models) == (2, 5, 2)
