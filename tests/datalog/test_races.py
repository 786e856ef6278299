"""What was seen before another process changed it: each test lets that happen between a look and the act on it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.datalog import (
    DataLogger,
    LogExistsError,
    LogInUseError,
    LogPackage,
    SaverError,
    _chunks,
    footer,
    layout,
    open_log,
    recovery,
    saver,
)
from ops.datalog import _liveness as liveness
from ops.datalog import _writer_files as writer_files
from ops.datalog._liveness import HeldFile, is_held
from ops.datalog._shutdown import exclusively, remove_unfinished
from ops.datalog.state import LogState

BEGINNING = """
import sys
from ops.datalog import writer
from ops.datalog.sink import LogSink
sink = LogSink(sys.argv[1])
sink.log(1, 1, b"before")
print("logged", flush=True)
sys.stdin.readline()
begin = writer.Writer._begin
def paused(self):
    begin(self)
    writer.Writer._begin = begin
    print("begun", flush=True)
    sys.stdin.readline()
writer.Writer._begin = paused
sink.log(1, 2, b"after")
sink.log(1, 3, b"after")
print("accepted", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("layout", ["npy", "segments"])
def test_a_producer_that_is_paused_as_it_begins_anew_logs_to_files_that_are_there(
    tmp_path, run_python, layout
) -> None:
    logger = DataLogger(tmp_path, "test", layout=layout, sync="none")
    logger.start()
    producer = run_python(BEGINNING, logger.output_directory, stdin=subprocess.PIPE)

    def goes_on(to: str) -> None:
        producer.stdin.write("\n")
        producer.stdin.flush()
        assert producer.stdout.readline() == f"{to}\n"

    assert producer.stdout.readline() == "logged\n"
    logger.stop()
    logger.start()
    goes_on("begun")
    logger.stop()  # takes over, and removes, the files that were just begun
    logger.start()
    goes_on("accepted")
    assert [m.timestamp for m in logger.read()] == [1, 2, 3]
    producer.communicate("\n")
    logger.stop()
    assert [m.timestamp for m in logger.read()] == [1, 2, 3]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.ENOMEM])
def test_a_tail_that_cannot_be_opened_now_is_not_taken_for_that_of_a_dead_producer(
    logger, monkeypatch, code
) -> None:
    folder = logger.output_directory
    logger.input_queue.log(1, 1, b"accepted")
    (tail,) = folder.glob("*.tail")

    def refuse(path, flags=os.O_RDONLY) -> int:
        raise OSError(code, os.strerror(code), os.fspath(path))

    monkeypatch.setattr(liveness, "open_regular", refuse)
    recovery.absorb_ended(folder)
    recovery.finish_segments(folder)
    with pytest.raises(LogInUseError):
        recovery.recover(folder)
    monkeypatch.undo()
    assert tail.exists()
    logger.input_queue.log(1, 2, b"accepted")
    assert [m.timestamp for m in open_log(folder)] == [1, 2]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("take_over", ["absorb_ended", "finish_segments", "_recovered"])
def test_the_tail_of_a_dead_producer_that_cannot_be_opened_now_waits_for_the_next_time(
    logger, run_python, monkeypatch, take_over, code
) -> None:
    program = """
import os, sys
from ops.datalog.sink import LogSink
LogSink(sys.argv[1]).log(1, 1, b"accepted")
os.kill(os.getpid(), 9)
"""
    folder = logger.output_directory
    run_python(program, folder).wait()
    (tail,) = folder.glob("*.tail")

    def refuse(path, flags=os.O_RDONLY) -> int:
        raise OSError(code, os.strerror(code), os.fspath(path))

    with monkeypatch.context() as patch:
        for module in (recovery, _chunks):
            patch.setattr(module, "open_regular", refuse)
        with contextlib.suppress(OSError):
            getattr(recovery, take_over)(folder)
    assert tail.exists()
    assert [path.name for path in folder.iterdir() if path.name.endswith(".damaged")] == []
    getattr(recovery, take_over)(folder)
    assert [m.timestamp for m in open_log(folder)] == [1]
    assert not tail.exists()


@pytest.fixture
def ended(tmp_path):
    """A logger of .npy files that is about to stop, with a message in a segment and one in a tail."""
    logger = DataLogger(tmp_path, "ended", sync="none")
    logger.start()
    logger.input_queue.log(1, 1, bytes(20_000))
    logger.input_queue.log(1, 2, b"in the tail")
    return logger


@pytest.mark.parametrize("kind", [".seg", ".tail"])
def test_what_cannot_be_opened_as_a_log_is_stopped_is_not_taken_for_damaged(
    ended, monkeypatch, kind
) -> None:
    open_it = liveness.open_regular

    def refuse(path, flags=os.O_RDONLY) -> int:
        if path.suffix == kind:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), os.fspath(path))
        return open_it(path, flags)

    if kind == ".tail":  # as of a producer that was killed
        monkeypatch.setattr(ended._sink, "_close", lambda **_: None)
    for module in (_chunks, footer):
        monkeypatch.setattr(module, "open_regular", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        ended.stop()
    monkeypatch.undo()
    ended.stop()
    assert [m.timestamp for m in ended.read()] == [1, 2]
    assert not list(ended.output_directory.glob("*.damaged"))


@pytest.mark.parametrize("attempt", ["stop", "read"])
def test_a_folder_that_cannot_be_listed_now_is_no_empty_one(ended, monkeypatch, attempt) -> None:
    calls = {name: getattr(os, name) for name in ("listdir", "scandir")}
    left = [0]

    def counted(name):
        def call(path="."):
            left[0] -= 1
            if left[0] == 0:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return calls[name](path)

        return call

    def attempted(number):
        left[0] = number
        with monkeypatch.context() as patch:
            for name in calls:
                patch.setattr(os, name, counted(name))
            if attempt == "stop":
                ended.stop()
            else:
                assert [m.timestamp for m in open_log(ended.output_directory)] == [1, 2]
        return left[0] > 0  # all calls went well

    number = 1
    while True:
        try:
            if attempted(number):
                break
        except OSError:
            pass
        number += 1
    assert number > 2
    ended.stop()
    assert [m.timestamp for m in ended.read()] == [1, 2]


def test_a_segment_of_another_user_that_may_not_be_read_is_not_removed(ended, monkeypatch) -> None:
    (segment,) = ended.output_directory.glob("*.seg")
    open_it = liveness.open_regular

    def refused(path, *_, **__):
        if os.fspath(path) == os.fspath(segment):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))

    def refuse(path, flags=os.O_RDONLY) -> int:
        refused(path)
        return open_it(path, flags)

    for module in (_chunks, footer):
        monkeypatch.setattr(module, "open_regular", refuse)
    monkeypatch.setattr(layout.os, "link", refused)
    monkeypatch.setattr(layout, "open", refused, raising=False)
    with pytest.raises(PermissionError):
        ended.stop()
    monkeypatch.undo()
    assert segment.exists()
    ended.stop()
    assert [m.timestamp for m in ended.read()] == [1, 2]


def test_an_error_that_is_announced_while_the_log_is_closed_does_not_open_it_again(
    logger,
) -> None:
    folder = logger.output_directory
    reporting, reporter = threading.Event(), LogState(folder)
    was_open = threading.Event()

    class Paused(LogState):
        @property
        def is_open(self) -> bool:
            found = super().is_open
            was_open.set()
            reporting.wait(10)
            return found

    reporter.__class__ = Paused
    thread = threading.Thread(target=reporter.add_error, args=("the disk is full",))
    thread.start()
    assert was_open.wait(10)
    state = LogState(folder)
    try:
        with exclusively(folder, timeout=0.2):
            state.close()
    except LogInUseError:  # who reports first is waited for
        reporting.set()
        thread.join()
        with exclusively(folder):
            state.close()
    reporting.set()
    thread.join()
    assert not state.is_open
    assert state.errors() == ["the disk is full"]
    with pytest.raises(SaverError, match="the disk is full"):
        logger.stop()


def test_files_that_look_forgotten_as_they_are_made_are_made_again(logger, monkeypatch) -> None:
    swept = []

    def swept_first(fd: int) -> bool:
        if not swept:
            swept.append(fd)
            remove_unfinished(logger.output_directory)
        return liveness.try_lock(fd)

    monkeypatch.setattr(writer_files, "try_lock", swept_first)
    logger.input_queue.put(LogPackage(1, 1, b"accepted"))
    assert swept
    assert [m.timestamp for m in logger.read()] == [1]


def test_a_file_is_taken_while_others_probe_whether_it_is_held(tmp_path, monkeypatch) -> None:
    path = tmp_path / "file"
    path.touch()
    probe = os.open(path, os.O_RDONLY)
    fcntl.flock(probe, fcntl.LOCK_SH)
    monkeypatch.setattr(liveness.time, "sleep", lambda _: fcntl.flock(probe, fcntl.LOCK_UN))
    held = HeldFile(path)
    assert held.take()
    assert is_held(path)
    assert not HeldFile(path).take()
    held.release()
    os.close(probe)


def test_a_segment_that_has_the_same_size_and_other_bytes_is_synced_again(
    logger, monkeypatch
) -> None:
    logger.input_queue.log(1, 1, bytes(20_000))
    (segment,) = logger.output_directory.glob("*.seg")
    synced: list[str] = []
    monkeypatch.setattr(saver, "_sync", lambda path: synced.append(path.suffix))
    with ThreadPoolExecutor(1) as pool:
        saving = saver.Saver(logger.output_directory, pool)
        saving.work()
        assert sorted(synced) == [".seg", ".tail"]
        data, before = segment.read_bytes(), segment.stat()
        with segment.open("r+b") as file:  # as a put that meets a full disk, and another one
            file.truncate(len(data) - 100)
            file.seek(len(data) - 100)
            file.write(data[-100:])
        os.utime(segment, ns=(before.st_mtime_ns, before.st_mtime_ns + 4_000_000))
        saving.work()
    assert synced.count(".seg") == 2


def test_of_two_loggers_that_both_saw_no_log_one_makes_it(tmp_path) -> None:
    one, two = (DataLogger(tmp_path, "rig", layout="segments", sync="none") for _ in range(2))
    with one:
        one.input_queue.log(1, 1, b"x")
    with pytest.raises(LogExistsError):
        two.start()
    with one:  # it is its own
        one.input_queue.log(1, 2, b"x")
    assert one.read().counts() == {1: 2}
    with pytest.raises(LogExistsError):
        two.start()
    with DataLogger(tmp_path, "rig", exist_ok=True, sync="none") as three:
        assert three.read().counts() == {1: 2}
