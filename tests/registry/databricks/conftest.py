from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import urllib.request
import uuid

import pytest
from tests.registry.databricks import certificates

from ops.registry.context import MLOpsConfig, MLOpsContext
from ops.registry.databricks import Warehouse, WarehouseAccess

for needed in ("databricks.sql", "pysail", "pyspark"):
    pytest.importorskip(
        needed, reason="pip install 'ops-registry[databricks]' pysail pyspark-client"
    )


class StandIn:
    """The warehouse of the session, seen from outside."""

    def __init__(self, port: int, tls_port: int) -> None:
        self.host = f"http://127.0.0.1:{port}"
        self.tls_host = f"https://127.0.0.1:{tls_port}"

    def control(self, **faults):
        body = json.dumps(faults).encode()
        with urllib.request.urlopen(f"{self.host}/control", body, timeout=10):
            pass

    def seen(self):
        with urllib.request.urlopen(f"{self.host}/control", timeout=10) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A certificate authority of this session and what it signed for 127.0.0.1, as paths of PEM files."""
    return certificates.made_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory, authority):
    folder = tmp_path_factory.mktemp("warehouse")
    script = pathlib.Path(__file__).with_name("warehouse_server.py")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder / "root"), authority.server, authority.key],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        port = process.stdout.readline().strip()
        if not port:
            pytest.fail(f"the stand-in did not start: {(folder / 'log').read_text()[-2000:]}")
        made = StandIn(*map(int, port.split()))
        made.root = folder / "root"
        yield made
        # Of all statements that all tests sent; Databricks takes no more (databricks-sql-python#300).
        assert made.seen()["parameters"] <= 255
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def warehouse(stand_in, monkeypatch):
    """The stand-in without faults, named by the environment."""
    calm = dict.fromkeys(("conflicts", "lose", "cut", "cut_put", "cut_get"), 0)
    calm |= {"fail": [], "fail_files": [], "token": "dapi-test", "token_seconds": 3600}
    calm |= {"deny": "", "starting": 0, "cloud": "aws", "list_prefix": ""}
    calm |= {"grace_seconds": 0, "client": ["client", "dose-secret"], "deny_tags": False}
    stand_in.control(**calm)
    for name in ("DATABRICKS_AUTH_TYPE", "DATABRICKS_CONFIG_PROFILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("DATABRICKS_HOST", stand_in.host)
    monkeypatch.setenv("DATABRICKS_HTTP_PATH", "/sql/1.0/warehouses/local")
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi-test")
    yield stand_in
    stand_in.control(**calm)


@pytest.fixture(scope="session")
def schemas():
    """Schemas that are ready and empty: making one takes longer than most tests."""
    return []


@pytest.fixture
def fresh_schema():
    """Asked for by a test whose schema must not be there yet."""


@pytest.fixture
def schema(request, warehouse, schemas, tmp_path):
    """A schema of the test's own."""
    name = f"t{uuid.uuid4().hex[:12]}"
    if "fresh_schema" in request.fixturenames:
        yield name
        return
    if schemas:
        name = schemas.pop()
    else:
        made = Warehouse(WarehouseAccess.from_env(), "main", name, tmp_path / "making")
        made.rows("SELECT 1")
        made.close()
        warehouse.control(keep=[name, "empty"])
    yield name
    warehouse.control(reset=[name, "empty"])
    schemas.append(name)


@pytest.fixture
def new_context(warehouse, schema, tmp_path, operations):
    """Makes contexts on one schema; each has its own folder, like another machine."""
    made = []

    def make(**options):
        config = MLOpsConfig(
            "databricks",
            str(tmp_path / f"machine{len(made)}"),
            catalog="main",
            schema=schema,
            **options,
        )
        made.append(MLOpsContext(config, operations=operations))
        return made[-1]

    yield make
    for context in made:
        context.cleanup()


@pytest.fixture
def years_later(context):
    """Let all signs of life be old."""

    def pass_by():
        context.experiment_tracker.warehouse.change(
            "UPDATE @ops_run_beats SET beat_at = beat_at - 100000000000000"
        )

    return pass_by


@pytest.fixture
def abandoned_run(new_context, experiment, years_later):
    """A run that another machine has started which is gone."""
    other = new_context().experiment_tracker
    run = other.start_run(experiment.experiment_id)
    other.log_metric(run.run_id, "m", 1.0)
    other.close()
    years_later()
    return run.run_id


@pytest.fixture
def storage(context):
    return context.storage
