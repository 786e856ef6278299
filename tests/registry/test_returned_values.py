"""What a store returns is the caller's own: changing it changes nothing for anybody else."""

from __future__ import annotations

import pickle

import pytest

from ops.registry import MLOpsConfig, MLOpsContext


@pytest.fixture
def version(registry, artifact):
    return registry.register_model(
        "m",
        artifact,
        "binary",
        "mine",
        metrics={"auc": 0.9},
        tags={"team": "ds"},
        hyperparameters={"layers": [1, {"width": 2}]},
        signature={"inputs": ["a"]},
        flavor_metadata={"deep": {"er": [1]}},
    )


def spoil(value):
    """Change every dictionary and list in a value."""
    if isinstance(value, dict):
        for item in value.values():
            spoil(item)
        value["spoiled"] = True
    elif isinstance(value, list):
        for item in value:
            spoil(item)
        value.append("spoiled")


def test_changing_a_returned_version_changes_nothing(registry, new_context, version):
    registry.set_alias("m", "best", 1)
    ways = {
        "register_model": lambda: version,
        "get_model_version": lambda: registry.get_model_version("m"),
        "get_model_by_alias": lambda: registry.get_model_by_alias("m", "best"),
        "get_model_by_stage": lambda: registry.get_model_by_stage("m", "None"),
        "list_model_versions": lambda: registry.list_model_versions("m")[0],
        "search_models": lambda: registry.search_models()[0],
        "set_tag": lambda: registry.set_tag("m", 1, "team", "ds"),
        "annotate": lambda: registry.annotate("m", 1, ""),
        "promote_model": lambda: registry.promote_model("m", 1, "None"),
    }
    for way, call in ways.items():
        metadata = call().metadata
        for field in ("metrics", "tags", "hyperparameters", "signature", "flavor_metadata"):
            spoil(getattr(metadata, field))
        for reader in (registry, new_context().model_registry):
            found = reader.get_model_version("m").metadata
            assert "spoiled" not in repr(found), way
    assert registry.search_models("metrics.auc > 0.95") == []
    assert registry.has_current_view(registry.get_model_version("m"))


def test_changing_a_returned_run_changes_nothing(tracker, new_context, experiment):
    run = tracker.start_run(
        experiment.experiment_id, tags={"a": "b"}, parameters={"p": [1, {"x": 2}]}
    )
    tracker.log_metric(run.run_id, "m", 1.0)
    home = experiment.experiment_id
    ways = {
        "start_run": lambda: run,
        "get_run": lambda: tracker.get_run(run.run_id),
        "list_runs": lambda: tracker.list_runs(home)[0],
        "search_runs": lambda: tracker.search_runs(home, filter="status = 'RUNNING'")[0],
    }
    for way, call in ways.items():
        for _ in range(2):
            found = call()
            for field in ("parameters", "metrics", "tags"):
                spoil(getattr(found, field))
        for reader in (tracker, new_context().experiment_tracker):
            assert "spoiled" not in repr(reader.get_run(run.run_id)), way
            assert "spoiled" not in repr(reader.list_runs(home)), way
    ended = tracker.end_run(run.run_id)
    spoil(ended.parameters)
    assert tracker.get_run(run.run_id).parameters == {"p": [1, {"x": 2}]}


def test_a_run_says_what_was_known_when_it_was_read(tracker, experiment):
    run = tracker.start_run(experiment.experiment_id)
    tracker.log_metric(run.run_id, "m", 1.0)
    (listed,) = tracker.list_runs(experiment.experiment_id)
    tracker.log_metric(run.run_id, "m", 5.0, 1)
    tracker.list_runs(experiment.experiment_id)
    assert listed.metric_summaries["m"].count == 1
    assert listed.metric_summaries["m"].last == 1.0


def test_changing_a_returned_experiment_changes_nothing(tracker):
    made = tracker.create_experiment("tagged", tags={"a": "b"})
    for found in (made, tracker.get_experiment(made.experiment_id), tracker.list_experiments()[-1]):
        spoil(found.tags)
        assert tracker.get_experiment_by_name("tagged").tags == {"a": "b"}


def test_a_context_and_its_parts_arrive_in_another_process(tmp_path, artifact):
    with MLOpsContext(MLOpsConfig(storage_path=tmp_path / "s", audit=True)) as context:
        home = context.experiment_tracker.create_experiment("e").experiment_id
        sent = pickle.loads(pickle.dumps(context))
        assert sent.config == context.config
        tracker, registry, storage = pickle.loads(
            pickle.dumps((context.experiment_tracker, context.model_registry, context.storage))
        )
        run = tracker.start_run(home)
        assert context.experiment_tracker.get_run(run.run_id) == tracker.get_run(run.run_id)
        registry.register_model("m", artifact, "binary", "mine")
        assert context.model_registry.list_models() == ["m"]
        storage.write_json(1, "a.json")
        assert context.storage.read_json("a.json") == 1
        assert b"ops_audit" not in pickle.dumps(context)
        tracker.close()
