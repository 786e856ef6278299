"""DiskCache: what is particular to a cache in a folder."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.cache import (
    CacheClosedError,
    CorruptEntryWarning,
    DiskCache,
    InvalidKeyError,
    ValueTooLargeError,
)
from ops.cache.disk.keys import encode_key
from ops.serialize import (
    Safe,
    SignatureError,
    Signed,
    UnsupportedTypeError,
    UntrustedDataError,
)

KIB = 1024


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DiskCache]:
    with DiskCache(tmp_path / "c") as made:
        yield made


# Keys and values

keys = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(),
    lambda inner: st.tuples(inner, inner),
    max_leaves=4,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=keys, value=keys)
def test_any_plain_key_is_found_again_and_read_back(cache: DiskCache, key: Any, value: Any) -> None:
    cache.set(key, value)
    found = cache[key]
    assert (type(found), repr(found)) == (type(value), repr(value))
    assert repr(key) in {repr(k) for k in cache}
    cache.delete(key)


def test_types_of_keys_count(cache: DiskCache) -> None:
    for n, key in enumerate([1, 1.0, True, "1", b"1", (1,), ("1",), None, "None"]):
        cache.set(key, n)
    assert [cache[key] for key in [1, 1.0, True, "1", b"1", (1,), ("1",), None, "None"]] == list(
        range(9)
    )


@pytest.mark.parametrize("key", [[1], {"a": 1}, object(), float("nan"), (1, [2])])
def test_a_key_that_is_no_plain_value_is_refused(cache: DiskCache, key: Any) -> None:
    with pytest.raises(InvalidKeyError, match="cannot be a key"):
        cache.set(key, 1)


def test_odd_strings_are_keys_too(cache: DiskCache) -> None:
    odd = ["", "a\nb", "a\\nb", "\x00", "\ud800", "n1:x", "é" * 1000]
    for n, key in enumerate(odd):
        cache.set(key, n)
    assert [cache[key] for key in odd] == list(range(len(odd)))
    with pytest.raises(InvalidKeyError, match="65536"):
        cache.set("k" * 70_000, 1)


@pytest.mark.parametrize("size", [0, 1, 100, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, 3 << 20])
@pytest.mark.parametrize("kind", [bytes, str, bytearray, np.ndarray])
def test_values_of_every_size_come_back(cache: DiskCache, size: int, kind: Any) -> None:
    value: Any = os.urandom(size)
    if kind is str:
        value = "x" * size
    elif kind is np.ndarray:
        value = np.frombuffer(value, np.uint8)
    else:
        value = kind(value)
    cache.set("k", value)
    back = cache["k"]
    assert type(back) is kind
    assert bytes(back, "ascii") == b"x" * size if kind is str else bytes(back) == bytes(value)
    with DiskCache(cache.directory) as again:
        assert np.array_equal(again["k"], value) if kind is np.ndarray else again["k"] == value


def test_large_arrays_are_private_writable_maps(cache: DiskCache) -> None:
    cache.set("a", np.zeros(100_000))
    first = cache["a"]
    first[0] = 7
    assert cache["a"][0] == 0


def test_a_value_too_large_for_the_cache_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with DiskCache(tmp_path, max_bytes=256 * KIB) as cache:
        cache.set("k", 1)
        with pytest.raises(ValueTooLargeError, match="max_bytes"):
            cache.set("k", os.urandom(256 * KIB))
        assert cache["k"] == 1
        assert len(cache.get_or_compute("big", lambda: os.urandom(256 * KIB))) == 256 * KIB
        assert "big" not in cache


def test_a_serializer_of_the_user_encodes_every_value(tmp_path: Path) -> None:
    class Json:
        format = "json"

        def dumps(self, obj: Any, /) -> bytes:
            return json.dumps(obj).encode()

        def loads(self, data: Any, /) -> Any:
            return json.loads(bytes(data))

    with DiskCache(tmp_path, serializer=Json()) as cache:
        cache.set("k", {"a": [1]})
        cache.set("large", "x" * (300 * KIB))
        assert cache["k"] == {"a": [1]}
        assert len(cache["large"]) == 300 * KIB
    with (
        DiskCache(tmp_path) as plain,
        pytest.warns(CorruptEntryWarning, match="serializer"),
    ):
        assert plain.get("k", "miss") == "miss"


# Trust


class Custom:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("filler", [b"", bytes(300 * KIB)])
def test_under_safe_only_allowed_classes_are_stored_and_rebuilt(
    tmp_path: Path, filler: bytes
) -> None:
    name = f"{Custom.__module__}.{Custom.__qualname__}"
    sys.modules.setdefault(Custom.__module__, sys.modules[__name__])
    with DiskCache(tmp_path, trust="safe") as cache:
        with pytest.raises(UnsupportedTypeError, match="Custom"):
            cache.set("k", [Custom(), filler])
        assert "k" not in cache
    with DiskCache(tmp_path, trust=Safe(allow=(name,))) as cache:
        cache.set("k", [Custom(), filler])
        assert cache["k"] == [Custom(), filler]
    with (
        DiskCache(tmp_path, trust="safe") as cache,
        pytest.raises(UntrustedDataError, match="Custom"),
    ):
        cache.get("k")


class Runs:
    """Something that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("size", [0, 300 * KIB])
@pytest.mark.parametrize("by", ["all", "another user"])
def test_an_object_that_this_user_did_not_sign_is_missing_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, size: int
) -> None:
    sys.modules.setdefault(Runs.__module__, sys.modules[__name__])
    with monkeypatch.context() as attacker:
        if by == "another user":
            attacker.setenv("OPS_SERIALIZE_USER_KEY_FILE", str(tmp_path / "theirs"))
        with DiskCache(tmp_path / "c", trust="all" if by == "all" else "user") as cache:
            cache.set("k", [Runs(tmp_path / "RAN"), "x" * size])
    with DiskCache(tmp_path / "c") as cache:
        with pytest.warns(CorruptEntryWarning, match=r"vouches|signed"):
            assert cache.get("k", "miss") == "miss"
        with pytest.warns(CorruptEntryWarning):
            assert cache.get_or_compute("k", lambda: "mine") == "mine"
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("size", [0, 300 * KIB])
def test_this_user_caches_objects_of_any_class_without_more_ado(tmp_path: Path, size: int) -> None:
    sys.modules.setdefault(Custom.__module__, sys.modules[__name__])
    with DiskCache(tmp_path) as cache:
        cache.set("k", (Custom(), b"x" * size))
    with DiskCache(tmp_path) as cache:
        assert cache["k"] == (Custom(), b"x" * size)


KEY = Signed(b"k" * 32)
VALUES = {"bytes": b"admin", "text": "admin", "plain": ["admin"], "object": {"role": ("admin",)}}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("size", [0, 300 * KIB])
def test_no_value_of_a_signed_cache_can_be_made_without_the_key(
    tmp_path: Path, kind: str, size: int
) -> None:
    value: Any = VALUES[kind]
    large = value if not size else {"bytes": b"x", "text": "x"}.get(kind, [0]) * size
    with DiskCache(tmp_path) as attacker:  # who has the folder, but not the key
        attacker.set("role", large)
    with DiskCache(tmp_path, trust=KEY) as cache, pytest.raises(SignatureError):
        cache.get("role")


@pytest.mark.parametrize("size", [0, 300 * KIB])
def test_a_signed_value_counts_under_its_own_key_and_in_its_own_cache_only(
    tmp_path: Path, size: int
) -> None:
    good, bad = ["good", "x" * size], ["bad", "x" * size]
    with DiskCache(tmp_path / "a", trust=KEY) as cache:
        cache.set("good", good)
        cache.set("bad", bad)
        flags, _, data = cache._log.find(encode_key(b"", "bad"))
        cache._log.append((flags, encode_key(b"", "good"), data, 0.0, b""))
        with pytest.raises(SignatureError):
            cache.get("good")
        assert cache["bad"] == bad
    if not size:
        with DiskCache(tmp_path / "b", trust=KEY) as other:
            other._log.append((flags, encode_key(b"", "bad"), data, 0.0, b""))
            with pytest.raises(SignatureError):
                other.get("bad")


@pytest.mark.parametrize("size", [10, 300 * KIB])
def test_a_signed_cache_reads_only_what_its_key_signed(tmp_path: Path, size: int) -> None:
    key, other = Signed(b"k" * 32), Signed(b"o" * 32)
    with DiskCache(tmp_path, trust=key) as cache:
        cache.set("k", ["x" * size])
        assert cache["k"] == ["x" * size]
    with DiskCache(tmp_path, trust=other) as stranger, pytest.raises(SignatureError):
        stranger.get("k")


# Tags, namespaces, expiry


def test_a_tag_removes_its_entries_and_no_others(cache: DiskCache) -> None:
    cache.set("a", 1, tag="red")
    cache.set("b", 2, tag="blue")
    cache.set("c", 3, tag="red")
    cache.set("c", 4)  # no longer red
    assert cache.delete_tag("red") == 1
    assert dict(cache.items()) == {"b": 2, "c": 4}
    assert cache.delete_tag("red") == 0


def test_namespaces_keep_keys_apart_and_clear_alone(cache: DiskCache) -> None:
    one, two = cache.namespace("one"), cache.namespace("two")
    inner = one.namespace("inner")
    for n, view in enumerate((cache, one, two, inner)):
        view.set("k", n)
    assert [view["k"] for view in (cache, one, two, inner)] == [0, 1, 2, 3]
    assert [list(view) for view in (cache, one, inner)] == [["k"], ["k"], ["k"]]
    assert len(cache) == 1
    one.clear()
    assert ("k" in one, "k" in inner, "k" in two, "k" in cache) == (False, False, True, True)


def test_deadlines_follow_the_clock_also_when_it_jumps(tmp_path: Path) -> None:
    clock = Clock()
    with DiskCache(tmp_path, default_ttl=10, clock=clock) as cache:
        cache.set("k", 1)
        cache.set("ever", 1, ttl=None)
        clock.now -= 1_000_000  # back: nothing expires early
        assert cache["k"] == 1
        clock.now += 1_000_010
        assert "k" not in cache
        assert cache.get("k", "gone") == "gone"
        assert cache.expire() == 1
        assert list(cache) == ["ever"]


def test_touch_gives_an_entry_a_new_life(tmp_path: Path) -> None:
    clock = Clock()
    with DiskCache(tmp_path, default_ttl=10, clock=clock) as cache:
        cache.set("k", [1], tag="t")
        for _ in range(3):
            clock.now += 9
            assert cache.touch("k")
        assert cache["k"] == [1]
        assert cache.touch("k", ttl=None)
        clock.now += 1000
        assert cache["k"] == [1]
        assert not cache.touch("other")
        assert cache.delete_tag("t") == 1


# Many at once, iteration, pickling


def test_many_are_stored_read_and_removed_together(cache: DiskCache) -> None:
    values = {f"k{n}": os.urandom(3000) for n in range(1000)}
    cache.set_many(values, tag="all")
    assert cache.get_many([*values, "other"]) == values
    assert sorted(cache.keys()) == sorted(values)
    assert len(cache) == 1000
    assert cache.delete_many(["k1", "k2", "other"]) == 2
    assert cache.delete_tag("all") == 998


def test_a_pickled_cache_opens_the_same_folder(cache: DiskCache) -> None:
    view = cache.namespace("inner")
    view.set("k", 1)
    with pickle.loads(pickle.dumps(view)) as copy:
        assert copy["k"] == 1
        copy.set("k", 2)
    assert view["k"] == 2


def test_a_closed_cache_says_so(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.set("k", 1)
    cache.close()
    cache.close()
    for use in (lambda: cache.get("k"), lambda: cache.set("k", 1), lambda: len(cache)):
        with pytest.raises(CacheClosedError, match="closed"):
            use()


def test_counters_tell_hits_and_misses(cache: DiskCache) -> None:
    cache.set("k", 1)
    cache.get("k")
    cache.get("other")
    cache.peek("k")
    assert "k" in cache
    stats = cache.get_stats()
    assert (stats.hits, stats.misses, stats.size, stats.hit_rate) == (1, 1, 1, 0.5)
    assert 0 < stats.disk_bytes < 1000


def test_a_forked_child_shares_the_cache(cache: DiskCache) -> None:
    cache.set("k", "parent")
    pid = os.fork()
    if pid == 0:
        try:
            cache.set("child", cache["k"])
            for n in range(200):
                cache.set(n, n)
        finally:
            os._exit(0)
    for n in range(200):
        cache.set(1000 + n, n)
    os.waitpid(pid, 0)
    assert cache["child"] == "parent"
    assert all(cache[n] == n and cache[1000 + n] == n for n in range(200))
