"""Beside the package whose place this one takes: ataraxis-data-structures 4.0.0.

It is GPL, so it is installed for this benchmark only and used through its documented API; its source
was not read. Since 4.0 its arrays are indexed (`array[i]`); the `read_data` and `write_data` of 3.1.1
are gone there, so ours are compared with its indexing.
`pip install ataraxis-data-structures==4.0.0` (it runs on Python 3.11).
"""

from __future__ import annotations

import uuid

import numpy as np
from benchmarks.harness import Case, Measure, Target
from benchmarks.programs import together

from ops.shm import SharedMemoryArray

try:
    from ataraxis_data_structures import SharedMemoryArray as Replaced
except ModuleNotFoundError:
    Replaced = None

PACKAGES = ("ataraxis-data-structures",)
PEER = "ataraxis 4.0.0"

#: Reads a slice as often as it can for a second, without the lock or with it; prints how often.
READER = """
import sys, time
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.attach(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
end, count = time.monotonic() + 1, 0
while time.monotonic() < end:
    for _ in range(100):
        array[100:164]
    count += 100
print(count)
"""


def cases():
    prototype = np.zeros(1024, np.uint64)
    values = np.arange(64, dtype=np.uint64)
    if Replaced is None:
        print(__doc__)
    else:
        yield from _beside(prototype, values)
    yield Case(
        "two concurrent readers of 64 elements, seconds per read",
        {
            "ops-shm": lambda: _two_readers(prototype, "auto"),
            "ops-shm, locked reads": lambda: _two_readers(prototype, "always"),
        },
        (Target("ops-shm, locked reads", at_least=5),),
        Measure.RETURNED,
        rounds=5,
    )


def _beside(prototype: np.ndarray, values: np.ndarray):
    ours = SharedMemoryArray.create_array(f"bench-{uuid.uuid4().hex}", prototype)
    theirs = Replaced.create_array(name=f"bench{uuid.uuid4().hex[:8]}", prototype=prototype)
    theirs.connect()

    def write(array) -> None:
        array[3] = 7

    def write_slice(array) -> None:
        array[100:164] = values

    def read(array):
        return array[3]

    def read_slice(array):
        return array[100:164]

    for name, call, least in (
        ("read one element", read, 6),
        ("write one element", write, 3),
        ("read 64 elements", read_slice, 3),
        ("write 64 elements", write_slice, 3),
    ):
        yield Case(
            name,
            {"ops-shm": lambda c=call: c(ours), PEER: lambda c=call: c(theirs)},
            (Target(PEER, at_least=least),),
            packages=PACKAGES,
        )
    yield Case(
        "read_data of one element",
        {"ops-shm": lambda: ours.read_data(3), f"{PEER}, indexed": lambda: theirs[3]},
        packages=PACKAGES,
    )
    yield Case(
        "write_data of one element",
        {
            "ops-shm": lambda: ours.write_data(3, 7),
            f"{PEER}, indexed": lambda: write(theirs),
        },
        packages=PACKAGES,
    )
    theirs.disconnect()
    theirs.destroy()
    ours.destroy()
    ours.disconnect()


def _two_readers(prototype: np.ndarray, lock: str) -> float:
    name = f"bench-{uuid.uuid4().hex}"
    with SharedMemoryArray.create_array(name, prototype, lock=lock) as array:
        reads = sum(together(READER, 2, name))
        array.destroy()
    return 1 / reads
