"""How the costs of ops.foundation grow: with items, with files and with the processes at one lock."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness import Case, Growth, Measure, decades
from benchmarks.programs import together

from ops.foundation import find_files, parallel_map

SIZES = {
    "items": decades(1_000, 1_000_000),
    "files": decades(100, 100_000),
    "processes": (1, 2, 4, 8),
}
WORKERS = 2
FILES_PER_FOLDER = 100
HOLDS = 500
HOLDER = """
import sys, time
from ops.foundation import FileLock
lock = FileLock(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
for _ in range(int(sys.argv[3])):
    with lock:
        pass
print(time.perf_counter() - began)
"""


def nothing(item: int) -> int:
    return item


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield a case for each size of each operation."""
    for size in sizes["items"]:
        yield Case(
            "parallel_map of work that does nothing",
            {"ops-foundation": lambda size=size: parallel_map(nothing, range(size), WORKERS)},
            number=1,
            rounds=5,
            size=size,
            unit="items",
            growth=Growth.LINEAR,
        )
    for size in sizes["files"]:
        with tempfile.TemporaryDirectory() as folder:
            _fill(pathlib.Path(folder), size)
            yield Case(
                "find_files through a tree",
                {"ops-foundation": lambda folder=folder: sum(1 for _ in find_files(folder))},
                number=1,
                rounds=5,
                size=size,
                unit="files",
                growth=Growth.LINEAR,
            )
    for size in sizes["processes"]:
        with tempfile.TemporaryDirectory() as folder:
            yield Case(
                "a hold of one FileLock that all processes want",
                {"ops-foundation": lambda size=size, folder=folder: _seconds_a_hold(size, folder)},
                measure=Measure.RETURNED,
                rounds=5,
                size=size,
                unit="processes",
                growth=Growth.FLAT,
                figure_unit="seconds",
            )


def _fill(folder: pathlib.Path, files: int) -> None:
    for start in range(0, files, FILES_PER_FOLDER):
        inner = folder / f"{start:08}"
        inner.mkdir()
        for number in range(FILES_PER_FOLDER):
            (inner / f"{number}.txt").touch()


def _seconds_a_hold(processes: int, folder: str) -> float:
    seconds = together(HOLDER, processes, f"{folder}/lock", HOLDS)
    return max(seconds) / (processes * HOLDS)
