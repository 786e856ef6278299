"""Deleting and taking back, and what searches understand besides."""

from __future__ import annotations

import json

import pytest

from ops.registry import AlreadyExistsError, InvalidValueError, RunNotFoundError
from ops.registry.__main__ import main
from ops.registry.fsck import check, collect


@pytest.fixture
def three(tracker, experiment):
    home = experiment.experiment_id
    for name, loss, parameters in (
        ("Alpha_1", 0.5, {"depth": None, "kind": "50%"}),
        ("beta", 0.5, {"depth": 5, "kind": "it's"}),
        ("gamma", 0.1, {"kind": "a\\b"}),
    ):
        with tracker.run_context(home, name, parameters=parameters) as run:
            tracker.log_metric(run.run_id, "loss", loss)
    return home


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("params.depth = None", ["Alpha_1"]),
        ("params.depth = null", ["Alpha_1"]),
        ("params.depth = 'null'", ["Alpha_1"]),
        ("params.depth != None", ["beta"]),
        ("params.depth IS NULL", ["gamma"]),
        ("params.depth is not null", ["Alpha_1", "beta"]),
        ("name ILIKE 'ALPHA%'", ["Alpha_1"]),
        ("name LIKE 'ALPHA%'", []),
        ("name NOT ILIKE '%A'", ["Alpha_1"]),
        (r"name LIKE '%\_1'", ["Alpha_1"]),
        (r"name LIKE '%\_a'", []),
        (r"params.kind LIKE '50\%'", ["Alpha_1"]),
        (r"params.kind LIKE 'a\\b'", ["gamma"]),
        ("params.kind = 'it''s'", ["beta"]),
        ('params.kind = "it\'s"', ["beta"]),
        ('params.kind = "50%"', ["Alpha_1"]),
    ],
)
def test_searches_understand(tracker, three, text, names, compacted):
    if compacted:
        tracker.compact()
    assert [run.name for run in tracker.search_runs(three, filter=text)] == names


@pytest.mark.parametrize("compacted", [False, True])
def test_runs_are_ordered_by_several_fields(tracker, three, compacted):
    if compacted:
        tracker.compact()

    def found(order):
        return [run.name for run in tracker.search_runs(three, order_by=order)]

    assert found("metrics.loss DESC, name DESC") == ["beta", "Alpha_1", "gamma"]
    assert found(["metrics.loss", "name"]) == ["gamma", "Alpha_1", "beta"]
    assert found("params.depth DESC, name") == ["Alpha_1", "beta", "gamma"]
    with pytest.raises(InvalidValueError):
        found("metrics.loss, nothing")


def test_a_deleted_run_is_hidden_until_it_is_restored(tracker, new_context, three):
    run_id = tracker.search_runs(three, filter="name = 'beta'")[0].run_id
    tracker.compact()
    tracker.delete_run(run_id)
    other = new_context().experiment_tracker
    for reader in (tracker, other):
        assert [r.name for r in reader.list_runs(three)] == ["Alpha_1", "gamma"]
        assert [r.name for r in reader.search_runs(three)] == ["Alpha_1", "gamma"]
        assert reader.count_runs(three) == 2
        assert len(reader.list_runs(three, include_deleted=True)) == 3
        assert reader.count_runs(three, include_deleted=True) == 3
        found = reader.search_runs(three, filter="deleted_at is not null")
        assert [r.run_id for r in found] == [run_id]
        assert reader.get_run(run_id).deleted_at is not None
    assert tracker.restore_run(run_id).deleted_at is None
    assert other.count_runs(three) == 3


def test_what_was_deleted_long_ago_is_erased_when_asked_for(context, tracker, three):
    run = tracker.list_runs(three)[0]
    tracker.log_text(run.run_id, "x", "note.txt")
    tracker.delete_run(run.run_id)
    assert collect(context) == []
    assert collect(context, deleted_days=1) == []
    assert collect(context, deleted_days=0, dry_run=True) == [f"run {run.run_id}"]
    assert collect(context, deleted_days=0) == [f"run {run.run_id}"]
    with pytest.raises(RunNotFoundError):
        tracker.get_run(run.run_id)
    assert not tracker.artifact_folder(run.run_id).exists()
    assert check(context).is_sound


def test_experiments_are_renamed_tagged_deleted_and_restored(tracker, new_context, experiment):
    home = experiment.experiment_id
    tracker.rename_experiment(home, "renamed")
    tracker.set_experiment_tag(home, "team", "ds")
    tracker.set_experiment_tag(home, "old", 1)
    tracker.delete_experiment_tag(home, "old")
    found = new_context().experiment_tracker.get_experiment(home)
    assert (found.name, found.tags) == ("renamed", {"team": "ds"})
    run = tracker.start_run(home)
    tracker.delete_experiment(home)
    assert tracker.list_experiments() == []
    with pytest.raises(InvalidValueError, match="restore_experiment"):
        tracker.start_run(home)
    with pytest.raises(AlreadyExistsError, match="restore_experiment"):
        tracker.get_or_create_experiment("renamed")
    assert len(tracker.list_experiments(include_deleted=True)) == 1
    tracker.restore_experiment(home)
    assert [r.run_id for r in tracker.list_runs(home)] == [run.run_id]


def test_experiments_are_searched(tracker):
    for name, team in (("b", "ds"), ("a", "ds"), ("c", "ml")):
        tracker.create_experiment(name, tags={"team": team})
    found = tracker.search_experiments("tags.team = 'ds'", order_by="name")
    assert [e.name for e in found] == ["a", "b"]
    assert [e.name for e in tracker.search_experiments("name ILIKE 'C'")] == ["c"]
    assert len(tracker.search_experiments("created_at > '2020-01-01'", limit=2)) == 2


def test_tags_are_deleted(tracker, registry, experiment, artifact):
    run = tracker.start_run(experiment.experiment_id, tags={"a": "1", "b": "2"})
    tracker.delete_tag(run.run_id, "a")
    tracker.delete_tag(run.run_id, "absent")
    assert tracker.get_run(run.run_id).tags == {"b": "2"}
    registry.register_model("m", artifact, "binary", "mine", tags={"a": "1"})
    assert registry.delete_tag("m", 1, "a").metadata.tags == {}


def test_the_command_line_has_verbs_for_all_of_it(
    context, tracker, three, artifact, tmp_path, capsys
):
    path = str(context.path)

    def call(*words, code=0):
        assert main(words) == code, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    run_id = tracker.list_runs(three)[0].run_id
    # Options of the whole command stand before or after the verb.
    assert call("--json", "--path", path, "runs", "show", run_id)["name"] == "Alpha_1"
    assert call("runs", "show", run_id, "--path", path, "--json")["metrics.loss"] == 0.5
    call("--path", path, "runs", "delete", run_id, "--json")
    assert len(call("runs", "--path", path, "--json")) == 2
    assert len(call("runs", "--deleted", "--path", path, "--json")) == 3
    call("--json", "runs", "restore", run_id, "--path", path)
    common = ("--json", "--path", path)
    assert call(*common, "artifacts", "put", run_id, str(artifact), "--under", "m")["size"] == 7
    assert [a["path"] for a in call(*common, "artifacts", "ls", run_id)] == ["m/model.bin"]
    call(*common, "artifacts", "get", run_id, "m/model.bin", str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == b"weights"
    call(*common, "experiments", "create", "new")
    call(*common, "experiments", "rename", "new", "newer")
    call(*common, "experiments", "delete", "newer")
    assert [e["name"] for e in call(*common, "experiments")] == ["study"]
    assert len(call(*common, "experiments", "--deleted")) == 2
    call(*common, "experiments", "restore", "newer")
    for _ in range(2):
        context.model_registry.register_model("m", artifact, "binary", "mine")
    assert call(*common, "models", "alias", "m", "best", "2")["aliases"] == ["best"]
    assert [v["version"] for v in call(*common, "models", "versions", "m")] == [1, 2]
    call(*common, "models", "delete", "m", "1")
    call(*common, "models", "delete", "m")
    assert call(*common, "models") == []
