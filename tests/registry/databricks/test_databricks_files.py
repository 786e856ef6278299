"""Large files through the Files API: streamed, resumed, whole or not there, and no token in sight."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import traceback

import pytest

from ops.registry import ArtifactNotFoundError, BackendUnavailableError, CorruptStoreError
from ops.registry.errors import StorageError
from ops.resilience.retrying import testing
from ops.resilience.transfers import _Download

pytestmark = pytest.mark.service

MIB = 1 << 20


@pytest.fixture(autouse=True)
def nobody_waits():
    with testing(attempts=4):
        yield


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(MIB) * 20)
    return path


@pytest.fixture
def asked(warehouse):
    """Return what was asked of the Files API since, as (method, kind)."""
    before = len(warehouse.seen()["requests"])

    def since():
        return [tuple(r.split()[:2]) for r in warehouse.seen()["requests"][before:]]

    return since


@pytest.mark.parametrize(("size", "api"), [(8 * MIB, []), (8 * MIB + 1, ["PUT", "PUT", "GET"])])
def test_the_size_alone_decides_which_way_a_file_goes(storage, tmp_path, asked, size, api):
    path = tmp_path / "file"
    path.write_bytes(b"\0" * size)
    storage.write_artifact(path, "a b/ü.bin")
    out = storage.read_artifact("a b/ü.bin", tmp_path / "out")
    assert out.stat().st_size == size
    assert [method for method, _ in asked()] == api


def test_a_large_model_comes_back_as_it_was(registry, large, tmp_path, asked):
    made = registry.register_model("m", large, "binary", "mine")
    assert made.checksum == hashlib.sha256(large.read_bytes()).hexdigest()
    out = registry.download_artifact("m", 1, tmp_path / "out")
    assert out.read_bytes() == large.read_bytes()
    assert asked() == [("PUT", "directories"), ("PUT", "files"), ("GET", "files")]
    assert list(registry.warehouse.staging.iterdir()) == []


def test_a_large_file_is_not_copied_once_more_on_its_own_disk(
    registry, large, tmp_path, monkeypatch
):
    registry.register_model("m", large, "binary", "mine")
    (tmp_path / "out").write_bytes(b"old")
    monkeypatch.setattr("ops.registry.disk.artifacts.fetch", None)
    out = registry.download_artifact("m", 1, tmp_path / "out", overwrite=True)
    assert out.read_bytes() == large.read_bytes()


def test_a_large_file_goes_to_a_folder_that_is_not_there_yet(registry, large, tmp_path):
    registry.register_model("m", large, "binary", "mine")
    out = registry.download_artifact("m", 1, tmp_path / "a" / "b" / "out")
    assert out.read_bytes() == large.read_bytes()


def test_what_is_busy_or_cut_off_is_repeated(registry, large, tmp_path, warehouse):
    warehouse.control(fail_files=[[503, {"Retry-After": "7"}], [429, {}]], cut_put=1)
    registry.register_model("m", large, "binary", "mine")
    warehouse.control(fail_files=[[503, {"Retry-After": "7"}]])
    out = registry.download_artifact("m", 1, tmp_path / "out")
    assert out.read_bytes() == large.read_bytes()


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(
    registry, large, tmp_path, warehouse, asked, monkeypatch
):
    registry.register_model("m", large, "binary", "mine")
    received = []

    original = _Download._copy

    def counted(self, response, file, start, total):
        received.append(start)
        return original(self, response, file, start, total)

    monkeypatch.setattr(_Download, "_copy", counted)
    warehouse.control(cut_get=1)
    out = registry.download_artifact("m", 1, tmp_path / "out")
    assert out.read_bytes() == large.read_bytes()
    assert asked().count(("GET", "files")) == 2
    assert received[0] == 0 < received[1]


def test_what_is_always_cut_off_leaves_nothing_behind(registry, large, tmp_path, warehouse):
    warehouse.control(cut_put=100)
    with pytest.raises(StorageError, match="Files API"):
        registry.register_model("m", large, "binary", "mine")
    assert registry.list_models() == []
    warehouse.control(cut_put=0)
    registry.register_model("m", large, "binary", "mine")
    warehouse.control(cut_get=100)
    with pytest.raises(StorageError):
        registry.download_artifact("m", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert list(registry.warehouse.staging.iterdir()) == []


def test_a_damaged_or_missing_large_file_is_not_handed_out(registry, large, tmp_path, warehouse):
    made = registry.register_model("m", large, "binary", "mine")
    stored = warehouse.root.joinpath(*made.artifact_uri.split("/")[1:])
    with stored.open("r+b") as file:
        file.write(b"other")
    with pytest.raises(CorruptStoreError):
        registry.download_artifact("m", 1, tmp_path / "out")
    stored.unlink()
    with pytest.raises(ArtifactNotFoundError):
        registry.download_artifact("m", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_token_that_is_refused_is_said_and_not_shown(registry, large, warehouse, caplog):
    caplog.set_level(logging.DEBUG)
    registry.list_models()
    files, path = registry.warehouse.files, f"{registry.root}/x"
    warehouse.control(token="another")
    with pytest.raises(BackendUnavailableError, match="DATABRICKS_TOKEN") as caught:
        files.put(large, path)
    with pytest.raises(BackendUnavailableError) as again:
        files.get(path, large.with_name("out"))
    said = "".join(
        traceback.format_exception(caught.value) + traceback.format_exception(again.value)
    )
    assert "dapi-test" not in said + caplog.text


def test_what_the_files_api_cannot_take_is_said_before_it_is_sent(
    registry, large, asked, monkeypatch
):
    monkeypatch.setattr("ops.registry.databricks.files_api.LARGEST", MIB)
    with pytest.raises(StorageError, match="at the most"):
        registry.register_model("m", large, "binary", "mine")
    assert asked() == []


def test_memory_does_not_grow_with_the_file(warehouse, schema, tmp_path):
    program = f"""
import os, pathlib, resource
from ops.registry import MLOpsConfig, MLOpsContext

folder = pathlib.Path({str(tmp_path)!r})
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def there_and_back(storage, mib):
    path = folder / "large"
    with path.open("wb") as file:
        file.truncate(mib << 20)
    storage.write_artifact(path, "large")
    path.unlink()
    assert storage.read_artifact("large", folder / "out").stat().st_size == mib << 20
    (folder / "out").unlink()

with MLOpsContext(MLOpsConfig("databricks", str(folder / "m"), "main", {schema!r})) as context:
    there_and_back(context.storage, 9)
    before = peak()
    there_and_back(context.storage, 256)
    print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32  # MiB; the file has 256
