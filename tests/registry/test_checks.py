from __future__ import annotations

import dataclasses
import os
import re
import time

import pytest

from ops.registry import InvalidValueError, ModelStage, fsck, write_page
from ops.registry.fsck import check, collect
from ops.registry.local.index.run_index import RunIndex


def test_a_row_that_differs_anywhere_from_its_journal_is_found_and_repaired(
    context, tracker, experiment, new_context
):
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_metric(run.run_id, "m", float("nan"))
    index = tracker._runs.index(experiment.experiment_id)
    (row,) = index.rows()
    assert check(context).is_sound
    index.put(dataclasses.replace(row, params={"depth": 9}))
    (problem,) = check(context).problems
    assert run.run_id in problem
    assert check(context, repair=True).is_sound
    assert new_context().experiment_tracker.get_run(run.run_id).parameters == {}


def test_repair_removes_old_half_made_copies_and_no_young_ones(
    context, tracker, registry, experiment, artifact
):
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_artifact(run.run_id, artifact)
    registry.register_model("m", artifact, "binary", "mine")
    copies = [
        tracker.root / "artifacts" / run.run_id / ".0123456789abcdef.tmp",
        registry.root / "artifacts" / ".fedcba9876543210.tmp",
    ]
    for copy in copies:
        copy.write_bytes(b"half")
    assert check(context, repair=True).removed_copies == 0
    later = time.time() + 2 * 24 * 3600
    assert check(context, repair=True, now=lambda: later).removed_copies == 2
    assert [copy.exists() for copy in copies] == [False, False]
    assert check(context).is_sound
    assert os.listdir(tracker.root / "artifacts" / run.run_id) == ["model.bin"]


def test_keys_that_no_file_can_hold_are_refused_before_anything_is_written(
    context, tracker, registry, experiment, artifact
):
    key = "half \ud800"
    with pytest.raises(InvalidValueError, match="surrogate"):
        tracker.start_run(experiment.experiment_id, tags={key: "x"})
    with pytest.raises(InvalidValueError, match="surrogate"):
        tracker.start_run(experiment.experiment_id, parameters={key: 1})
    assert tracker.list_runs(experiment.experiment_id) == []
    with pytest.raises(InvalidValueError, match="surrogate"):
        registry.register_model("m", artifact, "binary", "mine", metrics={key: 1.0})
    with tracker.run_context(experiment.experiment_id) as run:
        for log in (tracker.log_metric, tracker.log_parameter, tracker.set_tag):
            with pytest.raises(InvalidValueError, match="surrogate"):
                log(run.run_id, key, 1)
    registry.register_model("m", artifact, "binary", "frame \ud800")
    context.compact()
    assert check(context).is_sound


def test_the_page_marks_the_best_value_of_each_metric(context, tracker, experiment, tmp_path):
    for value in (0.25, 0.5, 0.75):
        with tracker.run_context(experiment.experiment_id, f"r{value}") as run:
            tracker.log_metrics(run.run_id, {"auc": value, "val_loss": value, "same": 1.0})
    text = write_page(context, tmp_path / "p.html").read_text()
    assert re.findall(r"<b title[^>]*>([^<]*)", text) == ["0.75", "0.25"]


def test_the_page_says_how_many_runs_an_experiment_has(context, tracker, tmp_path):
    told = tracker.create_experiment("told", "what it is for").experiment_id
    alone = tracker.create_experiment("alone").experiment_id
    for experiment_id in (told, told, alone):
        tracker.end_run(tracker.start_run(experiment_id, "r").run_id)
    text = write_page(context, tmp_path / "p.html", runs_per_experiment=1).read_text()
    assert ">what it is for · 2 runs, the last 1 of them shown<" in text
    assert ">1 run<" in text


def test_runs_that_are_logged_to_while_they_are_checked_are_no_problem(
    context, tracker, experiment, monkeypatch
):
    going = tracker.start_run(experiment.experiment_id).run_id
    rows = tracker.index_rows

    def rows_before_others_log(experiment_id):
        found = rows(experiment_id)
        tracker.log_metric(going, "m", 1.0)
        tracker.start_run(experiment.experiment_id)
        return found

    monkeypatch.setattr(tracker, "index_rows", rows_before_others_log)
    assert check(context).problems == []


def test_artifacts_of_a_run_that_the_index_has_lost_are_not_collected(
    context, tracker, experiment, monkeypatch
):
    tracker.start_run(experiment.experiment_id)
    with monkeypatch.context() as lost:
        lost.setattr(RunIndex, "put", lambda *_, **__: None)
        run = tracker.start_run(experiment.experiment_id).run_id
    kept = tracker.log_text(run, "text", "a.txt")
    late = time.time() + 2 * 24 * 3600
    assert collect(context, now=lambda: late) == []
    assert check(context, repair=True).is_sound
    assert tracker.get_run(run).artifacts == (kept,)


def test_what_goes_while_it_is_looked_at_stops_no_collecting(
    context, tracker, experiment, monkeypatch
):
    run = tracker.start_run(experiment.experiment_id).run_id
    folder = tracker.artifact_folder(run)
    folder.mkdir(parents=True)
    (folder / ".0123456789abcdef.tmp").touch()
    seen = fsck.is_copy

    def seen_and_gone(name):
        (folder / name).unlink()
        return seen(name)

    monkeypatch.setattr(fsck, "is_copy", seen_and_gone)
    assert collect(context) == []


def test_versions_that_are_changed_while_they_are_checked_are_no_problem(
    context, registry, artifact, new_context, monkeypatch
):
    other = new_context().model_registry
    for _ in range(2):
        registry.register_model("m", artifact, "binary", "mine")
    search = registry.search_models

    def search_before_others_change():
        found = search()
        other.promote_model("m", 1, ModelStage.PRODUCTION)
        other.delete_model_version("m", 2)
        return found

    monkeypatch.setattr(registry, "search_models", search_before_others_change)
    assert check(context).problems == []
