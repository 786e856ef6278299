"""Two levels, cached storages, keys and batches, with the seed's examples."""

from __future__ import annotations

from typing import Any

import pytest

from ops.cache import (
    BatchOperation,
    BatchProcessor,
    CacheClosedError,
    CachedStorage,
    CacheKeyBuilder,
    LRUCache,
    TwoLevelCache,
)


class Storage:
    def __init__(self) -> None:
        self.files: dict[str, Any] = {"path/to/config.json": {"a": [1]}}
        self.reads = 0

    def read_json(self, path: str) -> Any:
        self.reads += 1
        return self.files[path]

    def write_json(self, path: str, value: Any) -> None:
        self.files[path] = value


def test_the_seed_example_of_two_levels_and_a_storage_runs() -> None:
    cache: LRUCache[Any, Any] = LRUCache(max_size=1000, default_ttl=300)
    two: TwoLevelCache[str, Any] = TwoLevelCache(
        l1=LRUCache(max_size=100, default_ttl=60), l2=LRUCache(max_size=10000, default_ttl=3600)
    )
    two.set("k", None)
    two.l1.clear()
    assert two.get("k", "missing") is None
    assert two.l1.get("k", "missing") is None  # promoted
    assert two.get_or_compute("n", lambda: 3) == two.l2.get("n") == 3
    assert two.delete("k")
    assert not two.contains("k")
    storage = Storage()
    cached = CachedStorage(storage=storage, cache=cache)
    assert cached.read_json("path/to/config.json") == {"a": [1]}
    assert cached.read_json("path/to/config.json") == {"a": [1]}
    assert storage.reads == 1


def test_a_cached_read_is_not_shared_and_a_write_forgets_it() -> None:
    storage = Storage()
    cached = CachedStorage(storage, LRUCache())
    cached.read_json("path/to/config.json")["a"].append(2)
    assert cached.read_json("path/to/config.json") == {"a": [1]}
    cached.write_json("path/to/config.json", 5)
    assert cached.read_json("path/to/config.json") == 5


def test_a_read_that_a_write_overtakes_is_not_kept() -> None:
    storage = Storage()
    cached = CachedStorage(storage, LRUCache())
    original = storage.read_json

    def overtaken(path: str) -> Any:
        old = original(path)
        cached.write_json(path, "new")
        return old

    storage.read_json = overtaken  # type: ignore[method-assign] # a write between read and return
    cached.read_json("path/to/config.json")
    storage.read_json = original  # type: ignore[method-assign] # as before
    assert cached.read_json("path/to/config.json") == "new"


def test_keys_of_other_parts_differ() -> None:
    build = CacheKeyBuilder("m").build
    assert len({build("a", "b"), build("ab"), build("a:b"), build(1), build("1"), build(x=1)}) == 6


def test_the_seed_example_of_batches_runs() -> None:
    batches: list[list[str]] = []
    processor: BatchProcessor[BatchOperation] = BatchProcessor(
        process_func=lambda ops: batches.append([op.key for op in ops]), batch_size=2
    )
    for key in ("k1", "k2", "k3"):
        processor.add(BatchOperation(key=key, value="v", operation_type="write"))
    assert processor.pending_count == 1
    processor.flush()
    assert batches == [["k1", "k2"], ["k3"]]
    processor.close()
    with pytest.raises(CacheClosedError):
        processor.add(BatchOperation("k4"))


def test_a_failed_batch_is_kept_in_order() -> None:
    seen: list[list[int]] = []
    fail = [True]

    def process(batch: list[int]) -> None:
        if fail.pop() if fail else False:
            raise OSError
        seen.append(batch)

    with BatchProcessor(process, batch_size=10) as processor:
        processor.add(1)
        processor.add(2)
        with pytest.raises(OSError):
            processor.flush()
        assert processor.pending_count == 2
    assert seen == [[1, 2]]
