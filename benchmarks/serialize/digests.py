"""Digests of content, beside joblib.hash, the usual choice.

The case "the least that a small dict costs" shows why 20 times joblib.hash is out of reach there: its
contender sorts the keys, marshals and hashes, without a look at any type, and so could not tell a
subclass of str from a str. What remains of the target is that small.
"""

from __future__ import annotations

import marshal

import joblib
import numpy as np
import pandas as pd
import xxhash
from benchmarks.harness import Case, Target

from ops.serialize import digest


def cases():
    rng = np.random.default_rng(0)
    array = rng.random(12_500_000)  # 100 MB
    frame = pd.DataFrame({f"c{i}": rng.random(1_000_000) for i in range(4)})
    small = {"a": 1, "b": [1.5, "two", None], "c": (1, 2)}
    for name, value, least, number in (
        ("an integer", 7, 20, None),
        ("a small dict", small, 20, None),
        ("an array of 100 MB", array, 12, 1),
        ("a frame of 1M rows", frame, 40, 1),
    ):
        yield Case(
            f"digest of {name}",
            {
                "ops-serialize": lambda value=value: digest(value),
                "joblib.hash": lambda value=value: joblib.hash(value),
            },
            (Target("joblib.hash", at_least=least),),
            number=number,
            rounds=7,
            packages=("joblib", "xxhash"),
        )
    yield Case(
        "the least that a small dict costs",
        {
            "ops-serialize": lambda: digest(small),
            "sort, marshal and hash alone": lambda: _unchecked(small),
            "joblib.hash": lambda: joblib.hash(small),
        },
        rounds=7,
        packages=("joblib", "xxhash"),
    )
    shared = [1.5, "x"]
    for _ in range(16):
        shared = [shared, shared]
    yield Case(
        "digest of a list whose parts are shared 65 536 times",
        {"ops-serialize": lambda: digest(shared), "joblib.hash": lambda: joblib.hash(shared)},
        rounds=7,
        packages=("joblib", "xxhash"),
    )


def _unchecked(obj):
    keys = sorted(obj)
    return xxhash.xxh3_128_hexdigest(marshal.dumps((..., keys, [*map(obj.__getitem__, keys)]), 0))
