"""What handing out work costs, for work that takes no time and for work that releases the lock."""

from __future__ import annotations

import concurrent.futures
import time

import joblib
from benchmarks.harness import Case, Target

from ops.foundation import parallel_map

ITEMS = 100_000
WORKERS = 2
SLEEPS = 40


def nothing(item: int) -> int:
    return item


def wait(_item: int) -> None:
    time.sleep(0.002)


def cases():
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        threads = joblib.Parallel(WORKERS, backend="threading")
        yield Case(
            "an item of work that does nothing",
            {
                "ops-foundation": lambda: parallel_map(nothing, range(ITEMS), WORKERS),
                "Executor.map": lambda: list(pool.map(nothing, range(ITEMS))),
                "joblib, threads": lambda: threads(
                    joblib.delayed(nothing)(i) for i in range(ITEMS)
                ),
            },
            (Target(at_least=5), Target(at_most=1e-6)),
            number=1,
            rounds=5,
            divide=ITEMS,
            packages=("joblib",),
        )
        yield Case(
            "an item of two milliseconds of waiting",
            {
                "ops-foundation": lambda: parallel_map(wait, range(SLEEPS), executor=pool),
                "Executor.map": lambda: list(pool.map(wait, range(SLEEPS))),
                "joblib, threads": lambda: threads(joblib.delayed(wait)(i) for i in range(SLEEPS)),
            },
            # Chunks must not cost evenness: as good as one item at a time.
            (Target("Executor.map", at_least=0.9),),
            number=1,
            rounds=7,
            divide=SLEEPS,
        )
