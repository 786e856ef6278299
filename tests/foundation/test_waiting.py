"""Every lock takes `acquire` as the locks of `threading` do, and stays where its path led at first."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ops.foundation import AsyncFileLock, FileLock, LockTimeout, OptimisticLock, ReadWriteLock
from ops.foundation.waiting import checked_timeout

NOT_WAITING = [((False,), {}), ((), {"blocking": False}), ((False, 60), {})]
WAITING = [
    ((True, 0.01), {}),
    ((True,), {"timeout": 0.01}),
    ((), {"timeout": 0.01}),
    ((0.01,), {}),
    ((None, 0.01), {}),
    ((0,), {}),
    ((True,), {}),  # the lock's own limit
]


def in_another_thread(call) -> object:
    """Return what *call* returns, or the kind of its error."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(call())
        except LockTimeout as error:
            found.append(type(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def busy_file(folder):
    held, other = FileLock(folder / "l"), FileLock(folder / "l", timeout=0.02)
    held.acquire()
    return other.acquire, held.release, other.release


def busy_reader(_):
    lock = ReadWriteLock(timeout=0.02)
    lock.acquire_write()
    return lock.acquire_read, lock.release_write, lock.release_read


def busy_writer(_):
    lock = ReadWriteLock(timeout=0.02)
    lock.acquire_read()
    return lock.acquire_write, lock.release_read, lock.release_write


def busy_task(folder):
    held, other = FileLock(folder / "l"), AsyncFileLock(folder / "l", timeout=0.02)
    held.acquire()

    def acquire(*args, **options):
        return asyncio.run(other.acquire(*args, **options))

    return acquire, held.release, other.release


@pytest.mark.parametrize("busy", [busy_file, busy_reader, busy_writer, busy_task])
def test_a_lock_that_is_not_free_is_refused_or_waited_for_as_in_threading(tmp_path, busy) -> None:
    acquire, release, leave = busy(tmp_path)
    for args, options in NOT_WAITING:
        assert in_another_thread(lambda a=args, o=options: acquire(*a, **o)) is False
    for args, options in WAITING:
        assert in_another_thread(lambda a=args, o=options: acquire(*a, **o)) is LockTimeout
    with pytest.raises(TypeError, match="Two timeouts"):
        acquire(1.0, 2.0)
    release()
    assert acquire(True, 5) is True
    leave()


def test_a_bool_is_no_number_of_seconds(tmp_path) -> None:
    for given in (True, False):
        with pytest.raises(ValueError, match="no number of seconds"):
            checked_timeout(given)
    with pytest.raises(ValueError, match="no number of seconds"):
        FileLock(tmp_path / "l", timeout=True)


def test_a_relative_lock_stays_when_the_current_folder_changes(tmp_path, monkeypatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    plain, task, value = FileLock("plain"), AsyncFileLock("task"), OptimisticLock("value")
    monkeypatch.chdir(second)
    with plain:
        pass
    asyncio.run(task.acquire())
    task.release()
    value.compare_and_set(0, b"x")
    assert not list(second.iterdir())
    assert {path.name for path in first.iterdir()} >= {"plain", "task", "value"}
