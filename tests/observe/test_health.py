"""Health checks run apart, in bounded time, and tell the truth about containers."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

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
    serve_probes,
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


class Check:
    """Runs what it is given."""

    critical = True

    def __init__(self, run, name="check"):
        self.run, self.name = run, name


def one(monitor):
    (result,) = monitor.check_all().checks
    return result


def test_a_check_that_exits_is_unhealthy_and_asked_again():
    runs = []

    def leave():
        runs.append(1)
        raise SystemExit

    monitor = HealthMonitor(ttl=0)
    monitor.register(Check(leave))
    assert one(monitor).message == "SystemExit"
    assert one(monitor).status is HealthStatus.UNHEALTHY
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (("healthy", "", None), HealthStatus.UNHEALTHY),
        (("healthy", "", {}), HealthStatus.HEALTHY),
        (("so-so", "", {}), HealthStatus.UNHEALTHY),
        (None, HealthStatus.UNHEALTHY),
    ],
)
def test_an_answer_of_another_form_is_read_or_unhealthy(answer, status):
    monitor = HealthMonitor()
    monitor.register(Check(lambda: answer))
    assert one(monitor).status is status
    assert one(monitor).to_dict()["status"] == str(status)


def test_without_a_thread_to_run_in_a_check_is_unhealthy_and_tried_again(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monitor = HealthMonitor()
    monitor.register(Check(lambda: (HealthStatus.HEALTHY, "", {})))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert one(monitor).status is HealthStatus.UNHEALTHY
    assert one(monitor).status is HealthStatus.HEALTHY


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_a_check_ran_gets_answers_of_its_own():
    program = """
import os, threading
from ops.observe import HealthMonitor, HealthStatus
gate = threading.Event()
class Check:
    name, critical = "check", True
    def run(self):
        if os.getpid() == parent:
            gate.wait()
        return HealthStatus.HEALTHY, "", {}
parent = os.getpid()
monitor = HealthMonitor(timeout=0.05)
monitor.register(Check())
assert not monitor.is_ready()
child = os.fork()
if not child:
    wide = HealthMonitor(timeout=30)
    wide._runners = monitor._runners
    os._exit(not wide.is_ready())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
gate.set()
"""
    assert subprocess.check_output([sys.executable, "-W", "ignore", "-c", program]) == b"0\n"


@pytest.mark.parametrize("seconds", [0, math.nan, math.inf])
def test_a_timeout_that_is_none_is_refused(seconds):
    with pytest.raises(ValidationError, match="timeout"):
        HealthMonitor(timeout=seconds)


def test_probes_may_carry_a_query():
    with (
        serve_probes(monitor=HealthMonitor()) as server,
        urllib.request.urlopen(f"{server.url}/livez?verbose=1") as reply,
    ):
        assert reply.status == 200


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_limit_that_cannot_be_read_now_is_not_taken_for_none(monkeypatch, code):
    read = Path.read_text

    def refuse(path, *args, **kwargs):
        if "cgroup" in str(path):
            raise OSError(code, os.strerror(code), str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        cgroups.memory_usage()
    with pytest.raises(OSError, match=os.strerror(code)):
        cgroups.cpu_limit()
    monitor = HealthMonitor(ttl=0)
    monitor.register(MemoryHealthCheck())
    assert monitor.check_all().overall_status is HealthStatus.UNHEALTHY
