"""Logs to read, producers in processes of their own, and the record of full fault runs."""

from __future__ import annotations

import datetime as dt
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.datalog import DataLogger


@pytest.fixture
def logger(tmp_path) -> Iterator[DataLogger]:
    """A started logger that leaves segments."""
    logger = DataLogger(tmp_path, "test", layout="segments", sync="none")
    logger.start()
    yield logger
    logger.stop()


@pytest.fixture
def run_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python program with arguments; killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def fault_record() -> Iterator[dict[str, Any]]:
    """What fault tests found, by test; a full run (OPS_FAULTS=full) writes it beside the benchmarks."""
    record: dict[str, Any] = {}
    yield record
    if record and os.environ.get("OPS_FAULTS") == "full":
        report = {
            "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "python": platform.python_version(),
            "results": dict(sorted(record.items())),
        }
        results = pathlib.Path(__file__).parents[2] / "benchmarks" / "results"
        target = results / "faults-datalog.json"
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
