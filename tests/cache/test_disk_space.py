"""DiskCache: its limits, evictions and folder."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.cache import (
    CacheError,
    DiskCache,
    MemoryCache,
    UnsuitableFolderError,
)
from ops.cache.disk import cache_directory
from ops.foundation import ValidationError

KIB = 1024


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DiskCache]:
    with DiskCache(tmp_path / "c") as made:
        yield made


def segments(cache: DiskCache) -> list[Path]:
    return sorted(cache.directory.glob("*.seg"))


def folder_bytes(cache: DiskCache) -> int:
    return sum(p.stat().st_size for p in cache.directory.rglob("*") if p.is_file())


# Space


def test_the_cache_keeps_to_its_limit_and_the_newest_stay(tmp_path: Path) -> None:
    with DiskCache(tmp_path, max_bytes=1 << 20) as cache:
        for n in range(5000):
            cache.set(n, os.urandom(1000))
        stats = cache.get_stats()
        assert stats.disk_bytes <= (1 << 20) + 70 * KIB
        assert all(n in cache for n in range(4300, 5000))
        assert stats.evicted + stats.size == 5000
        assert folder_bytes(cache) == stats.disk_bytes


def test_what_is_read_is_kept_when_the_old_goes(tmp_path: Path) -> None:
    with DiskCache(tmp_path, max_bytes=1 << 20) as cache:
        cache.set("hot", "value", tag="t")
        for n in range(5000):
            cache.set(n, os.urandom(1000))
            assert cache["hot"] == "value", n
        assert 0 not in cache
    with DiskCache(tmp_path, max_bytes=1 << 20) as again:
        assert again["hot"] == "value"
        assert again.delete_tag("t") == 1


def test_looking_at_everything_keeps_nothing(tmp_path: Path) -> None:
    with DiskCache(tmp_path, max_bytes=1 << 20) as cache:
        for n in range(2000):
            cache.set(n, os.urandom(1000))
        before = cache._log.segments.numbers(), cache.get_stats().disk_bytes
        assert len(list(cache)) == cache.get_stats().size
        assert cache.expire() == 0
        assert cache.check().is_sound
        assert all(cache.peek(n) for n in cache)
        assert (cache._log.segments.numbers(), cache.get_stats().disk_bytes) == before


def test_large_values_count_and_their_files_go_with_them(tmp_path: Path) -> None:
    with DiskCache(tmp_path, max_bytes=8 << 20) as cache:
        for n in range(30):
            cache.set(n, np.full(1 << 17, n, np.float64))  # 1 MiB each
        files = [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()]
        assert sum(p.stat().st_size for p in files) <= 8 << 20
        assert 29 in cache
        assert 0 not in cache
        cache.set(29, np.zeros(1 << 17))
        cache.delete(28)
        left = [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()]
        assert len(left) == len(files) - 1
        cache.clear()
        assert not [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()]


def test_overwriting_one_key_for_ever_stays_within_the_limit(tmp_path: Path) -> None:
    with DiskCache(tmp_path, max_bytes=512 * KIB) as cache:
        for n in range(3000):
            cache.set("k", bytes(1000) + n.to_bytes(4, "big"))
        assert cache.get_stats().disk_bytes < 600 * KIB
        assert cache["k"][-4:] == (2999).to_bytes(4, "big")


def test_too_small_a_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="65536"):
        DiskCache(tmp_path, max_bytes=1000)


def test_hints_make_no_difference(tmp_path: Path) -> None:
    def content(folder: Path) -> dict[Any, Any]:
        with DiskCache(folder, max_bytes=4 << 20) as cache:
            return {
                "all": dict(cache.items()),
                "inner": dict(cache.namespace("in\nner").items()),
                "tagged": cache.delete_tag("nothing"),
            }

    with DiskCache(tmp_path, max_bytes=4 << 20) as cache:
        inner = cache.namespace("in\nner")
        for n in range(3000):
            cache.set(f"k\n{n % 700}", (n, os.urandom(500)), tag=f"t{n % 10}")
            inner.set(n % 50, n)
            if n % 400 == 0:
                cache.delete_tag("t3")
                cache.delete(f"k\n{n % 700 - 1}")
            if n % 900 == 0:
                inner.clear()
                cache.set("big", np.full(70_000, n))
    assert len(list(tmp_path.glob("*.hint"))) > 2
    with_hints = content(tmp_path)
    for hint in tmp_path.glob("*.hint"):
        hint.unlink()
    without = content(tmp_path)
    assert with_hints["inner"] == without["inner"]
    assert with_hints["all"].keys() == without["all"].keys()
    big = with_hints["all"].pop("big"), without["all"].pop("big")
    np.testing.assert_array_equal(*big)
    assert with_hints == without


def test_a_move_never_brings_back_an_older_value(tmp_path: Path) -> None:
    """Two handles on one folder; one moves what the other has just changed."""
    with DiskCache(tmp_path) as mover, DiskCache(tmp_path) as writer:
        mover.set("set", "old")
        mover.set("deleted", "old")
        mover.set("tagged", "old", tag="t")
        log = mover._log
        real = log.segments.write
        for key, change in {
            "set": lambda: writer.set("set", "new"),
            "deleted": lambda: writer.delete("deleted"),
            "tagged": lambda: writer.delete_tag("t"),
        }.items():

            def write(data: bytes, change: Any = change) -> int:
                log.segments.write = real  # type: ignore[method-assign]
                change()  # between the mover's look at the log and its write
                return real(data)

            log.segments.write = write  # type: ignore[method-assign]
            log.move(b"s" + key.encode())
        for reader in (mover, writer):
            assert reader["set"] == "new"
            assert reader.get("deleted", "gone") == "gone"
            assert reader.get("tagged", "gone") == "gone"
        with DiskCache(tmp_path) as fresh:
            assert dict(fresh.items()) == {"set": "new"}


def test_an_entry_deleted_while_it_is_kept_is_a_miss(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as reader, DiskCache(tmp_path) as other:
        reader.set("k", "value")
        log = reader._log
        log.rescue_below = 1 << 62
        real = log.segments.write

        def write(data: bytes) -> int:
            log.segments.write = real  # type: ignore[method-assign]
            other.delete("k")
            return real(data)

        log.segments.write = write  # type: ignore[method-assign]
        assert reader.get("k", "gone") == "gone"
        assert (log.hits, log.misses) == (0, 1)


# The folder


def test_only_the_user_can_read_the_folder(cache: DiskCache) -> None:
    cache.set("big", np.zeros(100_000))
    for path in (cache.directory, cache.directory / "blobs"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in segments(cache)} == {0o600}


def test_a_newer_format_and_a_network_disk_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = {"format": "ops-cache log", "version": 99, "salt": "00" * 16}
    (tmp_path / "cache.json").write_text(json.dumps(marker))
    with pytest.raises(CacheError, match="Upgrade ops-cache"):
        DiskCache(tmp_path)
    monkeypatch.setattr(cache_directory, "_file_system", lambda _: "nfs4")
    with pytest.raises(UnsuitableFolderError, match="network file system"):
        DiskCache(tmp_path / "other")


def test_a_file_in_the_place_of_the_folder_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("")
    with pytest.raises(OSError, match="c"):
        DiskCache(tmp_path / "c")


@pytest.mark.skipif(os.name != "posix", reason="needs another user")
def test_a_read_only_folder_can_be_read(tmp_path: Path) -> None:
    with DiskCache(tmp_path / "c") as cache:
        cache.set("k", [1])
        cache.set("big", np.ones(100_000))
    program = """
import os, sys, warnings
from ops.cache import DiskCache, ReadOnlyCacheError
os.access = lambda path, mode: mode != os.W_OK  # root may write anywhere
cache = DiskCache(sys.argv[1])
assert cache["k"] == [1] and cache["big"].sum() == 100_000
try:
    cache.set("k", 2)
except ReadOnlyCacheError as error:
    assert "cannot be written" in str(error)
else:
    raise SystemExit("written")
assert cache.get_or_compute("new", lambda: 5) == 5
assert cache.get("k") == [1]
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "c")], check=True)
    with DiskCache(tmp_path / "c") as cache:
        assert sorted(cache) == ["big", "k"]


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text('{"colour": "green"}')
    (tmp_path / "film.seg").write_text("precious")
    with pytest.raises(UnsuitableFolderError, match="not made by ops-cache"):
        DiskCache(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache.json", "film.seg"]


def test_a_damaged_marker_takes_only_what_is_the_caches(tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text('{"format": "ops-ca')
    (tmp_path / "film.seg").write_text("precious")
    with DiskCache(tmp_path) as cache:
        cache.set(1, 1)
    assert (tmp_path / "film.seg").read_text() == "precious"


@pytest.mark.parametrize("tag", ["x" * 70_000, 5])
def test_a_tag_that_cannot_be_stored_is_refused(cache: DiskCache, tag: Any) -> None:
    with pytest.raises(ValidationError, match="tag"):
        cache.set(1, 1, tag=tag)
    assert 1 not in cache


@pytest.mark.parametrize("wrong", [float("nan"), 0, -5])
def test_a_limit_that_is_no_size_is_refused(tmp_path: Path, wrong: float) -> None:
    with pytest.raises(ValidationError, match="max_"):
        DiskCache(tmp_path, max_bytes=wrong)  # type: ignore[arg-type] # as untyped callers do
    with pytest.raises(ValidationError, match="max_"):
        MemoryCache(wrong)  # type: ignore[arg-type] # as untyped callers do


@pytest.mark.fault
def test_a_child_that_outlives_the_computation_holds_no_key(cache: DiskCache) -> None:
    children: list[int] = []

    def compute() -> int:
        child = os.fork()
        if not child:
            signal.pause()
        children.append(child)
        return 1

    try:
        assert cache.get_or_compute("k", compute) == 1
        cache.delete("k")
        again = threading.Thread(target=cache.get_or_compute, args=("k", lambda: 2), daemon=True)
        again.start()
        again.join(20)
        assert cache["k"] == 2
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
