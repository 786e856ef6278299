"""Copying stores, and cleaning them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from ops.registry import (
    AlreadyExistsError,
    EventType,
    ExperimentNotFoundError,
    InvalidValueError,
    MLOpsConfig,
    MLOpsContext,
    ModelStage,
)
from ops.registry.fsck import check, collect
from ops.registry.mlflow.model_repository import ModelBook
from ops.registry.transfer import copy_store


@pytest.fixture
def filled(context, artifact):
    """Return a store with a finished run, a running one, and a model with a history."""
    tracker, registry = context.experiment_tracker, context.model_registry
    experiment = tracker.create_experiment("study", "about", {"team": "ds"})
    with tracker.run_context(experiment.experiment_id, "done", parameters={"p": 1}) as run:
        tracker.log_metric(run.run_id, "m", float("nan"), step=0)
        tracker.log_metric(run.run_id, "m", 2.0, step=1)
        tracker.log_artifact(run.run_id, artifact, "models")
    tracker.start_run(experiment.experiment_id, "going on")
    for _ in range(3):
        registry.register_model("m", artifact, "binary", "mine")
    registry.promote_model("m", 1, ModelStage.PRODUCTION)
    registry.promote_model("m", 2, ModelStage.PRODUCTION)
    registry.set_alias("m", "best", 2)
    registry.delete_model_version("m", 3)
    return context


@pytest.fixture
def other(tmp_path, operations):
    with MLOpsContext(
        MLOpsConfig(storage_path=str(tmp_path / "other")), operations=operations
    ) as c:
        yield c


def test_a_copy_has_everything_as_it_was(filled, other):
    seen = []
    copied = copy_store(filled, other, progress=lambda *numbers: seen.append(numbers))
    assert (copied.runs, copied.models, seen[-1]) == (2, 1, (3, 3))
    ours, theirs = filled.experiment_tracker, other.experiment_tracker
    (experiment,) = ours.list_experiments()
    assert theirs.list_experiments() == [experiment]
    done = ours.list_runs(experiment.experiment_id)[0]
    copies = theirs.list_runs(experiment.experiment_id)
    assert [r.name for r in copies] == ["done", "going on"]
    assert copies[0].parameters == done.parameters
    assert copies[0].end_time == done.end_time
    assert repr(theirs.get_metric_history(done.run_id, "m")) == repr(
        ours.get_metric_history(done.run_id, "m")
    )
    assert [a.checksum for a in copies[0].artifacts] == [a.checksum for a in done.artifacts]
    assert pathlib.Path(copies[0].artifacts[0].uri).read_bytes() == b"weights"
    old, new = filled.model_registry, other.model_registry
    assert new.get_model_by_alias("m", "best").version == 2
    assert [v.stage_history for v in new.list_model_versions("m")] == [
        v.stage_history for v in old.list_model_versions("m")
    ]
    assert new.rollback("m").version == 1
    assert check(other).is_sound
    assert other.operations.emitter.get_history(EventType.STORE_IMPORTED)


def test_a_second_copy_brings_only_what_is_new(filled, other, artifact):
    copy_store(filled, other)
    again = copy_store(filled, other)
    assert (again.runs, again.runs_there, again.changes) == (0, 2, 0)
    tracker = filled.experiment_tracker
    (experiment,) = tracker.list_experiments()
    going = tracker.list_runs(experiment.experiment_id)[1]
    tracker.log_metric(going.run_id, "late", 1.0)
    tracker.end_run(going.run_id)
    filled.model_registry.register_model("m", artifact, "binary", "mine")
    third = copy_store(filled, other)
    assert (third.runs, third.changes) == (1, 1)
    assert other.experiment_tracker.get_run(going.run_id).metrics == {"late": 1.0}
    assert other.model_registry.get_model_version("m").version == 4


def test_a_copy_that_was_cut_short_is_finished_by_the_next(filled, other, monkeypatch):
    adopt = type(other.model_registry)._adopt_one
    steps = iter(range(4))

    def dying(self, *arguments):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        adopt(self, *arguments)

    monkeypatch.setattr(type(other.model_registry), "_adopt_one", dying)
    with pytest.raises(KeyboardInterrupt):
        copy_store(filled, other)
    monkeypatch.undo()
    copy_store(filled, other)
    assert other.model_registry.history("m") == filled.model_registry.history("m")
    assert check(other).is_sound


def test_another_model_of_that_name_is_never_mixed_in(filled, other, artifact):
    other.model_registry.register_model("m", artifact, "binary", "theirs")
    with pytest.raises(AlreadyExistsError):
        copy_store(filled, other)
    assert len(other.model_registry.list_model_versions("m")) == 1


def test_an_experiment_arrives_deleted_if_it_is(filled, other):
    tracker = filled.experiment_tracker
    (experiment,) = tracker.list_experiments()
    tracker.delete_experiment(experiment.experiment_id)
    copy_store(filled, other)
    (copied,) = other.experiment_tracker.list_experiments(include_deleted=True)
    assert copied == tracker.get_experiment(experiment.experiment_id)
    assert copied.deleted_at is not None


def test_an_experiment_that_was_renamed_here_is_still_the_same(filled, other):
    copy_store(filled, other)
    (experiment,) = other.experiment_tracker.list_experiments()
    other.experiment_tracker.rename_experiment(experiment.experiment_id, "renamed")
    copy_store(filled, other)
    assert [e.name for e in other.experiment_tracker.list_experiments()] == ["renamed"]


def test_an_id_that_another_experiment_has_is_not_given_twice(filled, other):
    tracker = filled.experiment_tracker
    (experiment,) = tracker.list_experiments()
    foreign = dataclasses.replace(
        experiment, name="another", created_at=experiment.created_at - dt.timedelta(1)
    )
    made = other.experiment_tracker.adopt_experiment(foreign)
    assert made.experiment_id == experiment.experiment_id
    copy_store(filled, other)
    found = other.experiment_tracker.get_experiment_by_name(experiment.name)
    assert found.experiment_id != made.experiment_id
    assert len(other.experiment_tracker.list_runs(found.experiment_id)) == 2


def test_an_experiment_of_that_name_takes_the_runs(filled, other):
    theirs = other.experiment_tracker.create_experiment("study")
    copy_store(filled, other, models=[])
    found = other.experiment_tracker.list_runs(theirs.experiment_id)
    assert {r.experiment_id for r in found} == {theirs.experiment_id}
    assert len(found) == 2
    with pytest.raises(ExperimentNotFoundError):
        copy_store(filled, other, experiments=["nowhere"])


def test_what_nothing_refers_to_is_collected_when_it_is_old(filled):
    tracker, registry = filled.experiment_tracker, filled.model_registry
    model_id = registry.get_model_version("m").model_id
    strays = [
        tracker.root / "artifacts" / "0123456789",
        registry.root / "artifacts" / model_id / "v9",
    ]
    for stray in strays:
        stray.mkdir(parents=True)
    os.utime(strays[0], (0, 0))  # as a copy that keeps the times of files makes it
    assert collect(filled) == []
    late = time.time() + 10 * 24 * 3600
    assert collect(filled, dry_run=True, now=lambda: late) == strays
    assert all(stray.exists() for stray in strays)
    assert collect(filled, now=lambda: late) == strays
    assert not any(stray.exists() for stray in strays)
    assert collect(filled, now=lambda: late) == []
    assert check(filled).is_sound


def test_a_view_of_a_version_that_differs_is_found_and_repaired(filled):
    registry = filled.model_registry
    version = registry.get_model_version("m")
    view = registry.root / "metadata" / version.model_id / f"v{version.version}.json"
    view.write_text("{}")
    (problem,) = check(filled).problems
    assert "m/2" in problem
    assert check(filled, repair=True).is_sound


def test_a_copy_of_a_model_with_values_that_equal_nothing_goes_on(filled, other, artifact):
    registry = filled.model_registry
    registry.register_model("m", artifact, "binary", "mine", metrics={"auc": float("nan")})
    copy_store(filled, other)
    registry.set_alias("m", "newest", 4)
    assert copy_store(filled, other).changes == 1
    assert copy_store(filled, other).changes == 0
    assert other.model_registry.get_model_by_alias("m", "newest").version == 4


def test_a_store_is_not_copied_to_itself(filled, tmp_path):
    (tmp_path / "link").symlink_to(filled.path)
    for same in (filled, MLOpsContext(MLOpsConfig(storage_path=tmp_path / "link"))):
        with pytest.raises(InvalidValueError, match="itself"):
            copy_store(filled, same)


def test_models_that_changed_names_are_copied_again(filled, other, artifact):
    copy_store(filled, other)
    book = ModelBook(filled.model_registry.root)
    book.rename_model("m", "n")
    book.register_model("m", artifact, "binary", "mine")
    copy_store(filled, other)
    assert other.model_registry.list_models() == ["m", "n"]
    assert len(other.model_registry.list_model_versions("m")) == 1
    assert other.model_registry.get_model_by_alias("n", "best").version == 2
    assert check(other).is_sound


def test_a_model_of_the_name_that_another_was_given_elsewhere_stays(filled, other, artifact):
    copy_store(filled, other)
    other.model_registry.register_model("n", artifact, "binary", "theirs")
    ModelBook(filled.model_registry.root).rename_model("m", "n")
    with pytest.raises(AlreadyExistsError, match="'n'"):
        copy_store(filled, other)
    assert other.model_registry.get_model_version("n").metadata.framework == "theirs"
    assert other.model_registry.list_models() == ["m", "n"]


def test_the_artifacts_of_a_model_that_was_deleted_elsewhere_go_too(filled, other, artifact):
    copy_store(filled, other)
    gone = other.model_registry.list_model_versions("m")
    filled.model_registry.delete_model("m")
    filled.model_registry.register_model("m", artifact, "binary", "mine")
    copy_store(filled, other)
    assert [v.version for v in other.model_registry.list_model_versions("m")] == [4]
    assert not [v for v in gone if pathlib.Path(v.artifact_uri).exists()]
    assert check(other).is_sound


KILLED_BEFORE_THE_INDEX = """
import os, signal, sys
from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.local.index.run_index import RunIndex
from ops.registry.transfer import copy_store
source, target, puts = sys.argv[1], sys.argv[2], iter(range(int(sys.argv[3])))
put = RunIndex.put
def dying(self, row, **options):
    if next(puts, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, row, **options)
RunIndex.put = dying
copy_store(*(MLOpsContext(MLOpsConfig(storage_path=path)) for path in (source, target)))
"""


@pytest.mark.fault
@pytest.mark.parametrize("puts", [0, 1])
def test_a_run_whose_copy_was_killed_before_the_index_knew_it_is_listed(filled, other, puts):
    command = [sys.executable, "-c", KILLED_BEFORE_THE_INDEX, filled.path, other.path, str(puts)]
    assert subprocess.run(list(map(str, command)), check=False).returncode == -signal.SIGKILL
    copy_store(filled, other)
    (experiment,) = other.experiment_tracker.list_experiments()
    found = other.experiment_tracker.search_runs(experiment.experiment_id)
    assert sorted(r.name for r in found) == ["done", "going on"]
    assert check(other).is_sound


@pytest.mark.fault
def test_a_run_that_was_copied_again_and_killed_before_the_index_knew_is_found_by_what_is_new(
    filled, other
):
    copy_store(filled, other)
    ours, theirs = filled.experiment_tracker, other.experiment_tracker
    (experiment,) = ours.list_experiments()
    done = ours.list_runs(experiment.experiment_id)[0]
    ours.set_tag(done.run_id, "late", "yes")
    command = [sys.executable, "-c", KILLED_BEFORE_THE_INDEX, filled.path, other.path, "0"]
    assert subprocess.run(list(map(str, command)), check=False).returncode == -signal.SIGKILL
    copy_store(filled, other)
    (found,) = theirs.search_runs(experiment.experiment_id, filter="tags.late = 'yes'")
    assert found.run_id == done.run_id


def test_what_was_logged_to_a_copy_stays(filled, other):
    copy_store(filled, other)
    ours, theirs = filled.experiment_tracker, other.experiment_tracker
    (experiment,) = ours.list_experiments()
    done, going = ours.list_runs(experiment.experiment_id)
    theirs.set_tag(done.run_id, "reviewed", "yes")
    assert copy_store(filled, other).runs_there == 2
    assert theirs.get_run(done.run_id).tags["reviewed"] == "yes"
    theirs.set_tag(going.run_id, "reviewed", "yes")
    for number in range(5):
        ours.log_metric(going.run_id, "m", number)
    with pytest.raises(AlreadyExistsError, match=going.run_id):
        copy_store(filled, other)
    assert theirs.get_run(going.run_id).tags["reviewed"] == "yes"


@pytest.mark.parametrize("left", [b"", b'12345678 {"e":"start"'])
def test_a_run_that_a_kill_kept_from_beginning_is_not_copied(filled, other, left):
    (experiment,) = filled.experiment_tracker.list_experiments()
    (filled.paths_of_runs(experiment.experiment_id) / "unstarted.main.log").write_bytes(left)
    assert copy_store(filled, other).runs == 2
    assert check(other).is_sound
