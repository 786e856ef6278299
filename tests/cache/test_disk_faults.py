"""DiskCache under killed writers, torn and damaged files, full disks and several processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.cache import CorruptEntryWarning, DiskCache
from ops.cache.disk.records import pack

FULL = os.environ.get("OPS_FAULTS") == "full"
Child = Callable[..., "subprocess.Popen[str]"]

# Writes values that tell whether they are whole; prints each number after its set returned.
WRITER = """
import sys
from ops.cache import DiskCache
folder, worker, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cache = DiskCache(folder, max_bytes=64 << 20)
cache._log.segment_bytes = 1 << 20  # many rotations
cache._codec._blob_from = 20_000
n = 0
while n < count:
    size = 30_000 if n % 50 == 0 else 50 + n % 300
    cache.set((worker, n % 500), (worker, n, f"{worker}:{n}:" * (size // 8)))
    n += 1
    if count > 10**6:
        print(n - 1, flush=True)
print("done", flush=True)
"""


def value_of(worker: int, n: int) -> tuple[int, int, str]:
    size = 30_000 if n % 50 == 0 else 50 + n % 300
    return worker, n, f"{worker}:{n}:" * (size // 8)


def assert_no_wrong_value(cache: DiskCache, workers: range) -> int:
    found = 0
    for worker in workers:
        for slot in range(500):
            value = cache.get((worker, slot))
            if value is not None:
                found += 1
                assert value == value_of(worker, value[1])
                assert (value[0], value[1] % 500) == (worker, slot)
    return found


def test_what_a_killed_writer_left_is_read_once_and_not_by_every_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DiskCache(tmp_path) as cache, DiskCache(tmp_path) as other:
        cache["a"] = 1
        with cache._log.segments.path(1).open("ab") as segment:
            segment.write(b"\0" * 100_000)
        reads: list[int] = []
        read = cache._log.segments.read
        monkeypatch.setattr(
            cache._log.segments, "read", lambda start, end: reads.append(end) or read(start, end)
        )
        assert [cache["a"] for _ in range(3)] == [1, 1, 1]
        assert len(reads) == 1
        other["b"] = 2
        assert cache["b"] == 2


@pytest.mark.fault
def test_four_processes_lose_nothing_across_rotations(
    tmp_path: Path, child: Child, fault_record: dict[str, Any]
) -> None:
    count = 20_000 if FULL else 4000
    writers = [child(WRITER, tmp_path, worker, count) for worker in range(4)]
    for writer in writers:
        assert writer.communicate(timeout=300)[0] == "done\n"
    with DiskCache(tmp_path) as cache:
        assert len(cache._log.segments.numbers()) > 3
        for worker in range(4):
            for slot in range(500):
                last = count - 500 + slot
                assert cache[(worker, slot)] == value_of(worker, last)
        report = cache.check()
        assert (report.entries, report.damaged_entries, report.damaged_bytes) == (2000, 0, 0)
        fault_record["four writers, sets each"] = count
        fault_record["four writers, segments"] = cache._log.segments.numbers()[-1]
        fault_record["four writers, last sets lost"] = 0


@pytest.mark.fault
def test_killed_writers_leave_no_wrong_value_and_a_writable_cache(
    tmp_path: Path, child: Child, fault_record: dict[str, Any]
) -> None:
    acknowledged = {0: -1, 1: -1}
    checked = 0
    for kill in range(500 if FULL else 12):
        writers = [child(WRITER, tmp_path, worker, 10**9) for worker in acknowledged]
        for writer in writers:
            assert writer.stdout
            writer.stdout.readline()  # it writes now
        time.sleep(random.random() * 0.05)
        for worker, writer in enumerate(writers):
            writer.send_signal(signal.SIGKILL)
            lines = writer.communicate()[0].split()
            acknowledged[worker] = int(lines[-1]) if lines else 0
        if kill % 5 == 0:  # garbage and the front of a real record
            last = max(tmp_path.glob("*.seg"))
            with last.open("ab") as file:
                file.write(random.randbytes(random.randrange(1, 200)))
                record = pack(0, 0, b"sk", b"x" * 500, 0.0, b"")
                file.write(record[: random.randrange(8, 400)])
        with DiskCache(tmp_path) as cache, warnings.catch_warnings():
            warnings.simplefilter("error", CorruptEntryWarning)
            checked += assert_no_wrong_value(cache, range(2))
            for worker, last_number in acknowledged.items():
                # The next set, if it came, has another slot: what was acknowledged last is there.
                assert cache[(worker, last_number % 500)] == value_of(worker, last_number)
            cache.set("probe", kill)
            with DiskCache(tmp_path) as again:
                assert again["probe"] == kill
    with DiskCache(tmp_path) as cache:
        assert cache.check().damaged_entries == 0
    fault_record["SIGKILLs of writers"] = 2 * (kill + 1)
    fault_record["values checked after the kills"] = checked
    fault_record["wrong values, lost acknowledged sets, unwritable caches"] = 0


@pytest.mark.fault
def test_eight_processes_compute_a_missing_key_once(tmp_path: Path, child: Child) -> None:
    program = """
import os, sys, time
from ops.cache import DiskCache
cache = DiskCache(sys.argv[1] + "/cache")
def compute():
    with open(sys.argv[1] + "/calls", "a") as file:
        file.write("x")
    time.sleep(0.3)
    return [1, 2]
print(cache.get_or_compute("k", compute))
"""
    children = [child(program, tmp_path) for _ in range(8)]
    assert [c.communicate(timeout=300)[0] for c in children] == ["[1, 2]\n"] * 8
    assert (tmp_path / "calls").read_text() == "x"


@pytest.mark.fault
def test_a_killed_computation_hands_over(tmp_path: Path, child: Child) -> None:
    program = """
import sys, time
from ops.cache import DiskCache
cache = DiskCache(sys.argv[1])
def compute():
    print("computing", flush=True)
    time.sleep(600)
cache.get_or_compute("k", compute)
"""
    leader = child(program, tmp_path)
    assert leader.stdout
    assert leader.stdout.readline() == "computing\n"
    waiter = child(program.replace("time.sleep(600)", "return 5") + "print(cache['k'])", tmp_path)
    leader.kill()
    assert waiter.communicate(timeout=300)[0] == "computing\n5\n"


def test_a_file_cut_anywhere_loses_only_what_was_cut(tmp_path: Path) -> None:
    with DiskCache(tmp_path / "c") as cache:
        ends = [0]
        for n in range(6):
            cache.set(n, f"value {n}")
            ends.append((tmp_path / "c/00000001.seg").stat().st_size)
    whole = (tmp_path / "c/00000001.seg").read_bytes()
    for cut in range(len(whole)):
        (tmp_path / "c/00000001.seg").write_bytes(whole[:cut])
        with DiskCache(tmp_path / "c") as cache:
            alive = sum(end <= cut for end in ends[1:])
            assert list(cache) == list(range(alive))
            cache.set("after", cut)
            with DiskCache(tmp_path / "c") as again:
                assert again["after"] == cut
                assert len(again) == alive + 1


def test_a_flipped_byte_anywhere_never_gives_a_wrong_value(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    with DiskCache(folder) as cache:
        for n in range(4):
            cache.set(n, [n, "x" * 10])
        cache.delete(3)
    segment = folder / "00000001.seg"
    whole = segment.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x41
        segment.write_bytes(damaged)
        with DiskCache(folder) as cache:
            for n in range(3):
                assert cache.get(n, [n, "x" * 10]) == [n, "x" * 10]
            assert len(cache) >= 2
            cache.set("after", 1)
        with DiskCache(folder) as cache:
            assert cache["after"] == 1


def test_damage_behind_a_hint_is_found_at_the_first_read(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as cache:
        for n in range(10):
            cache.set(n, f"value {n}" * 10)
        cache._log.seal()
    assert (tmp_path / "00000001.hint").exists()
    data = bytearray((tmp_path / "00000001.seg").read_bytes())
    at = data.index(b"value 4")
    data[at] ^= 1
    (tmp_path / "00000001.seg").write_bytes(data)
    with DiskCache(tmp_path) as cache:
        assert cache.check().damaged_entries == 1
        assert cache.get(4, "gone") == "gone"
        assert cache[5] == "value 5" * 10
        cache.check(repair=True)
        assert cache.check().is_sound


@pytest.mark.parametrize("cut", [0, 10, 40, 200])
def test_a_torn_or_damaged_hint_costs_nothing(tmp_path: Path, cut: int) -> None:
    with DiskCache(tmp_path) as cache:
        for n in range(10):
            cache.set(n, n)
        cache._log.seal()
    hint = tmp_path / "00000001.hint"
    data = hint.read_bytes()
    for content in (data[:cut], data[:cut] + b"\xff" + data[cut + 1 :], b""):
        hint.write_bytes(content)
        with DiskCache(tmp_path) as cache:
            assert dict(cache.items()) == {n: n for n in range(10)}


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "empty"])
def test_a_damaged_file_of_a_large_value_is_a_miss(tmp_path: Path, damage: str) -> None:
    with DiskCache(tmp_path) as cache:
        cache.set("a", np.arange(100_000))
    (blob,) = (p for p in (tmp_path / "blobs").rglob("*") if p.is_file())
    data = bytearray(blob.read_bytes())
    if damage == "gone":
        blob.unlink()
    else:
        data[-5000] ^= 1
        blob.write_bytes({"cut": bytes(data[:-100]), "flip": bytes(data), "empty": b""}[damage])
    with DiskCache(tmp_path) as cache, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert cache.get("a", "miss") == "miss"
        assert [w.category for w in caught] == [CorruptEntryWarning] * (damage != "gone")
        cache.set("a", 1)
        assert cache["a"] == 1


def test_a_record_inside_a_value_is_no_record(tmp_path: Path) -> None:
    """Bytes that look like a record of another cache, or of this one, stay what they are."""
    with DiskCache(tmp_path / "a") as cache, DiskCache(tmp_path / "b") as other:
        other.set("k", "stranger")
        inside = (tmp_path / "b/00000001.seg").read_bytes()
        cache.set("copy", b"x" * 64 + inside)
    segment = tmp_path / "a/00000001.seg"
    segment.write_bytes(segment.read_bytes()[1:])  # the record around it is damaged
    with DiskCache(tmp_path / "a") as cache:
        assert list(cache) == []


def test_files_that_no_record_names_are_removed_on_request(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as cache:
        cache.set("a", np.arange(100_000))
        (blob,) = (p for p in (tmp_path / "blobs").rglob("*") if p.is_file())
        orphan, fresh = blob.with_name("0" * 24), blob.with_name("1" * 24)
        for path in (orphan, fresh):
            path.write_bytes(b"x" * 1000)
        os.utime(orphan, (0, 0))  # long ago; the other may just be being written
        report = cache.check(repair=True)
        assert (report.orphaned_files, report.orphaned_bytes) == (1, 1000)
        assert not orphan.exists()
        assert fresh.exists()
        assert cache["a"][-1] == 99_999


def test_a_damaged_marker_starts_an_empty_cache(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as cache:
        cache.set("k", 1)
    (tmp_path / "cache.json").write_text("{")
    with DiskCache(tmp_path) as cache:
        assert "k" not in cache
        cache.set("k", 2)
    with DiskCache(tmp_path) as cache:
        assert cache["k"] == 2


def test_a_folder_emptied_under_our_feet_is_an_empty_cache(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as cache:
        cache.set("k", "v" * 100)
        with (tmp_path / "00000001.seg").open("r+b") as file:
            file.truncate(0)
        assert cache.get("k") is None
        cache.set("k", 2)
        assert cache["k"] == 2


@pytest.mark.fault
@pytest.mark.parametrize("large", [False, True])
def test_a_full_disk_is_an_error_and_the_rest_stays(
    tmp_path: Path, child: Child, *, large: bool
) -> None:
    """RLIMIT_FSIZE stops a write in its middle, as a disk does that is full."""
    program = """
import resource, sys
from ops.cache import CacheFullError, DiskCache
cache = DiskCache(sys.argv[1])
cache.set("before", "kept")
cache._codec._blob_from = 1000 if sys.argv[2] == "True" else 10**9
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    for n in range(100):
        cache.set(n, "x" * (30_000 if sys.argv[2] == "True" else 700))
except CacheFullError as error:
    assert "disk" in str(error) or "bytes" in str(error), error
    print("full", n)
assert cache["before"] == "kept"
assert cache.get_or_compute("computed", lambda: "y" * 30_000) == "y" * 30_000
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
cache.set("after", "room")
print(cache["after"], cache["before"], sorted(map(str, cache)) == sorted(
    ["after", "before", *map(str, range(n))]))
"""
    output = child(program, tmp_path, large).communicate(timeout=300)[0].split()
    assert output[0] == "full"
    assert (int(output[1]) > 10) is not large
    assert output[2:] == ["room", "kept", "True"]
    with DiskCache(tmp_path) as cache:
        assert cache["after"] == "room"
        assert cache.check().is_sound


def test_a_write_behind_a_seal_is_written_again(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as one, DiskCache(tmp_path) as two:
        one.set("a", 1)
        assert two["a"] == 1
        real = two._log.segments.write

        def write(data: bytes) -> int:
            two._log.segments.write = real  # type: ignore[method-assign]
            one._log.seal()
            one.set("b", "other")
            return real(data)

        two._log.segments.write = write  # type: ignore[method-assign]
        two.set("a", 2)
        assert (one["a"], two["a"], two["b"]) == (2, 2, "other")
    with DiskCache(tmp_path) as fresh:
        assert dict(fresh.items()) == {"a": 2, "b": "other"}
        assert fresh.check().damaged_bytes == 0


def test_an_eviction_by_another_process_is_noticed(tmp_path: Path) -> None:
    with (
        DiskCache(tmp_path, max_bytes=1 << 20) as one,
        DiskCache(tmp_path, max_bytes=1 << 20) as two,
    ):
        one.set("old", np.zeros(10_000))
        assert len(two["old"]) == 10_000
        for n in range(3000):
            one.set(n, os.urandom(1000))
        assert two.get(2999) is not None
        assert "old" not in one
        assert two.get("old") is None
        assert two.get_stats().size == one.get_stats().size
        assert one._log.segments.numbers() == two._log.segments.numbers()
