"""The events, metrics, hooks, health and system examples of the product's documents."""

from __future__ import annotations

import logging

import pytest

from ops.foundation import ResourceError
from ops.observe import (
    DiskHealthCheck,
    HealthMonitor,
    MemoryHealthCheck,
    ResourceMonitor,
    StorageHealthCheck,
    check_health,
    get_available_resources,
    get_event_emitter,
    get_health_monitor,
    get_hooks_manager,
    get_metrics_collector,
    get_system_info,
    is_healthy,
    is_ready,
)

logger = logging.getLogger(__name__)


class EventType:
    """Event types belong to the package that emits them; these stand in for its enum."""

    MODEL_REGISTERED = "model_registered"


class HookType:
    PRE_MODEL_REGISTER = "pre_model_register"
    POST_MODEL_REGISTER = "post_model_register"


@pytest.fixture(autouse=True)
def clean():
    yield
    get_event_emitter().reset()
    get_metrics_collector().reset()
    get_hooks_manager().clear()


def test_events(capsys) -> None:
    emitter = get_event_emitter()

    def on_model_registered(event):
        print(f"Model registered: {event.data}")

    emitter.subscribe(EventType.MODEL_REGISTERED, on_model_registered)
    emitter.emit(EventType.MODEL_REGISTERED, {"name": "my_model", "version": 1})
    assert "my_model" in capsys.readouterr().out


def test_metrics() -> None:
    def train_model() -> None:
        """Stands in for the work."""

    metrics = get_metrics_collector()
    metrics.increment("models_registered")
    metrics.increment("api_requests", tags={"endpoint": "/models"})
    metrics.gauge("active_runs", 5)
    with metrics.timer("training_duration"):
        train_model()
    summary = metrics.get_summary()
    assert summary["counters"]["models_registered"] == 1
    assert summary["timers"]["training_duration"]["count"] == 1


def test_hooks() -> None:
    sent = []
    send_slack_notification = sent.append
    hooks = get_hooks_manager()

    @hooks.register(HookType.PRE_MODEL_REGISTER)
    def validate_model(data):
        if data.get("metrics", {}).get("accuracy", 0) < 0.5:
            raise ValueError("Model accuracy too low")
        return data

    @hooks.register(HookType.POST_MODEL_REGISTER)
    def notify_slack(data):
        send_slack_notification(f"New model: {data['name']}")
        return data

    with pytest.raises(ValueError, match="too low"):
        hooks.execute(HookType.PRE_MODEL_REGISTER, {"metrics": {"accuracy": 0.4}})
    hooks.execute(HookType.POST_MODEL_REGISTER, {"name": "m"})
    assert sent == ["New model: m"]


def test_health(tmp_path, capsys) -> None:
    class Storage(dict):
        write_json = lambda self, data, path: self.__setitem__(path, data)  # noqa: E731
        read_json = dict.__getitem__
        delete = dict.__delitem__

    storage_backend = Storage()
    monitor = get_health_monitor()
    monitor.register(StorageHealthCheck("storage", storage_backend))
    monitor.register(MemoryHealthCheck("memory", warning_threshold=0.8))
    monitor.register(DiskHealthCheck("disk", path=tmp_path, warning_threshold=0.9))
    report = check_health()
    print(f"Status: {report.overall_status}")
    for check in report.checks:
        print(f"  {check.name}: {check.status} - {check.message}")
    if is_healthy():
        print("System is alive")
    if is_ready():
        print("System is ready to accept traffic")
    assert "System is alive" in capsys.readouterr().out
    for name in ("storage", "memory", "disk"):
        monitor.unregister(name)


def test_health_endpoint() -> None:
    monitor = HealthMonitor()
    report = monitor.check_all()
    status_code = 200 if report.is_healthy else 503
    assert (report.to_dict()["status"], status_code) == ("healthy", 200)
    assert monitor.is_ready()


def test_system_info(capsys) -> None:
    pytest.importorskip("psutil")
    info = get_system_info()
    print(f"Platform: {info.platform}, CPUs: {info.cpu_count}")
    monitor = ResourceMonitor()
    monitor.start()
    stats = monitor.get_stats()
    print(f"Peak memory: {stats['memory_peak_percent']:.1f}%")
    monitor.stop()
    assert "Peak memory" in capsys.readouterr().out


def test_resource_management() -> None:
    pytest.importorskip("psutil")

    def heavy_computation() -> int:
        return sum(range(1000))

    resources = get_available_resources()
    if resources["memory"]["available_gb"] < 0.001:
        raise ResourceError("Insufficient memory")
    with ResourceMonitor() as monitor:
        heavy_computation()
        stats = monitor.get_stats()
        logger.info(f"Peak memory usage: {stats['memory_peak_percent']:.1f}%")
    assert stats["memory_peak_percent"] > 0
