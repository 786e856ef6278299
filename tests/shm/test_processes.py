"""Several processes: start methods, exclusion, torn reads, and deaths at every moment."""

from __future__ import annotations

import multiprocessing
import os
import random
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tests.interrupts import RAISED_BY_ALARM

from ops.foundation.errors import LockTimeout
from ops.shm import (
    DeadlockError,
    OwnerDiedError,
    SharedMemoryArray,
    cleanup_stale,
    list_segments,
    mapping,
)

FULL = os.environ.get("OPS_FAULTS") == "full"
KILLS = 1000 if FULL else 10
TORN_SECONDS = 10 if FULL else 0

INCREMENT = """
import sys
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.attach(sys.argv[1])
for _ in range(int(sys.argv[2])):
    array.add(0, 1)
"""

#: Writes blocks whose elements are all equal, as fast as it can.
WRITE_BLOCKS = """
import sys
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.attach(sys.argv[1])
print("ready", flush=True)
value = 0
while True:
    value += 1
    array[:] = value
"""

#: Marks its entry and exit in the array; the mark of another living process is a violation.
HOLD = """
import os, sys
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.attach(sys.argv[1])

def lives(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

print("ready", flush=True)
me = os.getpid()
while True:
    with array.array(write=True) as a:
        other = int(a[1])
        a[1] = me
        a[2] += bool(other and lives(other))
        a[4] += 1
        a[2] += int(a[1]) != me
        a[1] = 0
"""

TAKE_AND_WAIT = """
import sys, time
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.attach(sys.argv[1])
with array.array(write=sys.argv[2] == "write"):
    print("held", flush=True)
    time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def die_while_holding(name: str, child, mode: str = "write") -> None:
    holder = child(TAKE_AND_WAIT, name, mode)
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()


def increment(array: SharedMemoryArray, times: int) -> None:
    for _ in range(times):
        array.add(0, 1)


def test_no_increment_is_lost_between_processes(array, name, child) -> None:
    processes = [child(INCREMENT, name, 2000) for _ in range(4)]
    increment(array, 2000)
    assert [p.wait() for p in processes] == [0] * 4
    assert array[0] == 10_001
    assert (
        not array.interrupted
    )  # on a busy machine a slow taker may be overtaken, but never inside


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_arrays_travel_to_processes_of_every_start_method(array, name, method, tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, sys\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from ops.shm import SharedMemoryArray\n"
        "def work(array, queue):\n"
        "    array.connect(); array[0] = 41; queue.put(array); array.disconnect()\n"
        "def pooled(array): return int(array.add(0, 1))\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context(sys.argv[2])\n"
        "    array = SharedMemoryArray.attach(sys.argv[1])\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=work, args=(array, queue))\n"
        "    process.start(); assert queue.get()[0] == 41; process.join()\n"
        "    with ProcessPoolExecutor(1, mp_context=context) as pool:\n"
        "        assert pool.submit(pooled, array).result() == 42\n",
        encoding="utf-8",
    )
    subprocess.run([sys.executable, str(program), name, method], check=True)
    assert array[0] == 42


def test_an_attached_process_that_ends_does_not_take_the_segment_with_it(
    array, name, child
) -> None:
    assert child(INCREMENT, name, 1).wait() == 0
    assert SharedMemoryArray.attach(name)[0] == 2


@pytest.mark.fault
def test_no_torn_read_is_ever_returned(name, child, fault_record) -> None:
    array = SharedMemoryArray.create_array(name, np.zeros(512, np.int64))
    assert child(WRITE_BLOCKS, name).stdout.readline() == "ready\n"
    out = np.empty(512, np.int64)
    array.wait_changed(10)
    changes, reads, torn = set(), 0, 0
    end = time.monotonic() + TORN_SECONDS
    while time.monotonic() < end or reads < 20_000:
        for _ in range(1000):
            block = array[:]
            array.read_into(out)
            torn += (block.min() != block.max()) + (out.min() != out.max())
            changes.add(int(block[0]))
            reads += 2
    fault_record["torn reads"] = {
        "seconds": TORN_SECONDS, "reads": reads, "torn": int(torn), "states seen": len(changes),
    }  # fmt: skip
    assert torn == 0
    assert len(changes) > 10, "the writer was writing"
    array.disconnect()


@pytest.mark.fault
@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_killed_holder_never_blocks_the_next_one(array, name, child, mode) -> None:
    holder = child(TAKE_AND_WAIT, name, mode)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockTimeout), array.array(timeout=0.05):
        pass
    holder.kill()
    holder.wait()
    with array.array(write=True) as a:
        a[0] = 5
    assert array.recoveries == 1
    assert array.interrupted == (mode == "write")


@pytest.mark.fault
def test_a_taker_can_ask_whether_the_last_writer_died(array, name, child) -> None:
    die_while_holding(name, child)
    assert array[0] == 1, "a read recovers too"
    with pytest.raises(OwnerDiedError), array.array(write=True, check_owner=True):
        pass
    array.acknowledge_interruption()
    with array.array(write=True, check_owner=True) as a:
        a[0] = 2
    assert not SharedMemoryArray.attach(name).interrupted


@pytest.mark.fault
@pytest.mark.timeout(1800)
def test_exclusion_holds_while_holders_are_killed_at_random_moments(
    name, child, fault_record
) -> None:
    array = SharedMemoryArray.create_array(name, np.zeros(8, np.int64))
    rng = random.Random(5)
    processes, waits = [], []
    for _ in range(3):
        processes.append(child(HOLD, name))
        assert processes[-1].stdout.readline() == "ready\n"
    for _ in range(KILLS):
        time.sleep(rng.random() * 0.005)
        victim = processes.pop(rng.randrange(3))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        start = time.perf_counter()
        with array.array(write=True, timeout=30) as a:
            waits.append(time.perf_counter() - start)
            a[2] += bool(a[1] and a[1] != victim.pid and is_running(int(a[1])))
            a[1] = 0
        victim.stdout.close()
        victim.stdin.close()
        processes.append(child(HOLD, name))
        assert processes[-1].stdout.readline() == "ready\n"
    violations, recoveries = int(array[2]), array.recoveries
    progress = array[4]
    array.wait_changed(10)
    fault_record["killed holders"] = {
        "kills": KILLS, "recoveries": recoveries, "violations": violations, "deadlocks": 0,
        "worst wait in ms": round(max(waits) * 1e3, 1),
        "median wait in ms": round(sorted(waits)[len(waits) // 2] * 1e3, 3),
    }  # fmt: skip
    assert violations == 0, "two holders were inside at once"
    assert array[4] >= progress
    for process in processes:
        process.kill()
        process.wait()
    die_while_holding(name, child)
    array.add(0, 1)
    (info,) = (info for info in list_segments() if info.name == name)
    assert mapping.semaphore_file(info.instance).exists()
    array.disconnect()


def test_taking_the_lock_twice_through_two_objects_is_reported(array, name) -> None:
    other = SharedMemoryArray.attach(name)
    with array.array(write=True), pytest.raises(DeadlockError, match="another object"):
        other[0] = 1
    other[0] = 3
    assert array[0] == 3


def test_a_child_forked_inside_the_lock_does_not_release_it(array, name, child) -> None:
    with array.array(write=True) as held:
        held[0] = 50
        pid = os.fork()
        if pid == 0:
            os._exit(leave_block_in_child(array))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        probe = child(INCREMENT, name, 1)
        with pytest.raises(subprocess.TimeoutExpired):
            probe.wait(0.3)
        held[0] = 60
    assert probe.wait(10) == 0
    assert array[0] == 61
    assert array.recoveries == 0


def leave_block_in_child(array: SharedMemoryArray) -> int:
    """Run what the end of the parent's with block runs."""
    frame = array.array(write=True, timeout=0.1)
    try:
        frame.__enter__()
    except LockTimeout:
        return 0
    return 1


def test_stale_segments_are_found_and_those_in_use_are_kept(array, name, child) -> None:
    program = (
        "import sys, numpy, os\nfrom ops.shm import SharedMemoryArray\n"
        "SharedMemoryArray.create_array(sys.argv[1] + '-dead', numpy.zeros(2)); os._exit(9)"
    )
    assert child(program, name).wait() == 9
    users = {info.name: info.users for info in list_segments()}
    assert users[name] == (os.getpid(),)
    assert users[f"{name}-dead"] == ()
    removed = cleanup_stale()
    assert f"{name}-dead" in removed
    assert name not in removed
    array[0] = 5


def test_the_command_line_lists_shows_and_removes(array, name) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ops.shm", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert name in run("ls").stdout
    assert '"dtype": "uint64"' in run("stat", name, "--json").stdout
    assert "(6,)" in run("ls").stdout
    assert run("rm", name).returncode == 0
    missing = run("stat", name)
    assert missing.returncode == 2
    assert name in missing.stderr
    assert run("rm").returncode == 2


def test_multiprocessing_context_is_not_needed_for_threads(array) -> None:
    import threading

    threads = [threading.Thread(target=increment, args=(array, 500)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert array[0] == 2001
    assert multiprocessing.active_children() == []


INTERRUPTED = (
    RAISED_BY_ALARM
    + """
from ops.shm import SharedMemoryArray

array = SharedMemoryArray.attach(sys.argv[1])
count, end = 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-3))
        while True:
            array[0] = 5
            with array.array(write=True) as a:
                a[1] += 1
            array.add(2, 1)
            array.compare_exchange(3, 4, 5)
    except Interrupt:
        count += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(count, flush=True)
sys.stdin.read()
"""
)


@pytest.mark.fault
def test_an_interrupt_at_any_moment_leaves_no_lock_held(array, name, child) -> None:
    interrupted = child(INTERRUPTED, name, 10.0 if FULL else 1.0)
    while interrupted.poll() is None and not select.select([interrupted.stdout], [], [], 0)[0]:
        with array.array(write=True, timeout=10):
            pass
    assert int(interrupted.stdout.readline()) > 10
    with array.array(write=True, timeout=10) as a:  # its process lives on
        a[0] = 7
    assert array[0] == 7
