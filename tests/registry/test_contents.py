"""Equal files of runs and models kept once: `deduplicate_artifacts`."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from ops.registry import (
    ConfigurationError,
    CorruptStoreError,
    MLOpsConfig,
    MLOpsContext,
)
from ops.registry.disk.content_store import ContentStore
from ops.registry.fsck import check, collect
from ops.registry.transfer import copy_store


@pytest.fixture
def context(new_context):
    return new_context(deduplicate_artifacts=True)


@pytest.fixture
def contents(context):
    return ContentStore(context.paths.contents)


@pytest.fixture
def folder(tmp_path):
    """A model of two large files that are equal, and a small one."""
    folder = tmp_path / "bundle"
    (folder / "parts").mkdir(parents=True)
    for name in ("parts/a.bin", "parts/b.bin"):
        (folder / name).write_bytes(b"weights" * 50_000)
    (folder / "card.md").write_text("# what it is\n")
    return folder


def inode(path: str | os.PathLike[str]) -> int:
    return pathlib.Path(path).stat().st_ino


def test_equal_artifacts_of_versions_and_runs_are_one_file(registry, tracker, experiment, artifact):
    versions = [registry.register_model("m", artifact, "binary", "mine") for _ in range(3)]
    with tracker.run_context(experiment.experiment_id) as run:
        kept = tracker.log_artifact(run.run_id, artifact)
    assert len({inode(v.artifact_uri) for v in versions} | {inode(kept.uri)}) == 1
    assert len({v.checksum for v in versions} | {kept.checksum}) == 1
    assert inode(artifact) != inode(kept.uri), "the user's own file is not shared"
    artifact.write_bytes(b"other")
    fourth = registry.register_model("m", artifact, "binary", "mine")
    assert pathlib.Path(fourth.artifact_uri).read_bytes() == b"other"
    registry.verify(versions[0])


def test_folders_share_their_files(registry, folder, contents):
    first = registry.register_model("m", folder, "folder", "mine")
    (folder / "card.md").write_text("# better\n")
    second = registry.register_model("m", folder, "folder", "mine")
    one, two = pathlib.Path(first.artifact_uri), pathlib.Path(second.artifact_uri)
    weights = [place / "parts" / name for place in (one, two) for name in ("a.bin", "b.bin")]
    assert len(set(map(inode, weights))) == 1
    assert inode(one / "card.md") != inode(two / "card.md")
    assert first.checksum != second.checksum
    assert first.size == second.size + 4 == 700_013
    registry.verify(first)
    registry.verify(second)
    assert len(list(contents.folder.glob("??/*"))) == 3


def test_what_was_registered_without_sharing_is_read_and_shared_from_then_on(
    new_context, context, artifact
):
    plain = new_context().model_registry
    first = plain.register_model("m", artifact, "binary", "mine")
    second, third = (
        context.model_registry.register_model("m", artifact, "binary", "mine") for _ in range(2)
    )
    plain.register_model("m", artifact, "binary", "mine")
    kept = {v.version: inode(v.artifact_uri) for v in plain.list_model_versions("m")}
    assert kept[second.version] == kept[third.version]
    assert len(set(kept.values())) == 3
    plain.verify(first)


def test_shared_files_are_read_only_and_downloads_are_not(registry, artifact, tmp_path):
    made = registry.register_model("m", artifact, "binary", "mine")
    assert pathlib.Path(made.artifact_uri).stat().st_mode & 0o777 == 0o444
    copy = registry.download_artifact("m", 1, tmp_path / "copy.bin")
    copy.write_bytes(b"mine to change")
    registry.verify(made)


def test_deleting_one_owner_leaves_the_others_and_gc_frees_what_nobody_shares(
    context, registry, artifact, contents
):
    for _ in range(2):
        registry.register_model("m", artifact, "binary", "mine")
    registry.delete_model_version("m", 1)
    registry.verify(registry.get_model_version("m", 2))
    assert collect(context) == []
    registry.delete_model_version("m", 2)
    (unshared,) = contents.unused()
    assert collect(context, dry_run=True) == [unshared]
    assert unshared.exists()
    assert collect(context) == [unshared]
    assert not unshared.exists()
    again = registry.register_model("m", artifact, "binary", "mine")
    registry.verify(again)
    assert check(context).is_sound


def test_a_damaged_file_is_not_given_to_new_artifacts_after_a_repair(
    context, registry, artifact, contents
):
    first = registry.register_model("m", artifact, "binary", "mine")
    shared = pathlib.Path(first.artifact_uri)
    shared.chmod(0o644)
    shared.write_bytes(b"rot")
    with pytest.raises(CorruptStoreError):
        registry.verify(first)
    assert contents.damaged() != []
    assert not check(context, repair=True).is_sound, "the first version is lost, and says so"
    assert contents.damaged() == []
    registry.verify(registry.register_model("m", artifact, "binary", "mine"))


@pytest.mark.parametrize("what", ["link", "fsync"])
def test_a_file_system_that_cannot_share_gets_copies(registry, artifact, monkeypatch, what):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, what, refuse)
    made = [registry.register_model("m", artifact, "binary", "mine") for _ in range(2)]
    assert inode(made[0].artifact_uri) != inode(made[1].artifact_uri)
    for version in made:
        registry.verify(version)


def test_a_copied_store_shares_too(context, registry, tracker, experiment, artifact, tmp_path):
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_artifact(run.run_id, artifact)
    registry.register_model("m", artifact, "binary", "mine")
    config = MLOpsConfig(storage_path=str(tmp_path / "other"), deduplicate_artifacts=True)
    with MLOpsContext(config) as other:
        copy_store(context, other)
        (version,) = other.model_registry.list_model_versions("m")
        (kept,) = other.experiment_tracker.get_run(run.run_id).artifacts
        assert inode(version.artifact_uri) == inode(kept.uri)
        assert inode(kept.uri) != inode(registry.get_model_version("m", 1).artifact_uri)
        assert check(other).is_sound


def test_sharing_is_refused_where_there_are_no_files():
    with pytest.raises(ConfigurationError, match="hard links"):
        MLOpsConfig("databricks", catalog="c", schema="s", deduplicate_artifacts=True)


KILLED_AT_THE_MODE = """
import os, pathlib, signal, sys
from ops.registry import MLOpsConfig, MLOpsContext
pathlib.Path.chmod = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1], deduplicate_artifacts=True))
store.model_registry.register_model("m", sys.argv[2], "binary", "mine")
"""


@pytest.mark.fault
def test_a_kill_leaves_no_shared_file_that_can_be_written(tmp_path, artifact):
    command = [sys.executable, "-c", KILLED_AT_THE_MODE, str(tmp_path / "lean"), str(artifact)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    shared = list((tmp_path / "lean").rglob("contents/??/*"))
    assert not [path for path in shared if path.stat().st_mode & 0o222]
