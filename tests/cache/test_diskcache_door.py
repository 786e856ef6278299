"""The interface of diskcache: the same tests pass on ours and, where it is installed, on the real one."""

from __future__ import annotations

import datetime as dt
import io
import os
import pickle
import subprocess
import threading
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.cache import UnsuitableFolderError
from ops.cache import diskcache as ours

Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=["ours", "theirs"])
def module(request: pytest.FixtureRequest) -> Any:
    return ours if request.param == "ours" else pytest.importorskip("diskcache")


@pytest.fixture(params=["Cache", "FanoutCache"])
def cache(request: pytest.FixtureRequest, module: Any, tmp_path: Path) -> Any:
    with getattr(module, request.param)(str(tmp_path / "c")) as made:
        yield made


def test_it_is_a_dictionary(cache: Any) -> None:
    cache["a"] = 1
    cache[("t", 1)] = [1, 2]
    cache[dt.date(2026, 1, 2)] = "date"
    assert cache["a"] == 1
    assert cache[dt.date(2026, 1, 2)] == "date"
    assert ("t", 1) in cache
    assert set(cache) == {"a", ("t", 1), dt.date(2026, 1, 2)}
    assert len(cache) == 3
    del cache["a"]
    assert cache.get("a", "gone") == "gone"
    with pytest.raises(KeyError):
        cache["a"]
    with pytest.raises(KeyError):
        del cache["a"]
    assert not cache.delete("a")
    assert cache.clear() == 2


def test_a_value_comes_with_its_time_and_tag(cache: Any) -> None:
    assert cache.set("k", b"data", expire=100, tag="t")
    value, expires, tag = cache.get("k", expire_time=True, tag=True)
    assert (value, tag) == (b"data", "t")
    assert 90 < expires - time.time() <= 100
    assert cache.get("nowhere", 5, expire_time=True, tag=True) == (5, None, None)
    assert cache.pop("k", expire_time=True, tag=True)[::2] == (b"data", "t")
    assert cache.pop("k") is None
    cache.set("a", 1, tag="t")
    cache.set("b", 1, tag="t")
    cache.set("c", 1)
    assert cache.evict("t") == 2
    assert list(cache) == ["c"]


def test_add_and_numbers(cache: Any) -> None:
    assert cache.add("k", 1)
    assert not cache.add("k", 2)
    assert cache.incr("n") == 1
    assert cache.incr("n", 4) == 5
    assert cache.decr("n", 7) == -2
    assert cache.decr("m", default=10) == 9
    with pytest.raises(KeyError):
        cache.incr("nowhere", default=None)


def test_what_has_expired_is_gone(cache: Any) -> None:
    cache.set("short", 1, expire=0.01)
    cache.set("never", 1, expire=-1)
    cache.set("long", 1, expire=1000)
    while cache.get("short") is not None:
        pass
    assert cache.get("never") is None
    assert cache.get("long") == 1
    assert cache.touch("long", expire=None)
    assert not cache.touch("nowhere")
    cache.expire()
    assert len(cache) == 1


def test_files_are_stored_and_read(cache: Any) -> None:
    cache.set("f", io.BytesIO(b"x" * 100_000), read=True)
    with cache.read("f") as file:
        assert file.read() == b"x" * 100_000
    with cache.get("f", read=True) as file:
        assert file.read(3) == b"xxx"
    assert cache["f"] == b"x" * 100_000


def test_a_file_is_stored_and_read_in_pieces(cache: Any, tmp_path: Path) -> None:
    size = 32 << 20
    (tmp_path / "large").write_bytes(os.urandom(size))  # what does not shrink is not packed
    tracemalloc.start()
    try:
        with (tmp_path / "large").open("rb") as file:
            assert cache.set("f", file, expire=100, read=True, tag="t")
        file, expires, tag = cache.get("f", read=True, expire_time=True, tag=True)
        assert (tag, expires > time.time()) == ("t", True)
        with file:
            assert sum(len(part) for part in iter(lambda: file.read(1 << 16), b"")) == size
        assert tracemalloc.get_traced_memory()[1] < size // 2
    finally:
        tracemalloc.stop()
    assert cache.get("nowhere", 5, read=True) == 5


def test_files_in_a_transaction_are_seen_in_it(module: Any, tmp_path: Path) -> None:
    with module.Cache(str(tmp_path / "c")) as cache:
        with cache.transact():
            cache.set("f", io.BytesIO(b"x" * 100_000), read=True)
            with cache.read("f") as file:
                assert file.read() == b"x" * 100_000
        with cache.read("f") as file:
            assert file.read() == b"x" * 100_000


def test_queues_of_a_cache(module: Any, tmp_path: Path) -> None:
    with module.Cache(str(tmp_path / "q")) as cache:
        assert cache.push("a", "jobs") == "jobs-500000000000000"
        assert cache.push("b", "jobs") == "jobs-500000000000001"
        assert cache.push("first", "jobs", side="front") == "jobs-499999999999999"
        assert cache.push("other") == 500_000_000_000_000
        assert cache.peek("jobs") == ("jobs-499999999999999", "first")
        assert cache.pull("jobs") == ("jobs-499999999999999", "first")
        assert cache.pull("jobs", side="back") == ("jobs-500000000000001", "b")
        assert cache.pull() == (500_000_000_000_000, "other")
        assert cache.pull() == (None, None)
        assert cache.pull("empty", default=5) == 5
        assert cache.peekitem() == ("jobs-500000000000000", "a")


def test_a_transaction_is_seen_as_one(cache: Any, module: Any) -> None:
    cache["a"] = 1

    def fail() -> None:
        with cache.transact():
            cache["a"] = 2
            assert cache["a"] == 2
            with cache.transact():  # within another
                cache.incr("a")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert cache["a"] == 1
    with cache.transact():
        cache.incr("a")
        cache.incr("b")
    assert (cache["a"], cache["b"]) == (2, 1)


def test_a_transaction_on_an_empty_cache_discards_its_first_write(cache: Any) -> None:
    def fail() -> None:
        with cache.transact():
            cache["first"] = 1
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert "first" not in cache
    with cache.transact():
        cache["first"] = 2
        assert cache.pop("first") == 2
        cache["second"] = 3
    assert list(cache) == ["second"]


def test_results_are_remembered(cache: Any) -> None:
    calls: Any = []

    @cache.memoize(expire=100, ignore={"debug"})
    def work(x: int, debug: bool = False) -> int:
        cache.incr("calls")
        return x * 2

    assert work(3) == work(3, debug=True) == 6
    assert cache["calls"] == 1
    assert work.__cache_key__(3) == work.__cache_key__(3, debug=True)
    assert calls == []
    with pytest.raises(TypeError):
        cache.memoize(work)


def test_settings_checks_and_the_rest(cache: Any) -> None:
    cache["k"] = 1
    assert cache.check() == []
    assert cache.volume() > 0
    assert cache.reset("cull_limit", 0) == 0
    assert cache.cull_limit == 0
    assert cache.directory.endswith("c")
    copy = pickle.loads(pickle.dumps(cache))
    assert copy["k"] == 1
    copy.close()


def test_an_index_keeps_its_order(module: Any, tmp_path: Path) -> None:
    index = module.Index(str(tmp_path / "i"), [("z", 1), ("a", 2)], m=3)
    index["z"] = 10  # keeps its place
    assert list(index.items()) == [("z", 10), ("a", 2), ("m", 3)]
    assert list(reversed(index)) == ["m", "a", "z"]
    assert (index.peekitem(), index.peekitem(last=False)) == (("m", 3), ("z", 10))
    assert index == {"a": 2, "m": 3, "z": 10}
    assert index == OrderedDict([("z", 10), ("a", 2), ("m", 3)])
    assert index != OrderedDict([("a", 2), ("m", 3), ("z", 10)])
    assert (index.pop("a"), index.pop("a", 5), len(index)) == (2, 5, 2)
    assert index.setdefault("z", 1) == 10
    assert index.setdefault("new", 1) == 1
    assert index.popitem(last=False) == ("z", 10)
    assert index.popitem() == ("new", 1)
    with pytest.raises(KeyError):
        del index["nowhere"]
    again = module.Index(str(tmp_path / "i"))
    assert dict(again) == {"m": 3}
    again.clear()
    with pytest.raises(KeyError):
        index.popitem()


def test_a_deque_is_a_deque(module: Any, tmp_path: Path) -> None:
    deque = module.Deque([1, 2, 3], directory=str(tmp_path / "d"))
    deque.append(4)
    deque.appendleft(0)
    assert list(deque) == [0, 1, 2, 3, 4]
    assert (deque[0], deque[-1], len(deque), 3 in deque) == (0, 4, 5, True)
    deque.rotate(2)
    assert list(deque) == [3, 4, 0, 1, 2]
    deque.rotate(-2)
    deque[1] = "one"
    del deque[3]
    assert list(deque) == [0, "one", 2, 4]
    deque.remove(2)
    deque.reverse()
    assert list(deque) == [4, "one", 0]
    assert (deque.pop(), deque.popleft(), deque.peek(), deque.peekleft()) == (0, 4, "one", "one")
    assert deque == ["one"]
    assert list(module.Deque(directory=str(tmp_path / "d"))) == ["one"]
    deque.clear()
    with pytest.raises(IndexError):
        deque.pop()
    with pytest.raises(IndexError):
        deque[0]
    with pytest.raises(ValueError, match="not in deque"):
        deque.remove(1)


def test_a_deque_with_a_limit_gives_up_the_other_end(module: Any, tmp_path: Path) -> None:
    deque = module.Deque(range(10), directory=str(tmp_path / "d"), maxlen=3)
    assert list(deque) == [7, 8, 9]
    deque.appendleft(0)
    assert list(deque) == [0, 7, 8]


def test_stores_within_a_fanout_cache(module: Any, tmp_path: Path) -> None:
    with module.FanoutCache(str(tmp_path / "f"), shards=2) as fanout:
        fanout.cache("c")["k"] = 1
        fanout.index("i")["k"] = 2
        fanout.deque("d").append(3)
        assert (fanout.cache("c")["k"], fanout.index("i")["k"], list(fanout.deque("d"))) == (
            1,
            2,
            [3],
        )
        assert list(fanout) == []


def test_recipes(module: Any, tmp_path: Path) -> None:
    with module.Cache(str(tmp_path / "r")) as cache:
        average = module.Averager(cache, "average")
        assert average.get() is None
        average.add(1)
        average.add(2)
        assert (average.get(), average.pop(), average.get()) == (1.5, 1.5, None)
        lock = module.Lock(cache, "lock")
        with lock:
            assert lock.locked()
        assert not lock.locked()
        rlock = module.RLock(cache, "rlock")
        with rlock, rlock:
            pass
        with pytest.raises(AssertionError):
            rlock.release()
        semaphore = module.BoundedSemaphore(cache, "semaphore", value=2)
        semaphore.acquire()
        with semaphore:
            pass
        semaphore.release()
        with pytest.raises(AssertionError):
            semaphore.release()
        now = [0.0]

        @module.throttle(
            cache,
            2,
            1,
            time_func=lambda: now[0],
            sleep_func=lambda s: now.__setitem__(0, now[0] + s),
        )
        def limited() -> float:
            return now[0]

        assert [round(limited(), 3) for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]

        @module.barrier(cache, module.Lock)
        def alone() -> int:
            return 1

        assert alone() == 1

        @module.memoize_stampede(cache, expire=100)
        def slow(x: int) -> int:
            return x + 1

        assert slow(1) == slow(1) == 2


def test_a_lock_lets_one_thread_in(module: Any, tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []
    with module.Cache(str(tmp_path / "r")) as cache:

        def work() -> None:
            for _ in range(5):
                with module.Lock(cache, "lock"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(most) == 1


# What is ours alone


@pytest.mark.fault
def test_a_killed_holder_frees_its_lock(tmp_path: Path, child: Child) -> None:
    program = """
import sys, time
from ops.cache import diskcache
lock = diskcache.Lock(diskcache.Cache(sys.argv[1]), "k")
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""
    holder = child(program, tmp_path)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    with ours.Cache(tmp_path) as cache, ours.Lock(cache, "k"):
        pass


def test_keys_that_are_no_data_and_unknown_settings_are_refused(tmp_path: Path) -> None:
    with ours.Cache(tmp_path) as cache, pytest.raises(TypeError, match="cannot be a key"):
        cache[object()] = 1
    with pytest.raises(ValueError, match="no setting"):
        ours.Cache(tmp_path, size_limits=5)
    with ours.Cache() as cache:
        cache["k"] = 1
        assert cache.store["k"] == 1


def test_an_imported_folder_opens_through_the_door(tmp_path: Path) -> None:
    real = pytest.importorskip("diskcache")
    with real.Cache(str(tmp_path / "old")) as old:
        old[dt.date(2026, 1, 2)] = {"a": 1}
        old.push("job", "jobs")
    with ours.Cache(tmp_path / "new") as new:
        report = ours.import_diskcache(tmp_path / "old", new.store, pickles="run")
        assert report.imported == 2
        assert new[dt.date(2026, 1, 2)] == {"a": 1}
        assert new.pull("jobs") == ("jobs-500000000000000", "job")


@pytest.mark.parametrize("kind", ["Cache", "FanoutCache"])
@pytest.mark.parametrize("where", ["cache.db", "000/cache.db"])
def test_a_folder_that_diskcache_wrote_is_refused_and_left_alone(
    tmp_path: Path, kind: str, where: str
) -> None:
    database = tmp_path / "old" / where
    database.parent.mkdir(parents=True)
    database.write_bytes(b"SQLite format 3\0")
    with pytest.raises(UnsuitableFolderError, match=r"import-diskcache .*old NEW"):
        getattr(ours, kind)(tmp_path / "old")
    assert [path for path in (tmp_path / "old").rglob("*") if path.is_file()] == [database]
