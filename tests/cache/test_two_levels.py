"""Two levels: what the front may hold, and writing back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.cache import CacheClosedError, DiskCache, LRUCache, MemoryCache, TwoLevelCache
from ops.foundation import ValidationError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(dict[Any, Any]):
    """A level that counts, and fails on demand."""

    failing = False
    sets = 0

    def set(self, key: Any, value: Any, ttl: Any = None) -> None:
        if self.failing:
            raise OSError("the level behind is away")
        self.sets += 1
        self[key] = value

    def delete(self, key: Any) -> bool:
        return self.pop(key, None) is not None


def test_what_is_promoted_lives_no_longer_than_behind() -> None:
    clock = Clock()
    l1: MemoryCache[Any, Any] = MemoryCache(clock=clock)
    l2: MemoryCache[Any, Any] = MemoryCache(clock=clock)
    two: TwoLevelCache[Any, Any] = TwoLevelCache(l1, l2)
    l2.set("k", 1, ttl=10)
    clock.now = 6
    assert two.get("k") == 1
    clock.now = 10
    assert not two.contains("k")


def test_the_front_keeps_to_its_own_time_to_live() -> None:
    clock = Clock()
    l1: LRUCache[Any, Any] = LRUCache(10, default_ttl=5, clock=clock)
    l2: LRUCache[Any, Any] = LRUCache(10, default_ttl=100, clock=clock)
    two: TwoLevelCache[Any, Any] = TwoLevelCache(l1, l2)
    two.set("k", 1)
    two.set("ever", 2, ttl=None)
    clock.now = 6
    assert not l1.contains("k")
    assert not l1.contains("ever")
    assert (two.get("k"), two.get("ever")) == (1, 2)


def test_processes_behind_one_disk_compute_once(tmp_path: Path) -> None:
    program = """
import sys, time
from ops.cache import DiskCache, MemoryCache, TwoLevelCache
two = TwoLevelCache(MemoryCache(10), DiskCache(sys.argv[1] + "/c"))
def compute():
    open(sys.argv[1] + "/calls", "a").write("x")
    time.sleep(0.2)
    return 5
print(two.get_or_compute("k", compute))
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in running] == ["5\n"] * 3
    assert (tmp_path / "calls").read_text() == "x"


def test_writing_back_comes_later_and_only_with_the_newest() -> None:
    behind = Slow()
    with TwoLevelCache(MemoryCache(1), behind, write="back", flush_interval=1000) as two:
        for n in range(5):
            two.set("a", n)
        two.set("b", 1)  # `a` leaves the front, and is still found
        assert two.get("a") == 4
        assert not behind
        two.flush()
        assert behind == {"a": 4, "b": 1}
        assert behind.sets == 2
        two.set("c", 1)
        assert two.delete("c")
        two.set("d", 1)
        two.clear()
        two.set("e", 1)
    assert dict(behind) == {"e": 1}
    with pytest.raises(CacheClosedError):
        two.set("f", 1)


def test_a_full_list_makes_the_writer_wait_for_the_flush() -> None:
    behind = Slow()
    with TwoLevelCache(
        MemoryCache(100), behind, write="back", flush_interval=1000, max_pending=10
    ) as two:
        for n in range(25):
            two.set(n, n)
        assert len(behind) == 20


def test_what_the_level_behind_refuses_stays_pending(until: Callable[..., None]) -> None:
    behind = Slow()
    behind.failing = True
    with TwoLevelCache(MemoryCache(1), behind, write="back", flush_interval=0.01) as two:
        two.set("a", 1)
        two.set("b", 2)
        with pytest.raises(OSError, match="away"):
            two.flush()
        assert (two.get("a"), two.get("b")) == (1, 2)
        behind.failing = False
        until(lambda: len(behind) == 2)  # the thread tries again


def test_the_rest_is_written_at_the_end_of_the_process(tmp_path: Path) -> None:
    program = """
import sys
import threading
from ops.cache import DiskCache, MemoryCache, TwoLevelCache
two = TwoLevelCache(MemoryCache(10), DiskCache(sys.argv[1]), write="back", flush_interval=1000)
two.set("k", 1)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    with DiskCache(tmp_path) as cache:
        assert cache["k"] == 1


def test_an_unknown_way_of_writing_is_refused() -> None:
    with pytest.raises(ValidationError, match="sideways"):
        TwoLevelCache(MemoryCache(1), MemoryCache(1), write="sideways")  # type: ignore[arg-type]


def test_a_forked_child_writes_its_own_entries_back_and_no_others() -> None:
    program = """
import os, sys
from ops.cache import LRUCache, TwoLevelCache

class Level(LRUCache):
    def set(self, key, value, ttl=None):
        os.write(1, f"{key};".encode())

cache = TwoLevelCache(LRUCache(), Level(), write="back", flush_interval=600)
cache.set("parent", 1)
child = os.fork()
if not child:
    cache.set("child", 1)
    sys.exit(0)
os.waitpid(child, 0)
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "child;parent;"


CHANGES: dict[str, Callable[[TwoLevelCache[Any, Any]], object]] = {
    "set": lambda two: two.set("k", "new"),
    "delete": lambda two: two.delete("k"),
    "clear": lambda two: two.clear(),
}


@pytest.mark.parametrize("write", ["through", "back"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_promotion_that_is_overtaken_leaves_nothing_old_in_front(
    monkeypatch: pytest.MonkeyPatch, change: str, write: Any
) -> None:
    l1, l2 = MemoryCache[Any, Any](), MemoryCache[Any, Any]()
    with TwoLevelCache(l1, l2, write=write, flush_interval=1000) as two:
        l2.set("k", "old")
        expected = "new" if change == "set" else "nothing"
        behind, in_front = l2.get_with_ttl, l1.set

        def overtaken(*args: Any) -> Any:
            found = behind(*args)
            monkeypatch.undo()
            CHANGES[change](two)
            assert two.get("k", "nothing") == expected  # also before the promotion has ended
            return found

        monkeypatch.setattr(l2, "get_with_ttl", overtaken)
        two.get("k")
        assert two.get("k", "nothing") == expected

        def late(*args: Any) -> None:
            monkeypatch.undo()
            CHANGES[change](two)
            in_front(*args)
            assert two.get("k", "nothing") == expected

        two.set("k", "old")
        l1.clear()
        monkeypatch.setattr(l1, "set", late)
        two.get("k")
        assert two.get("k", "nothing") == expected


def test_two_writers_of_a_key_leave_both_levels_with_one_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    l1, l2 = MemoryCache[Any, Any](), MemoryCache[Any, Any]()
    two: TwoLevelCache[Any, Any] = TwoLevelCache(l1, l2)
    behind = l2.set

    def overtaken(*args: Any) -> None:
        behind(*args)
        monkeypatch.undo()
        two.set("k", "second")

    monkeypatch.setattr(l2, "set", overtaken)
    two.set("k", "first")
    assert two.get("k") == l2.get("k") == "second"


def test_a_computation_that_is_overtaken_leaves_nothing_old_in_front() -> None:
    l1, l2 = MemoryCache[Any, Any](), MemoryCache[Any, Any]()
    two: TwoLevelCache[Any, Any] = TwoLevelCache(l1, l2)
    real = l2.get_or_compute

    class Behind:
        get_with_ttl, set, delete, clear, get = (
            l2.get_with_ttl,
            l2.set,
            l2.delete,
            l2.clear,
            l2.get,
        )

        def get_or_compute(self, *args: Any) -> Any:
            value = real(*args)
            two.set("k", "new")
            return value

    two.l2 = Behind()
    assert two.get_or_compute("k", lambda: "computed") == "computed"
    assert two.get("k") == l2.get("k") == "new"


def test_what_is_pending_hides_what_is_behind_also_when_its_time_has_come() -> None:
    l1, l2 = MemoryCache[Any, Any](), MemoryCache[Any, Any]()
    with TwoLevelCache(l1, l2, write="back", flush_interval=1000) as two:
        l2.set("k", "old")
        two.set("k", "new", ttl=0)
        assert two.get("k") is None
        two.flush()
        assert two.get("k") is None
    assert l2.get("k") is None


def test_what_was_accepted_while_closing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    l1, l2 = MemoryCache[Any, Any](), MemoryCache[Any, Any]()
    two: TwoLevelCache[Any, Any] = TwoLevelCache(l1, l2, write="back", flush_interval=1000)

    def closing(ttl: Any) -> Any:
        two.close()
        return ttl

    monkeypatch.setattr("ops.cache.two_level.check_ttl", closing)
    with pytest.raises(CacheClosedError):
        two.set("k", "refused")
    assert l2.get("k") is None


def test_the_end_of_the_process_writes_after_a_flush_that_has_begun() -> None:
    program = """
import threading
from ops.cache import MemoryCache, TwoLevelCache
ending = threading.Event()
class Behind(MemoryCache):
    def set(self, key, value, ttl=None):
        if value == "old":
            begun.set()
            ending.wait(1)  # the end of the process comes now
        print(value, flush=True)
begun, two = threading.Event(), None
two = TwoLevelCache(MemoryCache(), Behind(), write="back", flush_interval=0.001)
two.set("k", "old")
begun.wait()
two.set("k", "new")
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout.split() == [b"old", b"new"]


def test_a_forked_child_asks_the_front_for_what_others_were_changing() -> None:
    l1, l2 = MemoryCache[Any, Any](), MemoryCache[Any, Any]()
    two: TwoLevelCache[Any, Any] = TwoLevelCache(l1, l2)
    begun, go = threading.Event(), threading.Event()

    def slow(*_: Any) -> None:
        begun.set()
        go.wait()

    l2.set = slow  # type: ignore[method-assign, assignment]
    writers = [threading.Thread(target=two.set, args=("k", n)) for n in range(2)]
    for writer in writers:
        writer.start()
    begun.wait()
    child = os.fork()
    if not child:
        l2.set = lambda *_: None  # type: ignore[method-assign, assignment]
        two.set("k", "own")
        os._exit(0 if l1.get("k") == "own" else 1)
    status = os.waitpid(child, 0)[1]
    go.set()
    for writer in writers:
        writer.join()
    assert status == 0
