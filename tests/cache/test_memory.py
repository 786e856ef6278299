"""One behaviour suite for every cache in memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.cache import (
    CacheStrategy,
    EvictionCause,
    LFUCache,
    LRUCache,
    MemoryCache,
    TTLCache,
    ValueTooLargeError,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


Make = Callable[..., MemoryCache[Any, Any]]


@pytest.fixture(params=[*CacheStrategy, "counting"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "counting":
        return lambda *a, **k: MemoryCache(*a, count_hits=True, **k)
    return lambda *a, **k: MemoryCache(*a, strategy=request.param, **k)


def test_a_stored_none_is_a_hit(make: Make) -> None:
    cache = make()
    cache.set("k", None)
    assert cache.get("k", 1) is None
    assert cache["k"] is None
    assert cache.get_or_compute("k", lambda: 2) is None


def test_a_missing_key_raises_and_is_counted(make: Make) -> None:
    cache = make()
    with pytest.raises(KeyError):
        cache["k"]
    assert cache.get("k", 7) == 7
    assert cache.get_stats().misses == 2


def test_overwriting_at_capacity_evicts_nothing(make: Make) -> None:
    cache = make(2)
    cache.update(a=1, b=2)
    cache.set("a", 3)
    assert dict(cache.items()) == {"a": 3, "b": 2}


def test_memory_does_not_grow_on_overwrite(make: Make) -> None:
    cache = make(max_memory=10, sizeof=len)
    for _ in range(100):
        cache.set("k", "12345")
    assert cache.get_stats().memory_bytes == 5


def test_a_value_larger_than_the_cache_is_refused_and_counted(make: Make) -> None:
    cache = make(max_memory=10, sizeof=len)
    cache.set("a", "1")
    with pytest.raises(ValueTooLargeError, match="11 bytes"):
        cache.set("k", "1" * 11)
    assert (cache.get_stats().rejected, cache.get("a")) == (1, "1")


def test_entries_expire_exactly_at_their_time_and_free_their_memory(make: Make) -> None:
    clock = Clock()
    gone: list[Any] = []
    cache = make(default_ttl=10, clock=clock, sizeof=len, on_evict=lambda *e: gone.append(e))
    cache.set("a", "x")
    cache.set("never", "y", ttl=None)
    clock.now = 9.999
    assert cache["a"] == "x"
    assert cache.get("a") == "x"
    clock.now = 10.0
    assert cache.get("a") is None
    with pytest.raises(KeyError):
        cache["a"]
    assert gone == [("a", "x", EvictionCause.EXPIRED)]
    assert cache.get_stats().memory_bytes == 1
    assert list(cache) == ["never"]


def test_a_ttl_of_zero_stores_nothing(make: Make) -> None:
    cache = make()
    cache.set("k", 1)
    cache.set("k", 2, ttl=0)
    assert "k" not in cache


def test_touch_renews_an_entry(make: Make) -> None:
    clock = Clock()
    cache = make(clock=clock)
    cache.set("k", 1, ttl=5)
    clock.now = 4
    assert cache.touch("k", 5)
    clock.now = 8
    assert cache["k"] == 1
    assert not cache.touch("other")


def test_a_callback_may_use_the_cache(make: Make) -> None:
    cache: MemoryCache[Any, Any] = make(
        1, on_evict=lambda key, value, _cause: cache.setdefault("last", key)
    )
    cache.set("a", 1)
    cache.set("b", 2)
    assert len(cache) == 1


def test_threads_compute_a_missing_key_once(
    make: Make, until: Callable[[Callable[[], bool]], None]
) -> None:
    cache = make()
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        until(lambda: cache._flights.waiting("k") == 3)
        return 42

    threads = [threading.Thread(target=cache.get_or_compute, args=("k", compute)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert (len(calls), cache["k"]) == (1, 42)


def test_a_recursive_computation_of_the_same_key_does_not_deadlock(make: Make) -> None:
    cache = make()
    assert cache.get_or_compute("k", lambda: cache.get_or_compute("k", lambda: 1) + 1) in {1, 2}


@settings(max_examples=40)
@given(
    strategy=st.sampled_from(list(CacheStrategy)),
    steps=st.lists(
        st.tuples(st.sampled_from("sgdpe"), st.integers(0, 12), st.integers(0, 3)), max_size=120
    ),
)
def test_a_cache_is_bounded_and_never_answers_with_another_value(
    strategy: CacheStrategy, steps: list[tuple[str, int, int]]
) -> None:
    clock = Clock()
    cache: MemoryCache[int, Any] = MemoryCache(
        4, strategy=strategy, clock=clock, max_memory=60, sizeof=lambda _: 14
    )
    model: dict[int, tuple[object, float]] = {}
    for op, key, n in steps:
        if op == "s":
            value = object()
            cache.set(key, value, ttl=n)
            model[key] = (value, clock.now + n)
        elif op == "g":
            found = cache.get(key)
            assert found is None or (found is model[key][0] and clock.now < model[key][1])
        elif op == "d":
            cache.delete(key)
            model.pop(key, None)
        elif op == "p":
            assert cache.pop(key, None) in (None, model.pop(key, (None,))[0])
        else:
            clock.now += n
        assert len(cache) <= 4
        assert cache.get_stats().memory_bytes == 14 * len(cache)


def test_lru_gives_up_what_was_used_longest_ago() -> None:
    cache: LRUCache[str, int] = LRUCache(2)
    cache.update(a=1, b=2)
    cache.get("a")
    cache["c"] = 3
    assert set(cache) == {"a", "c"}


def test_lfu_gives_up_what_was_used_least() -> None:
    cache: LFUCache[str, int] = LFUCache(2)
    cache.update(a=1, b=2)
    cache.get("b")
    cache["c"] = 3
    assert set(cache) == {"b", "c"}


def test_ttl_gives_up_what_expires_first() -> None:
    cache: TTLCache[str, int] = TTLCache(2)
    cache.set("a", 1, ttl=50)
    cache.set("b", 2, ttl=10)
    cache.set("c", 3, ttl=30)
    assert set(cache) == {"a", "c"}


def test_s3fifo_keeps_what_is_read_through_a_scan() -> None:
    cache: MemoryCache[Any, int] = MemoryCache(20)
    for _ in range(2):
        for key in "abcde":
            cache.get_or_compute(key, lambda: 1)
    for n in range(200):
        cache[n] = n
    assert all(key in cache for key in "abcde")


@pytest.mark.fault
def test_a_child_forked_while_threads_use_a_cache_can_use_it() -> None:
    program = """
import os, signal, threading
from ops.cache import LRUCache, MemoryCache
caches, stop = [MemoryCache(100), LRUCache(100)], threading.Event()

def work():
    number = 0
    while not stop.is_set():
        number += 1
        for cache in caches:
            cache.set(number % 300, number)
            cache.get_or_compute(number % 250, lambda: 1)

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
failed = []

def fork():
    for _ in range(15):
        child = os.fork()
        if not child:
            signal.alarm(20)
            for cache in caches:
                cache.set("child", 1)
                assert cache["child"] == 1
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            failed.append(child)
            return

forkers = [threading.Thread(target=fork) for _ in range(2)]
for thread in forkers:
    thread.start()
for thread in forkers:
    thread.join()
stop.set()
print(len(failed))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("0\n", "")
