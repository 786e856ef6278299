"""Digests of content, beside joblib.hash, the usual choice."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
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
