"""A service principal: databricks-sdk gets its tokens from a stand-in of `/oidc`, and gets new ones."""

from __future__ import annotations

import logging
import traceback

import pytest

from ops.registry import BackendUnavailableError
from ops.registry.databricks import WarehouseAccess
from ops.registry.databricks.auth import Credentials

pytestmark = pytest.mark.service

SECRET = "dose-secret"


@pytest.fixture(autouse=True)
def principal(warehouse, monkeypatch):
    """The environment of a service principal: no personal token works."""
    warehouse.control(token="nobody has this one")
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "client")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", SECRET)
    return warehouse


@pytest.fixture
def issued(principal, schema):
    """Return the tokens that were issued since; making the schema, in the first test, takes one too."""
    before = set(principal.seen()["issued"])
    return lambda: set(principal.seen()["issued"]) - before


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"w" * (9 << 20))
    return path


def test_statements_and_files_go_with_the_same_token(issued, tracker, experiment, storage, large):
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_metric(run.run_id, "loss", 1.0)
    assert tracker.get_run(run.run_id).metrics == {"loss": 1.0}
    storage.write_artifact(large, "large")
    assert storage.read_artifact("large", large.with_name("out")).read_bytes() == large.read_bytes()
    assert len(issued()) == 1


def test_a_token_that_expires_is_followed_by_another(principal, issued, registry, large):
    principal.control(token_seconds=0, grace_seconds=30)  # for the client each has expired at once
    registry.register_model("m", large, "binary", "mine")
    registry.set_alias("m", "best", 1)
    assert registry.download_artifact("m", 1, large.with_name("out")).exists()
    assert len(issued()) > 3


def test_a_token_that_is_refused_before_its_time_is_replaced(principal, issued, registry, large):
    registry.register_model("m", large, "binary", "mine")
    principal.control(forget_tokens=True)
    assert registry.get_model_version("m").version == 1
    principal.control(forget_tokens=True)
    assert registry.download_artifact("m", 1, large.with_name("out")).exists()
    assert len(issued()) == 3


def test_a_wrong_secret_is_said_and_not_shown(principal, tracker, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    principal.control(client=["client", "another"])
    with pytest.raises(BackendUnavailableError, match="DATABRICKS_CLIENT_SECRET") as caught:
        tracker.list_experiments()
    said = "".join(traceback.format_exception(caught.value))
    assert SECRET not in said + caplog.text + repr(tracker.warehouse.access)


def test_no_token_of_a_principal_is_in_the_log(issued, storage, large, caplog):
    caplog.set_level(logging.DEBUG)
    storage.write_artifact(large, "large")
    (token,) = issued()
    assert token not in caplog.text


def test_a_personal_token_in_the_environment_does_not_come_in_between(principal, monkeypatch):
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi-of-somebody")
    access = WarehouseAccess(principal.host, "/sql/1", None, "client", SECRET)
    assert "dapi-of-somebody" not in str(Credentials(access).headers())
