"""The awaitable twin of caches on disk and on a server: the same operations, and a loop that never waits."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.cache import AsyncCache, DiskCache, RedisCache


@pytest.fixture(params=["disk", pytest.param("redis", marks=pytest.mark.service)])
def store(request, tmp_path) -> Iterator[Any]:
    """A cache outside this process."""
    if request.param == "disk":
        with DiskCache(tmp_path / "cache") as cache:
            yield cache
        return
    server = request.getfixturevalue("redis_server")
    with RedisCache(server.url, namespace=uuid.uuid4().hex) as cache:
        yield cache
        cache.clear()


@pytest.fixture
def twin(store) -> AsyncCache:
    return AsyncCache(store)


def test_it_does_what_the_cache_does(twin) -> None:
    async def use() -> None:
        await twin.set("a", [1], 60, tag="numbers")
        assert await twin.get("a") == [1]
        value, seconds = await twin.get_with_ttl("a")
        assert value == [1]
        assert 0 < seconds <= 60
        await twin.set_many({"b": 2, "c": 3}, tag="numbers")
        assert await twin.get_many(key for key in "abcd") == {"a": [1], "b": 2, "c": 3}
        assert await twin.get("d", "none") == "none"
        assert not await twin.add("b", 9)
        assert await twin.add("d", 4)
        assert await twin.incr("b", 5) == 7
        assert await twin.decr("b", 2) == 5
        assert await twin.pop("b") == 5
        assert await twin.pop("b", None) is None
        with pytest.raises(KeyError):
            await twin.pop("b")
        assert await twin.touch("c", 30)
        assert await twin.delete("d")
        assert not await twin.contains("d")
        assert await twin.delete_tag("numbers") == 2
        await twin.set("e", 5)
        await twin.clear()
        assert await twin.get("e") is None

    asyncio.run(use())
    assert "AsyncCache(" in repr(twin)


@pytest.mark.parametrize("operation", ["get", "set", "incr", "delete", "clear", "get_or_compute"])
def test_the_loop_goes_on_while_the_cache_waits(twin, monkeypatch, operation: str) -> None:
    waits, go_on = threading.Event(), threading.Event()

    def slow(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            waits.set()
            assert go_on.wait(300), "the loop stood still"
            return real(*arguments, **options)

        return call

    kind = type(twin.cache)
    name = "get" if operation == "get_or_compute" else operation
    monkeypatch.setattr(kind, name, slow(getattr(kind, name)))

    async def one() -> int:
        return 1

    given: dict[str, tuple[Any, ...]] = {
        "set": ("a", 1), "clear": (), "get_or_compute": ("a", one)
    }  # fmt: skip

    async def use() -> None:
        task = asyncio.create_task(getattr(twin, operation)(*given.get(operation, ("a",))))
        while not waits.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0)
        go_on.set()
        await task

    asyncio.run(use())


def test_tasks_compute_a_missing_value_once(twin) -> None:
    calls = []

    async def compute() -> str:
        calls.append(1)
        await asyncio.sleep(0)
        return "computed"

    async def use() -> None:
        found = await asyncio.gather(*[twin.get_or_compute("k", compute, 60) for _ in range(8)])
        assert found == ["computed"] * 8
        _, seconds = await twin.get_with_ttl("k")
        assert 0 < seconds <= 60

    asyncio.run(use())
    assert calls == [1]
    asyncio.run(use())
    assert calls == [1], "another loop finds it"


def test_a_cancelled_task_hands_over(twin) -> None:
    async def use() -> None:
        begun = asyncio.Event()

        async def endless() -> str:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        async def quick() -> str:
            return "second"

        first = asyncio.create_task(twin.get_or_compute("k", endless))
        await begun.wait()
        second = asyncio.create_task(twin.get_or_compute("k", quick))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "second"
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(use())


def test_leaving_the_block_closes_the_cache(tmp_path) -> None:
    async def use() -> AsyncCache[DiskCache]:
        async with AsyncCache(DiskCache(tmp_path / "cache")) as twin:
            await twin.set("a", 1)
        return twin

    twin = asyncio.run(use())
    with pytest.raises(ValueError, match="closed"):
        twin.cache.get("a")
    with DiskCache(tmp_path / "cache") as again:
        assert again["a"] == 1
