"""Locks: exclusion, death of the holder, timeouts, re-entrancy, forks."""

import contextlib
import errno
import math
import os
import pickle
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ops.foundation import (
    ConflictError,
    DeadlineExceededError,
    FileLock,
    LockCancelled,
    LockProtocol,
    LockTimeout,
    LockUnsupportedError,
    OptimisticLock,
    ReadWriteLock,
    SelfDeadlockError,
    _flock,
    run_in_thread,
    timeout_context,
)

HOLDER = """
import sys, time
from ops.foundation import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.lock"


@pytest.fixture
def holder(path):
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    with child:
        assert child.stdout.readline() == b"held\n"
        yield child
        child.kill()


def test_a_lock_held_elsewhere_times_out_and_the_block_is_not_entered(holder, path):
    entered = False
    with pytest.raises(LockTimeout), FileLock(path, timeout=0.05):
        entered = True
    assert not entered


@pytest.mark.fault
def test_a_killed_holder_never_blocks_the_next_one(holder, path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with FileLock(path, timeout=10) as lock:
        assert lock.is_acquired


def test_release_leaves_the_file_so_two_holders_are_impossible(path):
    with FileLock(path):
        inode = path.stat().st_ino
    assert path.stat().st_ino == inode


def test_one_thread_enters_the_same_object_again(path):
    lock = FileLock(path, timeout=0)
    with lock, lock:
        assert lock.is_acquired
    assert not lock.is_acquired
    with FileLock(path, timeout=0):
        pass


def test_two_objects_in_one_thread_are_refused_instead_of_waiting_for_ever(path):
    with FileLock(path), pytest.raises(SelfDeadlockError):
        FileLock(path).acquire()


def test_threads_with_objects_of_their_own_exclude_each_other(path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        for _ in range(50):
            with FileLock(path):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_thread_that_does_not_hold_the_lock_cannot_release_it(path):
    errors = []
    with FileLock(path) as lock:

        def steal():
            try:
                lock.release()
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=steal)
        thread.start()
        thread.join()
        assert len(errors) == 1
        assert lock.is_acquired


FORKER = """
import os, sys
from ops.foundation import FileLock, LockTimeout
lock = FileLock(sys.argv[1])
lock.acquire()
pid = os.fork()
if pid == 0:
    held = lock.is_acquired
    try:
        FileLock(sys.argv[1], timeout=0).acquire()
    except LockTimeout:
        os._exit(1 if held else 0)
    os._exit(2)
_, status = os.waitpid(pid, 0)
code = os.waitstatus_to_exitcode(status)
try:
    import subprocess
    subprocess.run([sys.executable, "-c",
        "import sys; from ops.foundation import FileLock; FileLock(sys.argv[1], timeout=0).acquire()",
        sys.argv[1]], check=True, stderr=subprocess.DEVNULL)
    code = 3
except subprocess.CalledProcessError:
    pass
sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_holds_nothing_and_its_end_does_not_release_the_parents_lock(path):
    done = subprocess.run([sys.executable, "-c", FORKER, str(path)], check=False, timeout=300)
    assert done.returncode == 0


def test_the_descriptor_is_not_inherited_by_programs_that_are_started(path):
    with FileLock(path) as lock:
        assert not os.get_inheritable(lock._hold.descriptor)


def test_locks_fit_the_protocol(path):
    assert isinstance(FileLock(path), LockProtocol)
    assert isinstance(threading.Lock(), LockProtocol)


def test_waiting_uses_the_injected_clock_and_sleep(holder, path):
    time = [0.0]

    def sleep(seconds):
        time[0] += seconds

    with pytest.raises(LockTimeout):
        FileLock(path, timeout=5, sleep=sleep, clock=lambda: time[0]).acquire()
    assert time[0] == pytest.approx(5)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_stale_version_is_a_conflict_that_names_both(kind, tmp_path):
    lock = OptimisticLock(tmp_path / "v") if kind == "file" else OptimisticLock(value=b"")
    assert lock.compare_and_set(0, b"a") == 1
    with pytest.raises(ConflictError) as caught:
        lock.compare_and_set(0, b"b")
    assert (caught.value.expected, caught.value.actual) == (0, 1)
    assert lock.read() == (b"a", 1)


def test_a_waiting_writer_keeps_new_readers_out():
    lock = ReadWriteLock()
    entered = threading.Event()

    def write():
        with lock.write():
            entered.set()

    with lock.read():
        writer = threading.Thread(target=write)
        writer.start()
        while len(lock._queue) < 2:
            pass
        with pytest.raises(LockTimeout), lock.read(timeout=0):
            pass
        assert not entered.is_set()
    writer.join()
    assert entered.is_set()


def test_a_writer_that_gave_up_lets_readers_in_again():
    lock = ReadWriteLock()
    with lock.read():
        with pytest.raises(LockTimeout), lock.write(timeout=0):
            pass
        with lock.read(timeout=0):
            pass


def test_a_lock_that_died_with_its_thread_is_not_taken_over_by_a_thread_of_the_same_number(path):
    lock = FileLock(path)
    numbers = []

    def run(work):
        thread = threading.Thread(target=lambda: numbers.append(threading.get_ident()) or work())
        thread.start()
        thread.join()

    run(lock.acquire)
    refused = []

    def try_all():
        for attempt in (lock.acquire, FileLock(path).acquire):
            try:
                attempt(timeout=0)
            except LockTimeout:
                refused.append(1)

    # The numbers of threads are given out again at once, so one of a few has the first one's.
    for _ in range(20):
        run(try_all)
        if numbers[-1] == numbers[0]:
            break
    assert len(refused) == 2 * (len(numbers) - 1)
    assert lock.is_acquired
    lock._hold.close()  # which no thread may do any more


def test_with_a_limit_a_lock_held_through_another_object_is_a_timeout_at_once(path):
    def never(seconds):
        raise AssertionError(f"slept {seconds} s for a lock of its own")

    with FileLock(path):
        with pytest.raises(LockTimeout, match="another FileLock object"):
            FileLock(path, timeout=60, sleep=never).acquire()
        link = path.with_name("link")
        link.symlink_to(path)
        with pytest.raises(SelfDeadlockError):
            FileLock(link).acquire()


def test_a_refused_lock_leaves_no_descriptor_behind(path):
    with FileLock(path):
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        for _ in range(10):
            with pytest.raises(LockTimeout):
                FileLock(path, timeout=0).acquire()
        after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert before == after


FORK_WHILE_WAITING = """
import os, sys, threading, subprocess, time
from ops.foundation import FileLock
path = sys.argv[1]
waiting = threading.Event()
lock = FileLock(path, sleep=lambda s: (waiting.set(), time.sleep(s)))
first = FileLock(path)
first.acquire()
thread = threading.Thread(target=lock.acquire)
thread.start()
waiting.wait()
# The child is born while the other thread waits on a descriptor that is already open.
child = os.fork()
if child == 0:
    time.sleep(600)
first.release()
thread.join()
print(child, flush=True)
# Die with the lock held; the child lives on and must not keep it.
os._exit(0)
"""


@pytest.mark.fault
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_forked_while_a_thread_waited_does_not_keep_the_lock(path):
    command = [sys.executable, "-W", "ignore", "-c", FORK_WHILE_WAITING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        parent.wait()
        try:
            # A moment is allowed: the child closes its copies when it first runs.
            with FileLock(path, timeout=30) as lock:
                assert lock.is_acquired
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_a_thread_opens_the_file_closes_its_copy(path, monkeypatch):
    opened, noted = threading.Event(), threading.Event()
    opening = _flock._opened

    def slowly(*args):
        file = opening(*args)
        opened.set()
        noted.wait(60)
        return file

    monkeypatch.setattr(_flock, "_opened", slowly)
    lock = FileLock(path)
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    opened.wait(60)
    child = os.fork()
    if not child:
        copies = [n for n in os.listdir("/proc/self/fd") if leads_to(n, path)]
        os._exit(len(copies))
    noted.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    lock._hold.close()


def leads_to(descriptor: str, path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    except OSError:
        return False


def test_a_removed_lock_file_does_not_let_two_in(path):
    first, entered, over = FileLock(path), threading.Event(), threading.Event()
    first.acquire()

    def wait():
        with FileLock(path, timeout=60, sleep=slept):
            entered.set()
            over.wait(60)

    waiting = threading.Event()

    def slept(seconds):
        waiting.set()
        time.sleep(seconds)

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(60)
    path.unlink()
    first.release()
    assert entered.wait(60)
    with pytest.raises(LockTimeout):
        FileLock(path, timeout=0).acquire()
    over.set()
    thread.join()


def test_a_replaced_lock_file_is_the_one_that_counts(path):
    first = FileLock(path)
    first.acquire()
    os.replace(path, path.with_name("moved"))
    with FileLock(path, timeout=0) as newcomer:
        assert newcomer.is_acquired  # the holder of the moved file excludes nobody here
    first.release()


def other_user_locks(path) -> str:
    """Lock *path* as another user, in a child; return "ok" or what was raised."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(1000)
            os.setuid(1000)
            with FileLock(path, timeout=0):
                os.write(write, b"ok")
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    answer = os.read(read, 1000).decode()
    os.close(read)
    return answer


@pytest.fixture
def shared_folder():
    if not hasattr(os, "fork") or os.getuid():
        pytest.skip("needs root")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_who_may_read_the_file_of_another_user_may_lock_it(shared_folder):
    with umask(0o022), FileLock(shared_folder / "team.lock"):
        pass
    assert other_user_locks(shared_folder / "team.lock") == "ok"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_mode_is_given_whatever_the_umask_and_who_is_locked_out_learns_of_it(shared_folder):
    with umask(0o077):
        with FileLock(shared_folder / "shared.lock", mode=0o666) as lock:
            assert stat.S_IMODE(os.stat(lock.path).st_mode) == 0o666
        with FileLock(shared_folder / "private.lock"):
            pass
    assert other_user_locks(shared_folder / "shared.lock") == "ok"
    assert "PermissionError" in other_user_locks(shared_folder / "private.lock")
    assert pickle.loads(pickle.dumps(lock)).mode == 0o666


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_without_locks_gives_a_sentence(path, monkeypatch, number):
    def refuse(_descriptor):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(_flock, "_try_lock", refuse)
        with pytest.raises(LockUnsupportedError, match="does not lock files") as caught:
            FileLock(path).acquire()
    assert caught.value.errno == number
    assert isinstance(caught.value, OSError)
    assert pickle.loads(pickle.dumps(caught.value)).errno == number
    with FileLock(path, timeout=0):
        pass


def test_a_bool_says_whether_to_wait_as_for_the_locks_of_threading(holder, path):
    slept = []
    lock = FileLock(path, timeout=0.01, sleep=slept.append)
    assert lock.acquire(False) is False
    assert lock.acquire(blocking=False) is False
    assert not slept
    with pytest.raises(LockTimeout, match=r"0\.01 s"):
        FileLock(path, timeout=0.01).acquire(True)


def test_minus_one_waits_for_ever_and_other_negative_numbers_are_refused(path):
    assert FileLock(path, timeout=-1).timeout is None
    with FileLock(path) as lock:
        assert lock.acquire(-1)
        lock.release()
    for make in (FileLock, lambda path, timeout: ReadWriteLock(timeout)):
        with pytest.raises(ValueError, match="-1 waits for ever"):
            make(path, -2)


def test_a_check_cancels_a_wait(holder, path):
    answers = iter([False, False, True])
    lock = FileLock(path, cancel_check=lambda: next(answers), sleep=lambda _: None)
    with pytest.raises(LockCancelled, match="cancelled"):
        lock.acquire()
    assert not lock.is_acquired
    assert issubclass(LockCancelled, LockTimeout)


def test_a_wait_in_a_thread_ends_with_the_deadline_around_it(holder, path):
    def work():
        with timeout_context(0.05):
            FileLock(path).acquire()

    assert isinstance(run_in_thread(work).exception(60), DeadlineExceededError)


def test_a_wait_for_readers_in_a_thread_ends_with_the_deadline_around_it():
    lock = ReadWriteLock()

    def work():
        with timeout_context(0.05):
            lock.acquire_write()

    with lock.read():
        assert isinstance(run_in_thread(work).exception(60), DeadlineExceededError)
    assert lock.acquire_write(timeout=0)


def test_threads_that_share_an_object_wake_each_other(path):
    """A handoff that took the longest pause each time would take many seconds."""
    lock, turns = FileLock(path), []

    def work(number):
        for _ in range(50):
            with lock:
                turns.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(turns) == 200


def test_readers_and_writers_enter_in_the_order_in_which_they_came():
    lock, entered = ReadWriteLock(), []

    def enter(side, name, waiting):
        thread = threading.Thread(target=lambda: run(side, name))
        thread.start()
        while len(lock._queue) < waiting:
            time.sleep(0.001)
        return thread

    def run(side, name):
        with side():
            entered.append(name)

    with lock.write():
        threads = [
            enter(lock.write, "w1", 2),
            enter(lock.read, "r1", 3),
            enter(lock.write, "w2", 4),
        ]
    for thread in threads:
        thread.join()
    assert entered == ["w1", "r1", "w2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_keeps_its_own_entry_and_drops_those_of_other_threads():
    lock, inside, over = ReadWriteLock(), threading.Event(), threading.Event()

    def read():
        with lock.read():
            inside.set()
            over.wait(60)

    thread = threading.Thread(target=read)
    thread.start()
    inside.wait(60)
    with lock.read():
        child = os.fork()
        if not child:
            signal.alarm(30)
            alone = len(lock._queue) == 1
        else:
            assert os.waitpid(child, 0)[1] == 0
    if not child:
        with lock.write(timeout=10):
            os._exit(not alone)
    over.set()
    thread.join()


def test_an_update_is_repeated_until_nobody_came_between():
    lock = OptimisticLock(value=0)
    seen = []

    def change(value):
        seen.append(value)
        if len(seen) < 3:
            lock.compare_and_set(lock.version, value + 10)
        return value + 1

    assert lock.update(change) == 21
    assert seen == [0, 10, 20]
    assert lock.read() == (21, 3)


def test_an_update_gives_up_after_the_attempts_it_was_allowed():
    lock = OptimisticLock(value=0)

    def always_late(value):
        lock.compare_and_set(lock.version, value)
        return value

    with pytest.raises(ConflictError):
        lock.update(always_late, attempts=2)
    with pytest.raises(ValueError, match="no attempt"):
        lock.update(str, attempts=0)


def test_updates_of_several_threads_through_a_file_lose_nothing(tmp_path):
    def work():
        own = OptimisticLock(tmp_path / "n")
        for _ in range(10):
            own.update(lambda v: str(int(v or b"0") + 1).encode(), attempts=10_000)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert OptimisticLock(tmp_path / "n").read() == (b"30", 30)


@pytest.mark.parametrize("timeout", [math.inf, 1e300])
def test_more_seconds_than_can_be_counted_are_no_limit(path, timeout):
    assert FileLock(path, timeout).acquire()
    with ReadWriteLock(timeout).write():
        pass


def test_a_limit_of_nan_is_refused_and_does_not_spin(path):
    lock = ReadWriteLock()
    with pytest.raises(ValueError, match="nan"):
        FileLock(path, math.nan)
    with pytest.raises(ValueError, match="nan"):
        ReadWriteLock(math.nan)
    with pytest.raises(ValueError, match="nan"):
        lock.acquire_read(math.nan)
