"""The features of the demo's data, computed once, and the arrays that workers share."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ops.cache import cache
from ops.shm import SharedMemoryArray

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SharedData", "mark", "select_features", "share"]


@dataclass(frozen=True)
class SharedData:
    """What a worker needs: features (n, k) float64, labels (n,) int64, which rows to train on."""

    features: SharedMemoryArray
    labels: SharedMemoryArray
    training: SharedMemoryArray


@cache
def select_features(samples: np.ndarray, labels: np.ndarray, keep: int) -> np.ndarray:
    """Return the *keep* most telling of all products of two features, standardized.

    Their mutual information with the label is estimated, which takes seconds: worth keeping.
    """
    from sklearn.feature_selection import mutual_info_classif
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    products = PolynomialFeatures(degree=2, include_bias=False).fit_transform(samples)
    scaled = StandardScaler().fit_transform(products)
    information = mutual_info_classif(scaled, labels, random_state=0)
    best = np.sort(np.argsort(information)[-keep:])
    return np.ascontiguousarray(scaled[:, best])


@contextlib.contextmanager
def share(folder: Path, features: np.ndarray, labels: np.ndarray) -> Iterator[SharedData]:
    """Put the arrays into shared memory for the block, under names that belong to *folder*.

    What a killed run left under these names is replaced.
    """
    training = np.random.default_rng(0).random(len(labels)) < 0.75
    made: list[SharedMemoryArray] = []
    try:
        for name, array in (("features", features), ("labels", labels), ("training", training)):
            full = f"ops-demo-{mark(folder)}-{name}"
            made.append(SharedMemoryArray.create_array(full, array, exist_ok=True))
        yield SharedData(*made)
    finally:
        for shared in made:
            shared.destroy()
            shared.disconnect()


def mark(folder: Path) -> str:
    """Return what identifies the shared arrays of *folder* among those of other demos."""
    return hashlib.blake2b(str(folder.absolute()).encode(), digest_size=6).hexdigest()
