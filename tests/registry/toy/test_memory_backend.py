"""A backend that another project wrote passes the suites, and every command, page and copy works with it."""

from __future__ import annotations

import json

import pytest

from ops.registry import (
    ExperimentTrackerProtocol,
    MLOpsConfig,
    MLOpsContext,
    ModelRegistryProtocol,
    ModelStage,
    StorageBackendProtocol,
    write_page,
)
from ops.registry.__main__ import main
from ops.registry.conformance import RegistryBehaviour, StorageBehaviour, TrackerBehaviour
from ops.registry.fsck import check, collect
from ops.registry.transfer import copy_store


class TestTracker(TrackerBehaviour):
    """The tracker in memory."""


class TestRegistry(RegistryBehaviour):
    """The registry over the event store in memory."""


class TestStorage(StorageBehaviour):
    """The storage in memory."""


@pytest.fixture
def filled(context, artifact):
    tracker, registry = context.experiment_tracker, context.model_registry
    with tracker.run_context(context.experiment.experiment_id, "first") as run:
        tracker.log_batch(run.run_id, [("loss", 1.0, 0), ("loss", 0.5, 1)], {"depth": 3})
        tracker.log_artifact(run.run_id, artifact)
    for _ in range(2):
        registry.register_model("m", artifact, "binary", "mine")
    registry.promote_model("m", 2, ModelStage.PRODUCTION)
    return context


def test_its_parts_fit_the_protocols(context):
    assert isinstance(context.experiment_tracker, ExperimentTrackerProtocol)
    assert isinstance(context.model_registry, ModelRegistryProtocol)
    assert isinstance(context.storage, StorageBackendProtocol)


def test_the_page_is_written(filled, tmp_path):
    page = write_page(filled, tmp_path / "page.html").read_text()
    assert "first" in page
    assert "Production" in page


def test_it_is_checked_and_collected(filled):
    report = check(filled)
    assert (report.runs, report.versions, report.problems) == (1, 2, [])
    assert collect(filled) == []


def test_a_damaged_artifact_is_found(filled):
    memory = filled.experiment_tracker._runs._memory
    for name in memory.files:
        memory.files[name] = b"other"
    assert len(check(filled).problems) == 3


def test_it_is_copied_to_local_files_and_back(filled, tmp_path, operations):
    with MLOpsContext(MLOpsConfig(storage_path=tmp_path / "local"), operations=operations) as local:
        first = copy_store(filled, local)
        assert (first.runs, first.changes) == (1, 3)
        assert check(local).problems == []
        again = copy_store(filled, local)
        assert (again.runs, again.changes) == (0, 0)
        back = MLOpsContext(MLOpsConfig("memory", str(tmp_path / "other")), operations=operations)
        copy_store(local, back)
    (run,) = filled.experiment_tracker.list_runs(filled.experiment.experiment_id)
    assert back.experiment_tracker.export_run(run.run_id).canonical_text() == (
        filled.experiment_tracker.export_run(run.run_id).canonical_text()
    )
    out = back.experiment_tracker.download_run_artifact(run.run_id, "model.bin", tmp_path / "out")
    assert out.read_bytes() == b"weights"
    assert back.model_registry.get_model_by_stage("m", ModelStage.PRODUCTION).version == 2
    assert check(back).problems == []


def test_commands_work(filled, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPS_MLOPS_BACKEND", "memory")
    path = ["--path", str(filled.path), "--json"]
    (run,) = filled.experiment_tracker.list_runs(filled.experiment.experiment_id)

    def call(*words):
        assert main([*path, *words]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    assert [r["run_id"] for r in call("runs", "--filter", "metrics.loss < 1")] == [run.run_id]
    assert call("runs", "show", run.run_id)["params.depth"] == 3
    assert call("compare", run.run_id)
    call("runs", "delete", run.run_id)
    assert call("runs") == []
    call("runs", "restore", run.run_id)
    assert [e["name"] for e in call("experiments")] == [filled.experiment.name]
    assert [a["path"] for a in call("artifacts", "ls", run.run_id)] == ["model.bin"]
    call("artifacts", "get", run.run_id, "model.bin", str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == b"weights"
    assert len(call("models", "versions", "m")) == 2
    call("models", "alias", "m", "best", "1")
    assert call("promote", "m", "1", "Production")["version"] == 1
    assert call("rollback", "m")["version"] == 2
    assert call("fsck")["is_sound"]
    assert call("gc")["removed"] == []
    assert call("page", str(tmp_path / "p.html"))
    assert call("export", str(tmp_path / "exported"))["runs"] == 1


def test_every_page_is_shown(filled):
    testclient = pytest.importorskip(
        "starlette.testclient", reason="pip install 'ops-registry[ui]'"
    )
    from ops.registry.ui.app import create_app

    tracker = filled.experiment_tracker
    home = filled.experiment.experiment_id
    (run,) = tracker.list_runs(home)
    pages = testclient.TestClient(create_app(filled), base_url="http://127.0.0.1")
    for path, shown in {
        "/": filled.experiment.name,
        f"/experiments/{home}?filter=metrics.loss < 1": "first",
        f"/experiments/{home}/charts": "loss",
        f"/experiments/{home}/runs.csv": "depth",
        f"/runs/{run.run_id}": "model.bin",
        f"/runs/{run.run_id}/files/model.bin": "weights",
        f"/compare?runs={run.run_id}": "loss",
        "/models": "Production",
        "/models/m": "binary",
        "/audit": "",
        "/health": "",
        "/api/experiments": home,
        f"/api/runs/{run.run_id}": "first",
        f"/api/curves/loss?runs={run.run_id}": "0.5",
        f"/api/runs/{run.run_id}/stream": "0.5",
    }.items():
        answer = pages.get(path)
        assert (path, answer.status_code) == (path, 200)
        assert shown in answer.text
