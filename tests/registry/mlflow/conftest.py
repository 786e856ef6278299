from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
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


def asked_for(item):
    """Return the names of the fixtures that a test uses, those among its parameters too."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    return {*item.fixturenames, *(value for value in params.values() if isinstance(value, str))}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Let those that need the server come last: it starts while the others run."""
    items.sort(key=lambda item: "our_server" in asked_for(item))


@pytest.fixture(scope="session", autouse=True)
def _started(request, tmp_path_factory):
    """Start what takes long to start while tests that do not need it run already."""
    wanted = {name for item in request.session.items for name in asked_for(item)}
    with contextlib.ExitStack() as started:
        if "our_server" in wanted and has_pages():
            folder = tmp_path_factory.mktemp("served")
            server = Server(folder, f"ops-registry://{folder}/store")
            request.config.stash[SERVER] = started.enter_context(server)
        if "elsewhere" in wanted:
            request.config.stash[ELSEWHERE] = started.enter_context(Elsewhere())
        yield


@pytest.fixture
def elsewhere(request):
    """Runs programs in processes of their own, which have mlflow imported already."""
    return request.config.stash[ELSEWHERE]


@pytest.fixture(scope="session")
def pages():
    """The whole mlflow, with its server and web pages; mlflow-skinny has neither."""
    if not has_pages():
        pytest.skip("pip install mlflow (mlflow-skinny has no server)")


@pytest.fixture(scope="session")
def our_server(pages, request):
    """The address of a server on a store of ours."""
    return request.config.stash[SERVER].answering()


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """A folder with a database of MLflow's own store."""
    pytest.importorskip("sqlalchemy", reason="pip install mlflow (mlflow-skinny has no database)")
    pytest.importorskip("alembic", reason="pip install mlflow (mlflow-skinny has no database)")
    return tmp_path_factory.mktemp("sqlite")


@pytest.fixture
def sqlite(database, monkeypatch):
    """The address of that database; MLflow puts its artifacts below the working directory."""
    monkeypatch.chdir(database)
    return f"sqlite:///{database}/mlflow.db"


def has_pages():
    """Whether the whole mlflow is here."""
    return (pathlib.Path(mlflow.__file__).parent / "server/js/build").is_dir()


SERVER = pytest.StashKey()
ELSEWHERE = pytest.StashKey()


class Server:
    """An `mlflow server` in a process group of its own."""

    def __init__(self, folder, backend):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._log = folder / "server.log"
        self._address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend]
        command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=folder
            )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        os.killpg(self._process.pid, signal.SIGKILL)  # nobody misses what an orderly end does
        self._process.wait()

    def answering(self):
        """Return the address, once somebody answers there."""
        waiting = threading.Event()
        for _ in range(600):
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self._address}/health", timeout=5):
                    return self._address
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                waiting.wait(0.2)
        pytest.fail(f"mlflow server did not start: {self._log.read_text()[-2000:]}")


class Elsewhere:
    """A process that has imported mlflow, which takes seconds, and forks for each program."""

    def __init__(self):
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FORKING], stdin=pipe, stdout=pipe, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._process.kill()
        self._process.communicate()

    def start(self, program, *arguments):
        """Run *program* with *arguments*; return what waits for it, and gives its exit code and output."""
        output = tempfile.NamedTemporaryFile("r+", suffix=".txt")  # noqa: SIM115 - read by the waiting
        child = self._ask({"program": program, "arguments": arguments, "output": output.name})

        def wait():
            code = self._ask({"child": child})
            with output:
                return code, output.read()

        return wait

    def run(self, program, *arguments):
        """Run *program* to its end and return its exit code and output."""
        return self.start(program, *arguments)()

    def _ask(self, told):
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


FORKING = """
import json, os, signal, sys
import mlflow
import ops.registry.mlflow.store_copies, ops.registry.mlflow.trackingstore, ops.registry.mlflow.modelstore
for line in sys.stdin:
    told = json.loads(line)
    if "child" in told:
        status = os.waitpid(told["child"], 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    child = os.fork()
    if child == 0:
        signal.alarm(150)
        os.dup2(os.open(told["output"], os.O_WRONLY), 1)
        sys.argv = ["-c", *told["arguments"]]
        exec(compile(told["program"], "<elsewhere>", "exec"), {"__name__": "__main__"})
        sys.stdout.flush()
        os._exit(0)
    print(child, flush=True)
"""
