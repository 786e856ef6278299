"""What every experiment tracker does.

Fixtures to give: `tracker`, `experiment` (one of its experiments, called "study"), `artifact` (a
file that is called model.bin), and `abandoned_run` (the id of a run of that experiment, started by a process that
logged 1.0 as "m" and has missed so many heartbeats that it is STALE).
"""

# ruff: noqa: S101 - a suite is made of plain asserts in methods

from __future__ import annotations

import math
from typing import Any

import pytest

from ops.registry import (
    AlreadyExistsError,
    ErrorCode,
    ExperimentNotFoundError,
    FilterError,
    InvalidValueError,
    RunNotFoundError,
    RunStatus,
)

__all__ = ["TrackerBehaviour"]


class TrackerBehaviour:
    """The suite; a subclass whose name begins with Test runs it."""

    def test_names_of_experiments_are_unique(self, tracker: Any, experiment: Any) -> None:
        """Names of experiments are unique."""
        with pytest.raises(AlreadyExistsError):
            tracker.create_experiment("study")
        assert tracker.get_or_create_experiment("study") == experiment

    def test_an_experiment_takes_another_name_and_frees_its_own(
        self, tracker: Any, experiment: Any
    ) -> None:
        """An experiment takes another name, which is free, and frees the one it had."""
        home = experiment.experiment_id
        other = tracker.create_experiment("taken")
        with pytest.raises(AlreadyExistsError):
            tracker.rename_experiment(home, "taken")
        with pytest.raises(InvalidValueError):
            tracker.rename_experiment(home, "")
        assert tracker.get_experiment(home).name == "study"
        assert tracker.rename_experiment(home, "renamed").name == "renamed"
        assert tracker.rename_experiment(home, "renamed").name == "renamed"
        assert tracker.rename_experiment(other.experiment_id, "study").name == "study"
        assert tracker.get_experiment_by_name("renamed").experiment_id == home
        assert tracker.get_experiment_by_name("study") == tracker.get_experiment(
            other.experiment_id
        )
        with pytest.raises(ExperimentNotFoundError):
            tracker.rename_experiment("nowhere", "free")

    def test_tags_of_an_experiment_are_set_and_removed(self, tracker: Any) -> None:
        """Tags of an experiment are set, replaced and removed one by one."""
        home = tracker.create_experiment("tagged", "why", {"a": "1", "b": "2"}).experiment_id
        tracker.set_experiment_tag(home, "a", "")
        tracker.set_experiment_tag(home, "c.ü", 3)
        tracker.delete_experiment_tag(home, "b")
        tracker.delete_experiment_tag(home, "never there")
        found = tracker.get_experiment(home)
        assert (found.tags, found.description) == ({"a": "", "c.ü": "3"}, "why")
        tracker.set_experiment_tag(home, "b", "again")
        assert tracker.get_experiment_by_name("tagged").tags == {**found.tags, "b": "again"}

    def test_a_deleted_experiment_is_hidden_until_it_is_restored(
        self, tracker: Any, experiment: Any
    ) -> None:
        """A deleted experiment is hidden, takes no runs and keeps its name until it is restored."""
        home = experiment.experiment_id
        kept = tracker.create_experiment("kept")
        tracker.delete_experiment(home)
        assert [one.name for one in tracker.list_experiments()] == ["kept"]
        shown = tracker.list_experiments(include_deleted=True)
        assert {one.experiment_id for one in shown} == {home, kept.experiment_id}
        assert tracker.get_experiment(home).deleted_at is not None
        with pytest.raises(InvalidValueError):
            tracker.start_run(home)
        for call in (tracker.create_experiment, tracker.get_or_create_experiment):
            with pytest.raises(AlreadyExistsError):
                call("study")
        assert tracker.restore_experiment(home).deleted_at is None
        assert tracker.get_or_create_experiment("study").experiment_id == home
        with tracker.run_context(home):
            pass

    def test_what_is_unknown_has_an_error_of_its_own(self, tracker: Any) -> None:
        """What is unknown has an error of its own."""
        with pytest.raises(ExperimentNotFoundError) as caught:
            tracker.get_experiment("nowhere")
        assert caught.value.error_code == ErrorCode.EXPERIMENT_NOT_FOUND
        for bad in ("nothing", "../../etc/passwd"):
            with pytest.raises(RunNotFoundError):
                tracker.log_metric(bad, "loss", 1.0)

    def test_a_block_completes_its_run(self, tracker: Any, experiment: Any) -> None:
        """A block completes its run."""
        with tracker.run_context(experiment.experiment_id, "r") as run:
            assert tracker.get_run(run.run_id).status is RunStatus.RUNNING
        ended = tracker.get_run(run.run_id)
        assert ended.status is RunStatus.COMPLETED
        assert ended.duration_seconds >= 0

    @pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("stop"), SystemExit(3)])
    def test_a_block_that_raises_fails_its_run_with_the_error(
        self, tracker: Any, experiment: Any, error: Any
    ) -> None:
        """A block that raises fails its run with the error."""
        with pytest.raises(type(error)), tracker.run_context(experiment.experiment_id) as run:
            raise error
        ended = tracker.get_run(run.run_id)
        assert ended.status is RunStatus.FAILED
        assert ended.error == f"{type(error).__name__}: {error}"

    def test_a_block_leaves_the_end_that_it_gave_its_run(
        self, tracker: Any, experiment: Any
    ) -> None:
        """A block leaves the end that it gave its run itself."""
        with tracker.run_context(experiment.experiment_id) as run:
            tracker.end_run(run.run_id, RunStatus.CANCELLED)
        assert tracker.get_run(run.run_id).status is RunStatus.CANCELLED

    def test_histories_come_by_step_and_summaries_agree(
        self, tracker: Any, experiment: Any
    ) -> None:
        """Histories come by step and summaries agree."""
        with tracker.run_context(experiment.experiment_id) as run:
            for step, value in [(2, 3.0), (0, 1.0), (1, math.nan)]:
                tracker.log_metric(run.run_id, "loss", value, step=step)
        history = tracker.get_metric_history(run.run_id, "loss")
        assert [m.step for m in history] == [0, 1, 2]
        assert math.isnan(history[1].value)
        summary = tracker.get_run(run.run_id).metric_summaries["loss"]
        assert (summary.last, summary.minimum, summary.maximum, summary.count) == (3.0, 1.0, 3.0, 3)

    def test_parameters_may_be_any_json_value(self, tracker: Any, experiment: Any) -> None:
        """Parameters may be any json value."""
        values = {
            "a": 1,
            "b": [1, {"c": None}],
            "d": math.inf,
            "e": {"$float": "mine"},
            "ü": "\ud800",
        }
        with tracker.run_context(experiment.experiment_id) as run:
            tracker.log_parameters(run.run_id, values)
            with pytest.raises(InvalidValueError):
                tracker.log_parameter(run.run_id, "x", object())
        assert tracker.get_run(run.run_id).parameters == values

    def test_a_batch_is_one_call_for_everything(self, tracker: Any, experiment: Any) -> None:
        """A batch is one call for everything."""
        with tracker.run_context(experiment.experiment_id) as run:
            tracker.log_batch(run.run_id, [("a", 1, 0), ("a", 2, 1)], {"p": 1}, {"t": "x"})
        found = tracker.get_run(run.run_id)
        assert (found.metrics, found.parameters, found.tags) == ({"a": 2.0}, {"p": 1}, {"t": "x"})

    @pytest.mark.parametrize(
        "rest",
        [
            {"parameters": {"p": object()}},
            {"parameters": {"p": 10**5000}},
            {"tags": {"": "x"}},
            {"metrics": [("a", 1, 0), ("b", 1)]},
            {"metrics": {"a": 1}},
        ],
    )
    def test_a_batch_that_is_refused_writes_nothing(
        self, tracker: Any, experiment: Any, rest: Any
    ) -> None:
        """A batch that is refused writes nothing, also of what comes before."""
        with tracker.run_context(experiment.experiment_id) as run:
            batch = {"metrics": [("a", 1, 0)], "parameters": {"q": 1}} | rest
            with pytest.raises(InvalidValueError):
                tracker.log_batch(run.run_id, **batch)
        found = tracker.get_run(run.run_id)
        assert (found.metrics, found.parameters, found.tags) == ({}, {}, {})

    def test_an_experiment_that_is_named_twice_is_searched_once(
        self, tracker: Any, experiment: Any
    ) -> None:
        """An experiment that is named twice is searched once."""
        with tracker.run_context(experiment.experiment_id):
            pass
        twice = [experiment.experiment_id] * 2
        assert (len(tracker.search_runs(twice)), tracker.count_runs(twice)) == (1, 1)

    def test_a_metric_must_be_a_number(self, tracker: Any, experiment: Any) -> None:
        """A metric must be a number."""
        run = tracker.start_run(experiment.experiment_id)
        with pytest.raises(InvalidValueError, match="loss"):
            tracker.log_metric(run.run_id, "loss", "low")

    def test_other_content_under_the_same_name_is_refused_without_overwrite(
        self, tracker: Any, experiment: Any, artifact: Any
    ) -> None:
        """Other content under the same name is refused without overwrite."""
        run = tracker.start_run(experiment.experiment_id)
        first = tracker.log_artifact(run.run_id, artifact, "models")
        assert first.path == "models/model.bin"
        assert tracker.log_artifact(run.run_id, artifact, "models") == first
        artifact.write_bytes(b"others")
        with pytest.raises(AlreadyExistsError):
            tracker.log_artifact(run.run_id, artifact, "models")
        second = tracker.log_artifact(run.run_id, artifact, "models", overwrite=True)
        assert tracker.get_run(run.run_id).artifacts == (second,)

    def test_no_artifact_is_inside_another(
        self, tracker: Any, experiment: Any, artifact: Any, tmp_path: Any
    ) -> None:
        """No artifact is inside another."""
        folder = tmp_path / "plots"
        folder.mkdir()
        (folder / "a.txt").write_text("a")
        run = tracker.start_run(experiment.experiment_id)
        tracker.log_text(run.run_id, "b", "notes/b.txt")
        tracker.log_text(run.run_id, "c", "notes/c.txt")
        tracker.log_artifact(run.run_id, folder, "notes")
        tracker.log_artifact(run.run_id, artifact)
        for inside in ("notes/plots/b.txt", "model.bin/below"):
            with pytest.raises(AlreadyExistsError, match="as one artifact"):
                tracker.log_text(run.run_id, "x", inside)
        with pytest.raises(AlreadyExistsError, match="take in"):
            tracker.log_text(run.run_id, "x", "notes", overwrite=True)
        (folder / "a.txt").write_text("other")
        tracker.log_artifact(run.run_id, folder, "notes", overwrite=True)
        found = tracker.get_run(run.run_id)
        assert sorted(one.path for one in found.artifacts) == [
            "model.bin",
            "notes/b.txt",
            "notes/c.txt",
            "notes/plots",
        ]
        tracker.verify_artifacts(found)

    def test_children_know_their_parent(self, tracker: Any, experiment: Any) -> None:
        """Children know their parent."""
        parent = tracker.start_run(experiment.experiment_id)
        child = tracker.start_run(experiment.experiment_id, parent_run_id=parent.run_id)
        assert [r.run_id for r in tracker.list_child_runs(parent.run_id)] == [child.run_id]

    @pytest.fixture
    def three(self, tracker: Any, experiment: Any) -> Any:
        """Return the id of an experiment with three ended runs and a running one."""
        for name, auc, depth in [("low", 0.7, 3), ("high", 0.95, 10), ("mid", 0.9, 3)]:
            with tracker.run_context(experiment.experiment_id, name, tags={"team": "ds"}) as run:
                tracker.log_parameter(run.run_id, "depth", depth)
                tracker.log_metric(run.run_id, "val/auc", auc)
        tracker.start_run(experiment.experiment_id, "running")
        return experiment.experiment_id

    def test_runs_are_found_by_expressions(self, tracker: Any, three: Any) -> None:
        """Runs are found by expressions."""
        expected = {
            "metrics.val/auc > 0.8": ["high", "mid"],
            'metrics."val/auc" > 0.8 and params.depth = 3': ["mid"],
            "params.depth = '3' or name like 'hi%'": ["low", "high", "mid"],
            "not (status = 'COMPLETED')": ["running"],
            "metrics.val/auc is null": ["running"],
            "params.depth not in (3, 4)": ["high"],
            "tags.team = 'ds' and metrics.val/auc < 0.8": ["low"],
            "params.depth != 3": ["high"],
        }
        found = {
            text: [r.name for r in tracker.search_runs(three, filter=text)] for text in expected
        }
        assert found == expected

    def test_runs_are_found_by_metric_and_ordered_with_the_absent_last(
        self, tracker: Any, three: Any
    ) -> None:
        """Runs are found by metric and ordered with the absent last."""
        found = tracker.search_runs(three, metric_filter={"val/auc": (">", 0.8)})
        assert [r.name for r in found] == ["high", "mid"]
        found = tracker.search_runs(three, order_by="metrics.val/auc DESC")
        assert [r.name for r in found] == ["high", "mid", "low", "running"]
        assert [
            r.name for r in tracker.search_runs(three, order_by="metrics.val/auc", limit=1)
        ] == ["low"]

    def test_pages_of_a_search_follow_each_other_and_the_whole_is_counted(
        self, tracker: Any, three: Any
    ) -> None:
        """Pages of a search follow each other and the whole is counted."""
        order = "metrics.val/auc DESC"
        pages = [
            tracker.search_runs(three, order_by=order, limit=2, offset=start) for start in (0, 2, 4)
        ]
        assert [[r.name for r in page] for page in pages] == [
            ["high", "mid"],
            ["low", "running"],
            [],
        ]
        assert len(tracker.search_runs(three, offset=1)) == 3
        assert tracker.count_runs(three) == 4
        assert tracker.count_runs(three, filter="params.depth = 3") == 2
        with pytest.raises(InvalidValueError, match="offset is 0 or more, not -1"):
            tracker.search_runs(three, offset=-1)

    @pytest.mark.parametrize(
        ("text", "position"),
        [("metrics.a >", 11), ("metrics.a ? 1", 10), ("nothing = 1", 0), ("name = 'a' name", 11)],
    )
    def test_a_wrong_expression_is_refused_with_its_position(
        self, tracker: Any, experiment: Any, text: Any, position: Any
    ) -> None:
        """A wrong expression is refused with its position."""
        with pytest.raises(FilterError) as caught:
            tracker.search_runs(experiment.experiment_id, filter=text)
        assert caught.value.position == position

    def test_runs_are_compared_in_a_table(self, tracker: Any, three: Any) -> None:
        """Runs are compared in a table."""
        runs = tracker.search_runs(three, filter="params.depth = 3")
        table = tracker.compare_runs([r.run_id for r in runs])
        assert list(table["metrics.val/auc"]) == [0.7, 0.9]
        assert list(table.index) == [r.run_id for r in runs]

    def test_a_run_whose_process_is_gone_is_stale_until_it_is_logged_to_again(
        self, tracker: Any, experiment: Any, abandoned_run: Any
    ) -> None:
        """A run whose process is gone is stale until it is logged to again."""
        own = tracker.start_run(experiment.experiment_id)
        assert tracker.get_run(abandoned_run).status is RunStatus.STALE
        stale = tracker.list_runs(experiment.experiment_id, RunStatus.STALE)
        assert [r.run_id for r in stale] == [abandoned_run]
        for text, found in (("= 'STALE'", abandoned_run), ("= 'RUNNING'", own.run_id)):
            runs = tracker.search_runs(experiment.experiment_id, filter=f"status {text}")
            assert [r.run_id for r in runs] == [found]
        assert [m.value for m in tracker.follow(abandoned_run)] == [1.0]
        tracker.log_metric(abandoned_run, "m", 2.0)
        assert tracker.get_run(abandoned_run).status is RunStatus.RUNNING
        tracker.end_run(abandoned_run)
        assert tracker.get_run(abandoned_run).status is RunStatus.COMPLETED
