"""Following a log that other processes write, and tidying one that they left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ops.datalog import DataLogError, DataLogger, LogNotFoundError, open_log
from ops.datalog.footer import is_sealed
from ops.datalog.writer import Writer

PRODUCER = """
import sys
from ops.datalog import LoggerStopped
from ops.datalog.sink import LogSink
sink, number = LogSink(sys.argv[1]), 0
try:
    while True:
        sink.log(int(sys.argv[2]), number, bytes(int(sys.argv[3])))
        number += 1
        if number == 1: print("ready", flush=True)
except LoggerStopped:
    print(number)
"""

LOG_AND_DIE = """
import os, sys
from ops.datalog.sink import LogSink
sink = LogSink(sys.argv[1])
for number in range(int(sys.argv[2])):
    sink.log(7, number, bytes(int(sys.argv[3])))
os.kill(os.getpid(), 9)
"""


def test_following_sees_every_message_of_every_process_once(logger, run_python) -> None:
    folder = logger.output_directory
    producers = {n: run_python(PRODUCER, folder, n, size) for n, size in ((1, 10), (2, 20_000))}
    for producer in producers.values():
        assert producer.stdout.readline() == "ready\n"
    seen: dict[int, list[int]] = {1: [], 2: []}
    for message in logger.read().follow(poll_seconds=0.001):
        seen[message.source_id].append(message.timestamp)
        if logger.started and min(map(len, seen.values())) > 50:
            logger.stop()
    for number, producer in producers.items():
        assert seen[number] == list(range(int(producer.communicate()[0])))


def test_following_waits_between_looks_and_can_begin_with_news(logger) -> None:
    logger.input_queue.log(1, 1, b"old")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) < 3:
            logger.input_queue.log(1 + len(waits) % 2, 1 + len(waits), b"new")
        else:
            logger.stop()

    log = logger.read()
    found = [m.timestamp for m in log.follow(new_only=True, poll_seconds=0.5, wait=wait)]
    assert found == [2, 3]
    assert set(waits) == {0.5}
    assert [m.timestamp for m in log.follow(1)] == [1, 3], "a stopped log ends at its end"


@pytest.mark.fault
def test_recovering_takes_over_what_killed_producers_left(logger, run_python) -> None:
    folder = logger.output_directory
    for number, size in ((100, 50), (20, 20_000)):
        run_python(LOG_AND_DIE, folder, number, size).wait()
    stems = sorted(folder.glob("*.tail"))
    assert len(stems) == 2
    (segment,) = folder.glob("*.seg")
    with segment.open("ab") as file:
        file.write(b"half a frame")
    before = [(m.timestamp, len(m.data)) for m in logger.read()]
    assert len(before) == 120
    recovery = logger.read().recover()
    assert (recovery.tails, recovery.frames_from_tails) == (2, 100)
    assert recovery.torn_bytes == len(b"half a frame")
    assert recovery.damaged == []
    assert [(m.timestamp, len(m.data)) for m in logger.read()] == before
    assert logger.read().verify().torn_bytes == 0
    assert not list(folder.glob("*.tail"))
    assert all(map(is_sealed, folder.glob("*.seg")))
    again = logger.read().recover()
    assert (again.tails, again.torn_bytes, again.sealed) == (0, 0, 2)


def test_stopping_takes_over_what_ended_producers_left_in_their_tails(logger, run_python) -> None:
    folder = logger.output_directory
    for _ in range(2):
        run_python(LOG_AND_DIE, folder, 10, 50).wait()
    logger.stop()
    assert not list(folder.glob("*.tail"))
    assert all(map(is_sealed, folder.glob("*.seg")))
    assert [m.timestamp for m in logger.read()] == sorted([*range(10), *range(10)])


def test_recovering_leaves_damage_where_it_is_and_reports_it(logger) -> None:
    writer = Writer(logger.output_directory)
    for number in range(5):
        writer.log(1, number, bytes(20_000))
    (path,) = logger.output_directory.glob("*.seg")
    logger.stop()
    os.truncate(path, 64 + 5 * 20_032)
    data = bytearray(path.read_bytes())
    data[64 + 20_032 + 100] ^= 1
    path.write_bytes(data)
    recovery = logger.read().recover()
    assert len(recovery.damaged) == 1
    assert path.read_bytes() == data
    assert [m.timestamp for m in logger.read()] == [0, 2, 3, 4]


def test_a_log_that_is_written_is_not_recovered(logger) -> None:
    logger.input_queue.log(1, 1, b"x")
    with pytest.raises(DataLogError, match="stop its logger"):
        logger.read().recover()


def test_the_command_line_shows_the_end_follows_and_recovers(tmp_path, run_python) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ops.datalog", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    logger = DataLogger(tmp_path, layout="segments", sync="none")
    folder = logger.output_directory
    logger.start()
    for number in range(20):
        logger.input_queue.log(number % 2, number, bytes([number]))
    assert run("tail", folder, "-n", "2").stdout.split() == ["0", "18", "12", "1", "19", "13"]
    follower = subprocess.Popen(
        [sys.executable, "-m", "ops.datalog", "tail", str(folder), "-n", "1", "--follow", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout.readline() == '{"source": 1, "time": 19, "data": "13"}\n'
    logger.input_queue.log(5, 99, b"\xff")
    assert follower.stdout.readline() == '{"source": 5, "time": 99, "data": "ff"}\n'
    follower.send_signal(signal.SIGINT)
    assert follower.wait(20) == 0
    follower.stdout.close()
    assert run("recover", folder).returncode == 1
    logger.stop()
    assert "sealed" in run("recover", folder).stdout
    assert open_log(folder).verify().messages == 21


def watch(logger, stop_behind: int):
    """Follow a log and stop it while the message of that number is being handled."""
    seen = []
    for message in logger.read().follow(poll_seconds=0.001):
        seen.append((message.source_id, message.timestamp, bytes(message.data)))
        if len(seen) == stop_behind:
            yield seen
    yield seen


def test_what_a_stop_lays_out_as_files_is_followed_to_the_end(tmp_path) -> None:
    logger = DataLogger(tmp_path, sync="none")
    logger.start()
    queue = logger.input_queue
    for number in range(3):
        queue.log(1, number, b"early")
    following = watch(logger, 2)
    assert len(next(following)) == 2
    # All of this comes while a message is handled, and the segments are gone when it is done.
    for number in range(100):
        queue.log(
            1 + number % 2, number // 4, bytes([number]) * (20_000 if number % 10 == 0 else 3)
        )
    other = Writer(logger.output_directory)
    other.log(1, 1, b"early")  # equal to one that was seen, of another process
    other.close()
    logger.stop()
    assert not list(logger.output_directory.glob("*.seg"))
    (seen,) = following
    everything = [(m.source_id, m.timestamp, bytes(m.data)) for m in logger.read()]
    assert len(everything) == 104
    assert sorted(seen) == sorted(everything)


def test_new_messages_alone_are_followed_over_a_layout(tmp_path) -> None:
    logger = DataLogger(tmp_path, sync="none")
    with logger:
        logger.input_queue.log(1, 1, b"of the run before")
    logger.start()
    logger.input_queue.log(1, 1, b"before the look")
    waits = iter(range(10))

    def wait(_: float) -> None:
        if next(waits) == 1:
            logger.input_queue.log(1, 1, b"new")
            logger.stop()

    found = [bytes(m.data) for m in logger.read().follow(new_only=True, wait=wait)]
    assert found == [b"new"]


def test_a_log_that_is_archived_before_all_of_it_was_followed_says_so(tmp_path) -> None:
    logger = DataLogger(tmp_path, layout="segments", sync="none")
    logger.start()
    for number in range(4):
        logger.input_queue.log(1, number, b"x")
    following = watch(logger, 2)
    next(following)
    logger.input_queue.log(1, 9, b"unseen")
    logger.stop()
    logger.compress_logs(remove_sources=True)
    with pytest.raises(LogNotFoundError, match="archived"):
        next(following)


FOLLOWED = """
import os, resource, sys
import ops.datalog.follow
from ops.datalog import open_log
log = open_log(sys.argv[1])
if sys.argv[2] == "other user":
    os.setgid(65534); os.setuid(65534)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = 0
for message in log.follow(new_only=sys.argv[2] == "new"):
    count += 1
    if sys.argv[2] == "first": break
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("way", ["first", "new", "all"])
def test_following_takes_memory_for_a_few_chunks_only(logger, run_python, way) -> None:
    rows = np.zeros((1000, 1000), np.uint8)
    for block in range(200):  # 200 MB
        logger.input_queue.put_many(1, np.arange(1000) + 1000 * block, rows)
    if way != "first":
        logger.stop()
    words = run_python(FOLLOWED, logger.output_directory, way).communicate()[0].split()
    count, megabytes = map(int, words)
    assert count == {"first": 1, "new": 0, "all": 200_000}[way]
    assert megabytes < 70


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_following_needs_no_right_to_write(logger, run_python, tmp_path) -> None:
    for number in range(100):
        logger.input_queue.log(1, number, b"x")
    logger.stop()
    # Not below the folder of pytest, which every other run of it closes to other users again.
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        copy = shutil.copytree(logger.output_directory, Path(place, logger.output_directory.name))
        for folder, _, files in os.walk(copy):
            os.chmod(folder, 0o755)
            for name in files:
                os.chmod(os.path.join(folder, name), 0o644)
        words = run_python(FOLLOWED, copy, "other user").communicate()[0].split()
    assert words[0] == "100"


def test_the_end_of_a_pipe_ends_the_command_quietly(logger) -> None:
    logger.input_queue.put_many(1, np.arange(5000), np.zeros((5000, 8), np.uint8))
    command = f"{sys.executable} -m ops.datalog tail {logger.output_directory} -n 5000 | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
