"""One model, a dict with times, drives every cache: whatever is called in whatever order, they agree."""

from __future__ import annotations

import tempfile
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ops.cache import CacheStrategy, DiskCache, MemoryCache, RedisCache, TwoLevelCache

KEYS = st.sampled_from(["a", "b", 1, True, ("t", (1, 2)), b"x"])
VALUES = st.one_of(
    st.integers(-5, 5), st.none(), st.lists(st.integers(), max_size=3), st.text(max_size=5)
)
TTLS = st.sampled_from([None, 0, 5, 50])
MISSING = object()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def same_key(key: Any) -> Any:
    """Keys count by type on disk and on Redis, and by equality in memory: both are one here."""
    return ("bool", key) if isinstance(key, bool) else key


class Model(RuleBasedStateMachine):
    """The operations that all caches have. Subclasses make the cache and say what else it can."""

    has_updates = True
    has_keys = True
    can_wait = True
    scale = 1

    def make(self) -> Any:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.known: dict[Any, tuple[Any, float | None]] = {}
        self.cache = self.make()

    def living(self, key: Any) -> Any:
        value, until = self.known.get(key, (MISSING, None))
        return MISSING if until is not None and until <= self.clock.now else value

    def put(self, key: Any, value: Any, ttl: float | None) -> None:
        if ttl == 0:
            self.known.pop(key, None)
        else:
            self.known[key] = (value, None if ttl is None else self.clock.now + ttl)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def set(self, key: Any, value: Any, ttl: float | None) -> None:
        key, ttl = same_key(key), ttl and ttl * self.scale
        self.cache.set(key, value, ttl)
        self.put(key, value, ttl)

    @rule(key=KEYS)
    def get(self, key: Any) -> None:
        key = same_key(key)
        assert self.cache.get(key, MISSING) == self.living(key)

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        key = same_key(key)
        assert self.cache.delete(key) is (self.living(key) is not MISSING)
        self.known.pop(key, None)

    @rule(seconds=st.sampled_from([1, 10, 100]))
    def wait(self, seconds: float) -> None:
        if self.can_wait:
            self.clock.now += seconds

    @rule(key=KEYS, value=VALUES)
    def compute(self, key: Any, value: Any) -> None:
        key = same_key(key)
        if self.living(key) is MISSING:
            self.put(key, value, None)
        assert self.cache.get_or_compute(key, lambda: value, None) == self.living(key)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.known.clear()

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def add(self, key: Any, value: Any, ttl: float | None) -> None:
        key, ttl = same_key(key), ttl and ttl * self.scale
        if self.has_updates:
            is_new = self.living(key) is MISSING
            assert self.cache.add(key, value, ttl) is is_new
            if is_new:
                self.put(key, value, ttl)

    @rule(key=KEYS, delta=st.integers(-3, 3))
    def incr(self, key: Any, delta: int) -> None:
        key = same_key(key)
        found = self.living(key)
        if not self.has_updates:
            return
        if found is MISSING:
            assert self.cache.incr(key, delta, 10) == 10 + delta
            self.put(key, 10 + delta, None)
        elif isinstance(found, int):
            assert self.cache.incr(key, delta) == found + delta
            self.known[key] = (found + delta, self.known[key][1])
        else:
            with pytest.raises(TypeError):
                self.cache.incr(key, delta)

    @rule(key=KEYS)
    def pop(self, key: Any) -> None:
        key = same_key(key)
        if self.has_updates:
            assert self.cache.pop(key, MISSING) == self.living(key)
            self.known.pop(key, None)

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key: Any, value: Any) -> None:
        key = same_key(key)
        if self.has_updates:
            if self.living(key) is MISSING:
                self.put(key, value, None)
            assert self.cache.setdefault(key, value) == self.living(key)

    @rule()
    def expire(self) -> None:
        if hasattr(self.cache, "expire"):
            self.cache.expire()

    @invariant()
    def keys_agree(self) -> None:
        if hasattr(self, "cache") and self.has_keys:
            living = {key for key in self.known if self.living(key) is not MISSING}
            assert set(self.cache) == living


class Memory(Model):
    strategy = CacheStrategy.S3FIFO

    def make(self) -> Any:
        return MemoryCache(100, strategy=self.strategy, clock=self.clock)


class Disk(Model):
    """Two objects on one folder, which take turns; the log is rewritten and read anew in between."""

    def make(self) -> Any:
        self.folder = tempfile.TemporaryDirectory()
        self.other = self.opened()
        return self.opened()

    def opened(self) -> DiskCache:
        return DiskCache(self.folder.name, max_bytes=64 << 10, clock=self.clock)

    @rule()
    def swap(self) -> None:
        self.cache, self.other = self.other, self.cache

    @rule()
    def seal(self) -> None:
        self.cache._log.seal()

    @rule()
    def waste(self) -> None:
        for _ in range(30):
            self.cache.namespace("waste").set("k", "x" * 900)

    @rule()
    def reopen(self) -> None:
        self.cache.close()
        self.cache = self.opened()

    @rule(pairs=st.dictionaries(KEYS, VALUES, max_size=4))
    def transact(self, pairs: dict[Any, Any]) -> None:
        with self.cache.transact() as changes:
            for key, value in pairs.items():
                changes[same_key(key)] = value
            if "a" in changes:
                del changes["a"]
        for key, value in pairs.items():
            self.put(same_key(key), value, None)
        self.known.pop("a", None)

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            self.cache.close()
            self.other.close()
            self.folder.cleanup()


class TwoLevels(Model):
    has_updates = has_keys = False

    def make(self) -> Any:
        self.folder = tempfile.TemporaryDirectory()
        self.disk = DiskCache(self.folder.name, clock=self.clock)
        return TwoLevelCache(MemoryCache(2, clock=self.clock), self.disk)

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            self.disk.close()
            self.folder.cleanup()


RUN = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("strategy", CacheStrategy)
def test_a_memory_cache_is_a_dict_with_times(strategy: CacheStrategy) -> None:
    machine = type("Machine", (Memory,), {"strategy": strategy})
    run_state_machine_as_test(machine, settings=RUN)


def test_a_disk_cache_is_a_dict_with_times() -> None:
    run_state_machine_as_test(Disk, settings=RUN)


def test_two_levels_are_a_dict_with_times() -> None:
    run_state_machine_as_test(TwoLevels, settings=RUN)


@pytest.mark.service
def test_a_cache_on_redis_is_a_dict(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("redis_server")

    class Redis(Model):
        can_wait, scale = False, 1000  # the server has a clock of its own

        def make(self) -> Any:
            return RedisCache(server.url, uuid.uuid4().hex, on_error="raise")

        def teardown(self) -> None:
            if hasattr(self, "cache"):
                self.cache.close()

    run_state_machine_as_test(Redis, settings=RUN)
