"""Saving and loading, beside the libraries that people use for it; files lie in the page cache.

`mmap="r"` is the load that the targets of arrays and frames speak of: like `numpy.load(mmap_mode)` it
maps and does not read. The verified load, our default, is shown beside it.
"""

from __future__ import annotations

import os
import pathlib
import pickle
import tempfile

import joblib
import numpy as np
import pandas as pd
import safetensors.numpy
from benchmarks.harness import Case, Measure, Target
from sklearn.ensemble import RandomForestClassifier

from ops.serialize import dump, load


def cases():
    with tempfile.TemporaryDirectory() as folder:
        yield from _arrays(pathlib.Path(folder))
        yield from _frames(pathlib.Path(folder))
        yield from _dicts(pathlib.Path(folder))
        yield from _models(pathlib.Path(folder))


def _synced_save(path: pathlib.Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())


def _arrays(root: pathlib.Path):
    array = np.random.default_rng(0).random(10_000_000)  # 80 MB
    ours, theirs = root / "a.opsf", root / "a.npy"
    yield Case(
        "save an array of 80 MB, synced",
        {
            "ops-serialize": lambda: dump(array, ours),
            "np.save + fsync": lambda: _synced_save(theirs, array),
        },
        (Target("np.save + fsync", at_least=0.8),),
        number=1,
        rounds=7,
    )
    yield Case(
        "load an array of 80 MB, mapped",
        {
            "ops-serialize mmap": lambda: load(ours, mmap="r"),
            "np.load(mmap_mode)": lambda: np.load(theirs, mmap_mode="r"),
        },
        (Target("np.load(mmap_mode)", at_least=1.5),),
    )
    yield Case(
        "load an array of 80 MB, read and verified",
        {"ops-serialize": lambda: load(ours), "np.load": lambda: np.load(theirs)},
        number=1,
        rounds=7,
    )


def _frames(root: pathlib.Path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {f"c{i}": rng.random(1_000_000) for i in range(4)}, index=rng.permutation(1_000_000)
    )
    ours, theirs = root / "f.opsf", root / "f.pkl"
    dump(frame, ours)
    theirs.write_bytes(pickle.dumps(frame, 5))
    yield Case(
        "load a frame of 1M rows",
        {
            "ops-serialize mmap": lambda: load(ours, mmap="r"),
            "ops-serialize verified": lambda: load(ours),
            "pickle 5": lambda: pickle.loads(theirs.read_bytes()),
        },
        (Target("pickle 5", at_least=9),),
        number=1,
        rounds=7,
    )


def _dicts(root: pathlib.Path):
    for count in (20_000, 131_072):  # ours costs the same for both: it maps
        arrays = {f"layer.{i}": np.random.default_rng(i).random(count) for i in range(200)}
        dump(arrays, root / "d.opsf")
        safetensors.numpy.save_file(arrays, root / "d.safetensors")
        joblib.dump(arrays, root / "d.joblib")
        yield Case(
            f"load a dict of 200 arrays of {count * 8 >> 10} KB",
            {
                "ops-serialize mmap": lambda: load(root / "d.opsf", mmap="r"),
                "ops-serialize verified": lambda: load(root / "d.opsf"),
                "safetensors": lambda: safetensors.numpy.load_file(root / "d.safetensors"),
                "joblib": lambda: joblib.load(root / "d.joblib"),
            },
            (Target("safetensors", at_least=50), Target("joblib", at_least=50)),
            packages=("safetensors", "joblib"),
        )


def _models(root: pathlib.Path):
    rng = np.random.default_rng(0)
    forest = RandomForestClassifier(100, random_state=0).fit(
        rng.random((2000, 20)), rng.integers(0, 2, 2000)
    )
    ours, theirs = root / "m.opsf", root / "m.joblib"

    def save_and_load() -> object:
        dump(forest, ours, compression="zstd")
        return load(ours, trust="all")

    def joblib_save_and_load() -> object:
        joblib.dump(forest, theirs)
        return joblib.load(theirs)

    yield Case(
        "save and load a RandomForest",
        {"ops-serialize zstd": save_and_load, "joblib": joblib_save_and_load},
        (Target("joblib", at_least=3),),
        number=1,
        rounds=7,
    )
    yield Case(
        "bytes of a RandomForest's file",
        {
            "ops-serialize zstd": lambda: ours.stat().st_size,
            "joblib": lambda: theirs.stat().st_size,
        },
        (Target("joblib", at_least=4),),
        measure=Measure.RETURNED,
        rounds=1,
    )
