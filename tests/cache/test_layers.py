"""Two levels, cached storages and keys."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

from ops.cache import (
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

    def exists(self, path: str) -> bool:
        return path in self.files

    def locked(self) -> None:
        """Do what a caller of a storage may do, and a cache cannot know."""


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


def test_the_cache_sees_the_size_of_what_a_storage_read() -> None:
    storage = Storage()
    storage.files = {f"p{n}": "x" * 1000 for n in range(20)} | {"huge": "x" * 20_000}
    cache: LRUCache[Any, Any] = LRUCache(max_memory=10_000)
    cached = CachedStorage(storage, cache)
    for path in storage.files:
        assert cached.read_json(path) == storage.files[path]
    stats = cache.get_stats()
    assert 5_000 < (stats.memory_bytes or 0) <= 10_000
    assert stats.rejected == 1
    cached.write_json("p19", "y")
    assert (cache.get_stats().memory_bytes or 0) <= (stats.memory_bytes or 0) - 1000
    assert cached.read_json("p19") == "y"


def test_keys_of_other_parts_differ() -> None:
    build = CacheKeyBuilder("m").build
    assert len({build("a", "b"), build("ab"), build("a:b"), build(1), build("1"), build(x=1)}) == 6


def test_a_storage_whose_path_comes_second_is_invalidated_by_its_path():
    class Storage:
        def __init__(self):
            self.files = {}

        def write_json(self, data, path):
            self.files[path] = data

        def read_json(self, path):
            return self.files[path]

    cached = CachedStorage(Storage(), LRUCache(10))
    cached.write_json({"v": 1}, "a.json")
    assert cached.read_json("a.json") == {"v": 1}
    cached.write_json({"v": 2}, "a.json")
    assert cached.read_json("a.json") == {"v": 2}
    cached.write_json(path="a.json", data={"v": 3})
    assert cached.read_json(path="a.json") == {"v": 3}


def test_another_spelling_of_a_path_is_the_same_path() -> None:
    storage = Storage()
    cached = CachedStorage(storage, LRUCache())
    cached.read_json("path/to/config.json")
    storage.files["path/to/config.json"] = 5
    cached.write_json("./path//to/config.json", None)
    assert cached.read_json("path/to/config.json") == 5


def test_a_read_with_an_argument_without_digest_is_passed_on() -> None:
    class Reader:
        def read_lines(self, path: str, wanted: Any) -> list[str]:
            return [line for line in (path, "b") if wanted(line)]

    class Odd:
        __slots__ = ("__weakref__",)

        def __call__(self, line: str) -> bool:
            return line == "b"

        def __reduce_ex__(self, protocol: object) -> Any:
            raise TypeError("no content")

    assert CachedStorage(Reader(), LRUCache()).read_lines("a", Odd()) == ["b"]


def test_a_cached_storage_can_be_copied() -> None:
    cached = CachedStorage(Storage(), LRUCache())
    assert copy.copy(cached).read_json("path/to/config.json") == {"a": [1]}


def test_callbacks_run_without_the_lock_also_for_operations_of_two_steps() -> None:
    def other_thread_reads(*_entry: object) -> None:
        reader = threading.Thread(target=lambda: seen.append(len(cache)))
        reader.start()
        reader.join(20)
        assert not reader.is_alive()

    seen: list[int] = []
    cache: LRUCache[int, int] = LRUCache(1, on_evict=other_thread_reads)
    cache.set(1, 1)
    assert cache.setdefault(2, 2) == 2
    now = [0.0]
    timed: LRUCache[int, int] = LRUCache(
        2, on_evict=lambda *_: other_thread_reads(), clock=lambda: now[0]
    )
    cache.clear()
    timed.set(1, 1, ttl=1)
    now[0] = 2
    assert timed.get_with_ttl(1) == (None, None)
    assert seen == [1, 0]


def test_a_change_is_seen_below_it_and_in_the_folders_around_it() -> None:
    """What a read returned is gone when anything that it may depend on was changed through the cache."""
    storage = Storage()
    storage.files = {"a": 0, "a/b": 0, "a/b/x": 0, "a/c": 0, "d": 0}
    cached = CachedStorage(storage, LRUCache(100))

    def changed_by(call: Callable[[], object]) -> set[str]:
        for path in storage.files:
            storage.files[path] = 0
        cached.write_json("a", 0)
        cached.write_json("d", 0)
        for path in storage.files:
            cached.read_json(path)
        for path in storage.files:
            storage.files[path] = 1  # behind its back: only what was invalidated is read anew
        call()
        return {path for path in storage.files if cached.read_json(path) == 1}

    assert changed_by(lambda: cached.write_json("a/b", 1)) == {"a", "a/b", "a/b/x"}
    assert changed_by(lambda: cached.write_json("d", 1)) == {"d"}
    assert changed_by(cached.locked) == set(storage.files)
    assert changed_by(lambda: cached.exists("a")) == set()


def test_what_a_signature_hides_is_not_cached() -> None:
    """A read whose path cannot be told from its signature is passed on."""
    storage = Storage()
    storage.files = {"a": 0}

    class Hidden:
        def __getattr__(self, name: str) -> Any:
            member = getattr(storage, name)
            return lambda *args, **kwargs: member(*args, **kwargs)  # noqa: PLW0108 - its signature hides the path

    for inner in (Hidden(), CachedStorage(storage, LRUCache(9))):
        cached = CachedStorage(inner, LRUCache(9))
        for value in (1, 2):
            cached.write_json("a", value)
            assert cached.read_json("a") == value
