"""Values that go into a `DiskCache` from a file and come back as one, without being in memory."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ops.cache import DiskCache, ValueTooLargeError
from ops.foundation import ValidationError
from ops.serialize import Signed

SIZES = [0, 1, 2047, 2048, 65_535, 65_536, 262_143, 262_144, 3_000_001]


@pytest.mark.parametrize("trust", ["user", "safe", "all", Signed(b"k" * 32)], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_a_stream_is_the_bytes_that_it_reads(tmp_path: Path, size: int, trust) -> None:
    content = random.Random(size).randbytes(size)
    with DiskCache(tmp_path / "c", trust=trust) as cache:
        cache.set_stream("streamed", io.BytesIO(content))
        cache.set("set", content)
        assert cache["streamed"] == cache["set"] == content
        for key in ("streamed", "set"):
            with cache.get_stream(key) as file:
                assert file.read(10) == content[:10]
                assert file.seek(-min(size, 7), os.SEEK_END) == size - min(size, 7)
                assert file.read() == content[size - min(size, 7) :]
    with DiskCache(tmp_path / "c", trust=trust) as again, again.get_stream("streamed") as file:
        assert file.read() == content


def test_a_small_cache_has_small_files(tmp_path: Path) -> None:
    with DiskCache(tmp_path / "c", max_bytes=1 << 16) as cache:
        for size in (1000, 2048, 20_000):
            cache.set_stream(size, io.BytesIO(bytes(size)))
            assert cache.get_stream(size).read() == cache[size] == bytes(size)
        with pytest.raises(ValueTooLargeError):
            cache.set_stream("large", io.BytesIO(bytes(1 << 16)))
        assert "large" not in cache


def test_a_stream_begins_where_its_file_stands(tmp_path: Path) -> None:
    file = io.BytesIO(b"read already, and the rest")
    file.read(18)
    with DiskCache(tmp_path / "c") as cache:
        cache.set_stream("k", file)
        assert cache["k"] == b"the rest"


def test_what_is_read_stays_as_it_was(tmp_path: Path) -> None:
    with DiskCache(tmp_path / "c") as cache:
        cache.set_stream("k", io.BytesIO(b"a" * 600_000))
        before = cache.get_stream("k")
        cache.set_stream("k", io.BytesIO(b"b" * 600_000))
        cache.delete("k")
        assert before.read() == b"a" * 600_000
        assert cache.get_stream("k") is None


def test_time_to_live_and_tags_are_those_of_set(tmp_path: Path) -> None:
    now = [1000.0]
    with DiskCache(tmp_path / "c", clock=lambda: now[0]) as cache:
        cache.set_stream("k", io.BytesIO(b"x" * 600_000), 10, tag="t")
        cache.set_stream("never", io.BytesIO(b"x"), 0)
        assert cache.tag_of("k") == "t"
        assert cache.get_stream("never") is None
        now[0] += 10
        assert cache.get_stream("k") is None


def test_what_is_no_bytes_is_refused_both_ways(tmp_path: Path) -> None:
    with DiskCache(tmp_path / "c") as cache:
        with pytest.raises(ValidationError, match="gives no bytes"):
            cache.set_stream("k", io.StringIO("text"))
        assert "k" not in cache
        cache["k"] = {"a": 1}
        with pytest.raises(ValidationError, match="'k' is a dict"):
            cache.get_stream("k")


def test_a_stream_that_fails_stores_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            raise ConnectionError("the other side is gone")

    with DiskCache(tmp_path / "c") as cache:
        cache["k"] = b"before"
        files = sorted(p.name for p in (tmp_path / "c").iterdir())
        with pytest.raises(ConnectionError):
            cache.set_stream("k", Broken())
        assert cache["k"] == b"before"
        assert sorted(p.name for p in (tmp_path / "c").iterdir()) == files


FULL = """
import io, resource, signal, sys
from ops.cache import CacheFullError, DiskCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with DiskCache(sys.argv[1]) as cache:
    cache["k"] = b"before"
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        cache.set_stream("k", io.BytesIO(bytes(2 << 20)))
    except CacheFullError:
        print(cache["k"].decode())
"""


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "c")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "before\n"


LARGE = """
import os, resource, sys
from ops.cache import DiskCache
with DiskCache(sys.argv[1], max_bytes=1 << 30) as cache:
    cache.set("warm", bytes(1 << 20))
    with open(sys.argv[2], "rb") as file:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resource.setrlimit(resource.RLIMIT_DATA, (before * 1024 + (24 << 20),) * 2)
        cache.set_stream("k", file)
    total = 0
    with cache.get_stream("k") as file:
        while part := file.read(1 << 20):
            total += len(part)
print(total)
"""


def test_a_large_value_is_never_in_memory(tmp_path: Path) -> None:
    """The process may not have as much memory of its own as the value takes."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(96 << 20)
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "c"), str(tmp_path / "large")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{96 << 20}\n", done.stderr
