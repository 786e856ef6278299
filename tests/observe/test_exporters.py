"""What is exported is what the real clients of those formats read."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request

import pytest

from ops.observe import (
    CallableHealthCheck,
    HealthMonitor,
    MetricsCollector,
    PrometheusCollector,
    observe_with_opentelemetry,
    prometheus_text,
    serve_probes,
)


@pytest.fixture
def metrics() -> MetricsCollector:
    metrics = MetricsCollector()
    metrics.increment("api requests", 3, tags={"path": 'a"b\\c\nd'})
    metrics.increment("up_total")
    metrics.gauge("9lives", -1.5)
    for seconds in (0.1, 0.2, 0.3):
        metrics.record_time("train", seconds, tags={"model": "x"})
    metrics.histogram("size", 10)
    return metrics


def samples(families) -> dict:
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_prometheus_reads_our_text(metrics) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    found = samples(parser.text_string_to_metric_families(prometheus_text(metrics)))
    assert found["api_requests_total", (("path", 'a"b\\c\nd'),)] == 3
    assert found["up_total", ()] == 1
    assert found["_9lives", ()] == -1.5
    assert found["train_seconds_count", (("model", "x"),)] == 3
    assert found["train_seconds_sum", (("model", "x"),)] == pytest.approx(0.6)
    assert found["train_seconds", (("model", "x"), ("quantile", "0.5"))] == pytest.approx(
        0.2, rel=0.01
    )


def test_a_prometheus_registry_collects_the_same(metrics) -> None:
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    registry.register(PrometheusCollector(metrics))
    text = client.generate_latest(registry).decode()
    parser = pytest.importorskip("prometheus_client.parser")
    theirs = samples(parser.text_string_to_metric_families(text))
    ours = samples(parser.text_string_to_metric_families(prometheus_text(metrics)))
    assert theirs == ours


def test_opentelemetry_observes_all_series_also_later_ones(metrics) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    reader = export.InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    refresh = observe_with_opentelemetry(metrics, provider.get_meter("test"))
    metrics.increment("later", 5)
    refresh()
    data = reader.get_metrics_data()
    points = {
        m.name: [p.value for p in m.data.data_points]
        for r in data.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
    }
    assert points["up_total"] == [1]
    assert points["train.count"] == [3]
    assert points["later"] == [5]
    provider.shutdown()


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_probes_answer_on_loopback_and_tell_no_details(metrics) -> None:
    monitor = HealthMonitor(ttl=0)
    state = {"status": "healthy", "message": "password=hunter2"}
    monitor.register(CallableHealthCheck("database", lambda: dict(state)))
    with serve_probes(monitor=monitor, metrics=metrics) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert fetch(f"{server.url}/livez") == (200, "ok")
        code, text = fetch(f"{server.url}/readyz")
        assert (code, json.loads(text)["checks"]) == (200, {"database": "healthy"})
        state["status"] = "unhealthy"
        code, text = fetch(f"{server.url}/readyz")
        assert code == 503
        assert "hunter2" not in text
        assert fetch(f"{server.url}/livez")[0] == 200, "liveness asks nothing outside"
        assert "up_total 1" in fetch(f"{server.url}/metrics")[1]
        assert fetch(f"{server.url}/../etc/passwd")[0] == 404


def test_one_probe_asks_each_check_once() -> None:
    monitor, asked = HealthMonitor(ttl=0), []
    monitor.register(CallableHealthCheck("counted", lambda: asked.append(1) or True))
    with serve_probes(monitor=monitor) as server:
        assert fetch(f"{server.url}/readyz")[0] == 200
    assert len(asked) == 1


def test_no_name_or_value_makes_the_whole_page_unreadable():
    parser = pytest.importorskip("prometheus_client.parser")
    metrics = MetricsCollector()
    metrics.increment("bad name{}")
    metrics.increment("bad name[]", 2)
    metrics.increment("requests", tags={"a-b": 1, "a_b": 2, "path": '"\\\n'})
    metrics.gauge("requests_total", 5)
    metrics.gauge("up", True)
    metrics.gauge("unknown", math.nan)
    metrics.record_time("wait", 0.5, {"quantile": "mine"})
    families = {f.name: f for f in parser.text_string_to_metric_families(prometheus_text(metrics))}
    assert sorted(s.value for s in families["bad_name__"].samples) == [1, 2]
    assert families["requests"].samples[0].labels == {"a_b": "1", "a_b_": "2", "path": '"\\\n'}
    assert families["requests_total_gauge"].samples[0].value == 5
    assert families["up"].samples[0].value == 1
    assert families["wait_seconds"].samples[0].labels == {"quantile_": "mine", "quantile": "0.5"}


def test_numbers_of_numpy_are_exported_as_numbers():
    class Half(float):
        def __repr__(self):
            return "np.float64(0.5)"

    metrics = MetricsCollector()
    metrics.increment("a", Half(0.5))
    metrics.gauge("b", Half(0.5))
    metrics.record_time("c", Half(0.5))
    assert "np." not in prometheus_text(metrics)
