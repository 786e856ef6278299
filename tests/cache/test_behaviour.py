"""One behaviour suite for every cache and every level: memory, disk, Redis, and two of them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.cache import (
    CacheStrategy,
    DiskCache,
    MemoryCache,
    RedisCache,
    TwoLevelCache,
)

KINDS = [*CacheStrategy, "disk", "redis", "two-level", "two-level-back"]


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.service] if kind == "redis" else []) for kind in KINDS
    ]
)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "disk":
        with DiskCache(tmp_path / "cache") as disk:
            yield disk
    elif request.param == "redis":
        server = request.getfixturevalue("redis_server")
        with RedisCache(server.url, uuid.uuid4().hex, on_error="raise") as remote:
            yield remote
    elif request.param in {"two-level", "two-level-back"}:
        write = "back" if request.param.endswith("back") else "through"
        with DiskCache(tmp_path / "cache") as disk:
            two: TwoLevelCache[Any, Any] = TwoLevelCache(MemoryCache(2), disk, write=write)
            yield two
            two.close()
    else:
        yield MemoryCache(strategy=request.param)


def test_what_was_set_is_there_and_none_is_a_value(cache: Any) -> None:
    for key, value in {"a": 1, "none": None, ("tuple", 1): "x", b"bytes": [1, 2]}.items():
        cache.set(key, value)
        assert cache.get(key, "missing") == value
        assert cache.contains(key)
    assert cache.get("a") == 1


def test_a_missing_key_is_the_default(cache: Any) -> None:
    assert cache.get("nowhere") is None
    assert cache.get("nowhere", 7) == 7
    assert not cache.contains("nowhere")


def test_the_last_set_wins(cache: Any) -> None:
    for n in range(20):
        cache.set("k", n)
        assert cache.get("k") == n


def test_delete_says_whether_there_was_something(cache: Any) -> None:
    cache.set("k", 1)
    assert cache.delete("k")
    assert not cache.delete("k")
    assert cache.get("k", "gone") == "gone"


def test_clear_removes_all(cache: Any) -> None:
    for n in range(30):
        cache.set(n, n)
    cache.clear()
    assert not any(cache.contains(n) for n in range(30))
    cache.set(1, "again")
    assert cache.get(1) == "again"


def test_zero_seconds_store_nothing_and_replace_what_was_there(cache: Any) -> None:
    cache.set("k", 1)
    cache.set("k", 2, ttl=0)
    assert cache.get("k", "gone") == "gone"


def test_an_entry_lives_as_long_as_it_was_given(cache: Any, until: Callable[..., None]) -> None:
    cache.set("short", 1, ttl=0.02)
    cache.set("long", 1, ttl=1000)
    cache.set("ever", 1, ttl=None)
    until(lambda: not cache.contains("short"))
    assert cache.get("short", "gone") == "gone"
    assert cache.get("long") == cache.get("ever") == 1


def test_negative_seconds_are_refused(cache: Any) -> None:
    with pytest.raises(ValueError, match="zero or more seconds"):
        cache.set("k", 1, ttl=-1)


def test_a_missing_value_is_computed_once_and_kept(cache: Any) -> None:
    calls: list[int] = []
    for _ in range(3):
        assert cache.get_or_compute("k", lambda: calls.append(1)) is None
    assert calls == [1]


def test_a_failed_computation_stores_nothing(cache: Any) -> None:
    def fail() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError):
        cache.get_or_compute("k", fail)
    assert cache.get_or_compute("k", lambda: 5) == 5


def test_a_computation_may_use_the_cache_and_its_own_key(cache: Any) -> None:
    def outer() -> int:
        return int(cache.get_or_compute("inner", lambda: 2)) + 1

    assert cache.get_or_compute("outer", outer) == 3

    def recursive() -> int:
        return int(cache.get_or_compute("self", lambda: 10)) + 1

    assert cache.get_or_compute("self", recursive) == 11


def test_threads_that_miss_one_key_compute_once(cache: Any) -> None:
    calls: list[int] = []
    gate = threading.Barrier(8)
    results: list[Any] = []

    def compute() -> list[int]:
        calls.append(1)
        return [1, 2, 3]

    def ask() -> None:
        gate.wait()
        results.append(cache.get_or_compute("k", compute))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert results == [[1, 2, 3]] * 8


def test_arrays_come_back_with_type_shape_and_content(cache: Any) -> None:
    for array in (np.arange(6).reshape(2, 3), np.zeros(0), np.array(1.5), np.arange(50_000)):
        cache.set("array", array)
        back = cache.get("array")
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_many_threads_may_write_and_read_at_once(cache: Any) -> None:
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for n in range(60):
                cache.set((worker, n % 5), (worker, n))
                value = cache.get((worker, n % 5))
                assert value is None or value[0] == worker
                if n % 7 == 0:
                    cache.delete((worker, n % 5))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
