"""fsck, gc, the command line and the web pages on Databricks."""

from __future__ import annotations

import io
import json
import time
import zipfile

import pytest
from starlette.testclient import TestClient

from ops.registry import ModelStage
from ops.registry.__main__ import main
from ops.registry.fsck import check, collect
from ops.registry.ui.app import create_app

pytestmark = pytest.mark.service


@pytest.fixture
def run_id(tracker, experiment):
    """A run with a text, a folder and points."""
    with tracker.run_context(experiment.experiment_id, "first", parameters={"depth": 3}) as run:
        for step in range(3):
            tracker.log_metric(run.run_id, "loss", 1.0 / (step + 1), step)
        tracker.log_text(run.run_id, "<b>text</b>", "notes/ä page.html")
    return run.run_id


@pytest.fixture
def filled(context, run_id, artifact):
    """A context with a run, a model of two versions, and a file."""
    registry = context.model_registry
    for _ in range(2):
        registry.register_model("credit/risk", artifact, "binary", "mine", experiment_run_id=run_id)
    registry.promote_model("credit/risk", 1, ModelStage.PRODUCTION)
    registry.promote_model("credit/risk", 2, ModelStage.PRODUCTION)
    context.storage.write_json({"a": 1}, "settings/a.json")
    return context


def place_of(warehouse, uri):
    return warehouse.root.joinpath(*uri.split("/")[1:])


# Checking


def test_a_sound_schema_has_no_problems(filled):
    report = check(filled)
    assert report.problems == []
    assert (report.runs, report.versions, report.unstarted) == (1, 2, 0)


def test_files_that_were_changed_or_lost_are_found(filled, run_id, warehouse):
    version = filled.model_registry.get_model_version("credit/risk", 1)
    place_of(warehouse, version.artifact_uri).write_bytes(b"other")
    (kept,) = filled.experiment_tracker.get_run(run_id).artifacts
    place_of(warehouse, kept.uri).unlink()
    (row,) = filled.storage.warehouse.rows("SELECT place FROM @ops_files WHERE place IS NOT NULL")
    place_of(warehouse, f"{filled.model_registry.root}/{row['place']}").write_bytes(b"{}")
    problems = check(filled).problems
    assert len(problems) == 3
    for text, problem in zip((run_id, "credit/risk/1", "settings/a.json"), problems, strict=True):
        assert text in problem


DAMAGES = {
    "DELETE FROM @ops_model_events WHERE place = 2": "has no frame",
    "UPDATE @ops_model_events SET parent = NULL WHERE place = 2": "begins with number 2",
    "UPDATE @ops_models SET version = version + 1": "would be 5",
    "INSERT INTO @ops_models SELECT * FROM @ops_models": "'credit/risk' is there more than once",
    "DELETE FROM @ops_models WHERE name = ''": "no lock row, so two may take one name. Insert it: INSERT INTO `main`.",
    "INSERT INTO @ops_experiments SELECT * FROM @ops_experiments": "'study' is there more",
    "UPDATE @ops_run_facts SET body = '{'": "cannot be read",
}


def test_rows_that_contradict_each_other_are_found(filled, new_context, schema, warehouse):
    found = {}
    warehouse.control(keep=[schema, "filled"])
    for damage, said in DAMAGES.items():
        filled.storage.warehouse.change(damage)
        report = check(new_context())
        found[damage] = next((p for p in report.problems if said in p), report.problems)
        warehouse.control(reset=[schema, "filled"])
    assert {damage: problem for damage, problem in found.items() if isinstance(problem, list)} == {}
    assert check(new_context()).problems == []


def test_what_was_left_unfinished_is_counted_and_no_problem(filled):
    filled.storage.warehouse.change(
        "INSERT INTO @ops_run_metrics VALUES ('nobody', 'x', 'm', 1.0, 0, 1, 'w', 1)"
    )
    filled.storage.warehouse.change(
        "INSERT INTO @ops_model_events VALUES ('lost', 'credit/risk', 'x', 9, '{}')"
    )
    report = check(filled)
    assert (report.problems, report.unstarted) == ([], 1)


def test_only_files_that_nobody_names_are_collected_and_only_old_ones(filled, warehouse, artifact):
    volume = filled.model_registry._artifacts.volume
    for place in ("artifacts/m/1/x", "runs/r/1/x", "storage/1/x"):
        volume.upload(artifact, place)
    tomorrow = time.time() + 25 * 3600
    assert collect(filled) == []
    left = collect(filled, dry_run=True, now=lambda: tomorrow)
    assert left == [volume.uri(p) for p in ("runs/r/1/x", "artifacts/m/1/x", "storage/1/x")]
    assert collect(filled, now=lambda: tomorrow) == left
    assert collect(filled, now=lambda: tomorrow) == []
    assert check(filled).problems == []


# The command line


@pytest.fixture
def call(filled, schema, monkeypatch, capsys, tmp_path):
    """Run a command on the schema and return what it says."""
    for name, value in {"BACKEND": "databricks", "CATALOG": "main", "SCHEMA": schema}.items():
        monkeypatch.setenv(f"OPS_MLOPS_{name}", value)
    monkeypatch.setenv("OPS_MLOPS_PATH", str(tmp_path / "command"))

    def call(*words):
        code = main([*words, "--json"])
        out = capsys.readouterr()
        return code, json.loads(out.out) if out.out else out.err

    return call


def test_commands_work_as_they_do_on_local_files(call, run_id, tmp_path):
    code, found = call("runs", "--filter", "metrics.loss < 0.5")
    assert (code, [r["run_id"] for r in found]) == (0, [run_id])
    assert call("compare", run_id)[0] == 0
    code, found = call("models", "--filter", "stage = 'Production'")
    assert [v["version"] for v in found] == [2]
    assert call("rollback", "credit/risk")[1]["version"] == 1
    assert call("promote", "credit/risk", "2", "Staging")[1]["stage"] == "Staging"
    assert call("fsck")[1]["is_sound"] is True
    assert call("gc")[1]["removed"] == []
    code, copied = call("export", str(tmp_path / "out"))
    assert (code, copied["runs"], copied["models"]) == (0, 1, 1)
    code, copied = call("import", str(tmp_path / "out"))
    assert (code, copied["runs"], copied["runs_there"]) == (0, 0, 1)
    assert call("page", str(tmp_path / "page.html"))[0] == 0
    assert "credit/risk" in (tmp_path / "page.html").read_text()


def test_waiting_for_a_warehouse_is_shown_by_commands(call, warehouse, capsys):
    warehouse.control(starting=1)
    assert main(["runs"]) == 0
    shown = capsys.readouterr()
    assert "ops-registry: The warehouse at" in shown.err
    assert "not ready yet" in shown.err
    warehouse.control(starting=1)
    assert main(["runs", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_warehouse_that_refuses_is_said_on_the_command_line(call, warehouse):
    warehouse.control(token="another")
    code, said = call("runs")
    assert code == 1
    assert "refused the credentials" in said["error"]["message"]


# The pages


@pytest.fixture
def browser(filled):
    app = create_app(filled, allow_writes=False)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_pages_show_what_is_in_the_tables(browser, experiment, run_id, schema):
    pages = {
        "/": ["study", f"databricks: main.{schema}"],
        f"/experiments/{experiment.experiment_id}": ["first", "metrics.loss"],
        f"/runs/{run_id}": ["first", "COMPLETED", "page.html"],
        f"/compare?runs={run_id}": ["depth"],
        "/models": ["credit/risk"],
        "/models/credit/risk": ["Production", "Archived"],
        "/health": ["experiment_tracker"],
        f"/api/runs/{run_id}": ["COMPLETED"],
        f"/api/curves/loss?runs={run_id}": ['"points":3'],
    }
    for address, texts in pages.items():
        answer = browser.get(address)
        assert answer.status_code == 200, address
        assert [text for text in texts if text not in answer.text] == [], address


def test_an_artifact_is_fetched_from_the_volume_and_leaves_no_copy(
    browser, tracker, run_id, monkeypatch, tmp_path
):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "w").write_bytes(b"1")
    tracker.log_artifact(run_id, folder)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    answer = browser.get(f"/runs/{run_id}/artifacts/notes/ä page.html")
    assert (answer.status_code, answer.content) == (200, b"<b>text</b>")
    assert "attachment" in answer.headers["content-disposition"]
    packed = browser.get(f"/runs/{run_id}/artifacts/saved")
    assert zipfile.ZipFile(io.BytesIO(packed.content)).namelist() == ["w"]
    for bad in ("notes", "../../etc/passwd", "nothing"):
        assert browser.get(f"/runs/{run_id}/artifacts/{bad}").status_code in {400, 404}
    assert set(tmp_path.iterdir()) == before


def test_a_live_run_is_streamed(browser, tracker, run_id):
    with browser.stream("GET", f"/api/runs/{run_id}/stream") as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data")]
    assert [point[:2] for point in json.loads(lines[0][5:])] == [
        ["loss", 0],
        ["loss", 1],
        ["loss", 2],
    ]
    assert lines[1] == 'data: "COMPLETED"'


def test_errors_of_the_warehouse_are_shown_without_the_token(browser, warehouse):
    warehouse.control(token="another")
    answer = browser.get("/")
    assert answer.status_code == 500
    assert "refused the credentials" in answer.text
    assert "dapi-test" not in answer.text
