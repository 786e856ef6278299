"""How the costs of a shared array grow: with its bytes, and with the processes that read it."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from benchmarks.harness import Case, Growth, Measure, decades
from benchmarks.programs import together

from ops.shm import SharedMemoryArray

SIZES = {"bytes": decades(100, 100_000_000), "processes": (1, 2, 4, 8)}
READS = 100_000
READER = """
import sys, time
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.attach(sys.argv[2])
reads = int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
began = time.process_time()
for _ in range(reads):
    array[100:164]
print((time.process_time() - began) / reads)
"""


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield a case for each size of each operation."""
    for size in sizes["bytes"]:
        yield from _by_bytes(size)
    prototype = np.zeros(1024, np.uint64)
    with SharedMemoryArray.create_array(f"bench-{uuid.uuid4().hex}", prototype) as array:
        for size in sizes["processes"]:
            yield Case(
                "read 64 elements beside other readers, CPU",
                {"ops-shm": lambda size=size: _cpu_of_a_read(array.name, size)},
                measure=Measure.RETURNED,
                rounds=5,
                size=size,
                unit="processes",
                growth=Growth.FLAT,
                figure_unit="seconds",
            )
        array.destroy()


def _by_bytes(size: int) -> Iterator[Case]:
    prototype = np.zeros(size, np.uint8)
    out = np.empty_like(prototype)
    with SharedMemoryArray.create_array(f"bench-{uuid.uuid4().hex}", prototype) as array:

        def write() -> None:
            array[7] = 1

        for name, call, growth in (
            ("read one element", lambda: array[7], Growth.FLAT),
            ("write one element", write, Growth.FLAT),
            ("read the whole into memory", lambda: array.read_into(out), Growth.LINEAR),
        ):
            yield Case(name, {"ops-shm": call}, rounds=7, size=size, unit="bytes", growth=growth)
        array.destroy()


def _cpu_of_a_read(name: str, processes: int) -> float:
    return statistics.median(together(READER, processes, name, READS))
