"""lock(): one holder at a time by PostgreSQL, a file or a storage; released on error and on death."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from ops.foundation.errors import LockTimeout
from ops.metrics_collect import ParameterError, StorageDirectory, StorageError, lock, tempdir


@pytest.fixture(params=[pytest.param("db", marks=pytest.mark.service), "path", "storage"])
def place(request, tmp_path):
    if request.param == "db":
        return {"db": request.getfixturevalue("postgres").dsn + " dbname=postgres"}
    if request.param == "path":
        return {"path": tmp_path / "locks"}
    return {"storage": StorageDirectory(tmp_path)}


def test_a_second_holder_is_refused_and_told_who_holds(place):
    with lock("key", **place) as me:
        assert me.pid == os.getpid()
        for options in ({"wait": False}, {"timeout": 0.01}):
            with (
                pytest.raises(LockTimeout, match=str(os.getpid())),
                lock("key", **place, **options),
            ):
                pass
        with lock("another", **place, wait=False):
            pass
    with lock("key", **place, wait=False):
        pass


def test_an_error_releases(place):
    with pytest.raises(ZeroDivisionError), lock("key", **place):
        raise ZeroDivisionError
    with lock("key", **place, wait=False):
        pass


HOLD = """
import sys, time
from ops.metrics_collect import StorageDirectory, lock
kind, value = sys.argv[1:3]
place = {kind: StorageDirectory(value) if kind == "storage" else value}
with lock("key", **place, lease_seconds=float(sys.argv[3])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.fault
def test_a_killed_holder_blocks_nobody(place, tmp_path):
    ((kind, value),) = place.items()
    value = str(tmp_path) if kind == "storage" else str(value)
    command = [sys.executable, "-c", HOLD, kind, value, "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LockTimeout), lock("key", **place, wait=False):
            pass
        child.send_signal(signal.SIGKILL)
    # The server sees the end of a connection, and a lease ends, a moment later.
    with lock("key", **place, timeout=60):
        pass


def test_a_lease_is_renewed_while_it_is_held(tmp_path):
    storage = StorageDirectory(tmp_path)
    with (
        lock("key", storage=storage, lease_seconds=1.0),
        pytest.raises(LockTimeout),
        lock("key", storage=storage, timeout=2.5),
    ):
        pass


def test_a_note_that_cannot_be_removed_keeps_no_lock(tmp_path, monkeypatch):
    def refuse(path, **_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "unlink", refuse)
        with lock("key", path=tmp_path):
            pass
    with lock("key", path=tmp_path, wait=False):
        pass


def test_a_lease_that_cannot_be_renewed_is_reported(tmp_path, monkeypatch, caplog):
    storage = StorageDirectory(tmp_path)
    put, failed = storage.put, threading.Event()

    def refuse(*args, **kwargs):
        if not failed.is_set() and threading.current_thread() is not threading.main_thread():
            failed.set()
            raise StorageError("away")
        put(*args, **kwargs)

    monkeypatch.setattr(storage, "put", refuse)
    with lock("key", storage=storage, lease_seconds=0.3):
        assert failed.wait(10)
    assert "the lease locks/key was not renewed: away" in caplog.text


def test_of_two_that_find_an_expired_lease_one_gets_it(tmp_path, monkeypatch):
    from ops.metrics_collect.locks import Holder, _Lease

    storage = StorageDirectory(tmp_path)
    me = Holder("here", 1, "now")
    old = _Lease(storage, "locks/key", me, -1.0)
    assert old.try_take()
    first, second = (_Lease(storage, "locks/key", me, 60.0) for _ in range(2))
    read = second._read

    def read_and_be_overtaken(name):
        found = read(name)
        assert first.try_take()
        return found

    monkeypatch.setattr(second, "_read", read_and_be_overtaken)
    assert not second.try_take()


def test_who_is_overtaken_by_two_does_not_take_the_number_that_the_first_gave_back(
    tmp_path, monkeypatch
):
    from ops.metrics_collect.locks import Holder, _Lease

    storage = StorageDirectory(tmp_path)
    me = Holder("here", 1, "now")
    assert _Lease(storage, "locks/key", me, -1.0).try_take()
    slow, second, third = (_Lease(storage, "locks/key", me, 60.0) for _ in range(3))
    read = slow._read

    def read_and_be_overtaken(name):
        found = read(name)
        assert second.try_take()
        second.release()
        assert third.try_take()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(slow, "_read", read_and_be_overtaken)
        assert not slow.try_take()
    assert not slow.try_take()
    third.release()
    assert slow.try_take()


def test_a_lock_that_is_released_before_its_holder_is_read_times_out(tmp_path, monkeypatch):
    with lock("key", path=tmp_path):
        read = type(tmp_path).read_text

        def gone_meanwhile(path, *arguments):
            path.unlink()
            return read(path, *arguments)

        monkeypatch.setattr(type(tmp_path), "read_text", gone_meanwhile)
        with pytest.raises(LockTimeout), lock("key", path=tmp_path, wait=False):
            pass


def test_a_child_that_leaves_the_block_releases_nothing(place):
    child = -1
    try:
        with lock("key", **place):
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                with (
                    pytest.raises(LockTimeout, match=str(os.getpid())),
                    lock("key", **place, wait=False),
                ):
                    pass
    finally:
        if not child:
            os._exit(sys.exc_info()[0] is not None)


def test_exactly_one_place():
    with pytest.raises(ParameterError, match="exactly one"), lock("key"):
        pass


def test_a_tempdir_is_private_vanishes_and_leaves_the_working_directory_alone():
    here = os.getcwd()
    with tempdir("mine-") as folder:
        assert os.path.basename(folder).startswith("mine-")
        assert os.stat(folder).st_mode & 0o077 == 0
        assert os.getcwd() == here
    assert not os.path.exists(folder)
