"""The writers that `demo --kill` kills: each prints the number of a write once its library has returned.

`python -m ops_suite.kills.writers KIND FOLDER NAME` runs one until it is killed. What it printed was
acknowledged, so it must be there afterwards: `found` counts it. No writer knows that it will be killed. Each
imports only its own library, so that it lives to write soon.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["KINDS", "array_name", "found", "writing"]

#: What is written, by the library that writes it.
KINDS = {
    "ops-datalog": "log messages",
    "ops-registry": "metrics of runs",
    "ops-cache": "entries of one DiskCache",
    "ops-observe": "entries of one audit log",
    "ops-shm": "additions to one array",
}


def writing(kind: str, folder: Path, name: str) -> Iterator[int]:
    """Write for ever; yield the number of each write when it is done."""
    yield from _WRITERS[kind](folder, name)


def _datalog(folder: Path, name: str) -> Iterator[int]:
    from ops.datalog import DataLogger

    logger = DataLogger(folder, name, layout="segments", sync="none")
    logger.start()
    for number in itertools.count():
        logger.input_queue.log(1, number, b"a message")
        yield number


def _registry(folder: Path, name: str) -> Iterator[int]:
    from ops.registry import MLOpsConfig, MLOpsContext

    context = MLOpsContext(MLOpsConfig(storage_path=folder / "store"))
    tracker = context.experiment_tracker
    experiment = tracker.get_or_create_experiment("killed")
    run = tracker.start_run(experiment.experiment_id, name=name)
    for number in itertools.count():
        tracker.log_metric(run.run_id, "number", number, step=number)
        yield number


def _cache(folder: Path, name: str) -> Iterator[int]:
    from ops.cache import DiskCache

    with DiskCache(folder / "cache") as cache:
        for number in itertools.count():
            cache.set((name, number), number)
            yield number


def _observe(folder: Path, name: str) -> Iterator[int]:
    from ops.observe import AuditLogger

    log = AuditLogger(folder / "audit.jsonl")
    for number in itertools.count():
        log.log("write", user=name, resource=str(number))
        yield number


def _shm(folder: Path, name: str) -> Iterator[int]:
    from ops.shm import SharedMemoryArray

    array = SharedMemoryArray.attach(array_name(folder))
    row = int(name.rpartition("-")[2])
    for number in itertools.count():
        array.add(row, 1)
        yield number


def array_name(folder: Path) -> str:
    """Return the name of the array that the writers of *folder* share."""
    return f"ops-demo-{hashlib.blake2b(str(folder).encode(), digest_size=6).hexdigest()}-kills"


_WRITERS: dict[str, Callable[[Path, str], Iterator[int]]] = {
    "ops-datalog": _datalog,
    "ops-registry": _registry,
    "ops-cache": _cache,
    "ops-observe": _observe,
    "ops-shm": _shm,
}


def found(kind: str, folder: Path, names: list[str]) -> dict[str, set[int]]:
    """Return the numbers of the writes that are there, by the name of their writer."""
    return _READERS[kind](folder, names)


def _in_datalog(folder: Path, names: list[str]) -> dict[str, set[int]]:
    from ops.datalog import open_log

    logs = {name: folder / f"{name}_data_log" for name in names}
    return {
        name: {message.timestamp for message in open_log(log).iter(1)} if log.is_dir() else set()
        for name, log in logs.items()
    }


def _in_registry(folder: Path, names: list[str]) -> dict[str, set[int]]:
    from ops.registry import MLOpsConfig, MLOpsContext

    with MLOpsContext(MLOpsConfig(storage_path=folder / "store")) as context:
        tracker = context.experiment_tracker
        experiment = tracker.get_or_create_experiment("killed")
        runs = {run.name: run.run_id for run in tracker.list_runs(experiment.experiment_id)}
        return {
            name: {int(point.value) for point in tracker.get_metric_history(runs[name], "number")}
            for name in names
            if name in runs
        }


def _in_cache(folder: Path, names: list[str]) -> dict[str, set[int]]:
    from ops.cache import DiskCache

    numbers: dict[str, set[int]] = {name: set() for name in names}
    with DiskCache(folder / "cache") as cache:
        for name, number in list(cache):
            if cache.get((name, number)) == number:
                numbers[name].add(number)
    return numbers


def _in_observe(folder: Path, names: list[str]) -> dict[str, set[int]]:
    from ops.observe import AuditLogger

    numbers: dict[str, set[int]] = {name: set() for name in names}
    log = AuditLogger(folder / "audit.jsonl")
    log.verify()
    for entry in log.query(action="write"):
        numbers[str(entry.user)].add(int(str(entry.resource)))
    return numbers


def _in_shm(folder: Path, names: list[str]) -> dict[str, set[int]]:
    from ops.shm import SharedMemoryArray

    array = SharedMemoryArray.attach(array_name(folder))
    try:
        return {name: set(range(int(array[int(name.rpartition("-")[2])]))) for name in names}
    finally:
        array.disconnect()


_READERS: dict[str, Callable[[Path, list[str]], dict[str, set[int]]]] = {
    "ops-datalog": _in_datalog,
    "ops-registry": _in_registry,
    "ops-cache": _in_cache,
    "ops-observe": _in_observe,
    "ops-shm": _in_shm,
}


if __name__ == "__main__":
    for done in writing(sys.argv[1], Path(sys.argv[2]), sys.argv[3]):
        print(done, flush=True)  # noqa: T201 - this is how a write is acknowledged
