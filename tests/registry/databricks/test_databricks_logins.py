"""Unified authentication: databricks-sdk finds the credentials that the environment names; none is shown."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import traceback

import pytest

from ops.registry import BackendUnavailableError, ConfigurationError
from ops.registry.databricks import WarehouseAccess
from ops.registry.databricks.auth import Credentials
from ops.registry.databricks.config import UNIFIED

pytestmark = pytest.mark.service

PATH = "/sql/1.0/warehouses/local"


@pytest.fixture(autouse=True)
def no_credentials(warehouse, schema, monkeypatch, tmp_path):
    """The environment of a machine where nothing is logged in."""
    for name in (*UNIFIED, "DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_HTTP_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / ".databrickscfg"))
    return warehouse


@pytest.fixture
def profiles(tmp_path, warehouse):
    """Write the configuration file of Databricks' tools."""

    def write(text):
        path = tmp_path / ".databrickscfg"
        path.write_text(textwrap.dedent(text).replace("HOST", warehouse.host))

    return write


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program of a name into the path, which prints a text or fails with it."""

    def write(name, text, code=0):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(f"#!{sys.executable}\nimport sys\nprint({text!r})\nsys.exit({code})\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return write


@pytest.fixture
def azure(program, monkeypatch, warehouse):
    """`az login` was done: the CLI gives a token that the workspace takes, which counts as one on Azure."""
    from databricks.sdk.environments import get_environment_for_hostname

    on_azure = get_environment_for_hostname("adb-1.2.azuredatabricks.net")
    monkeypatch.setattr("databricks.sdk.config.get_environment_for_hostname", lambda _: on_azure)
    token = f"{_part({'alg': 'none'})}.{_part({'upn': 'me@example.com'})}."
    answer = {"accessToken": token, "tokenType": "Bearer", "expiresOn": "2099-01-01 00:00:00.000"}
    program("az", json.dumps(answer))
    warehouse.control(token=token)
    monkeypatch.setenv("DATABRICKS_HOST", warehouse.host)
    monkeypatch.setenv("DATABRICKS_HTTP_PATH", PATH)
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "azure-cli")
    monkeypatch.setenv("ARM_TENANT_ID", "tenant")
    return token


def _part(value):
    import base64

    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_profile_names_the_host_and_the_token(profiles, monkeypatch, new_context):
    profiles(
        """
        [DEFAULT]
        host = https://elsewhere.example.net
        [prod]
        host = HOST
        token = dapi-test
        """
    )
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "prod")
    monkeypatch.setenv("DATABRICKS_HTTP_PATH", PATH)
    tracker = new_context().experiment_tracker
    assert tracker.list_experiments() == []
    assert "dapi-test" not in repr(tracker.warehouse.access)


def test_a_profile_may_be_the_default_one_and_name_the_warehouse(
    profiles, warehouse, new_context, tmp_path
):
    profiles(
        """
        [DEFAULT]
        host = HOST
        token = dapi-test
        warehouse_id = local
        """
    )
    access = WarehouseAccess.from_env()
    assert (access.host, access.http_path, access.token) == (warehouse.host, PATH, None)
    path = tmp_path / "weights"
    path.write_bytes(b"w" * (9 << 20))  # by the Files API
    registry = new_context().model_registry
    registry.register_model("m", path, "binary", "mine")
    assert registry.download_artifact("m", 1, tmp_path / "out").exists()


def test_a_profile_may_be_of_a_service_principal(profiles, warehouse, monkeypatch, new_context):
    profiles(
        """
        [robot]
        host = HOST
        client_id = client
        client_secret = dose-secret
        """
    )
    warehouse.control(token="no personal token")
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "robot")
    monkeypatch.setenv("DATABRICKS_WAREHOUSE_ID", "local")
    assert new_context().experiment_tracker.list_experiments() == []


def test_the_azure_cli_is_asked_for_tokens(azure, new_context):
    context = new_context()
    assert context.experiment_tracker.list_experiments() == []
    context.storage.write_json({"a": 1}, "a.json")
    assert context.storage.read_json("a.json") == {"a": 1}


def test_a_token_of_a_cli_that_is_refused_is_in_no_message(azure, new_context, warehouse, caplog):
    caplog.set_level(logging.INFO)
    tracker = new_context().experiment_tracker
    tracker.list_experiments()
    warehouse.control(token="another")
    with pytest.raises(BackendUnavailableError, match="azure-cli") as caught:
        tracker.list_experiments()
    said = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert azure not in said
    assert "Log in again" in str(caught.value)


def test_a_cli_that_is_not_logged_in_is_an_error_that_says_so(
    azure, program, new_context, warehouse
):
    program("az", "ERROR: Please run az login; token eyJhbGciOi.eyJ1cG4i.c2ln", code=1)
    with pytest.raises(BackendUnavailableError, match="az login") as caught:
        new_context().experiment_tracker.list_experiments()
    assert "eyJhbGciOi" not in str(caught.value)


def test_a_notebook_needs_a_path_only(warehouse, schema, tmp_path):
    runtime = tmp_path / "site" / "dbruntime"
    runtime.mkdir(parents=True)
    (runtime / "__init__.py").write_text(
        "class UserNamespaceInitializer:\n"
        "    getOrCreate = classmethod(lambda cls: cls())\n"
        "    get_namespace_globals = dict\n"
    )
    (runtime / "sdk_credential_provider.py").write_text(
        "def init_runtime_native_auth():\n"
        f"    return {warehouse.host!r}, lambda: {{'Authorization': 'Bearer dapi-test'}}\n"
    )
    program = f"""
from ops.registry import MLOpsConfig, MLOpsContext
with MLOpsContext(MLOpsConfig("databricks", {str(tmp_path / "m")!r}, "main", {schema!r})) as context:
    print(context.experiment_tracker.list_experiments())
"""
    named = {
        "DATABRICKS_RUNTIME_VERSION": "15.4",
        "DATABRICKS_HTTP_PATH": PATH,
        "PYTHONPATH": str(tmp_path / "site"),
        "PATH": os.defpath,  # databricks-sdk looks for its command in each folder, and fails at one of another user
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | named,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_what_is_given_counts_more_than_what_would_be_found(azure):
    access = WarehouseAccess.from_env(
        {
            "DATABRICKS_HOST": "adb-1.2.azuredatabricks.net",
            "DATABRICKS_HTTP_PATH": "/p",
            "DATABRICKS_TOKEN": "dapi-given",
            "DATABRICKS_CONFIG_PROFILE": "prod",
        }
    )
    assert (access.token, access.auth_type, access.profile) == ("dapi-given", None, None)
    assert Credentials(access).headers() == {"Authorization": "Bearer dapi-given"}


@pytest.mark.parametrize("kind", ["azure-cli", "databricks-cli", "external-browser"])
def test_a_kind_that_is_named_counts_more_than_a_token(kind):
    access = WarehouseAccess.from_env(
        {
            "DATABRICKS_HOST": "h",
            "DATABRICKS_HTTP_PATH": "/p",
            "DATABRICKS_TOKEN": "dapi-given",
            "DATABRICKS_AUTH_TYPE": kind,
        }
    )
    assert (access.token, access.auth_type) == (None, kind)


def test_nothing_that_is_named_is_an_error_that_names_what_could_be():
    with pytest.raises(BackendUnavailableError) as caught:
        WarehouseAccess.from_env({"DATABRICKS_HOST": "h", "DATABRICKS_HTTP_PATH": "/p"})
    said = str(caught.value)
    assert "needs DATABRICKS_TOKEN in" in said
    assert "DATABRICKS_CONFIG_PROFILE" in said


def test_a_configuration_file_that_is_none_is_not_quoted(profiles):
    profiles("token = dapi-secret\n")
    with pytest.raises(ConfigurationError) as caught:
        WarehouseAccess.from_env()
    assert ".databrickscfg" in str(caught.value)
    assert "dapi-secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        "Bearer abc.def",
        "dapi0123456789abcdef0123456789abcdef",
        "dapi0123456789abcdef0123456789abcdef-2",
        "dose0123456789abcdef0123456789abcdef",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl",
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA&X-Amz-Signature=0a1b&x=1",
        "https://a.blob.core.windows.net/c/k?sv=2020&sig=a%2Bb%3D&se=2030",
        "https://storage.googleapis.com/b/k?X-Goog-Signature=0a1b",
    ],
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_comes_from(text):
    hidden = WarehouseAccess("h", "/p", "given-token").hidden(f"before {text} after")
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    assert "***" in hidden
    for secret in ("abc.def", "0123456789abcdef", "c2lnbmF0dXJl", "0a1b", "AKIA", "a%2Bb"):
        assert secret not in hidden


def test_a_token_that_was_issued_is_hidden_whatever_it_looks_like():
    class Client:
        def authenticate(self):
            return {"Authorization": "Bearer an-opaque-token", "X-Other": "another-secret"}

    credentials = Credentials(WarehouseAccess("h", "/p", auth_type="azure-cli"))
    credentials._client = Client()
    credentials.headers()
    assert credentials.hidden("an-opaque-token, another-secret") == "***, ***"


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        ("adb-12.3.azuredatabricks.net", "azure"),
        ("https://12.gcp.databricks.com", "gcp"),
        ("dbc-1.cloud.databricks.com", "aws"),
        ("evil.azuredatabricks.net.example.com", "other"),
        ("127.0.0.1", "other"),
    ],
)
def test_the_cloud_is_known_by_the_end_of_the_name(host, cloud):
    assert WarehouseAccess(host, "/p", "t").cloud == cloud
