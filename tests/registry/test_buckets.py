"""Artifacts in a bucket of a real S3 server, while the journals are local files."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from ops.foundation import PathEscapesRootError
from ops.foundation.errors import MissingExtraError
from ops.registry import (
    AlreadyExistsError,
    ArtifactNotFoundError,
    ConfigurationError,
    CorruptStoreError,
    MLOpsConfig,
    MLOpsContext,
    RunStatus,
    StorageError,
)
from ops.registry.conformance import RegistryBehaviour, TrackerBehaviour
from ops.registry.fsck import check, collect
from ops.registry.mlflow.model_repository import ModelBook
from ops.registry.remote.s3 import S3
from ops.registry.transfer import copy_store
from ops.resilience import testing
from ops.serialize import dump

pytestmark = pytest.mark.service
LATER = 2 * 24 * 3600


@pytest.fixture
def new_context(s3, tmp_path, operations):
    """Makes contexts on local stores whose artifacts are in the bucket."""
    made = []

    def make(name="store", **options):
        options = {"artifact_uri": f"s3://{s3.bucket}/{tmp_path.name}/{name}", **options}
        config = MLOpsConfig("local", str(tmp_path / name), **options)
        made.append(MLOpsContext(config, operations=operations))
        return made[-1]

    yield make
    for context in made:
        context.cleanup()


@pytest.fixture
def run(tracker, experiment):
    return tracker.start_run(experiment.experiment_id)


class TestTrackerWithBucket(TrackerBehaviour):
    """Runs as everywhere, artifacts in a bucket."""


class TestRegistryWithBucket(RegistryBehaviour):
    """Models as everywhere, artifacts in a bucket."""


def test_artifacts_are_in_the_bucket_and_not_in_the_store(
    context, tracker, registry, run, artifact, tmp_path, keys
):
    logged = tracker.log_artifact(run.run_id, artifact, "models")
    made = registry.register_model("m", artifact, "binary", "mine")
    assert logged.path == "models/model.bin"
    for uri in (logged.uri, made.artifact_uri):
        assert uri.startswith(f"{context.config.artifact_uri}/")
    assert sorted(keys()) == sorted(uri.split("/", 3)[3] for uri in (logged.uri, made.artifact_uri))
    assert not list(context.path.rglob("model.bin"))
    assert logged.checksum == made.checksum == hashlib.sha256(b"weights").hexdigest()
    out = tracker.download_run_artifact(run.run_id, "models/model.bin", tmp_path / "run.bin")
    assert out.read_bytes() == b"weights"
    (tmp_path / "out").mkdir()
    out = registry.download_artifact("m", 1, tmp_path / "out")
    assert (out, out.read_bytes()) == (tmp_path / "out" / "model.bin", b"weights")


def test_texts_dicts_and_figures_go_there_too(tracker, run, tmp_path):
    class Figure:
        def savefig(self, path):
            pathlib.Path(path).write_bytes(b"drawn")

    kept = [
        tracker.log_text(run.run_id, "grün", "notes/a.txt"),
        tracker.log_dict(run.run_id, {"a": 1}, "b.json"),
        tracker.log_figure(run.run_id, Figure(), "plots/c.png"),
    ]
    assert [k.uri.rpartition("/")[2] for k in kept] == ["a.txt", "b.json", "c.png"]
    found = [
        tracker.download_run_artifact(run.run_id, k.path, tmp_path / str(i)).read_bytes()
        for i, k in enumerate(kept)
    ]
    assert found == ["grün".encode(), b'{"a":1}', b"drawn"]


def test_a_file_of_several_parts_comes_back_as_it_was(registry, tmp_path, keys):
    source = tmp_path / "large.bin"
    source.write_bytes(os.urandom((16 << 20) + 12345))  # two parts and a bit
    made = registry.register_model("m", source, "binary", "mine")
    assert made.size == source.stat().st_size
    out = registry.download_artifact("m", 1, tmp_path / "out.bin")
    assert out.read_bytes() == source.read_bytes()
    assert len(keys()) == 1


def test_folders_keep_their_names_and_empty_files(registry, tracker, run, tmp_path):
    folder = tmp_path / "saved"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "empty").write_bytes(b"")
    (folder / "deep" / "er" / "ä b&c.txt").write_bytes(b"text")
    (tmp_path / "hollow").mkdir()
    made = registry.register_model("m", folder, "folder", "mine")
    assert (made.size, made.artifact_uri[-1]) == (4, "/")
    out = registry.download_artifact("m", 1, tmp_path / "out")
    assert (out / "deep" / "er" / "ä b&c.txt").read_bytes() == b"text"
    assert (out / "empty").read_bytes() == b""
    tracker.log_artifact(run.run_id, tmp_path / "hollow")
    tracker.download_run_artifact(run.run_id, "hollow", tmp_path / "hollow again")
    assert list((tmp_path / "hollow again").iterdir()) == []


def test_the_same_name_keeps_the_content_unless_told_otherwise(
    tracker, run, artifact, new_context, keys
):
    first = tracker.log_artifact(run.run_id, artifact)
    assert tracker.log_artifact(run.run_id, artifact) == first
    artifact.write_bytes(b"others")
    with pytest.raises(AlreadyExistsError, match="overwrite=True"):
        tracker.log_artifact(run.run_id, artifact)
    assert len(keys()) == 1
    second = tracker.log_artifact(run.run_id, artifact, overwrite=True)
    assert second.uri != first.uri
    assert new_context().experiment_tracker.get_run(run.run_id).artifacts == (second,)
    assert keys() == [second.uri.split("/", 3)[3]]


def test_names_cannot_leave_the_run(tracker, run, keys):
    with pytest.raises(PathEscapesRootError):
        tracker.log_text(run.run_id, "x", "../../outside")
    assert keys() == []


def test_deleting_removes_the_objects(registry, artifact, tmp_path, keys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"a")
    registry.register_model("m", artifact, "binary", "mine")
    registry.register_model("m", tmp_path / "folder", "folder", "mine")
    registry.register_model("m", artifact, "binary", "mine")
    registry.delete_model_version("m", 2)
    assert len(keys()) == 2
    registry.delete_model("m")
    assert keys() == []


def test_what_mlflow_keeps_in_a_bucket_is_never_deleted(s3, context, artifact, tmp_path, keys):
    key = f"{tmp_path.name}/mlflow/model.bin"
    s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"theirs")
    book = ModelBook(context.model_registry.root)
    book.create_model("theirs", "", {})
    metadata = {"artifact_type": "mlflow", "framework": "mlflow", "dependencies": []}
    book.register_elsewhere("theirs", f"s3://{s3.bucket}/{key}", metadata)
    context.model_registry.delete_model("theirs")
    assert keys() == [key]


def test_an_object_that_was_changed_is_noticed(
    s3, context, registry, tracker, run, artifact, tmp_path
):
    made = registry.register_model("m", artifact, "binary", "mine")
    logged = tracker.log_artifact(run.run_id, artifact)
    tracker.end_run(run.run_id)
    assert check(context).is_sound
    for uri in (made.artifact_uri, logged.uri):
        s3.client.put_object(Bucket=s3.bucket, Key=uri.split("/", 3)[3], Body=b"changed")
    with pytest.raises(CorruptStoreError, match="SHA-256"):
        registry.download_artifact("m", 1, tmp_path / "out.bin")
    with pytest.raises(CorruptStoreError, match="SHA-256"):
        tracker.download_run_artifact(run.run_id, "model.bin", tmp_path / "out.bin")
    assert not (tmp_path / "out.bin").exists()
    assert sum("SHA-256" in problem for problem in check(context).problems) == 2


def test_an_object_that_is_gone_is_said_to_be(s3, registry, artifact, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    for source, name in ((artifact, "file"), (folder, "folder")):
        made = registry.register_model(name, source, "binary", "mine")
        key = made.artifact_uri.split("/", 3)[3]
        s3.client.delete_object(Bucket=s3.bucket, Key=key + ("a" if source is folder else ""))
        with pytest.raises(ArtifactNotFoundError, match="not there any more"):
            registry.download_artifact(name, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_artifacts_are_still_read_when_new_ones_go_elsewhere(new_context, artifact, tmp_path):
    new_context().model_registry.register_model("m", artifact, "binary", "mine")
    local = new_context(artifact_uri=None).model_registry
    assert local.register_model("m", artifact, "binary", "mine").version == 2
    for version in (1, 2):
        local.verify(local.get_model_version("m", version))
    assert local.download_artifact("m", 1, tmp_path / "out").read_bytes() == b"weights"


@pytest.mark.parametrize("places", [("bucket", None), (None, "bucket")])
def test_an_artifact_that_is_elsewhere_is_still_the_one_of_its_name(
    new_context, experiment, artifact, tmp_path, keys, places
):
    first, second = (new_context() if place else new_context(artifact_uri=None) for place in places)
    run = first.experiment_tracker.start_run(experiment.experiment_id)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"a")
    kept = [
        first.experiment_tracker.log_artifact(run.run_id, what)
        for what in (artifact, tmp_path / "folder")
    ]
    tracker = second.experiment_tracker
    assert tracker.log_artifact(run.run_id, artifact) == kept[0]
    with pytest.raises(AlreadyExistsError, match="as one artifact"):
        tracker.log_text(run.run_id, "b", "folder/b")
    artifact.write_bytes(b"others")
    with pytest.raises(AlreadyExistsError, match="overwrite=True"):
        tracker.log_artifact(run.run_id, artifact)
    new = tracker.log_artifact(run.run_id, artifact, overwrite=True)
    assert new.uri != kept[0].uri
    assert first.experiment_tracker.get_run(run.run_id).artifacts == (kept[1], new)
    assert check(second).is_sound
    gone = tmp_path / "out"
    assert tracker.download_run_artifact(run.run_id, "model.bin", gone).read_bytes() == b"others"
    assert not list(first.path.rglob("model.bin")) or places[1] is None
    # A store that no longer has the address removes nothing there: a journal alone names no bucket.
    assert len(keys()) == (1 if places[1] else 2)


def test_of_two_who_upload_at_once_the_first_to_have_arrived_counts(
    context, new_context, experiment, artifact, tmp_path, keys, monkeypatch
):
    ours, theirs = context.experiment_tracker, new_context().experiment_tracker
    run = ours.start_run(experiment.experiment_id)
    other = tmp_path / "other" / "model.bin"
    other.parent.mkdir()
    other.write_bytes(b"others")
    real = ours._files._remote.send
    meanwhile = [(artifact, "equal"), (other, "different")]

    def send(*args):
        sent = real(*args)
        theirs.log_artifact(run.run_id, *meanwhile.pop(0))
        return sent

    monkeypatch.setattr(ours._files._remote, "send", send)
    kept = ours.log_artifact(run.run_id, artifact, "equal")
    assert len(keys()) == 1
    with pytest.raises(AlreadyExistsError, match="overwrite=True"):
        ours.log_artifact(run.run_id, artifact, "different")
    found = ours.get_run(run.run_id)
    assert [one.path for one in found.artifacts] == ["equal/model.bin", "different/model.bin"]
    assert found.artifacts[0] == kept
    ours.verify_artifacts(found)
    assert len(keys()) == 3
    collect(context, now=lambda: time.time() + LATER)
    assert len(keys()) == 2


KILLED = """
import os, pathlib, signal, sys
from ops.registry.context import MLOpsConfig, MLOpsContext
from ops.registry.remote.s3 import S3

def die(self, *args, **kwargs):
    found = real(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

real = getattr(S3, sys.argv[3])
setattr(S3, sys.argv[3], die)
context = MLOpsContext(MLOpsConfig("local", sys.argv[1], artifact_uri=sys.argv[2]))
large = pathlib.Path(sys.argv[1] + ".bin")
large.write_bytes(os.urandom(9 << 20))
if sys.argv[4] == "run":
    tracker = context.experiment_tracker
    run = tracker.start_run(tracker.get_or_create_experiment("study").experiment_id)
    tracker.log_artifact(run.run_id, large)
else:
    context.model_registry.register_model("m", large, "binary", "mine")
"""


@pytest.mark.fault
@pytest.mark.parametrize(("step", "what"), [("_put_part", "run"), ("put", "model")])
def test_a_killed_upload_leaves_nothing_that_counts_and_gc_clears_it(
    s3, context, step, what, artifact, keys
):
    command = [sys.executable, "-c", KILLED, str(context.path), context.config.artifact_uri]
    killed = subprocess.run([*command, step, what], timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    tracker, registry = context.experiment_tracker, context.model_registry
    for experiment in tracker.list_experiments():
        assert [r.artifacts for r in tracker.list_runs(experiment.experiment_id)] == [()]
    assert registry.list_models() == []
    kept = registry.register_model("m", artifact, "binary", "mine")
    assert kept.version == 1
    assert collect(context) == []  # it may be going on still
    uri = context.config.artifact_uri
    (found,) = collect(context, dry_run=True, now=lambda: time.time() + LATER)
    assert str(found).startswith(f"{uri}/{what}s/")
    assert collect(context, now=lambda: time.time() + LATER) == [found]
    assert keys() == [kept.artifact_uri.split("/", 3)[3]]
    bucket, prefix = s3.bucket, uri.split("/", 3)[3]
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket=bucket, Prefix=prefix)
    assert collect(context, now=lambda: time.time() + LATER) == []


def test_a_bucket_that_lets_nothing_go_does_not_undo_a_deletion(
    registry, context, artifact, monkeypatch, keys
):
    registry.register_model("m", artifact, "binary", "mine")
    with monkeypatch.context() as patch:
        patch.setattr(S3, "delete", refuse)
        registry.delete_model_version("m", 1)
    assert registry.list_models() == []
    assert len(keys()) == 1
    assert len(collect(context, now=lambda: time.time() + LATER)) == 1
    assert keys() == []


def refuse(*args, **kwargs):
    raise StorageError("no")


def test_gc_does_without_the_permission_to_list_uploads(
    registry, context, artifact, monkeypatch, keys
):
    monkeypatch.setattr(S3, "abort_uploads", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(registry._events, "commit", refuse)
        with pytest.raises(StorageError):
            registry.register_model("m", artifact, "binary", "mine")
    assert len(keys()) == 1
    assert len(collect(context, now=lambda: time.time() + LATER)) == 1
    assert keys() == []


def test_trouble_of_the_network_is_tried_again(registry, artifact, tmp_path, troubled):
    with testing(attempts=3):
        made = registry.register_model("m", artifact, "binary", "mine")
        troubled.append("get_object")
        assert registry.download_artifact("m", 1, tmp_path / "out").read_bytes() == b"weights"
    assert troubled.seen == ["put_object", "get_object"]
    assert made.version == 1


def test_a_large_upload_is_tried_again_part_by_part(registry, tmp_path, troubled):
    source = tmp_path / "large.bin"
    source.write_bytes(os.urandom(17 << 20))
    troubled[:] = ["upload_part", "complete_multipart_upload"]
    with testing(attempts=3):
        made = registry.register_model("m", source, "binary", "mine")
    registry.verify(made)
    assert troubled.seen == ["upload_part", "complete_multipart_upload"]


def test_a_download_that_breaks_off_goes_on_where_it_was(registry, artifact, tmp_path, s3):
    made = registry.register_model("m", artifact, "binary", "mine")
    real = registry._artifacts.remote._s3._client.get_object
    spans = []

    class Broken:
        def __init__(self, body):
            self._body = body

        def iter_chunks(self, size):
            from botocore.exceptions import ReadTimeoutError

            yield self._body.read(3)
            raise ReadTimeoutError(endpoint_url="http://x")

        def close(self):
            self._body.close()

    def get(**asked):
        spans.append(asked.get("Range"))
        reply = real(**asked)
        return reply if len(spans) > 1 else {"Body": Broken(reply["Body"])}

    registry._artifacts.remote._s3._client.get_object = get
    with testing(attempts=2):
        registry.verify(made)
    assert spans == [None, "bytes=3-"]


def test_a_server_that_stays_away_is_an_error_and_nothing_is_registered(
    registry, tracker, run, artifact, monkeypatch, new_context
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with testing(attempts=2):
        with pytest.raises(StorageError, match="again and again"):
            registry.register_model("m", artifact, "binary", "mine")
        with pytest.raises(StorageError, match="again and again"):
            tracker.log_artifact(run.run_id, artifact)
    tracker.log_metric(run.run_id, "loss", 0.5)
    assert tracker.end_run(run.run_id).status == RunStatus.COMPLETED
    assert registry.list_models() == []
    assert tracker.get_run(run.run_id).artifacts == ()


def test_secrets_are_in_no_message_and_no_file(context, registry, artifact, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "top-secret-key")
    with pytest.raises(StorageError, match="credentials") as caught:
        registry.register_model("m", artifact, "binary", "mine")
    error = caught.value
    while error is not None:
        assert "top-secret-key" not in str(error)
        error = error.__cause__
    assert "top-secret-key" not in repr(context.config)
    for path in context.path.rglob("*"):
        assert path.is_dir() or b"top-secret-key" not in path.read_bytes()


def test_no_credentials_at_all_are_said(registry, artifact, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no credentials") as caught:
        registry.register_model("m", artifact, "binary", "mine")
    assert "AWS_ACCESS_KEY_ID" in str(caught.value.suggestions)


@pytest.mark.parametrize(("there", "here"), [("bucket", None), (None, "bucket"), ("bucket",) * 2])
def test_stores_are_copied_between_buckets_and_folders(
    new_context, artifact, tmp_path, there, here
):
    def place(name, where):
        return new_context(name) if where else new_context(name, artifact_uri=None)

    source, target = place("source", there), place("target", here)
    tracker = source.experiment_tracker
    experiment = tracker.create_experiment("study").experiment_id
    with tracker.run_context(experiment) as run:
        tracker.log_artifact(run.run_id, artifact, "models")
        tracker.log_artifact(run.run_id, tmp_path / "model.bin")
    for _ in range(3):
        source.model_registry.register_model("m", artifact, "binary", "mine")
    source.model_registry.delete_model_version("m", 2)
    copied = copy_store(source, target)
    assert (copied.runs, copied.changes) == (1, 4)
    again = copy_store(source, target)
    assert (again.runs, again.changes) == (0, 0)
    source.model_registry.delete_model("m")
    assert check(target).is_sound
    (found,) = target.experiment_tracker.list_runs(experiment)
    places = {a.uri for a in found.artifacts}
    places |= {v.artifact_uri for v in target.model_registry.search_models()}
    assert len(places) == 4
    root = target.config.artifact_uri or str(target.path)
    assert all(uri.startswith(f"{root}/") for uri in places)
    out = target.model_registry.download_artifact("m", 3, tmp_path / "out.bin")
    assert out.read_bytes() == b"weights"


def test_each_part_may_have_a_bucket_of_its_own(s3, tmp_path, operations, artifact):
    own = MLOpsConfig.from_mapping(
        {
            "path": str(tmp_path / "store"),
            "artifact_uri": f"s3://{s3.bucket}/{tmp_path.name}/all",
            "model_registry": {"artifact_uri": f"s3://{s3.bucket}/{tmp_path.name}/own/"},
        }
    )
    with MLOpsContext(own, operations=operations) as context:
        tracker = context.experiment_tracker
        run = tracker.start_run(tracker.create_experiment("study").experiment_id)
        assert "/all/runs/" in tracker.log_artifact(run.run_id, artifact).uri
        made = context.model_registry.register_model("m", artifact, "binary", "mine")
        assert "/own/models/" in made.artifact_uri


def test_a_missing_boto3_names_its_line_before_anything_is_trained(tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "boto3" else real(name)
    )
    with pytest.raises(MissingExtraError, match=r"pip install \"ops-registry\[s3\]\""):
        MLOpsContext(MLOpsConfig("local", str(tmp_path / "x"), artifact_uri="s3://bucket"))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "uri",
    ["/tmp/x", "gs://bucket", "s3://", "s3:///x", "s3://b//x", "s3://b/../x", "s3://b/x?y=1"],
)
def test_what_is_no_bucket_is_refused(uri):
    with pytest.raises(ConfigurationError, match="artifact_uri"):
        MLOpsConfig(artifact_uri=uri)


def test_credentials_in_an_address_are_refused_and_not_repeated():
    with pytest.raises(ConfigurationError, match="credentials") as caught:
        MLOpsConfig(artifact_uri="s3://AKIA:top-secret@bucket/x")
    assert "top-secret" not in str(caught.value)


def test_the_address_comes_from_the_environment_and_fits_the_local_backend_only():
    found = MLOpsConfig.from_env({"OPS_MLOPS_ARTIFACT_URI": "s3://bucket/x"})
    assert found.artifact_uri == "s3://bucket/x"
    with pytest.raises(ConfigurationError, match="local backend"):
        MLOpsConfig("databricks", artifact_uri="s3://bucket/x")


def test_a_model_is_loaded_from_the_bucket_verified(s3, registry, tmp_path):
    dump({"weights": [1, 2.5]}, tmp_path / "model.ops")
    made = registry.register_model("m", tmp_path / "model.ops", "values", "mine")
    assert registry.load_model("m") == {"weights": [1, 2.5]}
    s3.client.put_object(Bucket=s3.bucket, Key=made.artifact_uri.split("/", 3)[3], Body=b"changed")
    with pytest.raises(CorruptStoreError):
        registry.load_model("m")


def test_the_web_ui_sends_files_and_folders_from_the_bucket_and_keeps_no_copy(
    context, tracker, run, tmp_path, monkeypatch
):
    import io
    import tempfile
    import zipfile

    from starlette.testclient import TestClient

    from ops.registry.ui.app import create_app

    folder = tmp_path / "weights"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "layer.bin").write_bytes(b"layer")
    tracker.log_artifact(run.run_id, folder)
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    with TestClient(create_app(context), base_url="http://127.0.0.1:5066") as browser:
        address = f"/runs/{run.run_id}/artifacts/weights"
        packed = zipfile.ZipFile(io.BytesIO(browser.get(address).content))
        assert packed.read("deep/layer.bin") == b"layer"
        assert browser.get(f"{address}/deep/layer.bin").content == b"layer"
        for path in ("/deep/none", "/../../x", "/deep"):
            status = browser.get(address + path).status_code
            assert status == (200 if path == "/deep" else 404)
    assert list(copies.iterdir()) == []
