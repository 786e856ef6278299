"""The command line."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import urllib.request

import pytest

from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.__main__ import main


@pytest.fixture
def call(context, capsys):
    def call(*words, code=0):
        assert main([*words, "--path", str(context.path), "--json"]) == code
        out = capsys.readouterr().out
        return json.loads(out) if out else None

    return call


@pytest.fixture
def two(tracker, experiment):
    ids = []
    for name, depth, auc in (("a", 3, 0.5), ("b", 3, float("nan"))):
        with tracker.run_context(
            experiment.experiment_id, name, parameters={"depth": depth}
        ) as run:
            tracker.log_metric(run.run_id, "auc", auc)
        ids.append(run.run_id)
    return ids


def test_init_makes_a_store(tmp_path, capsys):
    assert main(["init", "--path", str(tmp_path / "new"), "--experiment", "first"]) == 0
    assert "first" in capsys.readouterr().out
    assert main(["runs", "--path", str(tmp_path / "new"), "--experiment", "first"]) == 0
    assert capsys.readouterr().out == "none\n"
    assert main(["runs", "--path", str(tmp_path / "absent")]) == 2
    assert not (tmp_path / "absent").exists()


def test_runs_are_compared(call, two):
    rows = call("compare", *two)
    assert {"field": "metrics.auc", two[0]: 0.5, two[1]: "nan"} in rows
    assert [r["field"] for r in call("compare", *two, "--differing")] == ["name", "metrics.auc"]
    call("compare", "nothing", code=2)


def test_tables_line_up(context, two, capsys):
    assert main(["runs", "--path", str(context.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "run_id",
        "name",
        "status",
        "started",
        "params.depth",
        "metrics.auc",
    ]
    assert [line.split()[0] for line in lines[2:]] == two[::-1]  # the newest first


def test_commands_go_on_with_the_audit_log_of_a_store(call, context, registry, artifact):
    registry.register_model("m", artifact, "binary", "mine")
    call("promote", "m", "1", "staging")
    root = context.path
    assert not (root / "audit.jsonl").exists(), "a store without one gets none"
    with MLOpsContext(MLOpsConfig(storage_path=root, audit=True)) as audited:
        audited.model_registry.register_model("m", artifact, "binary", "mine")
        call("promote", "m", "2", "production")
        *_, entry = audited.operations.audit
        assert (entry.action, entry.resource) == ("model_promoted", "model:m/2")
        assert entry.user == pwd.getpwuid(os.geteuid()).pw_name
        assert audited.operations.audit.verify() == 2


def test_models_are_promoted_and_rolled_back(call, registry, artifact):
    for _ in range(2):
        registry.register_model("m", artifact, "binary", "mine")
    call("promote", "m", "1", "production")
    assert call("promote", "m", "2", "Production")["stage"] == "Production"
    assert call("rollback", "m")["version"] == 1
    assert [m["stage"] for m in call("models")] == ["Production", "Archived"]
    call("promote", "m", "2", "sideways", code=2)
    call("rollback", "m", code=2)


def test_stores_are_exported_and_imported(call, two, registry, artifact, tmp_path, capsys):
    registry.register_model("m", artifact, "binary", "mine")
    backup = str(tmp_path / "backup")
    assert call("export", backup, "--experiment", "study")["models"] == 0
    assert call("export", backup)["runs_there"] == 2
    assert call("import", backup)["runs"] == 0
    assert main(["import", backup, "--path", str(tmp_path / "third"), "--json"]) == 0
    capsys.readouterr()
    call("import", str(tmp_path / "nowhere"), code=2)


def test_damage_is_exit_code_one(call, registry, artifact):
    made = registry.register_model("m", artifact, "binary", "mine")
    assert call("fsck")["is_sound"]
    with open(made.artifact_uri, "wb") as file:
        file.write(b"changed")
    assert not call("fsck", code=1)["is_sound"]
    assert call("gc", "--dry-run") == {"dry_run": True, "removed": []}


def test_probes_are_served_until_a_signal(context, experiment):
    command = [sys.executable, "-m", "ops.registry", "serve-probes", "--path", str(context.path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        url = child.stderr.readline().split()[0]
        try:
            with urllib.request.urlopen(f"{url}/readyz") as reply:
                assert json.load(reply)["checks"]["model_registry"] == "healthy"
        finally:
            child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0


def test_who_stops_reading_the_output_sees_no_traceback(context, tracker, experiment):
    for _ in range(50):
        with tracker.run_context(experiment.experiment_id, "x" * 200):
            pass
    command = [sys.executable, "-m", "ops.registry", "runs", "--path", str(context.path)]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_an_interrupted_command_says_so(context, capsys, monkeypatch):
    context.experiment  # noqa: B018 - makes the store

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ops.registry.fsck.check", interrupted)
    assert main(["fsck", "--path", str(context.path)]) == 130
    assert capsys.readouterr().err == "ops-registry: interrupted\n"


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_a_port_that_cannot_be_is_refused(capsys, port):
    with pytest.raises(SystemExit) as ended:
        main(["ui", f"--port={port}"])
    assert ended.value.code == 2
    assert "from 0 to 65535" in capsys.readouterr().err


def test_a_folder_of_other_files_is_no_store(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    for words in (["fsck"], ["gc"], ["runs"], ["export", str(tmp_path / "out")]):
        assert main([*words, "--path", str(tmp_path)]) == 2
        assert "There is no store" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("days", ["-1", "nan"])
def test_runs_of_the_future_are_not_erased(call, context, tracker, two, days):
    tracker.delete_run(two[0])
    call("gc", "--deleted-days", days, code=2)
    assert tracker.get_run(two[0]).deleted_at is not None


def test_a_store_is_not_exported_into_itself(call, context, two):
    call("export", str(context.path / "backup"), code=2)
    assert not (context.path / "backup").exists()
