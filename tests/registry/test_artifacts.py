"""Artifacts of runs that several write at once, that a kill has left, or that are somewhere else already."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from ops.foundation import PathEscapesRootError
from ops.registry import AlreadyExistsError, InvalidValueError
from ops.registry.disk.artifacts import is_copy
from ops.registry.fsck import check, collect


@pytest.fixture
def run_id(tracker, experiment):
    return tracker.start_run(experiment.experiment_id).run_id


KILLED = """
import os, signal, sys
from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.local.run_store import RunStore

RunStore.append = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
tracker = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])).experiment_tracker
tracker.log_artifact(sys.argv[2], sys.argv[3])
"""


@pytest.fixture
def killed(context, run_id, artifact):
    """Let a process be killed when the artifact has its name and no journal has it."""
    command = [sys.executable, "-c", KILLED, str(context.path), run_id, str(artifact)]
    died = subprocess.run(command, timeout=300, check=False)
    assert died.returncode == -signal.SIGKILL


@pytest.mark.fault
@pytest.mark.usefixtures("killed")
def test_what_a_kill_kept_from_the_journal_is_logged_by_the_next(
    context, tracker, run_id, artifact
):
    assert tracker.get_run(run_id).artifacts == ()
    kept = tracker.log_artifact(run_id, artifact)
    assert tracker.get_run(run_id).artifacts == (kept,)
    assert check(context).is_sound


KILLED_AMID = """
import os, signal, sys
from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.disk import artifacts

real, left = artifacts.publish, int(sys.argv[4])

def publish(staged, target):
    global left
    left -= 1
    if left < 0:
        if target.is_dir():
            artifacts.remove(target)  # as it was about to
        os.kill(os.getpid(), signal.SIGKILL)
    real(staged, target)

artifacts.publish = publish
tracker = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])).experiment_tracker
tracker.log_artifact(sys.argv[2], sys.argv[3], "models", overwrite=True)
"""


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("step", [0, 1])
def test_a_kill_amid_an_overwrite_leaves_the_old_or_the_new(
    context, tracker, run_id, tmp_path, step, kind
):
    source = inside = tmp_path / "model"
    if kind == "folder":
        source.mkdir()
        inside = source / "weights"
    inside.write_text("old")
    tracker.log_artifact(run_id, source, "models")
    inside.write_text("new")
    command = [sys.executable, "-c", KILLED_AMID, str(context.path), run_id, str(source), str(step)]
    died = subprocess.run(command, timeout=300, check=False)
    assert died.returncode == -signal.SIGKILL
    (before,) = tracker.get_run(run_id).artifacts
    # What the journal has waits for a day and longer, and is put into its place by whoever reads it.
    removed = collect(context, now=lambda: time.time() + 2 * 24 * 3600)
    assert (removed == []) == (step == 1)
    out = tracker.download_run_artifact(run_id, "models/model", tmp_path / "out")
    found = (out / "weights" if kind == "folder" else out).read_text()
    assert found == ("new" if step else "old")
    assert check(context).is_sound
    kept = tracker.log_artifact(run_id, source, "models", overwrite=True)
    assert (kept == before) == (step == 1)
    assert check(context).is_sound
    copies = [path for path in (tracker.root / "artifacts").rglob("*") if is_copy(path.name)]
    assert copies == []


@pytest.mark.fault
@pytest.mark.usefixtures("killed")
def test_other_content_than_a_file_that_no_journal_has_takes_its_place_if_told(
    context, tracker, run_id, artifact
):
    artifact.write_bytes(b"others")
    with pytest.raises(AlreadyExistsError, match="overwrite=True"):
        tracker.log_artifact(run_id, artifact)
    kept = tracker.log_artifact(run_id, artifact, overwrite=True)
    assert tracker.get_run(run_id).artifacts == (kept,)
    assert check(context).is_sound


def test_of_those_who_log_different_content_at_once_one_does(new_context, experiment, tmp_path):
    contexts = [new_context() for _ in range(3)]
    trackers = [context.experiment_tracker for context in contexts]
    run_id = trackers[0].start_run(experiment.experiment_id).run_id
    places = [tmp_path / str(number) / "model.bin" for number in range(3)]
    for number, place in enumerate(places):
        place.parent.mkdir()
        place.write_bytes(b"%d" % number * 100_000)
    for turn in range(10):
        gate, refused = threading.Barrier(3), []

        def put(tracker, place, folder=f"turn{turn}", gate=gate, refused=refused):
            gate.wait()
            try:
                tracker.log_artifact(run_id, place, folder)
            except AlreadyExistsError as error:
                refused.append(error)

        threads = [threading.Thread(target=put, args=p) for p in zip(trackers, places, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 2
    assert len(trackers[1].get_run(run_id).artifacts) == 10
    assert check(contexts[2]).is_sound


@pytest.mark.parametrize("set_back", [0, 3600])
def test_of_several_journals_the_last_that_overwrote_counts(
    new_context, experiment, artifact, monkeypatch, set_back
):
    contexts = [new_context(), new_context()]
    ours, theirs = (context.experiment_tracker for context in contexts)
    run_id = ours.start_run(experiment.experiment_id).run_id
    for number, tracker in enumerate((ours, theirs, ours)):
        artifact.write_text(f"content {number}")
        kept = tracker.log_artifact(run_id, artifact, overwrite=True)
        now = time.time_ns() - set_back * 10**9
        monkeypatch.setattr("ops.registry.local.artifact_index.time.time_ns", lambda now=now: now)
    monkeypatch.undo()
    for tracker in (ours, theirs, new_context().experiment_tracker):
        assert tracker.get_run(run_id).artifacts == (kept,)
    assert check(contexts[1]).is_sound


def test_what_was_damaged_is_whole_when_it_is_logged_again(context, tracker, run_id, artifact):
    kept = tracker.log_artifact(run_id, artifact)
    with open(kept.uri, "wb") as file:
        file.write(b"damage")
    assert not check(context).is_sound
    assert tracker.log_artifact(run_id, artifact) == kept
    assert tracker.get_run(run_id).artifacts == (kept,)
    assert check(context).is_sound


def test_names_of_artifacts_may_be_of_pathlib_and_have_one_spelling(tracker, experiment, tmp_path):
    run = tracker.start_run(experiment.experiment_id).run_id
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "m.bin").write_bytes(b"w")
    assert (
        tracker.log_artifact(run, tmp_path / "mine" / "m.bin", pathlib.PurePath("in")).path
        == "in/m.bin"
    )
    assert tracker.log_artifact(run, tmp_path / "mine" / "m.bin", "").path == "m.bin"
    assert tracker.log_artifacts(run, tmp_path / "mine", "./all//of/")[0].path == "all/of/m.bin"
    assert tracker.log_text(run, "x", pathlib.PurePath("texts", "a.txt")).path == "texts/a.txt"
    assert tracker.log_model(run, {"w": 1}, pathlib.PurePath("deep", "model/")).path == "deep/model"
    for spelling in ("deep/model", "./deep//model/", pathlib.PurePath("deep", "model")):
        assert tracker.load_run_model(run, spelling) == {"w": 1}
    for spelling in ("in//m.bin", pathlib.PurePath("in", "m.bin")):
        found = tracker.download_run_artifact(run, spelling, tmp_path / "out", overwrite=True)
        assert found.read_bytes() == b"w"


@pytest.mark.parametrize("name", [1, b"a", "\ud800", "/abs", "../a"])
def test_what_is_no_name_of_an_artifact_is_refused_by_every_method(
    tracker, experiment, tmp_path, name
):
    run = tracker.start_run(experiment.experiment_id).run_id
    (tmp_path / "m.bin").write_bytes(b"w")
    for call in (
        lambda: tracker.log_artifact(run, tmp_path / "m.bin", name),
        lambda: tracker.log_text(run, "x", name),
        lambda: tracker.log_dict(run, {}, name),
        lambda: tracker.log_model(run, {"w": 1}, name),
    ):
        with pytest.raises((InvalidValueError, PathEscapesRootError)):
            call()
    assert not tracker.get_run(run).artifacts
