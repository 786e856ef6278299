"""How users call ops.cache: decorated functions keep their types."""

from __future__ import annotations

from typing import assert_type

from ops.cache import LRUCache, MemoryCache, cache, memoize


@memoize(ttl=60)
def squared(x: int) -> float:
    return x**2


@cache(ignore=["verbose"])
def expensive(path: str, verbose: bool = False) -> bytes:
    return path.encode()


class Model:
    @cache
    def predict(self, x: int) -> float:
        return float(x)

    @memoize
    def explain(self, x: int) -> str:
        return str(x)


@memoize
async def fetched(url: str) -> bytes:
    return url.encode()


async def use_decorated() -> None:
    assert_type(Model().predict(1), float)
    assert_type(Model().explain(1), str)
    assert_type(await fetched("x"), bytes)


def use() -> None:
    assert_type(squared(3), float)
    assert_type(expensive("x", verbose=True), bytes)
    models: LRUCache[str, int] = LRUCache(max_size=10, default_ttl=5)
    models.set("a", 1, ttl=None)
    assert_type(models.get("a"), int | None)
    assert_type(models["a"], int)
    plain: MemoryCache[int, str] = MemoryCache()
    assert_type(plain.get_or_compute(1, lambda: "x"), str)
