"""Every event and every hook that has a name is fired by some operation, in one scenario."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pathlib

import pandas as pd
import pytest

from ops.foundation import LockTimeout
from ops.registry import (
    CircuitBreaker,
    ConfigurationError,
    EventType,
    FileLock,
    HookType,
    LocalStorageBackend,
    MLOpsConfig,
    MLOpsContext,
    ModelNotFoundError,
    ModelStage,
    RunStatus,
    SafeTransaction,
    Transaction,
    init_mlops,
    register_flavor,
)
from ops.registry.disk import artifacts
from ops.registry.fsck import collect
from ops.registry.models import flavors as flavors_module
from ops.registry.transfer import copy_store


def do_everything(context, other, artifact):
    tracker, registry, storage = context.experiment_tracker, context.model_registry, context.storage
    experiment = tracker.create_experiment("e")
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_metric(run.run_id, "m", 1.0)
        tracker.log_parameter(run.run_id, "p", 1)
        tracker.set_tag(run.run_id, "t", "x")
        tracker.log_artifact(run.run_id, artifact)
    failed = tracker.start_run(experiment.experiment_id)
    tracker.end_run(failed.run_id, RunStatus.FAILED)
    tracker.end_run(tracker.start_run(experiment.experiment_id).run_id, RunStatus.CANCELLED)
    tracker.delete_tag(failed.run_id, "t")
    tracker.rename_run(failed.run_id, "renamed")
    tracker.delete_run(failed.run_id)
    tracker.restore_run(failed.run_id)
    tracker.rename_experiment(experiment.experiment_id, "renamed")
    tracker.delete_experiment(experiment.experiment_id)
    tracker.restore_experiment(experiment.experiment_id)
    tracker.compact()
    tracker.rebuild()
    for _ in range(2):
        made = registry.register_model("m", artifact, "loadable", "mine")
        registry.promote_model("m", made.version, ModelStage.PRODUCTION)
    registry.rollback("m")
    registry.annotate("m", 1, "text")
    registry.set_alias("m", "a", 1)
    registry.delete_alias("m", "a")
    registry.load_model("m")
    registry.download_artifact("m", 1, artifact.parent / "out.bin")
    registry.delete_model_version("m", 2)
    storage.write_json(1, "x")
    storage.read_json("x")
    storage.delete("x")
    with Transaction(storage) as transaction:
        transaction.write_json(1, "x")
    Transaction(storage).begin().rollback()
    unfinished = Transaction(storage).begin()
    unfinished.write_json(2, "x")
    with storage.lock:
        unfinished._apply()
    (unfinished._folder / "committed").unlink()
    unfinished._alive.release()  # as if its process had been killed before the commit point
    assert LocalStorageBackend(storage.root, operations=context.operations).read_json("x") == 1
    copy_store(context, other)
    collect(context)
    registry.delete_model("m")
    with pytest.raises(ModelNotFoundError):
        registry.promote_model("m", 1, ModelStage.PRODUCTION)
    with SafeTransaction(storage):
        pass
    time_out(storage)
    break_circuit(context.operations)


def time_out(storage):
    """Let an append wait for a lock that another process has, in vain."""
    storage.lock = FileLock(storage.lock.path, timeout=0)
    descriptor = os.open(storage.lock.path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(LockTimeout):
            storage.write_dataframe(pd.DataFrame({"a": [1]}), "t", mode="append")
    finally:
        os.close(descriptor)


def break_circuit(operations):
    now = [0.0]
    breaker = CircuitBreaker(
        failure_threshold=1,
        recovery_timeout=1,
        on_state_change=operations.circuit_observer("warehouse"),
        clock=lambda: now[0],
    )
    with pytest.raises(OSError, match="no"):
        breaker.call(raise_error)
    now[0] = 2.0
    breaker.call(int)


def raise_error():
    raise OSError("no")


def once_busy(monkeypatch):
    """Let the first file that is copied meet a busy file system."""
    copy, failed = artifacts._copy_file, []

    def copy_file(origin, target, **options):
        if not failed:
            failed.append(origin)
            raise OSError(errno.EAGAIN, "busy")
        return copy(origin, target, **options)

    monkeypatch.setattr(artifacts, "_copy_file", copy_file)


def test_all_of_them_fire(context, tmp_path, operations, artifact, monkeypatch):
    monkeypatch.setattr(flavors_module, "_loaders", {})
    register_flavor("loadable", pathlib.Path.read_bytes)
    once_busy(monkeypatch)
    events, hooks = set(), set()
    operations.emitter.subscribe("*", lambda event: events.add(event.event_type))
    for hook in HookType:
        operations.hooks.register(hook, lambda data, hook=hook: hooks.add(hook))
    place = MLOpsConfig(storage_path=str(tmp_path / "other"))
    with MLOpsContext(place, operations=operations) as other:
        do_everything(context, other, artifact)
    assert events == set(EventType)
    assert hooks == set(HookType)
    for event in EventType:
        assert operations.metrics.get_counter(f"ops_registry_{event}") > 0


def test_the_layout_is_the_one_that_the_seed_draws(no_current_context, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = init_mlops(storage_path="./mlops_data")
    monkeypatch.chdir("/")
    (tmp_path / "model.pkl").write_bytes(b"model")
    tracker, registry = context.experiment_tracker, context.model_registry
    experiment = tracker.create_experiment("e")
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_artifact(run.run_id, tmp_path / "model.pkl")
    version = registry.register_model("m", tmp_path / "model.pkl", "sklearn", "scikit-learn")
    context.compact()
    root = tmp_path / "mlops_data"
    runs = root / "experiment_tracking" / "runs" / experiment.experiment_id
    for path in (
        root / "model_registry" / "models" / "index.parquet",
        root / "model_registry" / "metadata" / version.model_id / "v1.json",
        root / "model_registry" / "artifacts" / version.model_id / "v1" / "model.pkl",
        root / "experiment_tracking" / "experiments" / "index.parquet",
        root / "experiment_tracking" / "experiments" / f"{experiment.experiment_id}.json",
        runs / "index.parquet",
        runs / f"{run.run_id}.json",
        root / "experiment_tracking" / "artifacts" / run.run_id / "model.pkl",
    ):
        assert path.is_file(), path
    view = json.loads((root / "model_registry/metadata" / version.model_id / "v1.json").read_text())
    assert view["version"] == 1


@pytest.mark.parametrize("path", ["s3://bucket/store", "gs://b", "hdfs://n/x"])
def test_an_object_store_is_refused_and_no_folder_is_made_of_its_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="no folder"):
        MLOpsConfig(storage_path=path)
    assert list(tmp_path.iterdir()) == []
