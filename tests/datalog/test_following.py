"""Following a log that other processes write, and tidying one that they left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ops.datalog import DataLogError, DataLogger, open_log
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
