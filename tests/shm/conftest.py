"""Arrays of names of their own, children that use them, and the record of full fault runs."""

from __future__ import annotations

import datetime as dt
import json
import os
import pathlib
import platform
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ops.shm import SharedMemoryArray, list_segments


@pytest.fixture
def name() -> Iterator[str]:
    """A name that no other test uses; whatever lives under it is removed afterwards."""
    name = f"test-{uuid.uuid4().hex}"
    yield name
    for info in list_segments():
        if info.name.startswith(name):
            SharedMemoryArray(info.name).destroy()


@pytest.fixture
def array(name: str) -> Iterator[SharedMemoryArray]:
    """Six uint64 elements 1 to 6."""
    array = SharedMemoryArray.create_array(name, np.arange(1, 7, dtype=np.uint64))
    yield array
    array.disconnect()


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python program in a process of its own, with arguments; killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            pipe.close()


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
        target = results / "faults-shm.json"
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
