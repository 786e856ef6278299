"""A store that is removed, restored or begun again while a process uses it: what is read is what is there now."""

from __future__ import annotations

import os
import shutil

import pytest

from ops.registry import ExperimentNotFoundError, RunNotFoundError
from ops.registry.disk.journal import JournalReader, JournalWriter
from ops.registry.traces.datasets import DatasetBook


@pytest.fixture
def fill(new_context, tmp_path):
    """Makes another process's runs and a model of a name each."""
    (tmp_path / "m.bin").write_bytes(b"weights")

    def make(name, runs=1, context=None):
        context = context or new_context()
        tracker = context.experiment_tracker
        experiment = tracker.get_or_create_experiment("study").experiment_id
        for number in range(runs):
            with tracker.run_context(experiment, f"{name}{number}") as run:
                tracker.log_metric(run.run_id, "loss", 1.0)
        context.model_registry.register_model(name, tmp_path / "m.bin", "binary", "f")

    return make


def seen(context):
    """Return the names of runs, those that a search finds, and of models."""
    tracker = context.experiment_tracker
    ids = [one.experiment_id for one in tracker.list_experiments()]
    found = tracker.search_runs(ids, filter="metrics.loss = 1", order_by="name")
    runs = sorted(run.name for one in ids for run in tracker.list_runs(one))
    return runs, [run.name for run in found], context.model_registry.list_models()


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_a_store_that_is_begun_again_is_read_from_its_beginning(context, fill, runs):
    fill("a", 2)
    assert seen(context) == (["a0", "a1"], ["a0", "a1"], ["a"])
    shutil.rmtree(context.path)
    assert seen(context) == ([], [], [])
    fill("b", 2)
    assert seen(context)[2] == ["b"]
    shutil.rmtree(context.path)
    fill("c", runs)  # nobody looked in between, and the journals may be as long as before
    names = [f"c{number}" for number in range(runs)]
    assert seen(context) == (names, names, ["c"])


def test_a_store_that_is_restored_forgets_what_came_after_the_copy(context, fill, tmp_path):
    fill("a", 2)
    shutil.copytree(context.path, tmp_path / "copy")
    fill("b")
    assert seen(context)[2] == ["a", "b"]
    shutil.rmtree(context.path)
    shutil.copytree(tmp_path / "copy", context.path)
    assert seen(context) == (["a0", "a1"], ["a0", "a1"], ["a"])
    fill("c", context=context)
    assert seen(context) == (["a0", "a1", "c0"], ["a0", "a1", "c0"], ["a", "c"])


def test_a_process_goes_on_in_a_store_that_was_removed(context, fill):
    fill("a", context=context)
    tracker = context.experiment_tracker
    (old,) = tracker.list_experiments()
    (run,) = tracker.list_runs(old.experiment_id)
    shutil.rmtree(context.path)
    with pytest.raises(ExperimentNotFoundError):
        tracker.start_run(old.experiment_id)
    with pytest.raises(RunNotFoundError):
        tracker.get_run(run.run_id)
    fill("b", context=context)
    assert seen(context) == (["b0"], ["b0"], ["b"])


def test_a_run_that_is_restored_has_what_its_journal_has(context, tmp_path):
    tracker = context.experiment_tracker
    experiment = tracker.create_experiment("study").experiment_id
    run_id = tracker.start_run(experiment).run_id
    (journal,) = context.path.rglob(f"{run_id}.main.log")
    tracker.log_metric(run_id, "loss", 1.0)
    before = journal.read_bytes()
    assert tracker.get_run(run_id).metrics == {"loss": 1.0}
    other = JournalWriter(journal)
    other.append({"m": [["loss", 2.0, 1, 2]]})
    other.close()
    assert tracker.get_run(run_id).metrics == {"loss": 2.0}
    journal.write_bytes(before)
    assert tracker.get_run(run_id).metrics == {"loss": 1.0}


def test_a_journal_that_is_renamed_into_place_with_more_goes_on(tmp_path):
    path = tmp_path / "journal.log"
    with JournalWriter(path) as writer:
        writer.append({"n": 1})
    reader = JournalReader(path)
    assert reader.poll() == [{"n": 1}]
    shutil.copyfile(path, tmp_path / "new")  # as rsync does
    with JournalWriter(tmp_path / "new") as writer:
        writer.append({"n": 2})
    (tmp_path / "new").replace(path)
    assert (reader.poll(), reader.is_replaced) == ([{"n": 2}], False)
    os.utime(path)  # a heartbeat
    assert (reader.poll(), reader.is_replaced) == ([], False)


def test_a_dataset_written_anew_in_its_file_is_read_anew(tmp_path):
    """As a restore does that writes into the files that are there: their inodes stay."""
    fields = {"created": 1, "created_by": None, "tags": {}, "experiments": []}
    book, other = DatasetBook(tmp_path / "a"), DatasetBook(tmp_path / "b")
    book.create("d-1", {"name": "first", **fields})
    other.create("d-1", {"name": "other", **fields})
    assert book.get("d-1").name == "first"
    (tmp_path / "a/d-1.log").write_bytes((tmp_path / "b/d-1.log").read_bytes())
    assert book.get("d-1").name == "other"
    book.change("d-1", "tags", tags={"k": "v"})
    assert DatasetBook(tmp_path / "a").get("d-1") == book.get("d-1")
