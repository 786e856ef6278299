"""Signal handlers, threads, forks and paused processes: what interrupts a put, and what it must not cost."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

from ops.datalog import DataLogger, LoggerStopped, LogInUseError, ProducersLateError, open_log
from ops.datalog._shutdown import is_busy

SECONDS = 60 if os.environ.get("OPS_FAULTS") == "full" else 1

#: An alarm comes every fraction of a millisecond while the main thread logs; what it does is given.
ALARMED = """
import os, random, signal, sys, threading, time
import numpy as np
from ops.datalog import DataLogger, LoggerStopped
seconds, parent = float(sys.argv[2]), os.getpid()
logger = DataLogger(sys.argv[1], "rig", layout="segments", sync="none")
logger.start()
queue, handled, accepted, children = logger.input_queue, 0, 0, []
rows = np.zeros((50, 400), np.uint8)

def log(number):
    kind = number % 50
    if kind == 7:
        queue.put_many(1, np.full(50, number, np.uint64), rows)
    else:
        queue.log(1, number, bytes(20_000 if kind == 9 else 3_000))

def arm():
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))

def handler(*_):
    global handled
    IN_HANDLER
    handled += 1
    arm()

signal.signal(signal.SIGALRM, handler)
arm()
end = time.monotonic() + seconds
"""

LOGGED = (
    ALARMED.replace(
        "IN_HANDLER", "queue.log(2, handled, b'event' * (5000 if handled % 9 == 0 else 1))"
    )
    + """
def others(source):
    number = 0
    while time.monotonic() < end:
        queue.log(source, number, bytes(500)); number += 1
    counts[source] = number

counts = {}
threads = [threading.Thread(target=others, args=(source,)) for source in (3, 4)]
[thread.start() for thread in threads]
while time.monotonic() < end and accepted < 200_000:  # what is to be read again stays below 1 GB
    log(accepted); accepted += 1
end = 0
signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a handler that is due would arm the timer again
[thread.join() for thread in threads]
logger.stop()
report = logger.read().verify()
assert report.is_whole, report
found = logger.read().counts()
many = len([n for n in range(accepted) if n % 50 == 7])
assert found[1] == accepted + 49 * many, (found, accepted, many)
assert found[2] == handled, (found, handled)
assert {s: found[s] for s in (3, 4)} == counts
assert handled > 20
print(accepted, handled, *counts.values())
"""
)


def run(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120 + SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.fault
@pytest.mark.timeout(300)
def test_a_handler_logs_while_its_thread_and_others_are_inside_a_put(
    tmp_path, fault_record
) -> None:
    numbers = list(map(int, run(LOGGED, tmp_path, SECONDS).split()))
    fault_record["handlers that log inside a put, four writers"] = {
        "messages": numbers[0], "by handlers": numbers[1], "by threads": numbers[2:], "lost": 0,
    }  # fmt: skip


STOPPED = (
    ALARMED.replace(
        "IN_HANDLER",
        "\n    if handled == int(sys.argv[3]):\n        logger.stop()\n        handled += 1\n        return",
    )
    + """
try:
    while True:
        log(accepted); accepted += 1
except LoggerStopped:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
report = logger.read().verify()
assert report.is_whole, report
many = len([n for n in range(accepted) if n % 50 == 7])
assert report.messages == accepted + 49 * many, (report.messages, accepted)
assert not list(logger.output_directory.glob("*.tail"))
try:
    queue.log(1, 0, b"late")
except LoggerStopped:
    print("stopped")
"""
)


@pytest.mark.fault
@pytest.mark.parametrize("attempt", range(40 if SECONDS > 1 else 4))
def test_a_handler_that_stops_the_log_refuses_only_the_put_that_it_interrupts(
    tmp_path, attempt
) -> None:
    # At first the files are being made; later on mostly a message is being copied.
    assert run(STOPPED, tmp_path, 10, 2 + 18 * attempt) == "stopped\n"


FORKED = (
    ALARMED.replace(
        "IN_HANDLER",
        """
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        end = 0
        return
    children.append(pid)""",
    ).replace("global handled", "global handled, end")
    + """
while time.monotonic() < end and accepted < 200_000:  # what is to be read again stays below 1 GB
    log(accepted); accepted += 1
end = 0
signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a handler that is due would arm the timer again
if os.getpid() != parent:
    queue.log(9, accepted, b"child")  # once it has left the put that its parent goes on with
    os._exit(0)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
assert not any(codes), codes
report = logger.read().verify()
assert report.is_whole, report
counts = logger.read().counts()
# A put that had not begun when its handler forked is one of both processes.
assert {m.timestamp for m in logger.read().iter(1)} >= set(range(accepted))
assert counts[9] == len(children) > 3, (counts, children)
logger.stop()
print("whole")
"""
)


@pytest.mark.fault
def test_a_handler_that_forks_leaves_the_interrupted_put_to_the_parent(tmp_path) -> None:
    assert run(FORKED, tmp_path, 1) == "whole\n"


def test_a_fork_while_another_thread_is_inside_a_put_leaves_the_child_able_to_log(logger) -> None:
    queue = logger.input_queue
    queue.log(1, 0, b"first")
    writer = queue._writer
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        def wait() -> None:
            entered.set()
            leave.wait(30)

        writer._alone(wait)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(30)
    pid = os.fork()
    if pid == 0:
        queue.log(2, 1, b"child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    leave.set()
    thread.join()
    queue.log(1, 2, b"parent")
    assert logger.read().counts() == {1: 2, 2: 1}


LARGE_PUTS = """
import sys
from ops.datalog.sink import LogSink
sink, number, block = LogSink(sys.argv[1]), 0, bytes(8 << 20)
while True:
    sink.log(1, number, block)
    number += 1
    print(number, flush=True)
"""


@pytest.fixture
def paused(logger, run_python):
    """A producer that is paused in the middle of a put, and the tail of it."""
    producer = run_python(LARGE_PUTS, logger.output_directory)
    producer.stdout.readline()
    (tail,) = logger.output_directory.glob("*.tail")
    end = time.monotonic() + 300
    while time.monotonic() < end:
        os.kill(producer.pid, signal.SIGSTOP)
        if is_busy(tail):
            return producer
        os.kill(producer.pid, signal.SIGCONT)
        time.sleep(0.001)
    raise AssertionError("it was never caught inside a put")


def test_stopping_with_a_paused_producer_ends_and_names_it(logger, paused) -> None:
    with pytest.raises(ProducersLateError, match=str(paused.pid)) as caught:
        logger.stop(timeout=0.2)
    (late,) = caught.value.late
    assert late.pid == paused.pid
    assert pickle.loads(pickle.dumps(caught.value)).late == (late,)
    assert not logger.started
    with pytest.raises(LogInUseError, match="stop"):
        logger.start()
    with pytest.raises(LoggerStopped):
        logger.input_queue.log(2, 1, b"refused")
    before = len(list(logger.read()))
    os.kill(paused.pid, signal.SIGCONT)
    paused.wait(60)
    logger.stop(timeout=60)
    acknowledged = 1 + len(paused.stdout.read().split())
    assert acknowledged in {before, before + 1}
    assert len(list(logger.read())) >= acknowledged
    assert logger.read().verify().is_whole


def test_a_paused_producer_that_is_killed_is_no_longer_waited_for(logger, paused) -> None:
    with pytest.raises(ProducersLateError):
        logger.stop(timeout=0)
    paused.kill()
    paused.wait()
    logger.stop(timeout=60)
    assert logger.read().verify().is_whole


def test_a_log_is_left_alone_by_recovery_while_a_late_producer_is_inside_a_put(
    logger, paused, monkeypatch
) -> None:
    with pytest.raises(ProducersLateError):
        logger.stop(timeout=0)
    monkeypatch.setattr("ops.datalog.recovery.close_log.__defaults__", (0.001, 0.01))
    with pytest.raises(ProducersLateError):
        logger.read().recover()
    paused.kill()
    paused.wait()
    logger.stop(timeout=60)


def test_stopping_from_a_thread_and_from_a_handler_of_it_stops_once(tmp_path, monkeypatch) -> None:
    logger = DataLogger(tmp_path, layout="segments", sync="none")
    logger.start()
    logger.input_queue.log(1, 1, b"one")
    finish, calls = logger._finish_segments, []

    def finish_and_be_interrupted() -> None:
        calls.append("finish")
        logger.stop()  # as a handler that comes now does
        finish()

    monkeypatch.setattr(logger, "_finish_segments", finish_and_be_interrupted)
    logger.stop()
    assert calls == ["finish"]
    assert [m.timestamp for m in open_log(logger.output_directory)] == [1]


def test_a_forked_child_that_leaves_the_block_does_not_stop_its_parents_log(tmp_path) -> None:
    with DataLogger(tmp_path, layout="segments") as logger:
        logger.input_queue.log(1, 1, b"parent")
        pid = os.fork()
        if pid == 0:
            try:
                logger.input_queue.log(2, 2, b"child")
                logger.stop()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        logger.input_queue.log(1, 3, b"parent")
        assert logger.alive
    assert [m.timestamp for m in logger.read()] == [1, 2, 3]
