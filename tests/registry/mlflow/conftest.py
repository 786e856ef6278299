from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
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


def _serve(folder: pathlib.Path, backend: str):
    """Run `mlflow server` in a process group of its own until the session ends."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    try:
        _wait_until_it_answers(process, address, folder / "server.log")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_it_answers(process, address, log):
    waiting = threading.Event()
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            waiting.wait(0.2)
    pytest.fail(f"mlflow server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def pages():
    """The whole mlflow, with its server and web pages; mlflow-skinny has neither."""
    if not (pathlib.Path(mlflow.__file__).parent / "server/js/build").is_dir():
        pytest.skip("pip install mlflow (mlflow-skinny has no server)")


@pytest.fixture(scope="session")
def our_server(pages, tmp_path_factory):
    """The address of a server on a store of ours."""
    folder = tmp_path_factory.mktemp("ours")
    yield from _serve(folder, f"ops-registry://{folder}/store")


@pytest.fixture(scope="session")
def sqlite_server(pages, tmp_path_factory):
    """The address of a server on SQLite, as mlflow starts it by default."""
    folder = tmp_path_factory.mktemp("sqlite")
    yield from _serve(folder, f"sqlite:///{folder}/mlflow.db")
