"""Logs to read, producers in processes of their own, and the record of full fault runs."""

from __future__ import annotations

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

    def start(program: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
