"""Deletion from the queues of S3-FIFO: cheap, bounded, and without effect on what stays."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import pytest

from ops.cache import MemoryCache, S3FIFOCache


class Key:
    """A key that counts how often it is compared."""

    compared: ClassVar[int] = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        Key.compared += 1
        return isinstance(other, Key) and other.number == self.number


def _places(cache: Any) -> int:
    return len(cache._small) + len(cache._main)


def test_a_deletion_does_not_search_the_queues() -> None:
    cache: MemoryCache[Key, int] = S3FIFOCache(2000)
    keys = [Key(n) for n in range(2000)]
    for key in keys:
        cache[key] = key.number
    Key.compared = 0
    for key in reversed(keys[1000:]):
        assert cache.delete(key)
    assert Key.compared < 20 * 1000  # a search would compare 1500 keys for each


def test_an_expiry_does_not_search_the_queues() -> None:
    now = [0.0]
    cache: MemoryCache[Key, int] = S3FIFOCache(2000, clock=lambda: now[0])
    for n in range(2000):
        cache.set(Key(n), n, ttl=None if n < 1000 else 10)
    now[0] = 10.0
    Key.compared = 0
    assert cache.expire() == 1000
    assert Key.compared < 20 * 1000
    assert len(cache) == 1000


def test_places_of_deleted_keys_do_not_pile_up() -> None:
    cache: MemoryCache[int, int] = S3FIFOCache(100)
    cache[-1] = 0
    for n in range(10_000):
        cache[n] = n
        cache.delete(n)
    assert _places(cache) <= 2 * 100 + 64
    cache.clear()
    cache[1] = 1
    assert dict(cache.items()) == {1: 1}


@pytest.mark.parametrize("seed", range(20))
def test_every_entry_has_one_place_after_any_sequence(seed: int) -> None:
    draw = random.Random(seed)
    cache: Any = S3FIFOCache(20, max_memory=200, sizeof=lambda value: value)
    for _ in range(3000):
        key = draw.randrange(60)
        action = draw.random()
        if action < 0.4:
            cache.set(key, draw.randrange(1, 30))
        elif action < 0.7:
            cache.get(key)
        else:
            cache.delete(key)
        places = [*cache._small, *cache._main]
        assert len(places) == len(set(places))
        assert set(places) - cache._dead == set(cache)
        assert cache._dead <= set(places)
        assert len(cache) <= 20
