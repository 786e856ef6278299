"""Coroutines are awaited or refused, never taken for an answer; answers of others are understood."""

from __future__ import annotations

import asyncio
import enum
import socket
import urllib.request
from http.client import HTTPConnection

import pytest

from ops.foundation.errors import ValidationError
from ops.observe import (
    CallableHealthCheck,
    ComponentHealthCheck,
    DiskHealthCheck,
    HealthMonitor,
    HealthStatus,
    HooksManager,
    MemoryHealthCheck,
    MetricsCollector,
    SignatureError,
    StorageHealthCheck,
    cgroups,
    serve_probes,
)


def found(check) -> HealthStatus:
    monitor = HealthMonitor(timeout=60)
    monitor.register(check)
    [result] = monitor.check_all().checks
    return result.status


async def _works() -> bool:
    await asyncio.sleep(0)
    return True


async def _fails() -> bool:
    raise ConnectionError


class Component:
    def __init__(self, check) -> None:
        self._check = check

    async def health_check(self) -> object:
        return await self._check()


class Health:
    def __init__(self, check) -> None:
        self.is_healthy = check


class OwnCheck:
    name, critical = "own", True

    async def run(self):
        return HealthStatus.HEALTHY, "", {}


class Storage:
    def __init__(self, *, keeps: bool) -> None:
        self.kept: dict[str, object] = {}
        self.keeps = keeps

    async def write_json(self, data, path) -> None:
        self.kept[path] = data if self.keeps else {}

    async def read_json(self, path) -> object:
        return self.kept[path]

    async def delete(self, path) -> None:
        del self.kept[path]


def test_checks_that_are_coroutine_functions_are_awaited() -> None:
    for check, status in ((_works, HealthStatus.HEALTHY), (_fails, HealthStatus.UNHEALTHY)):
        assert found(CallableHealthCheck("c", check)) is status
        assert found(CallableHealthCheck("c", lambda check=check: check())) is status
        assert found(ComponentHealthCheck("c", Component(check))) is status
        assert found(ComponentHealthCheck("c", Health(check))) is status
    assert found(OwnCheck()) is HealthStatus.HEALTHY
    storage = Storage(keeps=True)
    assert found(StorageHealthCheck("s", storage)) is HealthStatus.HEALTHY
    assert storage.kept == {}
    assert found(StorageHealthCheck("s", Storage(keeps=False))) is HealthStatus.UNHEALTHY


def test_a_hook_that_returns_a_coroutine_is_refused() -> None:
    hooks = HooksManager()

    async def later() -> dict[str, int]:
        return {}

    def unrecognized(_: object) -> object:
        return later()

    hooks.register("x", unrecognized)
    with pytest.raises(SignatureError, match="coroutine"):
        hooks.execute("x", {})


class Serving(enum.Enum):
    SERVING = 1
    NOT_SERVING = 2


class Answer:
    def __init__(self, status: object) -> None:
        self.status = status


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("ok", "healthy"),
        ("UP", "healthy"),
        (" Pass ", "healthy"),
        ("warn", "degraded"),
        ("DOWN", "unhealthy"),
        ("fail", "unhealthy"),
        ("Out of Service", "unhealthy"),
        ("out-of-service", "unhealthy"),
        ("no idea", "unknown"),
        ({"status": "UP", "components": {}}, "healthy"),
        ({"status": "fail"}, "unhealthy"),
        ({"status": True}, "healthy"),
        ({"healthy": False}, "unhealthy"),
        ({"ok": False}, "unhealthy"),
        ({}, "unknown"),
        ((False, "down"), "unhealthy"),
        ((True, "fine"), "healthy"),
        (("degraded", "slow", {"ms": 3}), "degraded"),
        (Serving.SERVING, "healthy"),
        (Serving.NOT_SERVING, "unhealthy"),
        (Answer("DOWN"), "unhealthy"),
        (Answer(HealthStatus.DEGRADED), "degraded"),
        (200, "healthy"),
        (503, "unhealthy"),
        (1, "healthy"),
        (0, "unhealthy"),
        (None, "unhealthy"),
    ],
)
def test_the_words_of_others_are_understood(answer, status) -> None:
    assert found(CallableHealthCheck("c", lambda: answer)) == status


def test_an_answer_that_is_not_understood_is_explained() -> None:
    monitor = HealthMonitor()
    monitor.register(CallableHealthCheck("word", lambda: "no idea"))
    monitor.register(CallableHealthCheck("empty", dict))
    word, empty = monitor.check_all().checks
    assert "'no idea'" in word.message
    assert "no status" in empty.message


def test_a_default_threshold_gives_way_to_the_one_that_is_given() -> None:
    for make in (DiskHealthCheck, MemoryHealthCheck):
        late = make(warning_threshold=0.97)._thresholds
        assert 0.97 < late.critical < 1
        early = make(critical_threshold=0.5)._thresholds
        assert early.warning < 0.5
        usual = make()._thresholds
        assert (usual.warning, usual.critical) == (0.8, 0.95)
        with pytest.raises(ValidationError):
            make(warning_threshold=0.97, critical_threshold=0.95)


# ---------------------------------------------------------------------- control groups


def test_limits_of_the_processs_own_group_and_those_above_count(tmp_path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/system.slice/app.service\n")
    root = tmp_path / "fs"
    group = root / "system.slice/app.service"
    group.mkdir(parents=True)
    (root / "system.slice/memory.max").write_text("700000\n")
    (group / "memory.max").write_text("500000\n")
    (group / "memory.current").write_text("300000\n")
    (group / "cpu.max").write_text("max 100000\n")
    (root / "system.slice/cpu.max").write_text("50000 100000\n")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\n")
    assert cgroups.memory_limit(root, own) == 500_000
    assert cgroups.memory_usage(root, meminfo, own) == (300_000, 500_000)
    assert cgroups.cpu_limit(root, own) == 0.5


def test_in_version_one_each_controller_has_its_own_path(tmp_path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("5:cpu,cpuacct:/slurm/job\n4:memory:/slurm/uid/../../job\nbroken\n")
    root = tmp_path / "fs"
    (root / "memory/slurm/uid/job").mkdir(parents=True)
    (root / "memory/memory.limit_in_bytes").write_text(str(2**63 - 4096))
    (root / "memory/slurm/memory.limit_in_bytes").write_text("600000")
    (root / "cpu/slurm/job").mkdir(parents=True)
    (root / "cpu/slurm/job/cpu.cfs_quota_us").write_text("25000")
    (root / "cpu/slurm/job/cpu.cfs_period_us").write_text("100000")
    assert cgroups.memory_limit(root, own) == 600_000
    assert cgroups.cpu_limit(root, own) == 0.25
    assert cgroups.memory_limit(root, tmp_path / "missing") is None


# ---------------------------------------------------------------------- probes


def test_a_head_request_is_answered_without_a_body() -> None:
    with serve_probes(monitor=HealthMonitor(), metrics=MetricsCollector()) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("HEAD", "/livez")
        reply = connection.getresponse()
        assert (reply.status, reply.read(), reply.headers["Content-Length"]) == (200, b"", "2")
        connection.close()


def test_metrics_come_in_the_format_that_the_scraper_prefers() -> None:
    metrics = MetricsCollector()
    metrics.increment("files", tags={"path": "caf\udce9.txt"})
    with serve_probes(monitor=HealthMonitor(), metrics=metrics) as server:
        request = urllib.request.Request(
            f"{server.url}/metrics", headers={"Accept": "application/openmetrics-text"}
        )
        with urllib.request.urlopen(request, timeout=300) as reply:
            assert reply.read().endswith(b"# EOF\n")
            assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=300) as reply:
            assert b'path="caf\\\\udce9.txt"' in reply.read()


def test_probes_may_listen_on_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve_probes(host="::1", monitor=HealthMonitor()) as server:
        assert server.url.startswith("http://[::1]:")
        with urllib.request.urlopen(f"{server.url}/livez", timeout=300) as reply:
            assert reply.read() == b"ok"
