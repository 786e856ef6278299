"""Health checks run apart, in bounded time, and tell the truth about containers."""

from __future__ import annotations

import threading

import pytest

from ops.foundation.errors import ValidationError
from ops.observe import (
    CallableHealthCheck,
    ComponentHealthCheck,
    DiskHealthCheck,
    HealthMonitor,
    HealthStatus,
    MemoryHealthCheck,
    StorageHealthCheck,
    cgroups,
)


@pytest.fixture
def monitor() -> HealthMonitor:
    return HealthMonitor(timeout=0.5, ttl=0)


class Storage:
    def __init__(self, mangle: bool = False) -> None:
        self.files: dict = {}
        self.mangle = mangle

    def write_json(self, data, path) -> None:
        self.files[path] = data

    def read_json(self, path):
        return None if self.mangle else self.files[path]

    def delete(self, path) -> None:
        del self.files[path]


def test_the_worst_critical_check_decides(monitor) -> None:
    monitor.register(CallableHealthCheck("a", lambda: True))
    assert monitor.check_all().overall_status is HealthStatus.HEALTHY
    monitor.register(CallableHealthCheck("b", lambda: False, critical=False))
    report = monitor.check_all()
    assert report.overall_status is HealthStatus.DEGRADED
    assert report.is_healthy
    assert monitor.is_ready()
    monitor.register(CallableHealthCheck("c", lambda: HealthStatus.UNHEALTHY))
    assert not monitor.check_all().is_healthy
    assert not monitor.is_ready()
    assert monitor.is_healthy(), "liveness asks nothing outside"
    assert monitor.unregister("c")
    assert not monitor.unregister("c")
    assert monitor.is_ready()


def test_a_hung_check_is_unhealthy_in_time_and_blocks_nobody(monitor) -> None:
    release = threading.Event()
    calls = []

    def hang() -> bool:
        calls.append(1)
        release.wait()
        return True

    monitor.register(CallableHealthCheck("hung", hang))
    monitor.register(CallableHealthCheck("well", lambda: True))
    for _ in range(2):
        found = {check.name: check for check in monitor.check_all().checks}
        assert found["hung"].status is HealthStatus.UNHEALTHY
        assert "0.5 s" in found["hung"].message
        assert found["well"].status is HealthStatus.HEALTHY
    assert len(calls) == 1, "no second thread while the first hangs"
    release.set()


def test_a_raising_check_is_unhealthy_and_tells_no_secret(monitor) -> None:
    def fail() -> bool:
        raise ConnectionError("postgres://user:hunter2@host")

    monitor.register(CallableHealthCheck("database", fail))
    (check,) = monitor.check_all().checks
    assert check.status is HealthStatus.UNHEALTHY
    assert check.message == "ConnectionError"


def test_results_are_kept_for_their_time_to_live() -> None:
    calls = []
    monitor = HealthMonitor(ttl=1000)
    monitor.register(CallableHealthCheck("counted", lambda: calls.append(1) or True))
    monitor.check_all()
    monitor.check_all()
    assert len(calls) == 1


def test_components_are_asked_in_their_own_way(monitor) -> None:
    class WithMethod:
        def health_check(self):
            return {"status": "degraded", "message": "slow", "latency": 3}

    class WithProperty:
        is_healthy = True

    monitor.register(ComponentHealthCheck("method", WithMethod()))
    monitor.register(ComponentHealthCheck("property", WithProperty()))
    first, second = monitor.check_all().checks
    assert (first.status, first.message, first.details) == ("degraded", "slow", {"latency": 3})
    assert second.status is HealthStatus.HEALTHY
    with pytest.raises(ValidationError, match="health_check"):
        ComponentHealthCheck("nothing", object())


def test_a_storage_is_probed_and_left_clean(monitor) -> None:
    good, bad = Storage(), Storage(mangle=True)
    monitor.register(StorageHealthCheck("good", good))
    monitor.register(StorageHealthCheck("bad", bad))
    statuses = [check.status for check in monitor.check_all().checks]
    assert statuses == [HealthStatus.HEALTHY, HealthStatus.UNHEALTHY]
    assert good.files == bad.files == {}


def test_memory_and_disk_report_shares(monitor, tmp_path) -> None:
    monitor.register(MemoryHealthCheck("memory", 0.5, 0.9, usage=lambda: (60, 100)))
    monitor.register(DiskHealthCheck("disk", tmp_path, 0.999, 1.0))
    report = monitor.check_all()
    memory, disk = report.checks
    assert memory.status is HealthStatus.DEGRADED
    assert "60%" in memory.message
    assert disk.details["total_bytes"] > 0
    assert report.to_dict()["checks"][0]["status"] == "degraded"
    with pytest.raises(ValidationError, match="shares"):
        MemoryHealthCheck("memory", 80)


MEMINFO = "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    400 kB\n"


@pytest.fixture
def meminfo(tmp_path):
    (tmp_path / "meminfo").write_text(MEMINFO)
    return tmp_path / "meminfo"


def test_a_container_limit_counts_not_the_machine(tmp_path, meminfo) -> None:
    (tmp_path / "memory.max").write_text("500000\n")
    (tmp_path / "memory.current").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cgroups.memory_usage(tmp_path, meminfo) == (200_000, 500_000)
    assert cgroups.cpu_limit(tmp_path) == 0.5


def test_version_one_limits_count_too(tmp_path, meminfo) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("500000")
    (tmp_path / "memory/memory.usage_in_bytes").write_text("300000")
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("25000")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert cgroups.memory_usage(tmp_path, meminfo) == (300_000, 500_000)
    assert cgroups.cpu_limit(tmp_path) == 0.25


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096)])
def test_without_a_limit_the_machine_counts(tmp_path, meminfo, limit) -> None:
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("300000")
    assert cgroups.memory_usage(tmp_path, meminfo) == (600 * 1024, 1000 * 1024)
