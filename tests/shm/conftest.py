"""Arrays of names of their own, children that use them, and the record of full fault runs."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator

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
