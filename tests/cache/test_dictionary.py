"""What a cache has in common with a dictionary, in one step: the same for memory, disk and Redis."""

from __future__ import annotations

import pickle
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.cache import (
    CacheStrategy,
    DiskCache,
    LRUCache,
    MemoryCache,
    RedisCache,
    memoize_stampede,
)
from ops.cache.s3fifo import S3FIFOCache
from ops.foundation import ValidationError

Child = Callable[..., "subprocess.Popen[str]"]
KINDS = [*CacheStrategy, "disk", pytest.param("redis", marks=pytest.mark.service)]


@pytest.fixture(params=KINDS)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "disk":
        with DiskCache(tmp_path / "cache") as disk:
            yield disk
    elif request.param == "redis":
        server = request.getfixturevalue("redis_server")
        with RedisCache(server.url, uuid.uuid4().hex, on_error="raise") as remote:
            yield remote
    else:
        yield MemoryCache(strategy=request.param)


def test_add_stores_only_what_is_not_there(cache: Any) -> None:
    assert cache.add("k", None)
    assert not cache.add("k", 2)
    assert cache.get("k", "none stored") is None
    assert cache.add("short", 1, ttl=0.001)
    while cache.contains("short"):
        pass
    assert cache.add("short", 2)


def test_numbers_are_counted_and_keep_their_time(cache: Any) -> None:
    assert cache.incr("n") == 1
    assert cache.incr("n", 5) == 6
    assert cache.decr("n", 2) == 4
    assert cache.incr("x", 0.5, default=10) == 10.5
    cache.set("timed", 1, ttl=1000)
    cache.incr("timed")
    value, left = cache.get_with_ttl("timed")
    assert value == 2
    assert 900 < left <= 1000
    with pytest.raises(KeyError):
        cache.incr("nowhere", default=None)
    cache.set("text", "a")
    with pytest.raises(TypeError, match="no number"):
        cache.incr("text")
    assert cache.get("text") == "a"


def test_a_value_is_taken_out_once(cache: Any) -> None:
    cache.set("k", [1])
    assert cache.pop("k") == [1]
    assert cache.pop("k", "gone") == "gone"
    with pytest.raises(KeyError):
        cache.pop("k")
    cache.update({"a": 1}, b=2)
    items = {cache.popitem(), cache.popitem()}
    assert items == {("a", 1), ("b", 2)}
    with pytest.raises(KeyError):
        cache.popitem()


def test_setdefault_update_and_many(cache: Any) -> None:
    assert cache.setdefault("k", 1) == 1
    assert cache.setdefault("k", 2) == 1
    cache.update([("a", 1)], b=2)
    cache.set_many({"c": 3}, ttl=100)
    assert cache.get_many(["a", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 3}
    assert sorted(cache) == ["a", "b", "c", "k"]


@pytest.mark.parametrize(
    "key", [((1, (2, ((),))), "x"), (), -1, 1.5, None, True, b"\xff\n", "n1:a"]
)
def test_every_key_can_be_listed(cache: Any, key: Any) -> None:
    cache.set(key, 1)
    assert list(cache) == [key]
    assert type(next(iter(cache))) is type(key)


def test_a_key_too_deep_to_be_read_again_is_refused_at_the_store(tmp_path: Path) -> None:
    deep: Any = ()
    for _ in range(150):
        deep = (deep,)
    with DiskCache(tmp_path) as cache:
        with pytest.raises(TypeError, match="nested 100 deep"):
            cache.set(deep, 1)
        cache.set((((),),), 1)
        assert list(cache) == [(((),),)]


def test_threads_lose_no_count(cache: Any) -> None:
    def work() -> None:
        for _ in range(50):
            cache.incr("n")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("n") == 200


# Memory caches


@pytest.mark.parametrize("strategy", CacheStrategy)
def test_a_memory_cache_travels_with_its_entries(strategy: CacheStrategy) -> None:
    cache: MemoryCache[str, Any] = MemoryCache(50, 100, strategy=strategy, max_memory=10_000)
    cache["a"] = [1]
    cache.set("ever", 2, ttl=None)
    copy = pickle.loads(pickle.dumps(cache))
    assert type(copy) is type(cache)
    assert dict(copy.items()) == {"a": [1], "ever": 2}
    assert copy.get_with_ttl("ever") == (2, None)
    assert 90 < copy.get_with_ttl("a")[1] <= 100
    assert copy.get_stats().max_memory == 10_000
    copy["a"].append(2)
    assert cache["a"] == [1]


@pytest.mark.parametrize("base", [LRUCache, S3FIFOCache])
@pytest.mark.parametrize("timed", [False, True])
def test_a_subclass_can_make_what_is_missing(base: Any, *, timed: bool) -> None:
    class Doubles(base):  # type: ignore[misc]
        def __missing__(self, key: int) -> int:
            self[key] = key * 2
            return key * 2

    cache = Doubles()
    if timed:
        cache.set("t", 1, ttl=100)
    assert (cache[4], cache[4]) == (8, 8)
    assert cache.get(5) is None  # as with dict
    assert len(cache) == 1 + timed


def test_a_memory_cache_has_no_tags() -> None:
    with pytest.raises(ValidationError, match="no tags"):
        MemoryCache[str, int]().add("k", 1, tag="t")


# Early recomputation


def test_a_result_is_computed_early_by_one_in_the_background(
    cache: Any, until: Callable[..., None]
) -> None:
    calls: list[int] = []
    chances = iter([1.0, 0.0])  # log(1) is 0: not yet; log(0): now

    @memoize_stampede(cache, 1000, beta=1e9, chance=lambda: next(chances, 1.0))
    def work(x: int) -> int:
        calls.append(x)
        return len(calls)

    assert work(1) == 1
    assert work(1) == 1
    assert work(1) == 1  # and computes
    until(lambda: len(calls) == 2)
    until(lambda: work(1) == 2)


# Between processes

COUNTER = """
import sys
from ops.cache import DiskCache
cache = DiskCache(sys.argv[1], max_bytes=1 << 20)
for n in range(int(sys.argv[2])):
    cache.incr("total")
    cache.add(("claimed", n), sys.argv[3])
    if n % 10 == 0:
        cache.set("garbage", "x" * 20_000)
print("done")
"""


@pytest.mark.fault
def test_processes_lose_no_count_and_claim_once(tmp_path: Path, child: Child) -> None:
    workers = [child(COUNTER, tmp_path, 400, name) for name in "abc"]
    assert [w.communicate(timeout=120)[0] for w in workers] == ["done\n"] * 3
    with DiskCache(tmp_path, max_bytes=1 << 20) as cache:
        assert cache["total"] == 1200
        assert {cache[("claimed", n)] for n in range(400)} <= set("abc")
