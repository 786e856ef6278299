"""The product's own examples, with only the import lines changed."""

from __future__ import annotations

import pathlib

import pytest


@pytest.fixture(autouse=True)
def elsewhere(no_current_context, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("model.pkl").write_bytes(b"model")


def test_registry_tracking_and_events_as_the_seed_shows_them():
    from ops.registry import EventType, ModelStage, get_event_emitter, get_mlops_context, init_mlops

    ctx = init_mlops(backend_type="local", storage_path="./mlops_data")
    assert get_mlops_context() is ctx
    seen = []
    subscription = get_event_emitter().subscribe(EventType.MODEL_REGISTERED, seen.append)
    registry = ctx.model_registry
    registry.register_model(
        name="credit_risk_model",
        artifact_path="model.pkl",
        artifact_type="sklearn",
        framework="scikit-learn",
        hyperparameters={"n_estimators": 100, "max_depth": 10},
        metrics={"accuracy": 0.92, "auc": 0.95},
        tags={"team": "ds", "project": "credit"},
    )
    subscription()
    registry.promote_model("credit_risk_model", 1, ModelStage.PRODUCTION)
    prod_model = registry.get_model_by_stage("credit_risk_model", ModelStage.PRODUCTION)
    assert (prod_model.version, len(seen)) == (1, 1)

    tracker = ctx.experiment_tracker
    exp = tracker.create_experiment(
        name="model_tuning_v1", description="Hyperparameter tuning", tags={"team": "ds"}
    )
    with tracker.run_context(exp.experiment_id, name="trial_1") as run:
        for epoch in range(10):
            tracker.log_metric(run.run_id, "loss", 0.5 - epoch * 0.05, step=epoch)
            tracker.log_metric(run.run_id, "accuracy", 0.7 + epoch * 0.03, step=epoch)
        tracker.log_artifact(run.run_id, "model.pkl")
    assert tracker.get_run(run.run_id).metrics["accuracy"] == pytest.approx(0.97)


def test_hooks_as_the_seed_shows_them():
    from ops.registry import HookType, get_hooks_manager, init_mlops

    registry = init_mlops(backend_type="local", storage_path="./mlops").model_registry
    hooks = get_hooks_manager()
    sent = []

    @hooks.register(HookType.PRE_MODEL_REGISTER)
    def validate_model(data):
        if data.get("metrics", {}).get("accuracy", 0) < 0.5:
            raise ValueError("Model accuracy too low")
        return data

    @hooks.register(HookType.POST_MODEL_REGISTER)
    def notify_slack(data):
        sent.append(f"New model: {data['name']}")
        return data

    try:
        with pytest.raises(ValueError, match="too low"):
            registry.register_model("m", "model.pkl", "x", "y", metrics={"accuracy": 0.1})
        registry.register_model("m", "model.pkl", "x", "y", metrics={"accuracy": 0.9})
    finally:
        hooks.unregister(HookType.PRE_MODEL_REGISTER, validate_model)
        hooks.unregister(HookType.POST_MODEL_REGISTER, notify_slack)
    assert sent == ["New model: m"]


@pytest.fixture
def ctx():
    from ops.registry import init_mlops

    return init_mlops(backend_type="local", storage_path="./mlops")


def train_model(params=None):
    return "model"


def test_metrics_as_the_seed_shows_them():
    from ops.registry import get_metrics_collector

    metrics = get_metrics_collector()

    # Counters
    metrics.increment("models_registered")
    metrics.increment("api_requests", tags={"endpoint": "/models"})

    # Gauges
    metrics.gauge("active_runs", 5)

    # Timers
    with metrics.timer("training_duration"):
        train_model()

    # Get summary
    summary = metrics.get_summary()
    print(summary)

    assert "training_duration" in str(summary)
    assert metrics.get_counter("api_requests", tags={"endpoint": "/models"}) >= 1


def test_a_manual_event_reaches_its_listener(capsys):
    from ops.registry import EventType, get_event_emitter

    emitter = get_event_emitter()

    # Subscribe to events
    def on_model_registered(event):
        print(f"Model registered: {event.data}")

    emitter.subscribe(EventType.MODEL_REGISTERED, on_model_registered)
    try:
        emitter.emit(EventType.MODEL_REGISTERED, {"name": "my_model", "version": 1})
    finally:
        emitter.unsubscribe(EventType.MODEL_REGISTERED, on_model_registered)
    assert "my_model" in capsys.readouterr().out


def test_exceptions_as_the_seed_shows_them(ctx, capsys):
    registry = ctx.model_registry

    def external_operation():
        raise OSError("disk on fire")

    from ops.registry import (
        ErrorCode,
        ModelNotFoundError,
        create_error_response,
        wrap_exception,
    )

    # Exceptions with error codes
    try:
        registry.get_model_version("nonexistent")
    except ModelNotFoundError as e:
        print(f"Error code: {e.error_code}")
        print(f"Context: {e.context}")

    # Create error response for APIs
    response = create_error_response(
        error_code=ErrorCode.VALIDATION_ERROR,
        message="Invalid model name",
        details={"field": "name", "reason": "Must be alphanumeric"},
    )

    # Wrap external exceptions
    def save():
        try:
            external_operation()
        except Exception as e:
            raise wrap_exception(e, ErrorCode.STORAGE_ERROR, "Failed to save model")  # noqa: B904 - the seed's lines

    out = capsys.readouterr().out
    assert "MODEL_NOT_FOUND" in out
    assert "nonexistent" in out
    assert "Must be alphanumeric" in str(response)
    with pytest.raises(Exception, match="Failed to save model") as caught:
        save()
    assert caught.value.error_code == ErrorCode.STORAGE_ERROR


def test_a_pipeline_with_full_tracking_as_the_seed_shows_it():
    params = {}
    from ops.registry import ModelStage, get_metrics_collector, init_mlops

    # Initialize
    ctx = init_mlops(backend_type="local", storage_path="./mlops")
    tracker = ctx.experiment_tracker
    registry = ctx.model_registry

    # Operational metrics
    metrics = get_metrics_collector()

    # Create experiment
    exp = tracker.create_experiment("xgboost_tuning")
    metrics.increment("experiments_created")

    # Train with tracking
    with tracker.run_context(exp.experiment_id, name="trial_1") as run:
        with metrics.timer("training_time"):
            train_model(params)

        # Log metrics
        tracker.log_metric(run.run_id, "accuracy", 0.95)
        tracker.log_metric(run.run_id, "auc", 0.98)

        # Log artifact
        tracker.log_artifact(run.run_id, "model.pkl")
        metrics.increment("models_trained")

    # Register best model
    version = registry.register_model(
        name="xgboost_classifier",
        artifact_path="model.pkl",
        artifact_type="xgboost",
        framework="xgboost",
        metrics={"accuracy": 0.95, "auc": 0.98},
    )
    metrics.increment("models_registered")

    # Promote to production
    registry.promote_model("xgboost_classifier", version.version, ModelStage.PRODUCTION)

    found = tracker.get_run(run.run_id)
    assert (found.status, found.metrics) == ("COMPLETED", {"accuracy": 0.95, "auc": 0.98})
    assert [a.path for a in found.artifacts] == ["model.pkl"]
    newest = registry.get_model_by_stage("xgboost_classifier", ModelStage.PRODUCTION)
    assert newest.version == version.version


def test_health_monitoring_as_the_seed_shows_it(ctx):
    def jsonify(value):
        return value

    from ops.registry import (
        ComponentHealthCheck,
        DiskHealthCheck,
        MemoryHealthCheck,
        StorageHealthCheck,
        get_health_monitor,
    )

    # Configure health checks
    monitor = get_health_monitor()
    ctx.storage.write_json({}, "first.json")  # "./mlops" is there from the first write on
    monitor.register(StorageHealthCheck("storage", ctx.storage))
    monitor.register(MemoryHealthCheck("memory", warning_threshold=0.8))
    monitor.register(DiskHealthCheck("disk", path="./mlops", warning_threshold=0.9))
    monitor.register(ComponentHealthCheck("registry", ctx.model_registry))

    # Health check endpoint (Flask example)
    def health():
        report = monitor.check_all()
        status_code = 200 if report.is_healthy else 503
        return jsonify(report.to_dict()), status_code

    def ready():
        return ("OK", 200) if monitor.is_ready() else ("Not Ready", 503)

    try:
        report, _ = health()  # the code depends on this machine's disk and memory
        ready()
    finally:
        for name in ("storage", "memory", "disk", "registry"):
            monitor.unregister(name)
    found = {check["name"]: check["status"] for check in report["checks"]}
    assert (found["storage"], found["registry"]) == ("healthy", "healthy")
    assert found.keys() == {"storage", "memory", "disk", "registry"}


def test_every_main_export_is_there():
    import ops.registry

    names = [
        "MLOpsContext",
        "MLOpsConfig",
        "init_mlops",
        "get_mlops_context",
        "StorageBackendProtocol",
        "ExperimentTrackerProtocol",
        "ModelRegistryProtocol",
        "EventType",
        "Event",
        "EventEmitter",
        "MetricsCollector",
        "HooksManager",
        "AuditLogger",
        "get_event_emitter",
        "get_metrics_collector",
        "get_hooks_manager",
        "LRUCache",
        "TwoLevelCache",
        "BatchProcessor",
        "CachedStorage",
        "CacheKeyBuilder",
        "HealthMonitor",
        "HealthStatus",
        "StorageHealthCheck",
        "MemoryHealthCheck",
        "get_health_monitor",
        "check_health",
        "is_healthy",
        "is_ready",
        "ModelRegistry",
        "ModelMetadata",
        "ModelVersion",
        "ModelStage",
        "ExperimentTracker",
        "Experiment",
        "Run",
        "Metric",
        "RunStatus",
        "LocalStorageBackend",
        "DatabricksStorageBackend",
        "ErrorCode",
        "MLOpsException",
        "ModelNotFoundError",
        "ExperimentNotFoundError",
        "RetryConfig",
        "with_retry",
        "CircuitBreaker",
    ]
    assert [name for name in names if getattr(ops.registry, name, None) is None] == []
