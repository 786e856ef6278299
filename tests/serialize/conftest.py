"""What loading hostile bytes costs: memory and time of the load alone, in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
# A parent that has imported everything, and a child for each load, which starts from its memory.
PROGRAM = r"""
import json, os, resource, sys, time, warnings
warnings.simplefilter("ignore")
import numpy, pandas, pyarrow, pyarrow.compute, pyarrow.parquet, msgspec, yaml
from ops.foundation.errors import OpsError
from ops.serialize import SerializeError, SmartSerializer, load
import ops.serialize.nodes.arrow_nodes, ops.serialize.nodes.numpy_nodes
import ops.serialize.nodes.pandas_nodes, ops.serialize.nodes.standard_nodes
import ops.serialize.nodes.instances

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name))

def attempt(path, max_size):
    reader = SmartSerializer(max_size=max_size)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, start = status("VmRSS"), time.process_time()
    try:
        value = reader.load(path)
        ended = "loaded"
    except SerializeError as error:
        ended = "refused " + type(error).__name__ + ": " + str(error)[:200]
    except OpsError as error:
        ended = "refused " + type(error).__name__
    except BaseException as error:
        ended = "raw " + type(error).__name__ + ": " + str(error)[:200]
    seconds = time.process_time() - start
    return {"ended": ended, "seconds": seconds, "grown": status("VmHWM") - before}

for line in sys.stdin:
    path, max_size, seconds = json.loads(line)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
        os.write(writer, json.dumps(attempt(path, max_size)).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        found = file.read()
    _, code = os.waitpid(child, 0)
    print(found or json.dumps({"ended": f"killed {code}", "seconds": seconds, "grown": 0}), flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Cost:
    """How a load ended, the seconds of work that it took, and the bytes that the process grew by."""

    ended: str
    seconds: float
    grown: int
    size: int
    max_size: int | None

    @property
    def allowed(self) -> int:
        """The bytes that a hostile file may take, and what allocators of that size round up to."""
        return (64 + 4) * MIB + 4 * (self.size if self.max_size is None else self.max_size)

    @property
    def is_bounded(self) -> bool:
        """Whether this is what a hostile file may cost at most, and no error was a raw one."""
        is_ours = self.ended == "loaded" or self.ended.startswith("refused")
        # Twice the second that is promised, on a machine that others use.
        return is_ours and self.grown <= self.allowed and self.seconds <= 2 + self.size / (4 * MIB)


@pytest.fixture(scope="session")
def loader() -> Iterator[Any]:
    """The process that forks one child for each load."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def cost_of(loader: Any, tmp_path: Path) -> Callable[..., Cost]:
    """Return what loading a container costs: `cost_of(data, max_size=None, seconds=20)`."""

    def measure(data: bytes, max_size: int | None = None, seconds: int = 20) -> Cost:
        if not Path("/proc/self/clear_refs").exists():
            pytest.skip("needs Linux's high-water mark")
        path = tmp_path / "hostile.opsf"
        path.write_bytes(data)
        loader.stdin.write(json.dumps([str(path), max_size, seconds]) + "\n")
        loader.stdin.flush()
        return Cost(**json.loads(loader.stdout.readline()), size=len(data), max_size=max_size)

    return measure
