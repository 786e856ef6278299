"""From put to file: what was accepted is laid out exactly once."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.interrupts import RAISED_BY_ALARM

from ops.datalog import (
    DataLogError,
    DataLogger,
    InvalidPackageError,
    LogExistsError,
    LoggerStopped,
    LogNotFoundError,
    LogPackage,
    compress_npy_logs,
    open_log,
)
from ops.datalog._npy_archive import DONE
from ops.foundation.errors import ValidationError

PRODUCER = """
import sys
from ops.datalog import LoggerStopped
from ops.datalog.sink import LogSink
sink, number = LogSink(sys.argv[1]), 0
try:
    while True:
        sink.log(int(sys.argv[2]), number, b"x" * int(sys.argv[3]))
        number += 1
        if number == 1: print("ready", flush=True)
except LoggerStopped:
    print(number)
"""


def contents(log) -> list[tuple[int, int, bytes]]:
    return [(m.source_id, m.timestamp, m.data.tobytes()) for m in log.read()]


def test_each_message_becomes_one_file_with_source_and_time(tmp_path) -> None:
    with DataLogger(tmp_path, "a.b") as logger:
        assert logger.output_directory == tmp_path / "a.b_data_log"
        assert logger.started
        logger.input_queue.put(LogPackage(np.uint8(3), np.uint64(17), np.array([1, 2], np.uint8)))
        logger.input_queue.put(LogPackage(3, time_stamp=17, serialized_data=b"\5"))
        logger.input_queue.put_nowait(LogPackage(4, 2**64 - 1, bytearray()))
    names = sorted(p.name for p in logger.output_directory.glob("*.npy"))
    assert names == [
        "003_00000000000000000017.npy",
        "003_00000000000000000017_1.npy",
        f"004_{2**64 - 1:020d}.npy",
    ]
    array = np.load(logger.output_directory / names[0])
    assert array.tolist() == [3, 17, 0, 0, 0, 0, 0, 0, 0, 1, 2], "source, time, payload"
    assert not logger.started
    assert list(logger.output_directory.glob("*.seg")) == []


def test_what_was_put_can_be_read_at_once(logger) -> None:
    logger.input_queue.log(1, 5, b"now")
    assert contents(logger) == [(1, 5, b"now")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    packages=st.lists(
        st.tuples(
            st.integers(0, 255),
            st.integers(0, 2**64 - 1),
            st.one_of(st.binary(max_size=200), st.sampled_from([b"y" * 16384, b"z" * 300_000])),
        ),
        max_size=40,
    )
)
def test_every_message_comes_back_through_every_layout(tmp_path_factory, packages) -> None:
    folder = tmp_path_factory.mktemp("log")
    expected = sorted(packages)
    with DataLogger(folder, layout="segments") as logger:
        for package in packages:
            logger.input_queue.log(*package)
        if packages:
            assert sorted(contents(logger)) == expected
    if packages:
        logger.compress_logs(remove_sources=True, verify_integrity=True)
        assert sorted(contents(logger)) == expected
        assert not list(logger.output_directory.glob("*.npy"))


def test_many_rows_in_one_call(logger) -> None:
    data = np.arange(30, dtype=np.uint8).reshape(10, 3)
    logger.input_queue.put_many(7, np.arange(10) + 100, data)
    columns = logger.read().columns(7)
    assert columns.times.tolist() == list(range(100, 110))
    assert np.array_equal(columns.data, data)
    for bad in ((np.arange(3), data), (np.arange(0), data[:0]), (np.arange(10), data[0])):
        with pytest.raises(InvalidPackageError):
            logger.input_queue.put_many(7, *bad)


@pytest.mark.parametrize(
    "bad",
    [
        (256, 0, b""),
        (-1, 0, b""),
        (0, -1, b""),
        (0, 2**64, b""),
        (1.5, 0, b""),
        (0, 0, "text"),
        (0, 0, None),
    ],
)
def test_a_bad_message_is_refused_and_harms_no_other(logger, bad) -> None:
    logger.input_queue.log(1, 1, b"before")
    with pytest.raises(InvalidPackageError):
        logger.input_queue.log(*bad)
    logger.input_queue.log(1, 2, b"after")
    assert [c[2] for c in contents(logger)] == [b"before", b"after"]


def test_data_that_no_frame_can_hold_is_refused(logger) -> None:
    with pytest.raises(InvalidPackageError, match="longer than"):
        logger.input_queue.log(1, 1, np.zeros(1 << 32, np.uint8))
    with pytest.raises(InvalidPackageError, match="split"):
        logger.input_queue.put_many(1, np.arange(2), np.zeros((2, 1 << 31), np.uint8))


@pytest.mark.parametrize(
    "data",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(3, dtype=np.int32),
        memoryview(b"twelve bytes"),
        bytearray(b"twelve bytes"),
        np.frombuffer(b"twelve bytes", np.uint8),
    ],
)
def test_any_contiguous_buffer_is_logged_as_its_bytes(logger, data) -> None:
    logger.input_queue.log(1, 1, data)
    logger.input_queue.log(1, 2, b"next")
    assert contents(logger) == [(1, 1, memoryview(data).tobytes()), (1, 2, b"next")]


def test_after_stop_a_put_says_so_until_the_next_start(logger) -> None:
    queue = logger.input_queue
    queue.log(1, 1, b"a")
    logger.stop()
    logger.stop()
    with pytest.raises(LoggerStopped):
        queue.log(1, 2, b"b")
    logger.start()
    queue.log(1, 3, b"c")
    assert [c[1] for c in contents(logger)] == [1, 3]
    with pytest.raises(DataLogError, match="Stop"):
        logger.compress_logs()


def test_a_log_is_continued_only_when_asked(tmp_path) -> None:
    with DataLogger(tmp_path) as logger:
        logger.input_queue.log(1, 1, b"a")
    with pytest.raises(LogExistsError, match="exist_ok"):
        DataLogger(tmp_path)
    with DataLogger(tmp_path, exist_ok=True) as logger:
        logger.input_queue.log(1, 1, b"b")
    assert contents(logger) == [(1, 1, b"a"), (1, 1, b"b")]


def test_the_queue_travels_to_processes_and_forks_get_writers_of_their_own(logger) -> None:
    queue = logger.input_queue
    queue.log(0, 0, b"parent")
    pid = os.fork()
    if pid == 0:
        queue.log(1, 1, b"child")
        os._exit(0)
    os.waitpid(pid, 0)
    copy = pickle.loads(pickle.dumps(queue))
    copy.log(2, 2, b"copy")
    queue.log(0, 3, b"parent again")
    assert [c[0] for c in contents(logger)] == [0, 1, 2, 0]
    assert logger.read().verify().is_whole
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)


def test_a_bound_method_that_is_kept_across_a_fork_writes_files_of_the_child(logger) -> None:
    log = logger.input_queue.log
    log(0, 0, b"first, through the sink")
    log = logger.input_queue.log
    log(0, 1, bytes(20_000))
    pid = os.fork()
    if pid == 0:
        other = os.fork()
        if other == 0:  # a child that logs nothing leaves what its parent logs alone
            logger.input_queue.sync()
            logger.input_queue.close()
            os._exit(0)
        os.waitpid(other, 0)
        for number in range(100):
            log(1, number, bytes(20_000 if number % 10 == 0 else 10))
        os._exit(0)
    for number in range(100):
        log(0, 2 + number, b"parent meanwhile")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert logger.read().counts() == {0: 102, 1: 100}
    assert logger.read().verify().is_whole
    assert len(list(logger.output_directory.glob("*.tail"))) == 2


def test_threads_share_one_writer(logger) -> None:
    def work(source: int) -> None:
        for number in range(300):
            logger.input_queue.log(source, number, bytes(50))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logger.read().verify().messages == 1800
    assert len(list(logger.output_directory.glob("*.tail"))) == 1


def producer(logger, source: int, size: int) -> subprocess.Popen:
    command = [sys.executable, "-c", PRODUCER, str(logger.output_directory), str(source), str(size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_stopping_while_producers_write_loses_nothing_they_were_told_is_logged(logger) -> None:
    processes = {source: producer(logger, source, 64) for source in (1, 2, 3)}
    logger.stop()
    accepted = {s: int(p.communicate(timeout=300)[0]) for s, p in processes.items()}
    for source, count in accepted.items():
        assert len(logger.read().columns(source).times) == count


@pytest.mark.fault
def test_a_full_disk_refuses_messages_and_keeps_those_accepted(tmp_path) -> None:
    program = """
import resource, signal, sys
from ops.datalog import DataLogger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger = DataLogger(sys.argv[1], layout="segments", on_full=sys.argv[2]); logger.start()
resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, resource.RLIM_INFINITY))
accepted = 0
try:
    for number in range(2000):
        logger.input_queue.log(1, number, bytes(1000)); accepted += 1
except OSError as error:
    print(accepted, logger.input_queue.dropped, error.errno)
else:
    print(accepted - logger.input_queue.dropped, logger.input_queue.dropped, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logger.stop()
"""
    for mode, failed in (("raise", True), ("drop", False)):
        folder = tmp_path / mode
        command = [sys.executable, "-c", program, str(folder), mode]
        words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        accepted, dropped, error = map(int, words)
        report = open_log(folder / "data_logger_data_log").verify()
        assert 500 < report.messages == accepted < 2000
        assert bool(error) == failed
        assert bool(dropped) != failed
        assert report.is_whole


def test_a_layout_that_was_cut_off_is_completed(tmp_path) -> None:
    with DataLogger(tmp_path, layout="segments") as logger:
        for number in range(20):
            logger.input_queue.log(1, number, b"m")
    folder = logger.output_directory
    messages = list(logger.read())
    (folder / DONE).mkdir()
    for message in messages:
        np.save(folder / DONE / f"001_{message.timestamp:020d}.npy", message.data)
    (folder / DONE / "001_00000000000000000000.npy").rename(folder / "001_00000000000000000000.npy")
    compress_npy_logs(folder, remove_sources=True)
    assert [c[1] for c in contents(logger)] == list(range(20))
    assert not list(folder.glob("*.seg"))


def test_nonsense_is_refused(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValidationError, match="layout"):
        DataLogger(tmp_path, layout="hdf5")
    with pytest.raises(ValidationError):
        DataLogger(tmp_path, "../escape")
    with pytest.raises(LogNotFoundError):
        open_log(tmp_path)
    with pytest.raises(LogNotFoundError):
        compress_npy_logs(tmp_path)
    with pytest.raises(InvalidPackageError):
        LogPackage(1)
    monkeypatch.setenv("OPS_DATALOG_LAYOUT", "segments")
    with DataLogger(tmp_path) as logger:
        logger.input_queue.log(1, 1, b"a")
    assert list(logger.output_directory.glob("*.seg"))


def test_a_place_that_can_hold_no_folder_is_an_error_at_start(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"):
        DataLogger(tmp_path / "file").start()


@pytest.mark.fault
def test_a_full_disk_can_make_producers_wait_until_there_is_room(tmp_path) -> None:
    program = """
import resource, signal, sys, threading
from ops.datalog import DataLogger, LogPackage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger = DataLogger(sys.argv[1], layout="segments", on_full="block", sync="none", sleep_timer=100)
logger.start()
queue = logger.input_queue
unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, resource.RLIM_INFINITY))
refused = 0
for number in range(2000):
    package = LogPackage(1, number, bytes(1000))
    try:
        queue.put(package, timeout=0.01) if refused else queue.put_nowait(package)
    except OSError:
        refused += 1
        if refused == 2:
            threading.Timer(0.1, resource.setrlimit, (resource.RLIMIT_FSIZE, unlimited)).start()
            queue.put(package)
print(refused, queue.blocked, queue.blocked_seconds > 0.05, queue.dropped)
logger.stop()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert words == ["2", "1", "True", "0"]
    assert open_log(tmp_path / "data_logger_data_log").verify().messages == 1999


@pytest.mark.parametrize(
    ("times", "data"),
    [
        ([-1], [[1]]),
        (np.array([-1]), [[1]]),
        ([1.5], [[1]]),
        ([float("nan")], [[1]]),
        ([1 << 64], [[1]]),
        (["1"], [[1]]),
        ([1], [[300]]),
        ([1], np.array([[300]])),
        ([1], np.array([[-1]], np.int8)),
        ([1], [[1.7]]),
    ],
    ids=str,
)
def test_many_that_would_be_changed_by_a_conversion_are_refused(logger, times, data) -> None:
    with pytest.raises(InvalidPackageError, match="integers"):
        logger.input_queue.put_many(1, times, data)
    assert logger.read().sources() == []


def test_many_may_be_lists_and_any_integers_that_fit(logger) -> None:
    logger.input_queue.put_many(1, [2**63, 1], [[255], [0]])
    logger.input_queue.put_many(2, np.array([5], np.int16), np.array([[7]], np.int64))
    read = [(m.source_id, m.timestamp, m.data.tolist()) for m in logger.read()]
    assert read == [(1, 1, [0]), (2, 5, [7]), (1, 2**63, [255])]


def test_addresses_of_objects_are_no_data(logger) -> None:
    with pytest.raises(InvalidPackageError, match="objects"):
        logger.input_queue.log(1, 1, np.array([object()]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sync_interval": float("nan")},
        {"sync_interval": float("inf")},
        {"sleep_timer": float("nan")},
        {"process_count": 0},
    ],
    ids=str,
)
def test_numbers_that_are_no_amount_are_refused(tmp_path, wrong) -> None:
    with pytest.raises(ValidationError, match="positive"):
        DataLogger(tmp_path, **wrong)


def test_a_log_that_is_written_is_not_compressed_under_its_writers(logger) -> None:
    logger.input_queue.log(1, 1, b"a")
    with pytest.raises(DataLogError, match="being written"):
        compress_npy_logs(logger.output_directory, remove_sources=True)
    logger.input_queue.log(1, 2, b"b")
    logger.stop()
    assert [c[1] for c in contents(logger)] == [1, 2]


INTERRUPTED = (
    RAISED_BY_ALARM
    + """
from ops.datalog import DataLogger

logger = DataLogger(sys.argv[1], layout="segments", sync="none")
logger.start()
accepted, number, interrupts, end = [], 0, 0, time.monotonic() + 1
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 2e-3))
        while True:
            number += 1
            logger.input_queue.log(1, number, b"x" * (20_000 if number % 20 == 0 else 3_000))
            accepted.append(number)
    except Interrupt:
        interrupts += 1
signal.setitimer(signal.ITIMER_REAL, 0)
logger.stop()
times = [message.timestamp for message in logger.read()]
assert interrupts > 10
assert len(times) == len(set(times)), "a message was logged twice"
assert not set(accepted) - set(times), "a message was lost"
assert logger.read().verify().is_whole
"""
)


@pytest.mark.fault
def test_an_interrupt_at_any_moment_loses_and_doubles_nothing(tmp_path) -> None:
    program = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.fault
def test_an_error_of_a_full_disk_names_the_file(tmp_path) -> None:
    program = """
import resource, signal, sys
from ops.datalog import DataLogger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger = DataLogger(sys.argv[1], layout=sys.argv[2], sync="none"); logger.start()
logger.input_queue.log(1, 0, b"x")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    for number in range(1000):
        logger.input_queue.log(1, number, bytes(int(sys.argv[4])))
    logger.stop()
except OSError as error:
    print(error.filename)
"""
    for layout, limit, size, suffix in (
        ("segments", 10, 20_000, ".seg"), ("segments", 100_000, 20_000, ".seg"),
        ("segments", 100_000, 100, ".seg"),
    ):  # fmt: skip
        command = [sys.executable, "-c", program, tmp_path / f"{layout}{limit}{size}", layout]
        done = subprocess.run(
            [*map(str, command), str(limit), str(size)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip().endswith(suffix), (done.stdout, done.stderr)
