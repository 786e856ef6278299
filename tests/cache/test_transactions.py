"""Transactions and queues of a DiskCache: all or nothing, one after the other, also over kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.cache import DiskCache
from ops.foundation import ValidationError

FULL = os.environ.get("OPS_FAULTS") == "full"
Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DiskCache]:
    with DiskCache(tmp_path / "c") as made:
        yield made


def test_changes_are_seen_inside_at_once_and_outside_at_the_end(cache: DiskCache) -> None:
    cache.update({"a": 1, "b": 2})
    with DiskCache(cache.directory) as other, cache.transact() as changes:
        changes["a"] = 10
        del changes["b"]
        changes.set("tagged", [1], ttl=100, tag="t")
        assert changes.incr("n") == 1
        assert changes.pop("n") == 1
        assert (changes["a"], changes.get("b"), "n" in changes) == (10, None, False)
        assert sorted(changes) == ["a", "tagged"]
        assert dict(cache.items()) == dict(other.items()) == {"a": 1, "b": 2}
    assert dict(cache.items()) == {"a": 10, "tagged": [1]}
    assert cache.delete_tag("t") == 1


def test_an_exception_discards_everything(cache: DiskCache) -> None:
    cache["a"] = 1

    def fail() -> None:
        with cache.transact() as changes:
            changes["a"] = 2
            changes["large"] = np.zeros(100_000)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert dict(cache.items()) == {"a": 1}
    assert not list(cache._log.blobs.files())
    with cache.transact() as changes:
        pass
    with pytest.raises(ValidationError, match="has ended"):
        changes["a"] = 2


def test_a_counter_keeps_its_time_and_tag_in_a_transaction(cache: DiskCache) -> None:
    cache.set("n", 1, ttl=1000, tag="t")
    with cache.transact() as changes:
        changes.incr("n")
        changes.incr("n")
    value, left = cache.get_with_ttl("n")
    assert value == 3
    assert left is not None
    assert 900 < left <= 1000
    assert cache.delete_tag("t") == 1


def test_large_values_replaced_within_a_transaction_leave_no_file(cache: DiskCache) -> None:
    cache["a"] = np.zeros(100_000)
    with cache.transact() as changes:
        changes["a"] = np.ones(100_000)
        changes["a"] = np.full(100_000, 2.0)
        assert changes["a"][0] == 2
    assert cache["a"][0] == 2
    assert len(list(cache._log.blobs.files())) == 1
    assert cache.check().is_sound


def test_a_transaction_within_another_is_refused(cache: DiskCache) -> None:
    with (
        cache.transact(),
        pytest.raises(ValidationError, match="in a transaction"),
        cache.namespace("part").transact(),
    ):
        pass


def test_a_torn_transaction_counts_for_nothing(cache: DiskCache) -> None:
    cache["a"] = cache["b"] = 0
    before = (cache.directory / "00000001.seg").stat().st_size
    with cache.transact() as changes:
        changes["a"] = 1
        changes["b"] = "x" * 100
    segment = cache.directory / "00000001.seg"
    whole = segment.read_bytes()
    for cut in range(before, len(whole)):
        segment.write_bytes(whole[:cut])
        with DiskCache(cache.directory) as torn:
            assert dict(torn.items()) == {"a": 0, "b": 0}
    segment.write_bytes(whole)
    with DiskCache(cache.directory) as late:
        assert dict(late.items()) == {"a": 1, "b": "x" * 100}


def test_a_transaction_can_be_read_behind_hints_and_is_moved_like_any_entry(
    tmp_path: Path,
) -> None:
    with DiskCache(tmp_path, max_bytes=1 << 20) as cache:
        with cache.transact() as changes:
            changes.set_many({n: [n] * 10 for n in range(50)})
        cache._log.seal()
        with DiskCache(tmp_path, max_bytes=1 << 20) as late:
            assert [late[n] for n in range(50)] == [[n] * 10 for n in range(50)]
            assert late.check().is_sound
        for _ in range(3000):
            cache["k"] = "x" * 1000
        assert cache._log.segments.numbers()[0] > 2
        assert [cache[n] for n in range(50)] == [[n] * 10 for n in range(50)]


def test_transactions_of_threads_come_one_after_the_other(cache: DiskCache) -> None:
    cache.update({"a": 0, "b": 0})

    def transfer() -> None:
        for _ in range(30):
            with cache.transact() as changes:
                a, b = changes["a"], changes["b"]
                assert a == -b
                changes["a"], changes["b"] = a + 1, b - 1

    threads = [threading.Thread(target=transfer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (cache["a"], cache["b"]) == (120, -120)


TRANSFERS = """
import sys
from ops.cache import DiskCache
cache = DiskCache(sys.argv[1], max_bytes=1 << 20)
while True:
    with cache.transact() as changes:
        n = changes["n"]
        for name in "abcdefgh":
            changes[name] = [n + 1, "x" * (n % 3000)]
        changes["n"] = n + 1
    print(n, flush=True)
"""


@pytest.mark.fault
def test_transactions_of_killed_processes_are_whole(
    tmp_path: Path, child: Child, fault_record: dict[str, Any]
) -> None:
    with DiskCache(tmp_path, max_bytes=1 << 20) as cache:
        cache.update({**{key: [0, ""] for key in "abcdefgh"}, "n": 0})
    kills = 200 if FULL else 6
    for _ in range(kills):
        writers = [child(TRANSFERS, tmp_path) for _ in range(2)]
        for writer in writers:
            assert writer.stdout
            writer.stdout.readline()
        time.sleep(random.random() * 0.05)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        with DiskCache(tmp_path, max_bytes=1 << 20) as cache:
            n = cache["n"]
            assert {cache[name][0] for name in "abcdefgh"} == {n}
            assert cache.check().damaged_entries == 0
    fault_record["SIGKILLs of processes in transactions"] = 2 * kills
    fault_record["transactions torn"] = 0


# Queues


def test_a_queue_keeps_the_order_from_both_sides(cache: DiskCache) -> None:
    queue = cache.queue("jobs")
    for n in range(4):
        queue.push({"job": n})
    queue.push("first", side="front")
    assert list(queue) == ["first", *({"job": n} for n in range(4))]
    assert len(queue) == 5
    assert queue.peek() == "first"
    assert queue.peek(side="back") == {"job": 3}
    assert queue.pull() == "first"
    assert queue.pull(side="back") == {"job": 3}
    assert list(cache) == []  # its entries are not among the keys of the cache
    assert cache.queue("others").pull("empty") == "empty"
    with pytest.raises(ValidationError, match="front"):
        queue.push(1, side="top")  # type: ignore[arg-type]
    queue.clear()
    assert queue.pull() is None
    queue.push(None)
    assert queue.pull("empty") is None


def test_values_of_a_queue_may_expire_and_its_ends_may_go(tmp_path: Path) -> None:
    now = [1000.0]
    with DiskCache(tmp_path, clock=lambda: now[0]) as cache:
        queue = cache.queue("jobs")
        queue.push("short", ttl=10)
        queue.push("long")
        now[0] += 20
        assert (queue.peek(), list(queue)) == ("long", ["long"])
        queue.push("last")
        cache.namespace("ops.queue").namespace("jobs").delete("ends")  # as an eviction does
        assert [queue.pull(), queue.pull(), queue.pull()] == ["long", "last", None]


WORKER = """
import sys
from ops.cache import DiskCache
queue = DiskCache(sys.argv[1], max_bytes=4 << 20).queue("jobs")
while (job := queue.pull()) is not None:
    print(job, flush=True)
"""


@pytest.mark.fault
def test_each_value_goes_to_one_process(tmp_path: Path, child: Child) -> None:
    with DiskCache(tmp_path, max_bytes=4 << 20) as cache:
        queue = cache.queue("jobs")
        for n in range(300):
            queue.push(n)
    workers = [child(WORKER, tmp_path) for _ in range(3)]
    jobs = [int(job) for w in workers for job in w.communicate(timeout=120)[0].split()]
    assert sorted(jobs) == list(range(300))
