"""Where a run comes from: captured on request, without what must not be kept."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ops.registry.tracking import environments


@pytest.fixture
def run(tracker, experiment):
    return tracker.start_run(experiment.experiment_id).run_id


def captured(tracker, run, tmp_path, **options):
    tracker.log_environment(run, **options)
    path = tracker.download_run_artifact(run, "environment.json", tmp_path / "out.json")
    return json.loads(path.read_text("utf-8"))


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_command_and_packages_are_captured(tracker, run, tmp_path, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-b", "main")
    (folder / "train.py").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    (folder / "train.py").write_text("2")
    monkeypatch.setattr(sys, "argv", ["train.py", "--depth", "3"])
    found = captured(tracker, run, tmp_path, directory=folder)
    tags = tracker.get_run(run).tags
    assert tags["git.commit"] == found["git"]["commit"] == git(folder, "rev-parse", "HEAD")
    assert (tags["git.branch"], tags["git.dirty"]) == ("main", "true")
    assert tags["command_line"] == "train.py --depth 3"
    assert found["packages"]["pytest"] == pytest.__version__
    assert found["directory"] == str(folder)


def test_without_git_there_is_no_commit_and_no_error(tracker, run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert captured(tracker, run, tmp_path, directory=tmp_path)["git"] == {}
    assert "git.commit" not in tracker.get_run(run).tags


def test_secrets_of_a_command_line_are_not_kept():
    words = [
        "t.py",
        "--api-key",
        "s1",
        "--TOKEN=s2",
        "db://me:s3@host/x",
        "password=s4",
        "--lr",
        "1",
    ]
    found = environments.command_line(words)
    assert found == [
        *("t.py", "--api-key", "***", "--TOKEN=***"),
        *("db://***@host/x", "password=***", "--lr", "1"),
    ]
