"""An interrupt, or an error, amid reading a journal: the next call knows all that is in the file."""

from __future__ import annotations

import pytest

from ops.registry import CorruptStoreError, RunStatus
from ops.registry.disk.journal import JournalReader, frame
from ops.registry.local import experiment_store
from ops.registry.local.run_journals import RunReader
from ops.registry.models.state import ModelState
from ops.registry.tracking.run_state import RunState


class Interrupting:
    """Raises after one of the calls that go through it, and after no other."""

    def __init__(self, monkeypatch, owner, name, at):
        self._call = getattr(owner, name)
        self._left = at
        inside = self

        def called(*args, **options):
            inside._left -= 1
            found = inside._call(*args, **options)
            if inside._left == 0:
                raise KeyboardInterrupt
            return found

        monkeypatch.setattr(owner, name, called)

    @property
    def was_reached(self):
        return self._left <= 0


@pytest.mark.parametrize("at", range(1, 5))
def test_numbers_of_versions_are_not_given_again(monkeypatch, registry, new_context, artifact, at):
    for _ in range(3):
        registry.register_model("m", artifact, "binary", "mine")
    registry.annotate("m", 3, "the third")
    other = new_context().model_registry
    interrupting = Interrupting(monkeypatch, ModelState, "_apply", at)
    with pytest.raises(KeyboardInterrupt):
        other.list_models()
    assert interrupting.was_reached
    assert other.register_model("m", artifact, "binary", "mine").version == 4
    assert other.get_model_version("m", 3).metadata.description == "the third"


def test_a_frame_that_was_appended_is_folded_in_though_that_was_interrupted(
    monkeypatch, registry, artifact
):
    registry.register_model("m", artifact, "binary", "mine")
    Interrupting(monkeypatch, ModelState, "_apply", 1)
    with pytest.raises(KeyboardInterrupt):
        registry.register_model("m", artifact, "binary", "mine")
    assert registry.register_model("m", artifact, "binary", "mine").version == 3


def test_a_newer_format_is_refused_every_time(registry, artifact):
    registry.register_model("m", artifact, "binary", "mine")
    newer = {"v": 99, "op": "register", "name": "m", "version": 2, "t": 1}
    with (registry.root / "models" / "journal.log").open("ab") as file:
        file.write(frame(newer))
    for _ in range(2):
        with pytest.raises(CorruptStoreError, match="format 99"):
            registry.register_model("m", artifact, "binary", "mine")


@pytest.mark.parametrize("at", [1, 2])
def test_names_of_experiments_stay_unique(monkeypatch, tracker, new_context, at):
    made = [tracker.create_experiment(name) for name in "ab"]
    other = new_context().experiment_tracker
    Interrupting(monkeypatch, experiment_store, "_experiment", at)
    with pytest.raises(KeyboardInterrupt):
        other.list_experiments()
    assert other.list_experiments() == made


@pytest.mark.parametrize("at", range(1, 5))
def test_a_reader_of_a_run_goes_on_with_all_of_it(monkeypatch, context, tracker, experiment, at):
    run = tracker.start_run(experiment.experiment_id).run_id
    for value in (1.0, 2.0, 3.0):
        tracker.log_metric(run, "m", value)
    reader = RunReader(context.paths_of_runs(experiment.experiment_id), run)
    Interrupting(monkeypatch, RunState, "apply", at)
    with pytest.raises(KeyboardInterrupt):
        reader.poll()
    assert [value for value, *_ in reader.poll().history["m"]] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("at", [1, 2])
def test_a_search_after_one_that_was_interrupted_finds_all_runs(
    monkeypatch, tracker, experiment, at
):
    runs = [tracker.start_run(experiment.experiment_id).run_id for _ in range(3)]
    for run in runs:
        tracker.log_metric(run, "m", 1.0)
        tracker.end_run(run, RunStatus.COMPLETED)
    Interrupting(monkeypatch, JournalReader, "poll", at)
    with pytest.raises(KeyboardInterrupt):
        tracker.search_runs(experiment.experiment_id)
    found = tracker.search_runs(experiment.experiment_id, filter="metrics.m = 1")
    assert sorted(run.run_id for run in found) == sorted(runs)
