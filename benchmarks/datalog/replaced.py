"""Beside the package whose place this one takes: ataraxis-data-structures 4.0.0.

It is GPL, so it is installed for this benchmark only and used through its documented API; its source
was not read. All folders are fresh in each round: ext4 makes files many times slower in a folder where
many were just deleted. `pip install ataraxis-data-structures==4.0.0` (it runs on Python 3.11).
"""

from __future__ import annotations

import pathlib
import tempfile
import time

import numpy as np
from benchmarks.harness import Case, Measure, Target

from ops.datalog import DataLogger, LogPackage, compress_npy_logs

try:
    import ataraxis_data_structures as ataraxis
except ModuleNotFoundError:
    ataraxis = None

PACKAGES = ("ataraxis-data-structures",)
MESSAGES = 5000
MANY = 50_000


def cases():
    if ataraxis is None:
        print(__doc__)
        return
    payload = np.random.default_rng(0).integers(0, 256, 64, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        yield from _cases(pathlib.Path(folder), payload)


def _cases(root: pathlib.Path, payload: np.ndarray):
    fresh = iter(range(10_000))
    raw = payload.tobytes()

    def folder() -> pathlib.Path:
        path = root / str(next(fresh))
        path.mkdir()
        return path

    def ours(layout: str):
        return DataLogger(folder(), layout=layout)

    def theirs():
        return ataraxis.DataLogger(output_directory=folder(), instance_name="bench")

    def put(make, package, clock) -> float:
        logger = make()
        logger.start()
        queue = logger.input_queue
        packages = [package(np.uint8(1), np.uint64(n), payload) for n in range(MESSAGES)]
        queue.put(packages[0])
        start = clock()
        for one in packages[1:]:
            queue.put(one)
        taken = clock() - start
        logger.stop()
        return taken

    def log_raw(clock) -> float:
        logger = ours("segments")
        logger.start()
        log = logger.input_queue.log
        log(1, 0, raw)
        start = clock()
        for number in range(1, 10 * MESSAGES):  # a few thousand are over before a clock is sure
            log(1, number, raw)
        taken = clock() - start
        logger.stop()
        return taken / 10

    def life(make, package, count=MESSAGES) -> float:
        logger = make()
        packages = [package(np.uint8(1), np.uint64(n), payload) for n in range(count)]
        start = time.perf_counter()
        logger.start()
        for one in packages:
            logger.input_queue.put(one)
        logger.stop()
        return time.perf_counter() - start

    def all_cpu(make, package) -> float:
        """CPU of this process and of those it starts, which is where the work of theirs is done."""
        before = _cpu()
        life(make, package, MANY)
        return _cpu() - before

    def archive_ours() -> float:
        logger = ours("segments")
        with logger:
            for number in range(MESSAGES):
                logger.input_queue.log(1, number, raw)
        start = time.perf_counter()
        compress_npy_logs(logger.output_directory, True, compress=False)
        return time.perf_counter() - start

    def archive_theirs() -> float:
        logger = theirs()
        logger.start()
        for number in range(MESSAGES):
            logger.input_queue.put(ataraxis.LogPackage(np.uint8(1), np.uint64(number), payload))
        logger.stop()
        start = time.perf_counter()
        ataraxis.assemble_log_archives(logger.output_directory)
        return time.perf_counter() - start

    wall = time.perf_counter
    yield Case(
        "put 64 bytes, per message",
        {
            "ops-datalog, log": lambda: log_raw(wall),
            "ataraxis 4.0.0": lambda: put(theirs, ataraxis.LogPackage, wall),
        },
        (Target("ataraxis 4.0.0", at_least=100),),
        Measure.RETURNED,
        rounds=5,
        divide=MESSAGES - 1,
        packages=PACKAGES,
    )
    yield Case(
        "put a LogPackage of 64 bytes, per message",
        {
            "ops-datalog": lambda: put(lambda: ours("segments"), LogPackage, wall),
            "ataraxis 4.0.0": lambda: put(theirs, ataraxis.LogPackage, wall),
        },
        (Target("ataraxis 4.0.0", at_least=30),),
        Measure.RETURNED,
        rounds=5,
        divide=MESSAGES - 1,
        packages=PACKAGES,
    )
    yield Case(
        "start, 5000 messages, stop; segments",
        {
            "ops-datalog": lambda: life(lambda: ours("segments"), LogPackage),
            "ataraxis 4.0.0": lambda: life(theirs, ataraxis.LogPackage),
        },
        (Target("ataraxis 4.0.0", at_least=30),),
        Measure.RETURNED,
        rounds=5,
        packages=PACKAGES,
    )
    yield Case(
        "start, 5000 messages, stop; one .npy each",
        {
            "ops-datalog": lambda: life(lambda: ours("npy"), LogPackage),
            "ataraxis 4.0.0": lambda: life(theirs, ataraxis.LogPackage),
        },
        (Target("ataraxis 4.0.0", at_least=4),),
        Measure.RETURNED,
        rounds=5,
        packages=PACKAGES,
    )
    yield Case(
        "CPU of all processes, from start to stop of 50 000 messages, per message",
        {
            "ops-datalog": lambda: all_cpu(lambda: ours("segments"), LogPackage),
            "ataraxis 4.0.0": lambda: all_cpu(theirs, ataraxis.LogPackage),
        },
        (Target("ataraxis 4.0.0", at_least=150),),
        Measure.RETURNED,
        rounds=3,
        divide=MANY,
        packages=PACKAGES,
    )
    yield Case(
        "archive 5000 messages",
        {"ops-datalog": archive_ours, "ataraxis 4.0.0": archive_theirs},
        (Target("ataraxis 4.0.0", at_least=50),),
        Measure.RETURNED,
        rounds=3,
        packages=PACKAGES,
    )


def _cpu() -> float:
    import resource

    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, both))
