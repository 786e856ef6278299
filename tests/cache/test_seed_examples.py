"""The examples of the product, with only their import lines changed."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from ops.cache import configure

_MEMORY = """
from ops.cache import CacheStrategy, MemoryCache, cache_decorator

# Memory cache
cache = MemoryCache(max_size=1000, strategy=CacheStrategy.LRU)
cache.set("key", expensive_computation())
value = cache.get("key")

# Decorator
@cache_decorator(ttl=3600)
def expensive_function(x):
    return complex_calculation(x)
"""

_LAYER = """
from ops.cache import LRUCache, TwoLevelCache, CachedStorage

# Simple LRU cache
cache = LRUCache(max_size=1000, default_ttl=300)  # 5 min TTL
cache.set("model:v1", model_metadata)
cached = cache.get("model:v1")

# Two-level cache
l1_cache = LRUCache(max_size=100, default_ttl=60)   # Fast, small
l2_cache = LRUCache(max_size=10000, default_ttl=3600)  # Large, slow
two_level = TwoLevelCache(l1=l1_cache, l2=l2_cache)

# Storage wrapper with cache
cached_storage = CachedStorage(storage=storage_backend, cache=cache)
# Reads are automatically cached
data = cached_storage.read_json("path/to/config.json")
"""

_BATCHES = """
from ops.cache import BatchProcessor, BatchOperation

def process_batch(operations):
    for op in operations:
        storage.write(op.key, op.value)

processor = BatchProcessor(
    process_func=process_batch,
    batch_size=100,
    flush_interval=5.0  # seconds
)

# Operations accumulate and are processed in batches
processor.add(BatchOperation(key="k1", value="v1", operation_type="write"))
processor.add(BatchOperation(key="k2", value="v2", operation_type="write"))
# Manual flush if needed
processor.flush()
"""

_PERSISTENT = """
from ops.cache import cache

@cache
def expensive_computation(param1, param2):
    # Your expensive computation here
    return result

@cache(ignore=['verbose'])
def process_data(data, verbose=False):
    # The verbose parameter won't affect the cache key
    return result

@cache(ignore=['debug'])
def process_point_cloud(file_path, resolution=0.1, debug=False):
    # Your processing code here
    return processed_data

# Normal usage
result1 = process_point_cloud("data.pcd", resolution=0.1)

# Force recalculation
result2 = process_point_cloud.make(
    force=True,
    file_path="data.pcd",
    resolution=0.1
)
"""


class Storage:
    def __init__(self) -> None:
        self.reads = 0
        self.written: dict[str, Any] = {}

    def read_json(self, _path: str) -> dict[str, int]:
        self.reads += 1
        return {"a": 1}

    def write(self, key: str, value: Any) -> None:
        self.written[key] = value


@pytest.fixture(autouse=True)
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    configure(data_folder=tmp_path)
    yield tmp_path
    configure(data_folder=None)


def _run(source: str, **names: Any) -> dict[str, Any]:
    space = {"__name__": "seed", **names}
    exec(source, space)
    return space


def test_the_example_of_a_memory_cache_and_its_decorator() -> None:
    calls: list[int] = []
    space = _run(_MEMORY, expensive_computation=lambda: 42, complex_calculation=calls.append)
    assert space["value"] == 42
    space["expensive_function"](1)
    space["expensive_function"](x=1)
    assert calls == [1]


def test_the_example_of_the_cache_layer() -> None:
    storage = Storage()
    space = _run(_LAYER, model_metadata={"v": 1}, storage_backend=storage)
    assert space["cached"] == {"v": 1}
    assert space["data"] == space["cached_storage"].read_json("path/to/config.json") == {"a": 1}
    assert storage.reads == 1
    space["l2_cache"].set("k", 1)
    assert space["two_level"].get("k") == space["l1_cache"].get("k") == 1


def test_the_example_of_batches() -> None:
    storage = Storage()
    space = _run(_BATCHES, storage=storage)
    assert storage.written == {"k1": "v1", "k2": "v2"}
    assert space["processor"].pending_count == 0
    space["processor"].close()


def test_the_examples_of_persistent_results(folder: pathlib.Path) -> None:
    space = _run(_PERSISTENT, result=[1], processed_data={"points": 3})
    assert space["result1"] == space["result2"] == {"points": 3}
    assert space["expensive_computation"](1, param2=2) == [1]
    assert space["process_data"]("d") == space["process_data"]("d", verbose=True) == [1]
    names = sorted(p.name.rpartition("_")[0] for p in folder.glob("cache/seed/*.pkl"))
    assert names == ["expensive_computation", "process_data", "process_point_cloud"]
