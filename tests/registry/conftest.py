from __future__ import annotations

import subprocess
import sys

import pytest

from ops.observe.events import EventEmitter
from ops.observe.hooks import HooksManager
from ops.observe.metrics import MetricsCollector
from ops.registry.context import MLOpsConfig, MLOpsContext, reset_mlops_context
from ops.registry.disk.storage import LocalStorageBackend
from ops.registry.operations import Operations

#: Every storage backend; what is added here runs the whole suite of storages.
STORAGES = {"local": LocalStorageBackend}
#: Every backend of a context; what is added here runs the suites of trackers and registries.
BACKENDS = ["local"]


@pytest.fixture
def operations():
    """Wiring of its own, so that no test hears another."""
    return Operations(emitter=EventEmitter(), hooks=HooksManager(), metrics=MetricsCollector())


@pytest.fixture(params=BACKENDS)
def new_context(request, tmp_path, operations):
    """Makes contexts on one store; a second one stands for another process."""
    made = []

    def make(**options):
        config = MLOpsConfig(request.param, str(tmp_path / "store"), **options)
        made.append(MLOpsContext(config, operations=operations))
        return made[-1]

    yield make
    for context in made:
        context.cleanup()


@pytest.fixture
def context(new_context):
    return new_context()


@pytest.fixture
def tracker(context):
    return context.experiment_tracker


@pytest.fixture
def registry(context):
    return context.model_registry


@pytest.fixture(params=sorted(STORAGES))
def storage(request, tmp_path, operations):
    return STORAGES[request.param](tmp_path / "files", operations=operations)


@pytest.fixture
def experiment(tracker):
    return tracker.create_experiment("study")


@pytest.fixture
def abandoned_run(context, experiment):
    """A run that a process has started which is gone."""
    program = f"""
from ops.registry.context import MLOpsConfig, MLOpsContext
tracker = MLOpsContext(MLOpsConfig(storage_path={str(context.path)!r})).experiment_tracker
run = tracker.start_run({experiment.experiment_id!r})
tracker.log_metric(run.run_id, "m", 1.0)
print(run.run_id)
"""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def no_current_context(monkeypatch):
    for prefix in ("OPS", "TAURO"):
        for name in ("BACKEND", "PATH", "DURABILITY"):
            monkeypatch.delenv(f"{prefix}_MLOPS_{name}", raising=False)
    reset_mlops_context()
    yield
    reset_mlops_context()
