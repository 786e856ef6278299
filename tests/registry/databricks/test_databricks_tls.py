"""TLS: what is sent goes to who holds a certificate of a trusted authority, and to nobody else."""

from __future__ import annotations

import pytest

from ops.registry import BackendUnavailableError, StorageError
from ops.registry.configuration import MLOpsConfig
from ops.registry.databricks.doctor import examine

pytestmark = pytest.mark.service


@pytest.fixture
def tls(warehouse, schema, monkeypatch):
    """The stand-in by TLS; its authority is not known yet."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("DATABRICKS_HOST", warehouse.tls_host)
    return warehouse


@pytest.fixture
def trusted(tls, authority, monkeypatch):
    """The stand-in by TLS, by an authority that the environment names."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.ca)
    return tls


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"w" * (9 << 20))
    return path


def test_statements_and_files_go_by_tls(trusted, registry, artifact, large, tmp_path):
    for number, path in enumerate((artifact, large), 1):
        registry.register_model("m", path, "binary", "mine")
        out = registry.download_artifact("m", number, tmp_path / f"out{number}")
        assert out.read_bytes() == path.read_bytes()
    assert registry.warehouse.access.address.startswith("https://127.0.0.1:")


def test_a_principal_works_by_tls(trusted, monkeypatch, new_context):
    trusted.control(token="nobody has this one")
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "client")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "dose-secret")
    assert new_context().experiment_tracker.list_experiments() == []


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_each_variable_that_names_authorities_is_taken(
    tls, authority, monkeypatch, variable, new_context
):
    monkeypatch.setenv(variable, authority.ca)
    assert new_context().experiment_tracker.list_experiments() == []


def test_an_unknown_authority_is_refused_before_anything_is_sent(tls, tracker, large):
    before = tls.seen()
    with pytest.raises(StorageError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        tracker.list_experiments()
    assert "REQUESTS_CA_BUNDLE" in str(caught.value)
    with pytest.raises(StorageError, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
        tracker.warehouse.files.put(large, "/Volumes/main/x/ops_artifacts/x")
    after = tls.seen()
    assert (after["statements"], after["requests"]) == (before["statements"], before["requests"])


def test_another_authority_is_refused_too(tls, tmp_path_factory, monkeypatch, new_context):
    from tests.registry.databricks import certificates

    other = certificates.made_in(tmp_path_factory.mktemp("other"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", other.ca)
    with pytest.raises(StorageError, match="CERTIFICATE_VERIFY_FAILED"):
        new_context().experiment_tracker.list_experiments()


def test_a_principal_sends_no_secret_to_an_unknown_authority(tls, monkeypatch, new_context):
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "client")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "dose-secret")
    monkeypatch.setattr("ops.registry.databricks.auth._TIMEOUT", 1)
    before = tls.seen()["issued"]
    with pytest.raises(BackendUnavailableError) as caught:
        new_context().experiment_tracker.list_experiments()
    assert "dose-secret" not in str(caught.value)
    assert tls.seen()["issued"] == before


def test_the_doctor_finds_the_certificate_that_is_not_trusted(tls, schema):
    found = examine(MLOpsConfig("databricks", ".", "main", schema))
    steps = {step.name: step for step in found.steps}
    assert (steps["credentials"].status, steps["workspace"].status) == ("ok", "failed")
    assert "certificate" in steps["workspace"].found.casefold()
