"""Credentials and Docker, found in an environment and a home that the test makes."""

import json
import os
import socket
import threading

import pytest

from ops.foundation import validate_cloud_credentials, validate_docker_environment

SECRET = "hunter2hunter2"


@pytest.fixture
def check(tmp_path):
    def run(provider, files=None, **environment):
        for name, text in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o600)
        result = validate_cloud_credentials(provider, environment=environment, home=tmp_path)
        assert SECRET not in str(result)
        return result

    return run


def codes(result):
    return [i.code for i in result.issues]


GCP_KEY = {"type": "service_account", "project_id": "p", "private_key": SECRET, "client_email": "e"}
GCP_FILE = ".config/gcloud/application_default_credentials.json"


@pytest.mark.parametrize(
    ("provider", "files", "environment"),
    [
        ("aws", {}, {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "r"}),
        (
            "aws",
            {
                ".aws/credentials": f"[a]\naws_access_key_id=k\naws_secret_access_key={SECRET}%\n",
                ".aws/config": "[profile a]\nregion=r\n",
            },
            {"AWS_PROFILE": "a"},
        ),
        ("aws", {".aws/config": "[default]\nsso_session=s\nregion=r\n"}, {}),
        ("gcp", {GCP_FILE: json.dumps(GCP_KEY)}, {}),
        (
            "azure",
            {},
            {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": SECRET},
        ),
        ("azure", {".azure/azureProfile.json": "{}"}, {}),
        ("databricks", {}, {"DATABRICKS_HOST": "https://h", "DATABRICKS_TOKEN": SECRET}),
        ("databricks", {".databrickscfg": f"[DEFAULT]\nhost = h\ntoken = {SECRET}\n"}, {}),
    ],
)
def test_complete_credentials_have_no_issue(check, provider, files, environment):
    result = check(provider, files, **environment)
    assert result.valid
    assert codes(result) == []


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure", "databricks"])
def test_nothing_at_all_is_one_error_that_says_what_to_set(check, provider):
    (issue,) = check(provider).get_errors()
    assert issue.code == "NO_CREDENTIALS"
    assert "Set" in issue.suggestion


@pytest.mark.parametrize(
    ("provider", "files", "environment", "code"),
    [
        ("aws", {}, {"AWS_ACCESS_KEY_ID": "k"}, "INCOMPLETE"),
        ("aws", {}, {"AWS_PROFILE": "gone"}, "NO_PROFILE"),
        ("aws", {".aws/credentials": f"{SECRET} no section"}, {}, "BAD_FILE"),
        ("gcp", {}, {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"}, "NO_FILE"),
        ("gcp", {GCP_FILE: "[1"}, {}, "BAD_FILE"),
        ("gcp", {GCP_FILE: json.dumps({**GCP_KEY, "private_key": ""})}, {}, "INCOMPLETE"),
        ("azure", {}, {"AZURE_CLIENT_SECRET": SECRET, "AZURE_CLIENT_ID": "c"}, "INCOMPLETE"),
        ("databricks", {}, {"DATABRICKS_HOST": "https://h"}, "INCOMPLETE"),
        ("databricks", {}, {"DATABRICKS_TOKEN": SECRET}, "INCOMPLETE"),
        (
            "databricks",
            {},
            {"DATABRICKS_HOST": "http://h", "DATABRICKS_TOKEN": SECRET},
            "NOT_HTTPS",
        ),
    ],
)
def test_half_of_it_is_an_error(check, provider, files, environment, code):
    assert code in [i.code for i in check(provider, files, **environment).get_errors()]


def test_a_missing_region_and_a_readable_file_are_warnings(check, tmp_path):
    keys = f"[default]\naws_access_key_id=k\naws_secret_access_key={SECRET}\n"
    assert codes(check("aws", {".aws/credentials": keys})) == ["NOT_SET"]
    (tmp_path / ".aws/credentials").chmod(0o644)
    result = check("aws", AWS_REGION="r")
    assert result.valid
    assert codes(result) == (["READABLE"] if os.name == "posix" else [])


def test_an_unknown_provider_is_an_error(check):
    assert codes(check("dropbox")) == ["UNKNOWN_PROVIDER"]


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    """Give the address of a socket that answers one ping with *reply*."""
    monkeypatch.chdir(tmp_path)  # the name of a Unix socket must be short
    threads = []

    def start(reply):
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / "d"))
        server.listen(1)

        def serve():
            with server:
                connection, _ = server.accept()
                with connection:
                    assert connection.recv(1000).startswith(b"GET /_ping ")
                    connection.sendall(reply)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return f"unix://{tmp_path / 'd'}"

    yield start
    for thread in threads:
        thread.join(30)


def docker(host, **options):
    options = {"which": lambda _: "/usr/bin/docker", **options}
    return validate_docker_environment(environment={"DOCKER_HOST": host}, **options)


def test_a_daemon_that_answers_is_valid(daemon):
    assert codes(docker(daemon(b"HTTP/1.0 200 OK\r\n\r\nOK"), ping=True)) == []


def test_a_stranger_on_the_socket_is_an_error(daemon):
    assert codes(docker(daemon(b"SSH-2.0\r\n"), ping=True)) == ["NO_ANSWER"]


def test_every_missing_part_is_reported(tmp_path):
    result = docker(f"unix://{tmp_path}/none", which=lambda _: None, ping=True)
    assert codes(result) == ["NO_CLIENT", "NO_SOCKET"]
    (tmp_path / "file").touch()
    assert codes(docker(f"unix://{tmp_path}/file")) == ["NO_SOCKET"]
    assert codes(docker("ftp://x")) == ["BAD_HOST"]


def test_a_closed_port_does_not_answer_and_ssh_is_not_asked():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        assert codes(docker(host)) == []
        assert codes(docker(host, ping=True, timeout=5)) == ["NO_ANSWER"]
    result = docker("ssh://somewhere", ping=True)
    assert result.valid
    assert codes(result) == ["NOT_PINGED"]


@pytest.mark.parametrize("host", ["tcp://h:99999", "tcp://h:http", "tcp://[::1", "bogus"])
def test_a_host_that_is_no_address_is_an_issue_and_no_crash(host):
    assert codes(docker(host, ping=True)) == ["BAD_HOST"]


def test_a_databricks_host_that_is_no_address_is_an_issue(check):
    result = check("databricks", DATABRICKS_HOST="https://[bad", DATABRICKS_TOKEN="x")
    assert codes(result) == ["NOT_HTTPS"]
