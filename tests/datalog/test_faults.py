"""Producers that are killed, files that are cut and bytes that are flipped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from ops.datalog import DataLogger, LogFormatError, open_log

KILLS = 300 if os.environ.get("OPS_FAULTS") == "full" else 8

#: Logs messages and acknowledges each through a pipe, so that the test knows what was promised.
PRODUCER = """
import os, sys, time
from ops.datalog.sink import LogSink
sink, number, size = LogSink(sys.argv[1]), 0, int(sys.argv[3])
while True:
    sink.log(int(sys.argv[2]), number, number.to_bytes(8, "little") * (size // 8))
    os.write(1, b"%d\\n" % number)
    number += 1
"""


def lost_and_wrong(log, acknowledged: dict[int, int], size: int) -> tuple[int, int]:
    """Return how many acknowledged messages are not there, and how many there are not as logged."""
    lost = wrong = 0
    for source, last in acknowledged.items():
        columns = log.columns(source)
        lost += len(set(range(last + 1)) - set(columns.times.tolist()))
        for stamp, data in zip(columns.times.tolist(), columns.data, strict=True):
            wrong += data.tobytes() != stamp.to_bytes(8, "little") * (size // 8)
    return lost, wrong


def start_producer(logger, source: int, size: int) -> subprocess.Popen[bytes]:
    words = [str(logger.output_directory), str(source), str(size)]
    return subprocess.Popen([sys.executable, "-c", PRODUCER, *words], stdout=subprocess.PIPE)


def last_acknowledged(process: subprocess.Popen[bytes], before: bytes) -> int:
    with process:  # communicate() would leave out what was read ahead
        return (before + process.stdout.read()).count(b"\n") - 1


@pytest.mark.fault
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [64, 3000, 20000])
def test_killed_producers_lose_no_acknowledged_message(tmp_path, size, fault_record) -> None:
    rng = random.Random(size)
    lost = wrong = messages = kills = 0
    # A few dozen at a time, since each has a source of its own, of which there are 256.
    for number, together in enumerate(min(100, KILLS - n) for n in range(0, KILLS, 100)):
        acknowledged = {}
        logger = DataLogger(tmp_path, f"log{number}", layout="segments", sync_interval=0.01)
        logger.start()
        for source in range(together):
            process = start_producer(logger, source, size)
            first = process.stdout.read(2)
            time.sleep(rng.random() * 0.02)
            process.kill()
            acknowledged[source] = last_acknowledged(process, first)
        kills += together
        messages += sum(acknowledged.values()) + together
        found = lost_and_wrong(logger.read(), acknowledged, size)
        lost, wrong = lost + found[0], wrong + found[1]
        assert logger.read().verify().is_whole
        logger.stop()
        logger.read().recover()
        assert lost_and_wrong(logger.read(), acknowledged, size) == (0, 0)
    fault_record[f"killed producers, {size} B"] = {
        "kills": kills, "acknowledged": messages, "lost": lost, "wrong": wrong,
    }  # fmt: skip
    assert (lost, wrong) == (0, 0)


@pytest.mark.fault
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [64, 3000, 20000])
def test_killed_savers_lose_nothing_and_are_replaced(tmp_path, size, fault_record) -> None:
    rng = random.Random(size)
    logger = DataLogger(tmp_path, layout="segments", sync_interval=0.001)
    logger.start()
    # Producers that are throttled, so that hundreds of savers fit into a few gigabytes.
    pause = {64: 0.00005, 3000: 0.0002, 20000: 0.002}[size]
    program = PRODUCER.replace("number += 1", f"number += 1; time.sleep({pause})")
    words = [str(logger.output_directory), "1", str(size)]
    with (tmp_path / "acknowledged").open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", program, *words], stdout=file)
    while not (tmp_path / "acknowledged").stat().st_size:
        time.sleep(0.01)
    for _ in range(KILLS):
        time.sleep(rng.random() * 0.1)
        while (pid := logger._supervisor.pid) is None:
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        while logger._supervisor.pid in {None, pid}:
            time.sleep(0.001)
    process.kill()
    process.wait()
    acknowledged = {1: (tmp_path / "acknowledged").read_bytes().count(b"\n") - 1}
    lost, wrong = lost_and_wrong(logger.read(), acknowledged, size)
    restarts = logger.saver_restarts
    logger.stop()
    fault_record[f"killed savers, {size} B"] = {
        "kills": KILLS, "restarts": restarts, "acknowledged": acknowledged[1] + 1,
        "lost": lost, "wrong": wrong,
    }  # fmt: skip
    assert (lost, wrong) == (0, 0)
    assert restarts == KILLS
    assert logger.errors == []


@pytest.fixture
def segment(tmp_path):
    """One segment of 20 messages, its path and what it holds."""
    with DataLogger(tmp_path, layout="segments") as logger:
        for number in range(20):
            logger.input_queue.log(1, number, bytes([number] * 9))
    (path,) = logger.output_directory.glob("*.seg")
    os.truncate(path, 64 + 20 * 41)  # without its index, as while it is written
    return path


def readable(path) -> list[int]:
    messages = list(open_log(path.parent))
    for message in messages:
        assert message.data.tolist() == [message.timestamp] * 9
    return [m.timestamp for m in messages]


def test_a_segment_cut_at_any_byte_gives_the_messages_before(segment) -> None:
    whole = segment.read_bytes()
    for cut in range(64, len(whole)):
        segment.write_bytes(whole[:cut])
        assert readable(segment) == list(range((cut - 64) // 41))


def test_a_flipped_bit_anywhere_costs_its_message_only_and_is_reported(segment) -> None:
    whole = segment.read_bytes()
    for place in range(64, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        segment.write_bytes(damaged)
        hit = (place - 64) // 41
        assert readable(segment) == [n for n in range(20) if n != hit]
        report = open_log(segment.parent).verify()
        assert report.damaged or report.torn_bytes
        if hit < 19:
            assert not report.is_whole


def test_a_log_that_only_a_newer_version_can_read_is_refused_with_a_sentence(segment) -> None:
    whole = bytearray(segment.read_bytes())
    whole[8] = 9
    for frame in range(64, len(whole), 41):
        whole[frame + 18] = 9
    segment.write_bytes(whole)
    log = open_log(segment.parent)
    with pytest.raises(LogFormatError, match="format 9"):
        list(log)
    report = log.verify()
    assert "format 9" in report.damaged[0]
    assert report.newer_files == [str(segment)]
    before = segment.read_bytes()
    assert "format 9" in log.recover().damaged[0]
    assert segment.read_bytes() == before


def test_a_gap_in_the_sequence_is_reported_by_writer(segment) -> None:
    whole = segment.read_bytes()
    segment.write_bytes(whole[: 64 + 41 * 5] + whole[64 + 41 * 8 :])
    report = open_log(segment.parent).verify()
    assert list(report.gaps.values()) == [[(6, 8)]]
    assert report.messages == 17


def test_the_command_line_shows_checks_and_archives(segment) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ops.datalog", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    folder = str(segment.parent)
    assert "20" in run("info", folder).stdout
    assert run("info", folder, "--json").stdout == '{"1": 20}\n'
    assert run("verify", folder).returncode == 0
    refused = run("export", folder)
    assert refused.returncode == 2
    assert "--remove-sources" in refused.stderr
    assert segment.exists()
    assert "1_log.npz" in run("export", folder, "--remove-sources").stdout
    assert not segment.exists()
    assert run("info", folder, "--json").stdout == '{"1": 20}\n'
    missing = run("info", folder + "-not")
    assert missing.returncode == 2
    assert "holds no log" in missing.stderr
