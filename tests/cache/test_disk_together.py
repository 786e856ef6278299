"""DiskCache objects of several processes on one folder: what one does between two steps of another."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.cache import CacheFullError, DiskCache
from ops.cache.disk.records import Flag
from ops.serialize import UnsupportedTypeError

Pair = tuple[DiskCache, DiskCache]
SMALLEST = 64 << 10


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Pickled:
    """A serializer of the user."""

    def dumps(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def loads(self, data: bytes) -> Any:
        return pickle.loads(data)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Iterator[Pair]:
    """Two objects on one folder, as two processes have them."""
    with (
        DiskCache(tmp_path, max_bytes=SMALLEST, clock=clock) as one,
        DiskCache(tmp_path, max_bytes=SMALLEST, clock=clock) as two,
    ):
        yield one, two


@pytest.fixture
def before_write(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let something happen just before the next write of a cache."""

    def arrange(cache: DiskCache, action: Callable[[], object]) -> None:
        segments = cache._log.segments
        real = segments.write

        def write(data: bytes) -> int:
            monkeypatch.setattr(segments, "write", real)
            action()
            return real(data)

        monkeypatch.setattr(segments, "write", write)

    return arrange


def overflow(cache: DiskCache) -> None:
    """Write until the first segments are dropped."""
    first = cache._log.segments.numbers()[-1]
    n = 0
    while cache._log.segments.numbers()[0] <= first:
        cache[f"filler {n}"] = os.urandom(500)
        n += 1


def test_what_was_written_after_the_last_read_outlives_the_rotation(tmp_path: Path) -> None:
    """The map of the current segment, made for a read, ends before the records that came later."""
    with DiskCache(tmp_path) as cache:
        for n in range(3000):
            cache[n] = b"x" * 100
            assert cache[n] == b"x" * 100
        for n in range(3000, 3100):
            cache[n] = b"y" * 100
        cache._log.seal()
        assert all(cache.get(n) is not None for n in range(3100))


def test_an_entry_that_one_object_cannot_read_stays_for_the_others(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as plain, DiskCache(tmp_path, serializer=Pickled()) as other:
        plain["k"] = "old"
        plain._log.seal()
        other["k"] = "new"
        with pytest.warns(match="serializer"):
            assert plain.get("k") is None
        plain._log.seal()  # which writes the hint
        assert other["k"] == "new"
        with DiskCache(tmp_path, serializer=Pickled()) as late:
            assert late["k"] == "new"
        with warnings.catch_warnings(action="ignore"):
            assert plain.delete("k")
        assert "k" not in other


def test_a_tag_given_and_deleted_within_one_segment_brings_nothing_older_back(
    tmp_path: Path,
) -> None:
    with DiskCache(tmp_path) as cache:
        cache["k"] = "old"
        cache._log.seal()
        cache.set("k", "new", tag="t")
        cache.delete_tag("t")
        cache._log.seal()
        assert len(list(tmp_path.glob("*.hint"))) == 2
    with DiskCache(tmp_path) as late:
        assert late.get("k") is None


def test_a_child_of_one_that_fell_behind_follows_the_others(pair: Pair) -> None:
    """Opening a segment that was dropped would make it anew, and nobody else looks there."""
    one, two = pair
    overflow(two)
    child = os.fork()
    if not child:
        one["from the child"] = True
        os._exit(0 if two._log.segments.numbers()[0] > 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert two["from the child"] is True


def test_one_that_is_overtaken_while_it_opens_follows_the_others(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    two["k"] = "old"
    assert one["k"] == "old"
    segments = one._log.segments
    real = segments.numbers

    def numbers() -> list[int]:
        known = real()
        monkeypatch.setattr(segments, "numbers", real)
        overflow(two)
        two["k"] = "new"
        return known

    two._log.seal()
    two._log.segments.path(2).unlink()  # not begun yet
    two._log.segments.open(2)
    monkeypatch.setattr(segments, "numbers", numbers)
    assert one["k"] == "new"
    one["back"] = 1
    assert two["back"] == 1


def test_a_value_that_is_stored_is_never_reported_as_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes the record and is full when the segment is to be closed."""
    with DiskCache(tmp_path) as cache:
        cache._log.segment_bytes = 1000
        segments = cache._log.segments
        real = segments.write

        def write(data: bytes) -> int:
            if data[8] & Flag.SEAL:
                raise CacheFullError("full")
            return real(data)

        monkeypatch.setattr(segments, "write", write)
        cache["k"] = b"x" * 2000
        assert cache["k"] == b"x" * 2000
        monkeypatch.setattr(segments, "write", real)
        cache["later"] = 1
        assert segments.numbers() == [1, 2]


@pytest.mark.parametrize("many", [False, True])
def test_a_full_disk_keeps_no_file_that_no_record_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, many: bool
) -> None:
    def full(data: bytes) -> int:
        raise CacheFullError(f"{len(data)} bytes are too many")

    with DiskCache(tmp_path) as cache:
        cache["kept"] = np.zeros(100_000)
        monkeypatch.setattr(cache._log.segments, "write", full)
        values = {"kept": np.ones(100_000), **({"b": np.ones(100_000)} if many else {})}
        store = cache.set_many if many else lambda found: cache.set(*found.popitem())
        with pytest.raises(CacheFullError):
            store(values)
        assert len(list(cache._log.blobs.files())) == 1
        assert cache["kept"][0] == 0


def test_what_stands_before_an_error_is_stored(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as cache:
        with pytest.raises(UnsupportedTypeError):
            cache.set_many({"a": 1, "b": np.ones(100_000), "c": lambda: None})
        assert cache["a"] == 1
        assert len(cache["b"]) == 100_000


def test_expiring_takes_nothing_that_was_set_meanwhile(
    pair: Pair, clock: Clock, before_write: Callable[..., None]
) -> None:
    one, two = pair
    one.set("k", "old", ttl=1)
    clock.now += 2
    before_write(one, lambda: two.set("k", "new"))
    assert one.expire() == 0
    assert one["k"] == two["k"] == "new"
    with DiskCache(one.directory) as late:
        assert late["k"] == "new"


def test_repairing_takes_nothing_that_was_set_meanwhile(
    pair: Pair, before_write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    for key in "ab":
        one[key] = "x" * 100
    path = one._log.segments.path(1)
    path.write_bytes(path.read_bytes().replace(b"x" * 100, b"y" * 100))
    numbers = one._log.segments.numbers

    def set_one() -> list[int]:  # between the finds and the repair
        monkeypatch.setattr(one._log.segments, "numbers", numbers)
        two["a"] = "new"
        before_write(one, lambda: two.set("b", "new"))
        return numbers()

    monkeypatch.setattr(one._log.segments, "numbers", set_one)
    assert one.check(repair=True).damaged_entries == 2
    assert one["a"] == two["a"] == "new"
    assert one["b"] == two["b"] == "new"


@pytest.mark.parametrize("between", ["seal", "deletion"])
def test_a_new_life_is_given_whatever_comes_between(
    pair: Pair, clock: Clock, before_write: Callable[..., None], between: str
) -> None:
    one, two = pair
    one.set("k", 1, ttl=10)
    one["other"] = 2
    assert two["other"] == 2
    before_write(one, two._log.seal if between == "seal" else lambda: two.delete("other"))
    assert one.touch("k", ttl=100)
    clock.now += 50
    assert one["k"] == two["k"] == 1


def test_giving_new_lives_takes_no_more_than_the_limit(pair: Pair) -> None:
    one, _ = pair
    one["k"] = b"x" * 100
    for _ in range(2000):
        assert one.touch("k", ttl=100)
    assert one.get_stats().disk_bytes <= SMALLEST


def test_the_seconds_left_are_those_of_the_value(
    pair: Pair, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a first level in front would keep a value for ever that has an end."""
    one, two = pair
    one.set("k", np.zeros(5000))
    decode = one._codec.load

    def replaced(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(one._codec, "load", decode)
        two.set("k", np.ones(5000), ttl=5)
        return decode(*args, **options)

    monkeypatch.setattr(one._codec, "load", replaced)
    value, left = one.get_with_ttl("k")
    assert (value[0], left) == (1, 5)
    assert clock.now == 1000


def test_a_folder_of_large_values_may_be_emptied_under_our_feet(pair: Pair) -> None:
    one, _ = pair
    for n in range(10):
        one[n] = os.urandom(5000)
    assert one.get_stats().disk_bytes > SMALLEST * 3 // 4
    for path in one.directory.glob("*.seg"):
        path.unlink()
    assert one.get_stats().size == 10


@pytest.mark.skipif(sys.platform != "linux", reason="locks of Linux")
def test_a_child_that_leaves_the_computation_too_keeps_nobody_from_waiting(
    tmp_path: Path,
) -> None:
    """A child forked by a computation returns from it as its parent does, only earlier."""
    with DiskCache(tmp_path) as cache:
        children: list[int] = []
        program = """
import sys
from ops.cache import DiskCache
print(DiskCache(sys.argv[1]).get_or_compute("k", lambda: "computed twice"))
"""
        others: list[subprocess.Popen[str]] = []

        def compute() -> str:
            children.append(os.fork())
            if not children[0]:
                raise InterruptedError
            os.waitpid(children[0], 0)
            command = [sys.executable, "-c", program, str(tmp_path)]
            others.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            with pytest.raises(subprocess.TimeoutExpired):
                others[0].wait(1)
            return "computed once"

        try:
            cache.get_or_compute("k", compute)
        finally:
            if not children[0]:
                os._exit(0)
        assert others[0].communicate()[0] == "computed once\n"
