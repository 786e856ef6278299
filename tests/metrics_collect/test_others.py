import datetime as dt

import pytest

from ops.metrics_collect import ParameterError, StorageError
from ops.metrics_collect.collectors.others import total_workers_vcpu

pytest.importorskip("httpx")

END = dt.datetime(2026, 10, 1, 12, tzinfo=dt.UTC)


def ask(server, **options):
    return total_workers_vcpu(
        cluster_name="c", metering_enabled=True, prometheus_url=server.url, until=END, **options
    ).gather()


def test_the_query_is_of_the_hour_and_its_maximum_comes_back(server):
    result = [{"metric": {}, "value": [END.timestamp(), "64"]}]
    server.replies["/api/v1/query"] = {"status": "success", "data": {"result": result}}
    found = ask(server, token="tok")
    assert found["total_workers_vcpu"] == 64
    assert found["start_timestamp"] == "2026-10-01T11:00:00+00:00"
    [request] = server.requests
    assert request.query["query"] == (
        f"max_over_time(sum(machine_cpu_cores)[1h:5m] @ {int(END.timestamp())})"
    )
    assert request.headers["authorization"] == "Bearer tok"


def test_no_result_and_no_metering_are_no_total(server):
    server.replies["/api/v1/query"] = {"status": "success", "data": {"result": []}}
    assert ask(server)["total_workers_vcpu"] is None
    found = total_workers_vcpu(cluster_name="c", metering_enabled=False).gather()
    assert found["total_workers_vcpu"] is None
    assert len(server.requests) == 1


def test_an_error_of_prometheus_raises_without_the_token(server):
    server.steps = [(400, {}, {"error": "bad tok-secret"})]
    with pytest.raises(StorageError, match="400") as caught:
        ask(server, token="tok-secret")
    assert "tok-secret" not in str(caught.value)
    with pytest.raises(ParameterError, match="prometheus_url"):
        total_workers_vcpu(cluster_name="c", metering_enabled=True).gather()
