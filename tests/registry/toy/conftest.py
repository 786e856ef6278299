from __future__ import annotations

import pytest
from tests.registry.toy import memory_backend

from ops.registry import (
    ExperimentTrackerFactory,
    MLOpsConfig,
    MLOpsContext,
    ModelRegistryFactory,
    StorageBackendFactory,
)


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """The backend under its name, as another project registers one."""
    for factory, maker in (
        (ExperimentTrackerFactory, memory_backend.make_tracker),
        (ModelRegistryFactory, memory_backend.make_registry),
        (StorageBackendFactory, memory_backend.make_storage),
    ):
        monkeypatch.setitem(factory._makers, "memory", maker)
    monkeypatch.setattr(memory_backend, "STORES", {})


@pytest.fixture
def new_context(tmp_path, operations):
    config = MLOpsConfig("memory", str(tmp_path / "store"))
    return lambda: MLOpsContext(config, operations=operations)


@pytest.fixture
def storage(context):
    return context.storage


@pytest.fixture
def abandoned_run(tracker, experiment, context):
    run = tracker.start_run(experiment.experiment_id)
    tracker.log_metric(run.run_id, "m", 1.0)
    memory_backend.Memory.at(context.path).dead.add(run.run_id)
    return run.run_id
