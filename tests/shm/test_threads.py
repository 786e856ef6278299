"""Threads and signal handlers that share one object, stalls longer than any patience, and forks."""

from __future__ import annotations

import _thread
import itertools
import operator
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from ops.foundation.errors import LockTimeout
from ops.shm import SharedMemoryArray
from ops.shm.layout import BLOCK
from ops.shm.lock import RobustLock

FULL = os.environ.get("OPS_FAULTS") == "full"
KILLS = 1000 if FULL else 6


def run(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread waits for ever"


class Stalling:
    """Lets the first thread that gets the semaphore sleep right after, before it can record that."""

    def __init__(self, real: Callable[[bool], bool]) -> None:
        self.real, self.stalled = real, threading.Event()

    def __call__(self, block: bool) -> bool:
        got = self.real(block)
        if got and not self.stalled.is_set():
            self.stalled.set()
            time.sleep(0.15)  # many times the patience of those who wait
        return got


@pytest.mark.parametrize("way", ["item", "block"])
def test_a_thread_that_stalls_right_after_its_take_is_not_robbed(array, way) -> None:
    inside: set[int] = set()
    most, stalling = [], Stalling(array._lock.try_)
    array._lock.try_ = stalling

    class Value:
        """Notes who is inside while NumPy asks for its value."""

        def __int__(self) -> int:
            inside.add(threading.get_ident())
            most.append(len(inside))
            time.sleep(0.01)
            inside.discard(threading.get_ident())
            return 7

        __index__ = __int__

    def write() -> None:
        if way == "item":
            array[0] = Value()
        else:
            with array.array(write=True) as a:
                a[0] = Value()

    first = threading.Thread(target=write)
    first.start()
    assert stalling.stalled.wait(30)
    run(write)
    first.join(60)
    assert max(most) == 1
    assert len(most) == 2
    assert array.recoveries == 0
    assert not array.interrupted


def test_threads_that_share_an_object_lose_no_increment(array) -> None:
    def work() -> None:
        for _ in range(300):
            array.add(0, 1)
            with array.array(write=True) as a:
                a[1] += 1

    run(*[work] * 12)  # more than the object has slots
    assert array[:2].tolist() == [1 + 3600, 2 + 3600]
    assert array.recoveries == 0
    first = array._lock.member.block * BLOCK
    assert sorted(array._lock.free) == list(range(first, first + BLOCK))


def test_a_stopped_process_keeps_the_lock_that_it_holds(array, name, child) -> None:
    holder = child(
        "import sys, time\nfrom ops.shm import SharedMemoryArray\n"
        "array = SharedMemoryArray.attach(sys.argv[1])\n"
        "with array.array(write=True) as a:\n    print('held', flush=True); sys.stdin.readline(); a[0] = 50\n",
        name,
    )
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(LockTimeout), array.array(write=True, timeout=0.3):
        pass
    holder.send_signal(signal.SIGCONT)
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert array.add(0, 1) == 51
    assert array.recoveries == 0


SIGNALLED = """
import signal, sys
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.attach(sys.argv[1])
handled = 0
def handler(*_):
    global handled
    handled += 1
    array[3] = handled
    array.add(0, 1)
    with array.array(write=True) as a:
        a[1] += 1
    signal.setitimer(signal.ITIMER_REAL, 0.0005)  # one after the other, however slow the machine
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005)
for _ in range(int(sys.argv[2])):
    array[2] = 5
    array.add(0, 1)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(handled)
"""


def test_a_handler_writes_within_a_write_of_its_own_thread(array, name, child) -> None:
    rounds = 3000
    processes = [child(SIGNALLED, name, rounds) for _ in range(2)]
    handled = [int(p.communicate(timeout=150)[0]) for p in processes]
    assert sum(handled) > 10
    assert array[0] == 1 + 2 * rounds + sum(handled), (
        "each is one increment, also those of handlers"
    )
    assert array[1] == 2 + sum(handled)
    assert array.recoveries == 0
    assert not array.interrupted


def test_a_value_that_uses_the_array_while_it_is_written(array) -> None:
    array[:] = array
    array[1:4] = [array[0], array.read_data(1), 9]

    class Reads:
        def __int__(self) -> int:
            array[5] = 77  # within the write of array[4]
            return int(array[0]) + 1

        __index__ = __int__

    array[4] = Reads()
    assert array[4] == array[0] + 1
    assert array[5] == 77
    array[0] = 3
    assert array._lock.semaphore.acquire(False), "it was given back once"
    array._lock.semaphore.release()


def write_item(array: SharedMemoryArray) -> None:
    array[0] = 5


def write_in_block(array: SharedMemoryArray) -> None:
    with array.array(write=True) as a:
        a[0] = 5


@pytest.fixture
def signalled() -> Iterator[Callable[..., None]]:
    """Makes a signal arrive within the next tries of a lock, by C calls only, as a real one does."""
    kept = signal.getsignal(signal.SIGUSR1)

    def arrange(lock: RobustLock, handler: Callable[[], object]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: handler())
        tries = map(lock.semaphore.acquire, itertools.repeat(False))
        arrivals = map(_thread.interrupt_main, itertools.repeat(signal.SIGUSR1))
        lock.tries = map(operator.itemgetter(0), zip(tries, arrivals, strict=True))

    yield arrange
    signal.signal(signal.SIGUSR1, kept)


@pytest.mark.parametrize("write", [write_item, write_in_block])
def test_a_handler_that_raises_within_a_try_leaves_the_lock_free(array, signalled, write) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    signalled(array._lock, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(array)
    assert array._lock.semaphore.acquire(False), "what was taken is known, and was given back"
    array._lock.semaphore.release()
    assert not any(array._lock.flags)
    assert not array.interrupted


@pytest.mark.parametrize("write", [write_item, write_in_block])
def test_a_handler_within_a_try_knows_whether_it_has_the_lock(
    array, name, signalled, write
) -> None:
    other = SharedMemoryArray.attach(name)
    other._lock.flags[other._lock.free[-1]] = 1  # as while it tries: nothing can be recovered now
    handled = []

    def handler() -> None:
        array._lock.try_ = (
            array._lock.semaphore.acquire
        )  # the next signals are none of its business
        with array.array(write=True, timeout=30) as a:
            a[3] = 9
        handled.append(array.version)

    signalled(array._lock, handler)
    write(array)
    assert handled
    assert array[0] == 5
    assert array[3] == 9
    assert array.recoveries == 0


@pytest.mark.parametrize("write", [write_item, write_in_block])
def test_an_interrupt_behind_the_release_leaves_the_lock_to_others(array, name, write) -> None:
    lock, real = array._lock, array._lock.post

    def raising() -> None:
        lock.post = real
        real()
        raise KeyboardInterrupt

    lock.post = raising
    with pytest.raises(KeyboardInterrupt):
        write(array)
    other = SharedMemoryArray.attach(name)
    with other.array(write=True, timeout=30) as a:
        a[1] = 6
    array[2] = 7
    assert other[1:3].tolist() == [6, 7]
    assert array.recoveries == 0, "nobody has died"
    assert not array.interrupted


def test_blocks_that_end_against_their_order_keep_the_lock_to_the_last(array, name) -> None:
    other = SharedMemoryArray.attach(name)
    outer, inner = array.array(write=True), array.array(write=True)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    work = threading.Thread(target=other.__setitem__, args=(0, 9))
    work.start()
    work.join(0.2)
    assert work.is_alive(), "the inner block still holds it"
    inner.__exit__(None, None, None)
    work.join(60)
    assert array[0] == 9


def test_a_block_that_is_dropped_gives_the_lock_back(array, name) -> None:
    block = array.array(write=True)
    block.__enter__()
    del block
    with SharedMemoryArray.attach(name).array(write=True, timeout=30):
        pass
    assert array.version == 2


def in_child(work: Callable[[], object]) -> int:
    """Run *work* in a forked child; return 0 when it returned something true."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_has_a_part_of_its_own(array) -> None:
    ours = array._lock.member.block

    def work() -> bool:
        array[0] = 5
        return array._lock.member.block != ours and array.add(1, 1) == 3

    assert in_child(work) == 0
    assert array[0] == 5
    array[0] = 6
    assert array.recoveries == 0


@pytest.mark.fault
def test_a_dead_parent_is_noticed_although_its_forked_child_lives(array, name, child) -> None:
    program = (
        "import os, sys, time\nfrom ops.shm import SharedMemoryArray\n"
        "array = SharedMemoryArray.attach(sys.argv[1])\n"
        "with array.array(write=True):\n"
        "    if os.fork() == 0:\n"
        "        print('forked', flush=True); sys.stdin.readline(); os._exit(0)\n"
        "    time.sleep(600)\n"
    )
    parent = child(program, name)
    assert parent.stdout.readline() == "forked\n"
    parent.kill()
    with array.array(write=True, timeout=30) as a:
        a[0] = 8
    assert array.recoveries == 1
    assert array.interrupted
    parent.stdin.write("\n")
    parent.stdin.flush()


def test_a_child_forked_while_another_thread_holds_the_lock_waits_for_it(array) -> None:
    held, end = threading.Event(), threading.Event()

    def hold() -> None:
        with array.array(write=True) as a:
            held.set()
            end.wait(60)
            a[0] = 3

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)

    def refused() -> bool:
        try:
            with array.array(timeout=0.1):
                return False
        except LockTimeout:
            return True

    assert in_child(refused) == 0
    end.set()
    holder.join(60)
    assert in_child(lambda: array.add(0, 1) == 4) == 0


SHARED_BY_FOUR = """
import os, signal, sys, threading
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.attach(sys.argv[1])

def lives(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

me = os.getpid()
def once(thread):
    mark = me << 20 | thread
    with array.array(write=True) as a:
        other = int(a[1])
        a[1] = mark
        # Another thread of this process, or another process that lives, is inside as well.
        a[2] += bool(other and (other >> 20 == me or lives(other >> 20)))
        a[4] += 1
        a[2] += int(a[1]) != mark
        a[1] = 0
    array[5] = thread

def work(thread):
    while True:
        once(thread)

def handler(*_):
    array[6] = me
    array.add(7, 1)
    signal.setitimer(signal.ITIMER_REAL, 0.003)  # one after the other, however slow the machine

for thread in range(1, 4):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.003)
print("ready", flush=True)
work(4)
"""


@pytest.mark.fault
@pytest.mark.timeout(3600)
def test_exclusion_holds_for_threads_and_handlers_while_processes_are_killed(
    name, child, fault_record
) -> None:
    array = SharedMemoryArray.create_array(name, np.zeros(8, np.int64))
    rng = random.Random(7)
    processes, waits = [child(SHARED_BY_FOUR, name) for _ in range(2)], []
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for _ in range(KILLS):
        time.sleep(rng.random() * 0.02)
        victim = processes.pop(rng.randrange(len(processes)))
        victim.kill()
        victim.wait()
        start = time.perf_counter()
        with array.array(write=True, timeout=60) as a:
            waits.append(time.perf_counter() - start)
            if a[1] and int(a[1]) >> 20 == victim.pid:
                a[1] = 0
        victim.stdout.close()
        victim.stdin.close()
        processes.append(child(SHARED_BY_FOUR, name))
        assert processes[-1].stdout.readline() == "ready\n"
    violations, recoveries, handled = int(array[2]), array.recoveries, int(array[7])
    fault_record["killed while four threads and handlers share an object"] = {
        "kills": KILLS, "recoveries": recoveries, "violations": violations, "deadlocks": 0,
        "writes of handlers": handled,
        "worst wait in ms": round(max(waits) * 1e3, 1),
        "median wait in ms": round(sorted(waits)[len(waits) // 2] * 1e3, 3),
    }  # fmt: skip
    assert violations == 0, "two were inside at once"
    assert recoveries <= KILLS, "recoveries without a death"
    assert handled > 0


@pytest.mark.fault
def test_holders_in_another_pid_namespace_are_respected_and_recovered_from(array, name) -> None:
    probe = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("no PID namespace of our own here")
    program = (
        "import sys\nfrom ops.shm import SharedMemoryArray\n"
        "array = SharedMemoryArray.attach(sys.argv[1])\n"
        "with array.array(write=True) as a:\n    print('held', flush=True); sys.stdin.readline()\n"
        "    import os; a[0] = 9; os._exit(9)\n"
    )
    holder = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program, name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockTimeout), array.array(write=True, timeout=0.2):
        pass
    assert array.recoveries == 0
    holder.communicate("\n", timeout=300)
    with array.array(write=True, timeout=30) as a:
        assert a[0] == 9
    assert array.recoveries == 1
    assert array.interrupted
