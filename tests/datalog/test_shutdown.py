"""What happens to a log while it is closed, and after it: by several loggers, producers and readers."""

from __future__ import annotations

import errno
import os
import pickle
import secrets
import sys
import threading
from types import SimpleNamespace

import pytest

import ops.datalog._npy_archive
import ops.datalog.archive
import ops.datalog.layout
import ops.datalog.reader
import ops.datalog.writer
from ops.datalog import (
    DataLogError,
    DataLogger,
    LoggerStopped,
    LogNotFoundError,
    LogPackage,
    compress_npy_logs,
    open_log,
)
from ops.datalog._npy_archive import stored_files
from ops.datalog._prelayout import Ahead
from ops.datalog.layout import finish_layout
from ops.datalog.state import LogState
from ops.foundation.locks import FileLock

LARGE = bytes(20_000)  # goes straight to the segment

STARTER = """
import sys
from ops.datalog import DataLogger, LogPackage
logger = DataLogger(sys.argv[1], "test", exist_ok=True, sync="none")
print("starts", flush=True)
logger.start()
logger.input_queue.put(LogPackage(2, 2, bytes(20_000)))
print("logged", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["npy", "segments"])
def either(request, tmp_path):
    """A logger of either layout, without a saver."""
    return DataLogger(tmp_path, "test", layout=request.param, sync="none")


@pytest.fixture
def npy(tmp_path):
    """A logger that leaves .npy files, without a saver."""
    return DataLogger(tmp_path, "test", layout="npy", sync="none")


def times(log) -> list[int]:
    return [message.timestamp for message in open_log(log.output_directory)]


def a_copy(sink):
    return pickle.loads(pickle.dumps(sink))


def test_a_logger_that_is_started_while_another_lays_out_waits_for_it(npy, monkeypatch) -> None:
    npy.start()
    npy.input_queue.put(LogPackage(1, 1, LARGE))
    other = DataLogger(npy.output_directory.parent, "test", exist_ok=True, sync="none")
    came = threading.Event()
    write, acquire = ops.datalog.layout.write_npy, FileLock.acquire

    def start_and_put() -> None:
        other.start()
        other.input_queue.put(LogPackage(2, 2, LARGE))
        came.set()

    starting = threading.Thread(target=start_and_put)

    def acquire_and_tell(lock, timeout=None) -> bool:
        if threading.current_thread() is starting:
            came.set()
        return acquire(lock, timeout)

    def write_while_another_starts(path, head, data) -> None:
        write(path, head, data)
        starting.start()
        assert came.wait(30)

    with monkeypatch.context() as patch:
        patch.setattr(ops.datalog.layout, "write_npy", write_while_another_starts)
        patch.setattr(FileLock, "acquire", acquire_and_tell)
        npy.stop()
    starting.join()
    assert times(npy) == [1, 2]
    other.stop()


def test_a_log_that_is_started_is_not_compressed_though_nobody_has_put_anything(npy) -> None:
    npy.start()
    npy.input_queue.put(LogPackage(1, 1, b"one"))
    npy.stop()
    npy.start()
    with pytest.raises(DataLogError, match="is being written"):
        compress_npy_logs(npy.output_directory, remove_sources=True)
    npy.stop()
    assert compress_npy_logs(npy.output_directory, remove_sources=True)


def test_compressing_closes_what_a_killed_logger_left_open(npy, run_python, monkeypatch) -> None:
    other = run_python(STARTER, npy.output_directory.parent)
    assert [other.stdout.readline() for _ in range(2)] == ["starts\n", "logged\n"]
    other.kill()
    other.wait()
    sink, archive = a_copy(npy.input_queue), ops.datalog.archive._archive

    def archive_and_be_put_to(task):
        with pytest.raises(LoggerStopped):
            sink.put(LogPackage(1, 1, LARGE))
        return archive(task)

    monkeypatch.setattr(ops.datalog.archive, "_archive", archive_and_be_put_to)
    compress_npy_logs(npy.output_directory, remove_sources=True)

    assert times(npy) == [2]


def test_a_producer_that_closes_after_a_stop_loses_and_doubles_nothing(either) -> None:
    either.start()
    sink = a_copy(either.input_queue)
    sink.put(LogPackage(1, 1, b"one"))
    either.stop()
    sink.sync()
    assert times(either) == [1]
    sink.close()
    assert times(either) == [1]


def test_a_producer_that_closes_after_a_new_start_loses_and_doubles_nothing(either) -> None:
    either.start()
    sink = a_copy(either.input_queue)
    sink.put(LogPackage(1, 1, b"one"))
    either.stop()
    either.start()
    sink.close()
    assert times(either) == [1]
    either.stop()
    assert times(either) == [1]


def test_a_method_that_was_kept_raises_after_the_stop_and_logs_after_the_next_start(npy) -> None:
    npy.start()
    npy.input_queue.put(LogPackage(1, 1, b"one"))
    log = npy.input_queue.log
    npy.stop()
    with pytest.raises(LoggerStopped):
        log(1, 2, b"two")
    npy.start()
    log(1, 3, b"three")
    npy.stop()
    assert times(npy) == [1, 3]


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_writer_that_begins_while_the_log_is_stopped_takes_nothing(
    npy, restarts, monkeypatch
) -> None:
    npy.start()
    sink = a_copy(npy.input_queue)
    for _ in range(restarts):
        sink.put(LogPackage(1, 0, b""))
        npy.stop()
        npy.start()

    def stop(size: int) -> str:
        npy.stop()
        return secrets.token_hex(size)

    # Between a look at the token and the making of the files.
    monkeypatch.setattr(ops.datalog.writer, "secrets", SimpleNamespace(token_hex=stop))
    for _ in range(2):
        with pytest.raises(LoggerStopped):
            sink.put(LogPackage(1, 1, b"one"))
    assert list(npy.output_directory.glob("*.seg")) == []


def test_an_error_that_is_announced_while_the_log_is_stopped_does_not_open_it(
    npy, monkeypatch
) -> None:
    """A saver that has outlived the program before has just seen that the log is open."""
    npy.start()
    orphan, close = LogState(npy.output_directory), LogState.close

    def close_and_be_announced_to(state) -> None:
        close(state)
        monkeypatch.setattr(LogState, "close", close)
        orphan._announce()

    monkeypatch.setattr(LogState, "close", close_and_be_announced_to)
    npy.stop()
    with pytest.raises(LoggerStopped):
        npy.input_queue.put(LogPackage(1, 1, b"one"))


def test_a_stop_that_found_the_disk_full_does_the_rest_when_called_again(npy, monkeypatch) -> None:
    npy.start()
    npy.input_queue.put(LogPackage(1, 1, b"one"))
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(errno.ENOSPC, "full")

        patch.setattr(ops.datalog.layout, "write_npy", full)
        with pytest.raises(OSError, match="full"):
            npy.stop()
    assert not npy.started
    npy.stop()
    assert [path.name for path in npy.output_directory.glob("*_*")] == [
        "001_00000000000000000001.npy"
    ]


@pytest.mark.parametrize("step", ["stored_runs", "writer_runs"])
def test_a_reader_that_meets_a_layout_sees_every_message_once(npy, step, monkeypatch) -> None:
    npy.start()
    npy.input_queue.put(LogPackage(1, 1, b"one"))
    log, runs = npy.read(), getattr(ops.datalog.reader, step)

    def stopped_behind(*args, **options):
        found = list(runs(*args, **options))
        npy.stop()
        return found

    monkeypatch.setattr(ops.datalog.reader, step, stopped_behind)
    assert [message.timestamp for message in log] == [1]


def test_a_saver_that_has_outlived_its_log_leaves_alone_what_the_next_one_lays_out(npy) -> None:
    def put(time: int) -> None:
        npy.input_queue.put(LogPackage(1, time, b"x"))
        npy.input_queue._writer.flush()

    npy.start()
    put(1)
    old = Ahead(npy.output_directory)
    old.work()
    npy.stop()
    npy.start()
    put(2)
    new = Ahead(npy.output_directory)
    new.work()
    put(3)
    with pytest.raises(FileNotFoundError):
        old.work()
    old.give_up()
    new.work()
    put(4)
    npy.stop()
    assert times(npy) == [1, 2, 3, 4]
    new.close()


def test_a_saver_that_cannot_be_started_again_is_an_error(tmp_path) -> None:
    logger = DataLogger(tmp_path, sync_interval=0.01)
    logger.start()
    logger._supervisor._command = [str(tmp_path / "missing")]
    logger._supervisor._process.kill()
    logger._supervisor._thread.join()
    assert not logger.alive
    with pytest.raises(DataLogError, match="no other could be started"):
        logger.stop()


def test_a_logger_whose_saver_cannot_be_started_is_not_started(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    logger = DataLogger(tmp_path)
    with pytest.raises(FileNotFoundError):
        logger.start()
    assert not logger.started
    with pytest.raises(LoggerStopped):
        logger.input_queue.put(LogPackage(1, 1, b"one"))


@pytest.fixture
def half_done(npy, monkeypatch):
    """A log whose layout was committed and whose files have not moved to their place yet."""
    npy.start()
    npy.input_queue.put(LogPackage(1, 1, b"one"))
    with monkeypatch.context() as patch:
        patch.setattr(ops.datalog.layout, "finish_layout", lambda _: None)
        npy.stop()
    return npy


def test_files_that_move_to_their_place_while_they_are_listed_are_seen_once(
    half_done, monkeypatch
) -> None:
    folder, walk = half_done.output_directory, os.walk

    def move_behind_the_first(path, **options):
        for entry in walk(path, **options):
            yield entry
            finish_layout(folder)

    monkeypatch.setattr(ops.datalog._npy_archive.os, "walk", move_behind_the_first)
    assert [path.name for path in stored_files(folder).npy] == ["001_00000000000000000001.npy"]


def test_files_that_move_to_their_place_after_they_were_listed_are_read(half_done) -> None:
    [run] = half_done.read().runs()
    finish_layout(half_done.output_directory)
    [piece] = run.pieces()
    assert piece.data == b"one"


def test_files_that_were_replaced_after_they_were_listed_are_no_silent_loss(npy) -> None:
    npy.start()
    npy.input_queue.put(LogPackage(1, 1, b"one"))
    npy.stop()
    [run] = npy.read().runs()
    npy.compress_logs(remove_sources=True)
    with pytest.raises(LogNotFoundError, match="Read again"):
        list(run.pieces())
