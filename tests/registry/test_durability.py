"""What must be on the disk before a call returns, in which order, and what is done under the lock."""

from __future__ import annotations

import pytest

from ops.registry import ModelStage, Transaction
from ops.registry.disk.journal import JournalWriter


def test_with_commit_a_metric_is_flushed_before_the_call_returns(new_context, disk_events):
    tracker = new_context(durability="commit").experiment_tracker
    run = tracker.start_run(tracker.create_experiment("e").experiment_id)
    journal = next((tracker.root / "runs").glob(f"*/{run.run_id}.main.log"))
    for value in (1.0, 2.0):
        disk_events.clear()
        tracker.log_metric(run.run_id, "m", value)
        (flushed,) = disk_events.of("sync")
        assert flushed.path.endswith(journal.name)
        assert flushed.size == journal.stat().st_size


def test_with_commit_a_version_is_flushed_before_the_call_returns(
    new_context, artifact, disk_events
):
    registry = new_context(durability="commit").model_registry
    registry.register_model("m", artifact, "binary", "mine")
    paths = [event.path for event in disk_events.of("sync")]
    assert (
        paths[0].endswith(".tmp") or "artifacts" in paths[0]
    )  # the copy of the artifact comes first
    assert paths[-1].endswith("models/journal.log")


def test_without_it_nothing_waits_for_the_disk(new_context, disk_events):
    tracker = new_context().experiment_tracker
    run = tracker.start_run(tracker.create_experiment("e").experiment_id)
    tracker.log_metric(run.run_id, "m", 1.0)
    assert disk_events.of("sync") == []


def test_a_transaction_is_flushed_in_the_order_that_undoing_needs(storage, disk_events):
    storage.write_json("old", "a.json")
    disk_events.clear()
    with Transaction(storage) as changes:
        changes.write_json("new", "a.json")
    folder = f"files/.transactions/{changes.transaction_id}"
    assert disk_events.in_order(
        f"sync {folder}/new/0~",
        f"sync {folder}/plan~",
        f"rename {folder}/plan~ -> {folder}/plan",
        f"rename files/a.json -> {folder}/old/0",
        f"rename {folder}/new/0 -> files/a.json",
        f"sync {folder}/committed~",
        f"rename {folder}/committed~ -> {folder}/committed",
    )


@pytest.mark.parametrize("stage", [ModelStage.STAGING, ModelStage.PRODUCTION])
def test_one_version_has_staging_and_one_has_production(registry, artifact, stage):
    for number in (1, 2):
        registry.register_model("m", artifact, "binary", "mine")
        registry.promote_model("m", number, stage)
    stages = [version.stage for version in registry.list_model_versions("m")]
    assert stages == [ModelStage.ARCHIVED, stage]
    registry.promote_model("m", 1, ModelStage.ARCHIVED)
    registry.promote_model("m", 2, ModelStage.ARCHIVED)
    assert [v.stage for v in registry.list_model_versions("m")] == [ModelStage.ARCHIVED] * 2


def test_every_change_of_a_model_is_appended_under_the_lock_between_processes(
    registry, artifact, monkeypatch
):
    append, held = JournalWriter.append_body, []

    def append_body(self, body):
        if self.path.endswith("models/journal.log"):
            held.append(registry._events._lock.is_acquired)
        return append(self, body)

    monkeypatch.setattr(JournalWriter, "append_body", append_body)
    for change in (
        lambda: registry.register_model("m", artifact, "binary", "mine"),
        lambda: registry.set_alias("m", "best", 1),
        lambda: registry.promote_model("m", 1, ModelStage.STAGING),
        lambda: registry.set_tag("m", 1, "a", "b"),
        lambda: registry.delete_alias("m", "best"),
        lambda: registry.delete_model("m"),
    ):
        change()
    assert held == [True] * 6
    assert not registry._events._lock.is_acquired
