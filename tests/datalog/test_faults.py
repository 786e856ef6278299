"""Producers that are killed, files that are cut and bytes that are flipped."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from ops.datalog import DataLogger, LogFormatError, open_log

KILLS = 300 if os.environ.get("OPS_FAULTS") == "full" else 12

#: Logs messages and acknowledges each through a pipe, so that the test knows what was promised.
PRODUCER = """
import os, sys
from ops.datalog.sink import LogSink
sink, number, size = LogSink(sys.argv[1]), 0, int(sys.argv[3])
while True:
    sink.log(int(sys.argv[2]), number, number.to_bytes(8, "little") * (size // 8))
    os.write(1, b"%d\\n" % number)
    number += 1
"""


@pytest.mark.fault
@pytest.mark.parametrize("size", [64, 3000, 20000])
def test_killed_producers_lose_no_acknowledged_message(tmp_path, size) -> None:
    rng = random.Random(size)
    logger = DataLogger(tmp_path, layout="segments")
    logger.start()
    acknowledged = {}
    for kill in range(KILLS):
        source = kill % 256
        command = [
            sys.executable,
            "-c",
            PRODUCER,
            str(logger.output_directory),
            str(source),
            str(size),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        process.stdout.read(2)
        time.sleep(rng.random() * 0.02)
        process.kill()
        lines = (b"0\n" + process.communicate()[0]).decode().split("\n")
        acknowledged[source] = max(acknowledged.get(source, -1), len(lines) - 2)
    log = logger.read()
    for source, last in acknowledged.items():
        columns = log.columns(source)
        assert set(range(last + 1)) <= set(columns.times.tolist())
        for stamp, data in zip(columns.times.tolist(), columns.data, strict=True):
            assert data.tobytes() == stamp.to_bytes(8, "little") * (size // 8)
    assert log.verify().is_whole
    logger.stop()


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


def test_strange_and_newer_files_are_named(segment) -> None:
    whole = bytearray(segment.read_bytes())
    whole[8] = 9
    segment.write_bytes(whole)
    with pytest.raises(LogFormatError, match="format 9"):
        list(open_log(segment.parent))
    segment.write_bytes(b"#!/bin/sh\n" * 20)
    with pytest.raises(LogFormatError, match="no log segment"):
        list(open_log(segment.parent))


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
    assert "1_log.npz" in run("export", folder).stdout
    assert run("info", folder, "--json").stdout == '{"1": 20}\n'
    missing = run("info", folder + "-not")
    assert missing.returncode == 1
    assert "holds no log" in missing.stderr
