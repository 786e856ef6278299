"""The file lock of coroutines: exclusion, timeouts, cancellation, together with the other one."""

import asyncio
import os

import pytest

from ops.foundation import (
    AsyncFileLock,
    DeadlineExceededError,
    FileLock,
    LockCancelled,
    LockTimeout,
    SelfDeadlockError,
    timeout_context,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.lock"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.parametrize("shared", [True, False])
def test_tasks_exclude_each_other(path, shared):
    inside = most = 0
    one = AsyncFileLock(path)

    async def work():
        nonlocal inside, most
        for _ in range(5):
            async with one if shared else AsyncFileLock(path):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

    async def main():
        await asyncio.gather(*(work() for _ in range(4)))

    asyncio.run(main())
    assert (inside, most, one.is_acquired) == (0, 1, False)


def test_it_excludes_the_lock_of_threads_and_is_excluded_by_it(path):
    async def main():
        async with AsyncFileLock(path):
            with pytest.raises(LockTimeout):
                FileLock(path, timeout=0).acquire()
        with FileLock(path):
            lock = AsyncFileLock(path, timeout=0.01)
            with pytest.raises(LockTimeout, match=r"0\.01 s"):
                await lock.acquire()
            assert await lock.acquire(blocking=False) is False

    asyncio.run(main())
    with FileLock(path, timeout=0):
        pass


def test_the_loop_runs_while_a_task_waits_and_a_cancelled_wait_leaves_nothing(path):
    async def main():
        lock = AsyncFileLock(path)
        with FileLock(path):
            before = descriptors()
            waiting = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            after = descriptors()
            assert (after, lock.is_acquired) == (before, False)
        assert await lock.acquire(timeout=0)
        lock.release()
        with pytest.raises(RuntimeError, match="not held"):
            lock.release()

    asyncio.run(main())


def test_a_task_that_would_wait_for_itself_is_refused(path):
    async def main():
        async with AsyncFileLock(path) as lock:
            with pytest.raises(SelfDeadlockError):
                await lock.acquire()
            with pytest.raises(LockTimeout, match="already holds"):
                await lock.acquire(timeout=60)
            assert lock.is_acquired

    asyncio.run(main())


def test_a_check_and_a_limit_of_time_end_a_wait(path):
    async def main():
        with FileLock(path):
            with pytest.raises(LockCancelled):
                await AsyncFileLock(path, cancel_check=lambda: True).acquire()
            with pytest.raises(DeadlineExceededError), timeout_context(0.02):
                await AsyncFileLock(path).acquire()

    asyncio.run(main())


def test_a_block_that_fails_unlocks(path):
    async def main():
        with pytest.raises(KeyError):
            async with AsyncFileLock(path, mode=0o640):
                raise KeyError
        assert path.stat().st_mode & 0o777 == 0o640

    asyncio.run(main())
    with FileLock(path, timeout=0):
        pass
