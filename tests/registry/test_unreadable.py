"""What could not be looked at is no fact: an error of the system makes nothing absent, empty, damaged or undone."""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import time

import pandas as pd
import pytest

from ops.registry import ArtifactNotFoundError, MLOpsContext, StorageError, Transaction, transfer
from ops.registry.databricks.spool import Spool
from ops.registry.disk import transactions
from ops.registry.disk.checked_paths import inside, refuse_link
from ops.registry.disk.storage import LocalStorageBackend
from ops.registry.disk.transactions import recover
from ops.registry.errors import InvalidValueError, RunNotFoundError
from ops.registry.fsck import collect
from ops.registry.importing.findings import Findings
from ops.registry.importing.foreign_files import ForeignFolder
from ops.registry.importing.sqlite_files import tables_of
from ops.registry.local.tracking import local_runs
from ops.registry.remote.artifacts import RemoteArtifacts

LATER = 2 * 24 * 3600
CODES = [errno.EACCES, errno.EIO, errno.ESTALE]


@pytest.fixture
def unreadable(monkeypatch):
    """Let calls of the system fail for the paths that have a text in them."""

    def make(text, code=errno.EACCES, calls=("stat", "lstat")):
        for call in calls:
            real = getattr(os, call)

            def refuse(path=".", *args, real=real, **kwargs):
                if not isinstance(path, int) and text in os.fspath(path):
                    raise OSError(code, os.strerror(code), os.fspath(path))
                return real(path, *args, **kwargs)

            monkeypatch.setattr(os, call, refuse)
        return monkeypatch

    return make


LISTING = ("scandir", "listdir")


class Bucket:
    """What `RemoteArtifacts` does with S3, in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failure: Exception | None = None

    def put(self, bucket, key, source):
        self.objects[key] = source.read()
        return len(self.objects[key]), hashlib.sha256(self.objects[key]).hexdigest()

    def delete(self, bucket, key):
        self.objects.pop(key, None)

    def keys(self, bucket, prefix):
        return sorted(key for key in self.objects if key.startswith(prefix))

    def abort_uploads(self, bucket, prefix):
        if self.failure is not None:
            raise self.failure

    def close(self):
        pass


@pytest.fixture
def bucket(tracker):
    """The bucket of the tracker's runs."""
    files = local_runs(tracker).files
    made = Bucket()
    remote = RemoteArtifacts(None, files._remote._uploads._path, made)
    remote.address = "s3://bucket/store"
    files._remote = files._names._remote = remote
    return made


@pytest.mark.parametrize("code", CODES)
def test_files_in_a_bucket_of_a_run_that_cannot_be_looked_for_are_not_collected(
    context, tracker, experiment, artifact, bucket, unreadable, code
):
    run = tracker.start_run(experiment.experiment_id)
    tracker.log_artifact(run.run_id, artifact)
    tracker.end_run(run.run_id)
    local_runs(tracker).store._homes.clear()
    patch = unreadable(f"/{run.run_id}.", code)
    with pytest.raises(StorageError, match="cannot be looked for"):
        collect(context, now=lambda: time.time() + LATER)
    patch.undo()
    assert len(bucket.objects) == 1
    with pytest.raises(RunNotFoundError):
        tracker.get_run("none")


def test_files_in_a_bucket_of_a_run_whose_start_is_damaged_are_not_collected(
    context, tracker, experiment, artifact, bucket
):
    run = tracker.start_run(experiment.experiment_id)
    tracker.log_artifact(run.run_id, artifact)
    (journal,) = tracker.root.glob(f"runs/*/{run.run_id}.main.log")
    journal.write_bytes(b"x" + journal.read_bytes()[1:])
    with MLOpsContext(context.config) as other:
        files = local_runs(other.experiment_tracker).files
        files._remote = files._names._remote = local_runs(tracker).files._remote
        assert collect(other, now=lambda: time.time() + LATER) == []
    assert len(bucket.objects) == 1


def test_a_note_stays_until_the_parts_of_its_upload_are_known_to_be_gone(tmp_path):
    s3 = Bucket()
    remote = RemoteArtifacts(None, tmp_path / "notes", s3)
    remote.address = "s3://bucket/store"
    (tmp_path / "file").write_bytes(b"1")
    later = time.time() + LATER

    def left_over():
        return remote.left_over(lambda _: False, later)

    remote.send(tmp_path / "file", "runs/a")
    s3.failure = StorageError("503")
    remote.clear(left_over())
    assert len(left_over()) == 1
    s3.failure = StorageError("refused").with_context(refused="AccessDenied")
    remote.clear(left_over())
    assert left_over() == []


def test_artifacts_of_an_experiment_whose_record_is_damaged_are_not_collected(
    context, tracker, experiment, artifact, tmp_path
):
    run = tracker.start_run(experiment.experiment_id)
    tracker.log_artifact(run.run_id, artifact)
    tracker.end_run(run.run_id)
    journal = tracker.root / "experiments" / "journal.log"
    journal.write_bytes(b"x" + journal.read_bytes()[1:])
    with MLOpsContext(context.config) as other:
        assert collect(other, now=lambda: time.time() + LATER) == []
    assert (tracker.root / "artifacts" / run.run_id / artifact.name).exists()


@pytest.mark.parametrize("damage", ["x", "xxxxxxxx"])
def test_files_that_a_damaged_line_is_about_are_not_collected(
    context, tracker, registry, artifact, damage
):
    for _ in range(2):
        registry.register_model("m", artifact, "binary", "any")
    journal = registry.root / "models" / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[-1] = damage.encode() + lines[-1][len(damage) :]
    journal.write_bytes(b"".join(lines))
    made = registry.root / "artifacts" / "of-none" / "v1"
    made.mkdir(parents=True)
    with MLOpsContext(context.config) as other:
        assert len(other.model_registry.list_model_versions("m")) == 1
        assert collect(other, now=lambda: time.time() + LATER) == [made]
    assert len(list(registry.root.glob("artifacts/*/v*"))) == 2


def test_runs_that_cannot_be_listed_are_not_left_out_of_a_copy(
    context, tracker, experiment, unreadable
):
    run = tracker.start_run(experiment.experiment_id)
    tracker.end_run(run.run_id)
    patch = unreadable(f"runs/{experiment.experiment_id}", calls=LISTING)
    with pytest.raises(PermissionError):
        transfer._run_ids(context, experiment)
    patch.undo()
    assert transfer._run_ids(context, experiment) == [run.run_id]


def test_a_run_whose_journals_cannot_be_listed_is_not_erased_in_part(
    context, tracker, experiment, unreadable
):
    run = tracker.start_run(experiment.experiment_id)
    tracker.end_run(run.run_id)
    (main,) = tracker.root.glob(f"runs/*/{run.run_id}.main.log")
    other = main.with_name(f"{run.run_id}.other.log")
    other.write_bytes(b"")
    patch = unreadable(f"runs/{experiment.experiment_id}", calls=LISTING)
    with pytest.raises(StorageError):
        local_runs(tracker).store.erase(run.run_id)
    patch.undo()
    local_runs(tracker).store.erase(run.run_id)
    assert not main.exists()
    assert not other.exists()


@pytest.mark.parametrize("code", CODES)
def test_a_file_of_the_storage_that_cannot_be_looked_at_is_not_absent(tmp_path, unreadable, code):
    storage = LocalStorageBackend(tmp_path)
    storage.write_dataframe(pd.DataFrame({"x": [1]}), "t.parquet")
    patch = unreadable("t.parquet", code, calls=("stat",))
    for call in (
        lambda: storage.exists("t.parquet"),
        lambda: storage.delete("t.parquet"),
        lambda: storage.read_dataframe("t.parquet"),
        lambda: storage.write_dataframe(pd.DataFrame({"x": [2]}), "t.parquet", mode="append"),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert not isinstance(caught.value, ArtifactNotFoundError)
    patch.undo()
    assert storage.read_dataframe("t.parquet")["x"].tolist() == [1]


def test_folders_of_the_storage_that_cannot_be_listed_are_not_empty(tmp_path, unreadable):
    storage = LocalStorageBackend(tmp_path)
    storage.write_json(1, "a/b/one.json")
    storage.write_json(2, "two.json")
    assert storage.list_paths() == ["a/b/one.json", "two.json"]
    unreadable("a/b", calls=LISTING)
    with pytest.raises(StorageError, match="cannot be listed"):
        storage.list_paths()
    with pytest.raises(StorageError):
        storage.health_check()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("what", ["/old/0", "/committed", "/plan"])
def test_what_a_killed_transaction_has_moved_away_stays_until_it_can_be_looked_at(
    tmp_path, unreadable, monkeypatch, what, code
):
    storage = LocalStorageBackend(tmp_path)
    storage.write_json("old", "a.json")
    transaction = Transaction(storage).begin()
    transaction.write_json("new", "a.json")

    class KilledError(BaseException):
        pass

    def killed(path, data):
        if path.name == "committed":
            raise KilledError
        write(path, data)

    write = transactions._write
    with monkeypatch.context() as patch:
        patch.setattr(transactions, "_write", killed)
        patch.setattr(transactions, "undo", lambda *_: (_ for _ in ()).throw(KilledError()))
        with pytest.raises(KilledError):
            transaction.commit()
    transaction._end()
    patch = unreadable(f"{transaction.transaction_id}{what}", code)
    with pytest.raises(OSError, match=os.strerror(code)):
        recover(storage.root)
    patch.undo()
    assert recover(storage.root) == 1
    assert storage.read_json("a.json") == "old"


def test_a_transaction_whose_commit_could_not_be_flushed_is_undone_as_it_reports(
    tmp_path, monkeypatch
):
    storage = LocalStorageBackend(tmp_path)
    storage.write_json("old", "a.json")
    write = transactions._write

    def not_flushed(path, data):
        write(path, data)
        if path.name == "committed":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(transactions, "_write", not_flushed)
    with pytest.raises(StorageError, match="was undone"), Transaction(storage) as transaction:
        transaction.write_json("new", "a.json")
    assert storage.read_json("a.json") == "old"


def test_spools_that_cannot_be_listed_are_not_left_behind(tmp_path, unreadable):
    (tmp_path / "one.log").touch()
    unreadable(str(tmp_path), calls=LISTING)
    with pytest.raises(PermissionError):
        Spool(tmp_path, None).recover()


@pytest.mark.parametrize("code", CODES)
def test_a_foreign_file_that_cannot_be_looked_at_is_noted(tmp_path, unreadable, code):
    (tmp_path / "meta.yaml").touch()
    findings = Findings()
    files = ForeignFolder(tmp_path, findings)
    assert files.has("meta.yaml")
    unreadable("meta.yaml", code)
    assert not files.has("meta.yaml")
    assert files.file("meta.yaml") is None
    assert findings.all_refused() == [f"meta.yaml: {os.strerror(code)}"]


def test_a_database_that_may_not_be_read_is_not_taken_for_none(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    path.touch()

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(InvalidValueError, match="Permission denied"):
        tables_of(path)


@pytest.mark.parametrize("code", CODES)
def test_what_cannot_be_looked_at_is_not_taken_for_no_link(tmp_path, unreadable, code):
    (tmp_path / "there").touch()
    assert inside(tmp_path, "x" * 300, "y")
    refuse_link(tmp_path / ("x" * 300))
    unreadable("there", code)
    with pytest.raises(StorageError, match="cannot be looked at"):
        inside(tmp_path, "there")
    with pytest.raises(StorageError, match="cannot be looked at"):
        refuse_link(tmp_path / "there")
