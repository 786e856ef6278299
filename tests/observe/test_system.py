"""Figures of the machine and of this process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ops.foundation.errors import ValidationError
from ops.observe import (
    ResourceMonitor,
    get_available_resources,
    get_cpu_usage,
    get_disk_usage,
    get_environment_type,
    get_gpu_info,
    get_memory_usage,
    get_process_info,
    get_system_info,
    is_docker_container,
)

pytest.importorskip("psutil")


def test_system_figures_are_plausible(tmp_path) -> None:
    info = get_system_info()
    assert info.platform == "Linux"
    assert 0 < info.cpu_limit <= info.cpu_count
    assert 0 < info.memory_limit_bytes <= info.memory_total_bytes
    memory = get_memory_usage()
    assert memory["used_bytes"] + memory["available_bytes"] == memory["total_bytes"]
    assert get_disk_usage(tmp_path)["total_bytes"] > 0
    assert 0 <= get_cpu_usage(0.01)["percent"] <= 100
    assert get_process_info()["pid"] == os.getpid()
    assert get_available_resources()["memory"]["available_gb"] > 0
    assert isinstance(get_gpu_info(), list)


def test_a_short_stretch_of_work_has_figures() -> None:
    with ResourceMonitor(interval=1000, io=True) as monitor:
        block = bytearray(50_000_000)
        stats = monitor.get_stats()
    assert stats["memory_peak_bytes"] >= len(block)
    assert 0 < stats["memory_peak_percent"] < 100
    final = monitor.stop()
    assert final["samples"] >= 3
    assert final["duration_seconds"] > 0
    assert final["io_write_bytes"] >= 0
    assert final == monitor.get_stats(), "stopped means stopped"


def test_a_bad_interval_is_refused() -> None:
    with pytest.raises(ValidationError):
        ResourceMonitor(interval=0)


def test_environments_are_told_apart(tmp_path, monkeypatch) -> None:
    assert not is_docker_container(tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert is_docker_container(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert get_environment_type() == "kubernetes"


def test_without_the_extra_the_error_names_it() -> None:
    program = (
        "import sys; sys.modules['psutil'] = None\n"
        "from ops.observe import get_system_info\n"
        "try: get_system_info()\n"
        "except ImportError as error: print(error)"
    )
    text = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert 'pip install "ops-observe[system]"' in text


def test_a_forked_child_watches_itself():
    with ResourceMonitor(interval=1000) as monitor:
        assert monitor.get_stats()["samples"] == 2
        child = os.fork()
        if not child:
            monitor.start()
            is_own = monitor._process.pid == os.getpid()
            os._exit(0 if is_own and monitor.stop()["samples"] == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_child_processes_count_when_that_is_wanted() -> None:
    program = (
        "x = bytearray(80_000_000)\nsum(range(3_000_000))\nprint('ready', flush=True)\ninput()"
    )
    with ResourceMonitor(interval=1000, children=True) as monitor, ResourceMonitor(1000) as alone:
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "ready\n"
        together, own = monitor.get_stats(), alone.get_stats()
        child.communicate("\n")
        ended = monitor.get_stats()
    assert together["memory_peak_bytes"] >= own["memory_peak_bytes"] + 80_000_000
    assert together["cpu_average_percent"] > 0
    seconds = ended["cpu_average_percent"] * ended["duration_seconds"]
    assert seconds >= together["cpu_average_percent"] * together["duration_seconds"] * 0.999
