from __future__ import annotations

import os
import warnings

import pytest

# Before mlflow is imported: it sends usage data unless it is told not to.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
mlflow = pytest.importorskip("mlflow", reason="pip install 'ops-registry[mlflow]'")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mlflow warns about its own type hints when it is imported
    import mlflow.pyfunc


@pytest.fixture
def root(tmp_path):
    """The folder of a store, which is not there yet."""
    return tmp_path / "store"


@pytest.fixture
def uri(root, monkeypatch):
    """The address of the store, which is what mlflow uses by itself."""
    address = f"ops-registry://{root}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    yield address
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def client(uri):
    return mlflow.MlflowClient(uri, uri)


@pytest.fixture
def run_id(client):
    """A run that goes on."""
    return client.create_run("0").info.run_id


@pytest.fixture
def context(root, operations):
    """The same store through the API of ops.registry."""
    from ops.registry.context import MLOpsConfig, MLOpsContext

    context = MLOpsContext(MLOpsConfig("local", str(root)), operations=operations)
    yield context
    context.cleanup()
