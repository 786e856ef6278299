"""Configuration: merged in a fixed order, typed, and every option read by something."""

from __future__ import annotations

import os

import pytest

from ops.foundation import PathEscapesRootError
from ops.registry import (
    BackendUnavailableError,
    CacheOptions,
    ConfigurationError,
    ExperimentTrackerFactory,
    LocalStorageBackend,
    MLOpsConfig,
    MLOpsContext,
    ModelRegistryFactory,
    PathManager,
    StorageBackendFactory,
    activate,
    init_mlops,
    is_ml_pipeline,
    is_mlops_initialized,
)

SEED = """
mlops:
  enabled: true
  backend: "local"
  experiment:
    name: "customer-churn-prediction"
    description: "Customer churn prediction model"
  model_registry:
    catalog: "main"
    schema: "ml_models"
  tracking:
    catalog: "main"
    schema: "ml_experiments"
  auto_log: true
  cache:
    enabled: true
    max_size: 1000
    default_ttl: 300
  health:
    enabled: true
    memory_threshold: 0.85
    disk_threshold: 0.90
"""


@pytest.fixture
def ml_info(tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "ml_info.yaml"
    path.write_text(SEED)
    return path


def test_the_seeds_file_is_read_and_each_option_has_its_effect(
    ml_info, tmp_path, operations, no_current_context
):
    config = MLOpsConfig.from_yaml(ml_info, {"OPS_MLOPS_PATH": str(tmp_path / "s")})
    assert config.auto_log
    context = MLOpsContext(config, operations=operations)
    assert context.experiment.name == "customer-churn-prediction"
    assert context.experiment.description == "Customer churn prediction model"
    assert context.experiment_tracker.root.relative_to(tmp_path).parts == (
        "s",
        "main",
        "ml_experiments",
        "experiment_tracking",
    )
    assert context.model_registry.root.parts[-3:] == ("main", "ml_models", "model_registry")
    cache = context.experiment_tracker._runs.cached.cache
    assert cache.get_stats().max_size == 1000
    names = {c.name for c in context.health.check_all().checks}
    assert names == {"experiment_tracker", "model_registry", "storage", "memory", "disk"}
    context.cleanup()


def test_later_sources_count_more(ml_info):
    config = MLOpsConfig.merged(
        settings={"mlops": {"durability": "commit", "cache": {"max_size": 5}, "audit": True}},
        ml_info=ml_info,
        pipeline={"nodes": {}, "mlops": {"audit": False, "cache": {"default_ttl": 1}}},
        node={"function": "f", "mlops": {"experiment": {"name": "of the node"}}},
    )
    assert config.durability == "commit"
    assert (config.cache.max_size, config.cache.default_ttl) == (1000, 1.0)
    assert not config.audit
    assert config.experiment.name == "of the node"
    assert config.experiment.description == "Customer churn prediction model"


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"cache": {"max_sise": 1}}, r"mlops\.cache\.max_sise is unknown; did you mean 'max_size'"),
        ({"cache": {"max_size": "many"}}, r"mlops\.cache\.max_size must be int, not 'many'"),
        ({"audit": 1}, r"mlops\.audit must be bool"),
        ({"cache": 3}, r"mlops\.cache must be a mapping"),
        ({"durability": "soon"}, "process"),
        ({"backend": "s4"}, "'s4' is unknown"),
        ({"heartbeat_seconds": -1}, "negative"),
    ],
)
def test_wrong_options_are_refused_with_their_path(tree, words):
    with pytest.raises(ConfigurationError, match=words):
        MLOpsConfig.from_mapping({"mlops": tree})


def test_a_file_that_is_no_mapping_is_said(tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "bad.yaml").write_text("- 1")
    for name in ("bad.yaml", "missing.yaml"):
        with pytest.raises(ConfigurationError, match=name):
            MLOpsConfig.from_yaml(tmp_path / name, {})


def test_databricks_is_never_replaced_by_a_folder(monkeypatch, tmp_path):
    for name in ("HOST", "HTTP_PATH", "TOKEN", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"DATABRICKS_{name}", raising=False)
    config = MLOpsConfig.from_mapping({"backend": "databricks", "path": str(tmp_path / "x")})
    with pytest.raises(BackendUnavailableError, match="DATABRICKS_HOST, DATABRICKS_HTTP_PATH, "):
        MLOpsContext(config)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ({"nodes": {"load": {"function": "etl.load_csv"}}}, False),
        ({"nodes": {"a": {"function": "models.train_xgb"}}}, True),
        ({"nodes": {"a": {"function": "etl.constrain"}}}, False),
        ({"nodes": [{"type": "ml"}]}, True),
        ({"nodes": {"a": {"function": "f", "hyperparameters": {"depth": 3}}}}, True),
        ({"nodes": {"a": {"type": "ml"}}, "mlops": {"enabled": False}}, False),
        ({"mlops": {"enabled": True}}, True),
        ({}, False),
    ],
)
def test_pipelines_with_models_are_recognised(pipeline, expected):
    assert is_ml_pipeline(pipeline) is expected


def test_a_pipeline_without_models_makes_no_context_and_no_file(
    no_current_context, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert activate({"nodes": {"load": {"function": "etl.load_csv"}}}) is None
    assert not is_mlops_initialized()
    training = {"nodes": {"fit": {"function": "models.fit"}}}
    assert activate(training, MLOpsConfig(enabled=False)) is None
    context = activate(training)
    assert context is activate(training)
    assert list(tmp_path.iterdir()) == []


def test_what_is_switched_off_is_refused(no_current_context):
    with pytest.raises(ConfigurationError, match="switched off"):
        init_mlops(config=MLOpsConfig(enabled=False))


def test_a_backend_of_others_is_made_by_its_name(tmp_path, operations, monkeypatch):
    made = []

    def maker(part):
        def make(config, wiring):
            made.append((part, config.backend_type, wiring is operations))
            return LocalStorageBackend(tmp_path / part)

        return make

    parts = {
        "storage": StorageBackendFactory,
        "tracker": ExperimentTrackerFactory,
        "registry": ModelRegistryFactory,
    }
    for part, factory in parts.items():
        monkeypatch.setattr(factory, "_makers", dict(factory._makers))
        with pytest.raises(ConfigurationError, match="'mine' is unknown"):
            MLOpsConfig("mine")
        factory.register("mine", maker(part))
    MLOpsContext(MLOpsConfig("mine"), operations=operations)
    assert sorted(made) == [(part, "mine", True) for part in sorted(parts)]


def test_a_read_run_is_kept_until_one_of_its_files_changes(new_context, monkeypatch):
    from ops.registry.disk import journal

    tracker = new_context().experiment_tracker
    experiment = tracker.create_experiment("e").experiment_id
    run = tracker.start_run(experiment)
    tracker.log_metric(run.run_id, "m", 1.0)
    reader = new_context().experiment_tracker  # the one that logs knows what the run comes to
    parsed = []
    real = journal.parse
    monkeypatch.setattr(journal, "parse", lambda data: (parsed.append(len(data)), real(data))[1])
    main = next(tracker.root.glob(f"runs/*/{run.run_id}.main.log"))
    for beat in range(3):
        assert reader.get_run(run.run_id).metrics == {"m": 1.0}
        os.utime(main, (beat, beat))  # a heartbeat changes nothing that is read
    assert len(parsed) == 1
    other = new_context().experiment_tracker
    other.log_metric(run.run_id, "m", 2.0, step=1)  # a journal of its own, told in the main one
    assert reader.get_run(run.run_id).metrics == {"m": 2.0}
    other.log_metric(run.run_id, "m", 3.0, step=2)
    assert reader.get_run(run.run_id).metrics == {"m": 3.0}
    tracker.end_run(run.run_id)
    assert reader.get_run(run.run_id).status == "COMPLETED"
    uncached = new_context(cache=MLOpsConfig.from_mapping({"cache": {"enabled": False}}).cache)
    assert uncached.experiment_tracker.get_run(run.run_id).metrics == {"m": 3.0}


def test_the_layout_says_where_everything_of_a_store_is(context, registry, tracker, artifact):
    run = tracker.start_run(tracker.create_experiment("study").experiment_id)
    kept = tracker.log_artifact(run.run_id, artifact)
    made = registry.register_model("m", artifact, "binary", "mine")
    paths = PathManager(context.path)
    assert kept.uri == str(paths.run_artifacts(run.run_id) / "model.bin")
    assert made.artifact_uri == str(paths.model_version(made.model_id, 1) / "model.bin")
    for refused in ("..", "a/../../b"):
        with pytest.raises(PathEscapesRootError):
            paths.run_artifacts(refused)


def test_a_path_may_be_a_path_object_and_options_mappings(tmp_path):
    made = MLOpsConfig(storage_path=tmp_path, cache={"max_size": 3})
    assert made.storage_path == str(tmp_path)
    assert made.cache == CacheOptions(max_size=3)
    assert MLOpsContext(made).path == tmp_path


@pytest.mark.parametrize(
    "wrong",
    [
        {"storage_path": None},
        {"storage_path": ""},
        {"storage_path": 5},
        {"heartbeat_seconds": "3"},
        {"heartbeat_seconds": float("nan")},
        {"heartbeat_seconds": -1},
        {"cache": {"size": 3}},
        {"cache": 3},
        {"audit": "yes"},
    ],
)
def test_options_are_of_their_types_in_programs_too(wrong):
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=name):
        MLOpsConfig(**wrong)
