"""Locks whose acquire or release is interrupted: by an exception at each line, or by a handler that uses them."""

import contextlib
import gc
import os
import subprocess
import sys
import threading

import pytest
from tests.interrupts import at_each_line

from ops.foundation import FileLock, LockTimeout, ReadWriteLock, _flock, file_lock, readwrite

FILES = {file_lock.__file__, _flock.__file__, readwrite.__file__}

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs flock")


def is_free(path) -> bool:
    """Whether another process could take the lock now."""
    program = (
        "import fcntl, os, sys; f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "try: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: sys.exit(1)"
    )
    return (
        subprocess.run([sys.executable, "-S", "-c", program, str(path)], check=False).returncode
        == 0
    )


def is_free_here(path) -> bool:
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def nested(lock):
    with lock, lock:
        pass


def plain(lock):
    with lock:
        pass


def times_out(lock):
    with contextlib.suppress(LockTimeout):
        lock.acquire(timeout=0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("block", [plain, nested])
def test_ctrl_c_at_any_line_of_a_with_block_leaves_the_file_unlocked(tmp_path, block):
    path = tmp_path / "x.lock"
    lock = FileLock(path, timeout=0)
    lines = 0
    for line in at_each_line(FILES, lambda: block(lock)):
        assert is_free_here(path), line
        assert not lock.is_acquired, line
        lines += 1
    assert lines > 30
    with lock:
        assert not is_free(path)
    assert is_free(path)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ctrl_c_at_any_line_of_an_acquire_that_raises_leaves_the_file_unlocked(tmp_path):
    path = tmp_path / "x.lock"
    lock = FileLock(path, timeout=0)
    for line in at_each_line(FILES, lock.acquire):
        assert is_free_here(path), line
        assert not lock.is_acquired, line
    assert lock.is_acquired
    lock.release()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_after_ctrl_c_at_any_line_of_a_release_it_is_done_or_can_be_repeated(tmp_path):
    path = tmp_path / "x.lock"
    lock = FileLock(path, timeout=0)

    def release():
        if not lock.is_acquired:
            lock.acquire()
        lock.release()

    for line in at_each_line(FILES, release, inside={"release", "_leave_to", "_drop", "close"}):
        if lock.is_acquired:
            assert not is_free_here(path), line
            lock.release()
        assert is_free_here(path), line


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ctrl_c_at_any_line_of_a_wait_leaves_no_descriptor(tmp_path):
    path = tmp_path / "x.lock"
    held, other = FileLock(path), []
    thread = threading.Thread(target=lambda: other.append(held.acquire()))
    thread.start()
    thread.join()
    lock = FileLock(path, timeout=0.001)
    gc.collect()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for line in at_each_line(FILES, lambda: times_out(lock)):
        assert not lock.is_acquired, line
    gc.collect()
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before
    held._hold.close()


@pytest.mark.parametrize("side", ["read", "write"])
def test_ctrl_c_at_any_line_of_a_reader_or_writer_leaves_nobody_inside(side):
    lock = ReadWriteLock()

    def block():
        with getattr(lock, side)():
            pass

    lines = 0
    for line in at_each_line(FILES, block):
        assert lock.acquire_write(timeout=0), line
        lock.release_write()
        lines += 1
    assert lines > 8


def test_ctrl_c_at_any_line_of_a_writer_that_waits_lets_readers_in_again():
    lock = ReadWriteLock()

    def give_up():
        with contextlib.suppress(LockTimeout), lock.write(timeout=0.001):
            pass

    with lock.read():
        for line in at_each_line(FILES, give_up):
            assert lock.acquire_read(timeout=0), line
            lock.release_read()
    assert lock.acquire_write(timeout=0)


HANDLER = """
import os, random, signal, sys, time
from ops.foundation import FileLock, ReadWriteLock

kind, path = sys.argv[1:]
lock = FileLock(path) if kind == "file" else ReadWriteLock()
entered = 0

def block():
    return lock if kind == "file" else lock.read()

def handler(*_):
    global entered
    with block():
        entered += 1

signal.signal(signal.SIGALRM, handler)
random.seed(7)
end = time.monotonic() + 20
while entered < 400 and time.monotonic() < end:
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-4))
    for _ in range(30):
        with block():
            pass
signal.setitimer(signal.ITIMER_REAL, 0)
if kind == "file":
    assert not lock.is_acquired
    with FileLock(path, timeout=0):
        pass
else:
    lock.acquire_write(timeout=0)
print(entered > 0)
"""


@pytest.mark.parametrize("kind", ["file", "threads"])
def test_a_signal_handler_may_use_the_lock_that_it_interrupts(tmp_path, kind):
    command = [sys.executable, "-c", HANDLER, kind, str(tmp_path / "x.lock")]
    assert subprocess.check_output(command, text=True, timeout=100) == "True\n"


def test_a_handler_at_each_line_of_a_block_enters_and_leaves_and_the_block_goes_on(tmp_path):
    path = tmp_path / "x.lock"
    lock = FileLock(path, timeout=5)
    entered = []

    def enter_at(number):
        """Run a block and enter the lock again at a line of it, as a signal handler would."""
        events = iter(range(sys.maxsize))

        def trace(frame, event, _argument):
            if frame.f_code.co_filename not in FILES:
                return None
            if event == "line" and next(events) == number:
                sys.settrace(None)
                with lock:
                    entered.append(is_free_here(path))
                sys.settrace(trace)
            return trace

        count = len(entered)
        sys.settrace(trace)
        try:
            with lock:
                sys.settrace(None)
                assert not is_free_here(path), number
                sys.settrace(trace)
        finally:
            sys.settrace(None)
        assert is_free_here(path), number
        assert not lock.is_acquired, number
        return len(entered) > count

    number = 0
    while enter_at(number):
        number += 1
    assert number > 20
    assert not any(entered)


def test_random_interrupts_of_tight_cycles_leave_no_lock_held(tmp_path):
    program = f"""
import random, signal, sys
from ops.foundation import FileLock, ReadWriteLock

class Interrupt(BaseException):
    pass

armed = False

def interrupt(*_):
    global armed
    if armed:
        armed = False
        raise Interrupt

def cycle(lock, number):
    # A function of its own: the jump back of a loop may lie outside of the `try` around it.
    signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-5, 1e-3))
    while armed:
        with lock if number % 2 else lock.write():
            pass

signal.signal(signal.SIGALRM, interrupt)
random.seed(3)
held = 0
for number in range(300):
    lock = FileLock({str(tmp_path / "x.lock")!r}) if number % 2 else ReadWriteLock()
    armed = True
    try:
        cycle(lock, number)
    except Interrupt:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        other = FileLock(lock.path, timeout=0) if number % 2 else lock.write(timeout=0)
        with other:
            pass
    except TimeoutError:
        held += 1
print(held)
"""
    answer = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", program], text=True, timeout=150
    )
    assert answer == "0\n"
