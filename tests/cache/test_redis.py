"""RedisCache on a real server: what is particular to it."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.cache.redis_server import RedisServer, free_port

from ops.cache import (
    CacheFullError,
    CacheUnavailableError,
    CorruptEntryWarning,
    RedisCache,
    ValueTooLargeError,
)
from ops.foundation import ValidationError
from ops.serialize import SignatureError, Signed, UnsupportedTypeError, UntrustedDataError

pytestmark = pytest.mark.service
Child = Callable[..., "subprocess.Popen[str]"]


class Custom:
    pass


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def cache(redis_server: RedisServer, name: str) -> Iterator[RedisCache]:
    with RedisCache(redis_server.url, name, on_error="raise") as made:
        yield made


def test_machines_share_what_one_has_stored(
    cache: RedisCache, redis_server: RedisServer, name: str
) -> None:
    cache.set(("k", 1), {"a": [1, None]}, tag="t")
    with RedisCache(redis_server.url, name) as other, RedisCache(redis_server.url) as stranger:
        assert other[("k", 1)] == {"a": [1, None]}
        assert ("k", 1) not in stranger
        assert list(other) == [("k", 1)]
        assert other.delete_tag("t") == 1
    assert ("k", 1) not in cache


def test_a_tag_removes_only_what_carries_it_now(cache: RedisCache) -> None:
    cache.set("a", 1, tag="red")
    cache.set("b", 2, tag="red")
    cache.set("b", 3, tag="blue")
    cache.set("c", 4)
    assert cache.delete_tag("red") == 1
    assert {key: cache[key] for key in cache} == {"b": 3, "c": 4}


def test_views_clear_their_own_keys_also_with_odd_names(cache: RedisCache) -> None:
    odd, other = cache.namespace("a*[?]\\"), cache.namespace("ab")
    for view in (cache, odd, other):
        view.set("k", 1)
    for n in range(1200):
        odd.set(n, n)
    odd.clear()
    assert ("k" in odd, "k" in other, "k" in cache) == (False, True, True)
    assert list(cache) == ["k"]
    cache.clear()
    assert "k" not in other


@pytest.mark.parametrize("ttl", [1e13, 1e300, float("inf")])
def test_a_time_to_live_that_no_server_takes_is_for_ever(cache: RedisCache, ttl: float) -> None:
    cache.set("k", 1, ttl=ttl)
    assert cache.get_with_ttl("k") == (1, None)


def test_times_to_live_are_those_of_the_server(cache: RedisCache) -> None:
    cache.set("k", 1, ttl=1000)
    value, left = cache.get_with_ttl("k")
    assert value == 1
    assert left is not None
    assert 990 < left <= 1000
    assert cache.touch("k", ttl=5000)
    assert (cache.get_with_ttl("k")[1] or 0) > 4000
    assert cache.touch("k", ttl=None)
    assert cache.get_with_ttl("k") == (1, None)
    assert not cache.touch("other", ttl=5)
    assert cache.touch("k", ttl=0)
    assert "k" not in cache


def test_only_allowed_classes_and_signed_values_are_rebuilt(
    redis_server: RedisServer, name: str
) -> None:
    sys.modules.setdefault(Custom.__module__, sys.modules[__name__])
    with RedisCache(redis_server.url, name, trust=Signed(b"k" * 32)) as signed:
        signed.set("k", Custom())
        assert isinstance(signed["k"], Custom)
    with RedisCache(redis_server.url, name, trust=Signed(b"o" * 32)) as other:
        with pytest.raises(SignatureError):
            other.get("k")
        other.set("plain", [1])
    with RedisCache(redis_server.url, name, trust="all") as attacker:
        attacker.set("k", Custom())
    with RedisCache(redis_server.url, name, trust="safe") as safe:
        with pytest.raises(UntrustedDataError, match="Custom"):
            safe.get("k")
        with pytest.raises(UnsupportedTypeError, match="Custom"):
            safe.set("k", Custom())
    with RedisCache(redis_server.url, name) as mine:
        with pytest.warns(CorruptEntryWarning, match="vouches"):
            assert mine.get("k", "miss") == "miss"
        mine.set("k", Custom())
        assert isinstance(mine["k"], Custom)


def test_garbage_in_the_place_of_a_value_is_a_miss(cache: RedisCache) -> None:
    for garbage in (b"", b"x", b"\x00\x00\x00garbage", b"\x07\x00\x00?", b"\x02\x00\x00\xff"):
        cache.set("k", 1)
        (entry,) = cache._client.keys(cache._name(b"v", b"*"))
        cache._client.set(entry, garbage)
        with pytest.warns(CorruptEntryWarning, match="counts as missing"):
            assert cache.get("k", "miss") == "miss"


def test_secrets_stay_out_of_repr_and_errors(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    away = RedisServer(tmp_path)  # never started
    with RedisCache(away.url, timeout=0.2) as cache, caplog.at_level(logging.INFO, "ops.cache"):
        assert cache.get("k") is None
        assert cache.get("k") is None
        assert "not-shown" not in repr(cache) + caplog.text
        assert caplog.text.count("cannot be reached") == 1  # once per outage
    wrong = redis_server.url.replace("not-shown", "a-wrong-one")
    with (
        RedisCache(wrong, on_error="raise") as cache,
        pytest.raises(CacheUnavailableError) as caught,
    ):
        cache.set("k", 1)
    assert "a-wrong-one" not in str(caught.value)


def test_a_down_server_is_a_miss_or_an_error_as_chosen(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, tmp_path: Path, name: str
) -> None:
    server = RedisServer(tmp_path)
    server.start()
    with (
        RedisCache(server.url, name, timeout=0.5) as degrading,
        RedisCache(server.url, name, timeout=0.5, on_error="raise") as raising,
        caplog.at_level(logging.INFO, "ops.cache"),
    ):
        degrading.set("k", 1)
        assert raising["k"] == 1
        server.kill()
        assert degrading.get("k", "miss") == "miss"
        degrading.set("k", 2)
        assert not degrading.delete("k")
        assert degrading.get_or_compute("k", lambda: 3) == 3
        assert list(degrading) == []
        assert not degrading.ping()
        for use in (lambda: raising.get("k"), lambda: raising.get_or_compute("k", lambda: 3)):
            with pytest.raises(CacheUnavailableError, match="cannot be reached"):
                use()
        server.start()  # the same port: the connections come back by themselves
        degrading.set("k", 4)
        assert raising["k"] == degrading["k"] == 4
        assert caplog.text.count("going on without it") == 1
        assert caplog.text.count("answers again") == 1
    server.kill()


def test_an_error_of_the_computation_is_never_taken_for_one_of_the_server(
    cache: RedisCache,
) -> None:
    import redis

    def fail() -> None:
        raise redis.ConnectionError("of somebody else")

    with pytest.raises(redis.ConnectionError, match="somebody else"):
        cache.get_or_compute("k", fail)


@pytest.mark.fault
def test_processes_compute_a_missing_key_once_and_a_killed_one_hands_over(
    redis_server: RedisServer, name: str, child: Child, tmp_path: Path
) -> None:
    program = """
import sys, time
from ops.cache import RedisCache
url, name, folder, seconds = sys.argv[1:]
cache = RedisCache(url, name, lock_timeout=2)
def compute():
    with open(folder + "/calls", "a") as file:
        file.write("x")
    print("computing", flush=True)
    time.sleep(float(seconds))
    return [1]
print(cache.get_or_compute("k", compute))
"""
    dead = child(program, redis_server.url, name, tmp_path, 600)
    assert dead.stdout
    assert dead.stdout.readline() == "computing\n"
    # Longer than the lease, which is renewed while somebody computes.
    others = [child(program, redis_server.url, name, tmp_path, 3) for _ in range(4)]
    dead.kill()
    assert all(other.communicate(timeout=300)[0].endswith("[1]\n") for other in others)
    assert (tmp_path / "calls").read_text() == "xx"


def test_who_lost_the_lease_does_not_store(cache: RedisCache) -> None:
    first = cache._leases.take(b"lease")
    assert first
    assert cache._leases.take(b"lease") is None
    cache._client.delete(b"lease")  # it expired while its holder was stopped
    second = cache._leases.take(b"lease")
    assert second
    entry = cache._name(b"v", b"sk")
    with second:
        assert not first.store(entry, b"\x01\x00\x00late", None)
        assert second.store(entry, b"\x01\x00\x00right", 10_000)
        assert cache["k"] == b"right"
    assert cache._client.get(b"lease") is None


def test_what_redis_cannot_take_is_refused(
    cache: RedisCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ops.cache.remote._LARGEST", 1000)
    with pytest.raises(ValueTooLargeError, match="1000 bytes"):
        cache.set("k", "x" * 1000)
    assert cache.get_or_compute("k", lambda: "x" * 1000) == "x" * 1000
    assert cache.get_stats().rejected == 2
    assert "Returned, not cached" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"), [({"on_error": "ignore"}, "on_error"), ({"namespace": "a:b"}, "namespace")]
)
def test_wrong_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RedisCache("redis://127.0.0.1:1", **options)


def test_a_pickled_cache_talks_to_the_same_server(cache: RedisCache) -> None:
    view = cache.namespace("inner")
    view.set("k", 1)
    with pickle.loads(pickle.dumps(view)) as copy:
        assert copy["k"] == 1


def test_a_lease_is_taken_also_when_the_answer_is_lost(
    cache: RedisCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks again; who then takes the lease for that of another waits for itself."""
    with cache._leases.take(cache._name(b"l", b"a")) or pytest.fail("it was free"):
        pass
    real = redis.Connection.read_response
    answers: list[Any] = []

    def read_response(self: Any, *args: Any, **options: Any) -> Any:
        answers.append(real(self, *args, **options))
        if len(answers) == 2:  # the first is the number of the lease
            raise redis.ConnectionError("gone")
        return answers[-1]

    monkeypatch.setattr(redis.Connection, "read_response", read_response)
    assert cache._leases.take(cache._name(b"l", b"b"))
    assert len(answers) > 2
    assert cache._leases.take(cache._name(b"l", b"b")) is None


def test_the_seconds_left_are_those_of_the_value(
    cache: RedisCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a first level in front would keep a value for ever that has an end."""
    cache.set("k", "old")
    real = cache._client.pttl

    def pttl(name: Any) -> Any:
        left = real(name)
        cache.set("k", "new", ttl=5)
        return left

    monkeypatch.setattr(cache._client, "pttl", pttl)
    assert cache.get_with_ttl("k") == ("old", None)
    cache.set("k", "new", ttl=5)
    value, left = cache.get_with_ttl("k")
    assert value == "new"
    assert left
    assert left <= 5
    assert cache.get_with_ttl("missing", "nothing") == ("nothing", None)


def named(redis_server: RedisServer, name: str, tag: str) -> int:
    return int(redis.Redis.from_url(redis_server.url).scard(f"{name}:t:{tag}"))  # type: ignore[arg-type]


def test_the_set_of_a_tag_ends_with_its_last_entry(
    cache: RedisCache, redis_server: RedisServer, name: str, until: Callable[..., None]
) -> None:
    for n in range(100):
        cache.set(n, n, ttl=0.05, tag="short")
    until(lambda: named(redis_server, name, "short") == 0)
    cache.set("a", 1, ttl=0.05, tag="t")
    cache.set("b", 1, ttl=1000, tag="t")
    cache.set("c", 1, ttl=0.05, tag="t")  # does not shorten what another needs
    cache.set("d", 1, ttl=0.05, tag="ever")
    assert cache.touch("d", None)
    until(lambda: "a" not in cache and "c" not in cache)
    assert cache.delete_tag("t") == 1
    assert cache.delete_tag("ever") == 1


def test_names_leave_the_set_of_a_tag_with_their_entries(
    cache: RedisCache, redis_server: RedisServer, name: str
) -> None:
    inner = cache.namespace("inner")
    for n in range(20):
        inner.set(n, n, tag="t")
    cache.set("kept", 1, tag="t")
    assert inner.delete(0)
    inner.set(1, 1, tag="other")
    assert named(redis_server, name, "t") == 19
    inner.clear()
    assert (named(redis_server, name, "t"), named(redis_server, name, "other")) == (1, 0)
    cache.clear()
    assert named(redis_server, name, "t") == 0


def test_names_of_expired_entries_are_few_beside_living_ones(
    cache: RedisCache, redis_server: RedisServer, name: str, until: Callable[..., None]
) -> None:
    cache.set("ever", 1, tag="t")
    for n in range(200):
        cache.set(n, n, ttl=0.001, tag="t")
    until(lambda: 199 not in cache)
    for n in range(100):
        cache.set("again", n, ttl=0.001, tag="t")
    assert named(redis_server, name, "t") < 20
    assert cache.delete_tag("t") >= 1


def test_a_server_without_memory_is_named_so(
    cache: RedisCache, redis_server: RedisServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache["small"] = 1
    server = redis.Redis.from_url(redis_server.url)
    server.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(CacheFullError, match="no memory left"):
            cache["large"] = "x" * 1_000_000
        with pytest.raises(CacheFullError, match="maxmemory"):
            cache.set("tagged", "x" * 100_000, tag="t")
        assert cache["small"] == 1
        with RedisCache(redis_server.url, name) as degraded:
            degraded.set("new", "x" * 100_000)
            degraded.set("newer", "x" * 100_000)
            assert degraded.get_or_compute("computed", lambda: 5) == 5
    finally:
        server.config_set("maxmemory", "0")
    assert sum("no memory left" in record.message for record in caplog.records) == 1


def test_a_node_of_a_cluster_is_refused_by_name(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    # The port of the cluster is else 10 000 more than the other, which there may not be.
    bus = ("--cluster-port", str(free_port()))
    server.start("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", *bus)
    try:
        with (
            RedisCache(server.url, "ns") as degraded,
            pytest.raises(CacheUnavailableError, match="Cluster"),
        ):
            degraded.set("k", 1, tag="t")
    finally:
        server.kill()
