from __future__ import annotations

import json
import os
import pickle
import pwd

import pytest

from ops.observe import AuditLogger
from ops.registry import (
    BackendUnavailableError,
    EventType,
    HookType,
    get_mlops_context,
    init_mlops,
    is_mlops_initialized,
    write_page,
)
from ops.registry.__main__ import main
from ops.registry.operations import account


def test_a_pre_hook_vetoes_before_anything_is_written(registry, operations, artifact):
    @operations.hooks.register(HookType.PRE_MODEL_REGISTER)
    def validate(data):
        if data["metrics"].get("accuracy", 0) < 0.5:
            raise ValueError("Model accuracy too low")

    with pytest.raises(ValueError, match="Model accuracy too low"):
        registry.register_model("m", artifact, "binary", "mine", metrics={"accuracy": 0.4})
    assert not registry.root.exists()
    assert (
        registry.register_model("m", artifact, "b", "mine", metrics={"accuracy": 0.9}).version == 1
    )


def test_operations_are_told_counted_and_audited(new_context, artifact):
    context = new_context()
    operations, registry = context.operations, context.model_registry
    operations.audit = new_context(audit=True)._wiring().audit
    registry.register_model("m", artifact, "binary", "mine")
    (event,) = operations.emitter.get_history(EventType.MODEL_REGISTERED)
    assert (event.data["name"], event.data["version"]) == ("m", 1)
    assert operations.metrics.get_counter("ops_registry_model_registered") == 1
    (entry,) = operations.audit.query(resource="model:m/1")
    assert (entry.action, entry.user) == ("model_registered", pwd.getpwuid(os.geteuid()).pw_name)


def test_an_audit_log_with_a_key_is_left_alone_by_those_who_lack_it(new_context, artifact, caplog):
    context = new_context(audit=True)
    keyed = AuditLogger(context.paths.audit_log, key=b"secret")
    keyed.log("begun")
    context.operations.audit = AuditLogger(context.paths.audit_log)
    assert context.model_registry.register_model("m", artifact, "binary", "mine").version == 1
    assert "could not be audited" in caplog.text
    keyed.log("continued")
    assert keyed.verify() == 2


def test_the_audit_log_has_who_did_it_in_other_processes_too(new_context, artifact, monkeypatch):
    monkeypatch.setenv("USER", "somebody-else")  # what a caller claims
    context, wired = new_context(), new_context(audit=True)._wiring()
    context.operations.audit, context.operations.audit_path = wired.audit, wired.audit_path
    context.operations.user = "ann@example.org"
    registry = pickle.loads(pickle.dumps(context.model_registry))
    registry.register_model("m", artifact, "binary", "mine")
    (entry,) = context.operations.audit.query(resource="model:m/1")
    assert entry.user == "ann@example.org"
    with monkeypatch.context() as unnamed:
        unnamed.setattr(pwd, "getpwuid", lambda number: {}[number])
        assert account() == f"uid {os.geteuid()}"


def test_a_failing_post_hook_undoes_nothing(registry, operations, artifact):
    @operations.hooks.register(HookType.POST_MODEL_REGISTER)
    def notify(data):
        raise OSError("no network")

    assert registry.register_model("m", artifact, "binary", "mine").version == 1


def test_databricks_without_credentials_is_refused_and_nothing_is_used_instead(
    no_current_context, tmp_path, monkeypatch
):
    monkeypatch.delenv("DATABRICKS_TOKEN", raising=False)
    monkeypatch.delenv("DATABRICKS_CLIENT_ID", raising=False)
    with pytest.raises(BackendUnavailableError, match="DATABRICKS_TOKEN"):
        init_mlops(backend_type="databricks", storage_path=tmp_path / "x")
    assert not is_mlops_initialized()


def test_the_path_is_resolved_once_and_made_at_the_first_write(
    no_current_context, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAURO_MLOPS_PATH", "here")
    context = get_mlops_context()
    context.experiment_tracker.list_experiments()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir("/")
    context.experiment_tracker.create_experiment("e")
    assert (tmp_path / "here" / "experiment_tracking" / "experiments").is_dir()


def test_the_page_shows_the_store_with_all_text_escaped(
    context, tracker, registry, artifact, tmp_path
):
    experiment = tracker.create_experiment("<script>alert(1)</script>")
    with tracker.run_context(experiment.experiment_id, "<b>") as run:
        tracker.log_metrics(run.run_id, {"loss<": 1.0}, step=0)
        tracker.log_metrics(run.run_id, {"loss<": 0.5}, step=1)
    registry.register_model("credit", artifact, "binary", "mine")
    text = write_page(context, tmp_path / "p.html").read_text()
    assert "<script" not in text
    assert "<b>" not in text
    assert "<polyline" in text
    assert "credit" in text


def test_the_command_line_lists_and_checks(context, tracker, experiment, capsys):
    with tracker.run_context(experiment.experiment_id, "r") as run:
        tracker.log_metric(run.run_id, "auc", 0.5)
    path = ["--path", str(context.path), "--json"]
    assert main(["runs", "--filter", "metrics.auc > 0.1", *path]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "r"
    assert main(["fsck", *path]) == 0
    assert main(["runs", "--filter", "metrics.auc >", *path]) == 2


def test_a_batch_tells_of_each_of_its_points(tracker, experiment, operations):
    run = tracker.start_run(experiment.experiment_id)
    points = [("loss", 0.5, 0), ("loss", 0.25, 1)]
    tracker.log_batch(run.run_id, points)  # without hooks
    seen = []
    operations.hooks.register(
        HookType.PRE_METRIC_LOG, lambda data: data | {"value": data["value"] * 2}
    )
    operations.hooks.register(HookType.POST_METRIC_LOG, lambda data: seen.append(data["value"]))
    tracker.log_batch(run.run_id, points)
    told = [e.data["value"] for e in operations.emitter.get_history(EventType.METRIC_LOGGED)]
    assert told == [0.5, 0.25, 1.0, 0.5]
    assert seen == [1.0, 0.5]
    assert operations.metrics.get_counter("ops_registry_metric_logged") == 4
    assert tracker.get_run(run.run_id).metrics == {"loss": 0.5}
    assert tracker.get_run(run.run_id).metric_summaries["loss"].maximum == 1.0


def test_a_veto_on_one_point_keeps_the_whole_batch_out(tracker, experiment, operations):
    run = tracker.start_run(experiment.experiment_id)

    @operations.hooks.register(HookType.PRE_METRIC_LOG)
    def refuse(data):
        if data["key"] == "secret":
            raise ValueError("hands off")

    with pytest.raises(ValueError, match="hands off"):
        tracker.log_batch(run.run_id, [("loss", 0.5, 0), ("secret", 1.0, 0)])
    assert tracker.get_run(run.run_id).metrics == {}
