"""Damage is local: whatever one file is, the others are read, it is named, and recovery keeps what is good."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ops.datalog import DataLogger, compress_npy_logs, open_log
from ops.datalog.npz import NpzWriter
from ops.datalog.writer import Writer

DATA = Path(__file__).parent / "data"
SOURCES = (1, 2, 3)
COUNT = 30


@pytest.fixture
def log(tmp_path):
    """Three segments of 30 messages each, of a source each, not sealed; and their paths."""
    logger = DataLogger(tmp_path, "rig", layout="segments", sync="none")
    logger.start()
    for source in SOURCES:
        writer = Writer(logger.output_directory)
        for number in range(COUNT):
            writer.log(source, number, bytes([number] * 20))
        writer.close()
    logger.stop()
    segments = sorted(logger.output_directory.glob("*.seg"))
    for path in segments:
        os.truncate(path, 64 + COUNT * 52)
    return open_log(logger.output_directory), segments


def counts(log) -> dict[int, int]:
    return {source: count for source, count in log.counts().items() if count}


def header_damage():
    for at in (0, 7, 8, 9, 10, 11, 13, 20, 30, 50, 60):
        yield pytest.param(lambda data, at=at: flip(data, at), id=f"byte {at}")
    yield pytest.param(lambda data: data[:10] == data.__setitem__(10, 1), id="another checksum")
    yield pytest.param(lambda data: data.__setitem__(slice(0, 64), bytes(64)), id="zeros")
    yield pytest.param(lambda data: data.__setitem__(slice(0, 64), os.urandom(64)), id="noise")
    yield pytest.param(lambda data: data.__setitem__(slice(8, 10), b"\x09\0"), id="newer version")


def flip(data: bytearray, at: int) -> None:
    data[at] ^= 0x40


@pytest.mark.parametrize("damage", [*header_damage()])
def test_a_damaged_header_costs_no_message_is_named_and_mended(log, damage, request) -> None:
    log, (victim, *_) = log
    data = bytearray(victim.read_bytes())
    damage(data)
    victim.write_bytes(data)
    whole = dict.fromkeys(SOURCES, COUNT)
    assert counts(log) == whole
    assert len(list(log)) == 3 * COUNT
    report = log.verify()
    if "50" not in request.node.name:  # of the boot id, of which a tail uses this half otherwise
        assert not report.is_whole
        assert victim.name in report.damaged[0]
        assert log.recover().headers == 1
    assert log.verify().is_whole
    assert counts(log) == whole
    assert log.recover().headers == 0


def test_the_frames_behind_a_damaged_header_tell_their_checksum(tmp_path) -> None:
    pytest.importorskip("google_crc32c")
    with DataLogger(tmp_path, layout="segments", checksum="crc32c", sync="none") as logger:
        for number in range(COUNT):
            logger.input_queue.log(1, number, bytes(20))
    (victim,) = logger.output_directory.glob("*.seg")
    for head in (bytes(64), victim.read_bytes()[:10] + b"\0" + victim.read_bytes()[11:64]):
        data = victim.read_bytes()
        victim.write_bytes(head + data[64:])
        log = logger.read()
        assert counts(log) == {1: COUNT}
        assert victim.name in log.verify().damaged[0]
        assert log.recover().headers == 1
        assert log.verify().is_whole
        assert counts(log) == {1: COUNT}


@pytest.mark.parametrize("kind", ["zeros", "noise", "text", "folder", "dangling", "loop", "fifo"])
def test_a_file_that_holds_nothing_costs_itself_only_and_is_named(log, kind) -> None:
    log, (victim, *_) = log
    make_strange(victim, kind)
    whole = {source: COUNT for source, _ in zip(SOURCES, range(3), strict=True)}
    del whole[1]
    assert counts(log) == whole
    assert len(list(log)) == 2 * COUNT
    assert any(victim.name in what for what in log.verify().damaged)
    assert [m.source_id for m in log.follow()] == [m.source_id for m in log]
    assert any(victim.name in what for what in log.recover().damaged)
    assert counts(log) == whole
    compress_npy_logs(log.folder, remove_sources=True)
    assert counts(log) == whole


def make_strange(path: Path, kind: str) -> None:
    size = path.stat().st_size
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in {"dangling", "loop"}:
        path.symlink_to(path if kind == "loop" else path.with_name("gone"))
    else:
        path.write_bytes(
            {"zeros": bytes(size), "noise": os.urandom(size), "text": b"#!/bin/sh\n" * 20}[kind]
        )


@pytest.mark.parametrize("size", [0, 1, 63, 64, 70])
def test_a_file_cut_within_its_first_bytes_costs_itself_only(log, size) -> None:
    log, (victim, *_) = log
    os.truncate(victim, size)
    assert counts(log) == {2: COUNT, 3: COUNT}
    assert log.verify().is_whole, "as a writer leaves it that is killed when it begins"
    log.recover()
    assert log.verify().torn_bytes == 0 or size < 64


def test_recovery_changes_no_file_outside_of_the_log(log, tmp_path) -> None:
    log, (victim, *_) = log
    outside = tmp_path / "elsewhere"
    shutil.move(victim, outside)
    with outside.open("ab") as file:
        file.write(b"half a frame")
    before = outside.read_bytes()
    victim.symlink_to(outside)
    assert len(list(log)) == 3 * COUNT, "it is read through the link"
    log.recover()
    assert outside.read_bytes() == before


@pytest.mark.parametrize("name", ["log.state", "log.owner", "saver.errors"])
@pytest.mark.parametrize("kind", ["empty", "folder", "noise"])
def test_a_strange_file_of_the_logger_does_not_keep_from_reading(log, name, kind) -> None:
    log, _ = log
    (log.folder / name).unlink(missing_ok=True)
    if kind == "folder":
        (log.folder / name).mkdir()
    else:
        (log.folder / name).write_bytes(b"" if kind == "empty" else os.urandom(100))
    assert len(list(log)) == 3 * COUNT
    if name != "log.state" or kind != "noise":  # a state of noise is one that is open
        assert len(list(log.follow())) == 3 * COUNT


@pytest.mark.parametrize("frame", [0, 5, 29])
def test_a_damaged_frame_of_a_tail_costs_itself_only(logger, frame) -> None:
    for number in range(30):
        logger.input_queue.log(1, number, bytes(20))
    (tail,) = logger.output_directory.glob("*.tail")
    copy = logger.output_directory.parent / "copy"
    copy.mkdir()
    data = bytearray(tail.read_bytes())
    data[64 + 52 * frame + 40] ^= 1
    (copy / tail.name).write_bytes(data)
    log = open_log(copy)
    assert [m.timestamp for m in log] == [n for n in range(30) if n != frame]
    assert log.verify().is_whole == (frame == 29), "the last one may be half written"
    assert log.recover().tails == 1
    assert [m.timestamp for m in log] == [n for n in range(30) if n != frame]


def test_a_tail_whose_header_is_lost_is_read_and_taken_over(logger) -> None:
    for number in range(30):
        logger.input_queue.log(1, number, bytes(20))
    (tail,) = logger.output_directory.glob("*.tail")
    copy = logger.output_directory.parent / "copy"
    copy.mkdir()
    (copy / tail.name).write_bytes(bytes(64) + tail.read_bytes()[64:])
    log = open_log(copy)
    assert len(list(log)) == 30
    assert "empty header" in log.verify().damaged[0]
    log.recover()
    assert log.verify().is_whole
    assert len(list(log)) == 30
    assert not list(copy.glob("*.tail"))
    assert len(list(copy.glob("*.damaged"))) == 1


TIMES, DATA_2D = np.arange(4, dtype=np.uint64), np.zeros((4, 3), np.uint8)


@pytest.mark.parametrize(
    "arrays",
    [
        {"times": np.uint64(1), "data": DATA_2D},
        {"times": TIMES.reshape(2, 2), "data": DATA_2D},
        {"times": TIMES.astype(float), "data": DATA_2D},
        {"times": TIMES, "data": DATA_2D[:3]},
        {"times": TIMES, "data": np.uint8(1)},
        {"times": TIMES, "data": DATA_2D.reshape(-1)},
        {"times": TIMES, "data": DATA_2D.astype(np.int32)},
        {"times": TIMES, "data": np.zeros(9, np.uint8), "offsets": np.array([5, 6, 7, 8, 9])},
        {"times": TIMES, "data": np.zeros(9, np.uint8), "offsets": np.array([0, 3, 2, 8, 9])},
        {"times": TIMES, "data": np.zeros(9, np.uint8), "offsets": np.array([0, 3, 4, 8])},
        {"times": TIMES, "data": np.zeros(9, np.uint8), "offsets": np.zeros((5, 1), int)},
        {"times": TIMES, "data": DATA_2D, "offsets": np.uint64(0)},
        {"times": TIMES},
    ],
    ids=lambda arrays: "-".join(f"{np.shape(a)}{np.asarray(a).dtype}" for a in arrays.values()),
)
def test_an_odd_columnar_archive_is_named_and_costs_no_other_message(tmp_path, arrays) -> None:
    np.savez(tmp_path / "7_log.npz", **arrays)
    np.savez(tmp_path / "8_log.npz", times=TIMES, data=DATA_2D)
    np.save(tmp_path / f"009_{5:020d}.npy", np.zeros(3, np.uint8))
    log = open_log(tmp_path)
    assert counts(log) == {8: 4, 9: 1}
    assert len(list(log)) == 5
    assert "7_log.npz" in log.verify().damaged[0]
    compress_npy_logs(tmp_path, remove_sources=True)
    assert counts(log) == {8: 4, 9: 1}
    assert (tmp_path / "7_log.npz").exists()


@pytest.mark.parametrize("name", ["300_log.npz", "x_log.npz", "-1_log.npz"])
def test_an_archive_whose_name_is_no_source_is_named(tmp_path, name) -> None:
    np.savez(tmp_path / name, times=TIMES, data=DATA_2D)
    log = open_log(tmp_path)
    assert list(log) == []
    assert name in log.verify().damaged[0]


def test_a_damaged_member_of_an_archive_does_not_keep_it_from_being_extended(tmp_path) -> None:
    with DataLogger(tmp_path, sync="none") as logger:
        for number in range(4):
            logger.input_queue.log(1, number, bytes([number] * 5))
    logger.compress_logs(True, compress=False)
    path = logger.output_directory / "1_log.npz"
    data = bytearray(path.read_bytes())
    data[data.index(bytes([2] * 5))] ^= 1
    path.write_bytes(data)
    np.save(logger.output_directory / f"001_{9:020d}.npy", np.zeros(1, np.uint8))
    logger.compress_logs(True)
    assert [m.timestamp for m in logger.read()] == [0, 1, 3, 9]
    assert Path(f"{path}.damaged").read_bytes() == data


def test_an_archive_that_cannot_be_read_does_not_keep_a_logger_from_stopping(tmp_path) -> None:
    logger = DataLogger(tmp_path, sync="none", exist_ok=True)
    logger.output_directory.mkdir()
    (logger.output_directory / "1_log.npz").write_bytes(b"no archive")
    with logger:
        logger.input_queue.log(1, 1, b"one")
    assert [m.timestamp for m in logger.read()] == [1]


@pytest.mark.parametrize("version", ["3.1.1", "4.0.0"])
def test_logs_of_the_package_that_this_one_replaces_are_read(tmp_path, version) -> None:
    name = f"ataraxis-data-structures-{version}"
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    expected = json.loads((DATA / f"{name}.expected.json").read_text())
    for folder, content in expected["folders"].items():
        log = open_log(tmp_path / folder)
        found = sorted([m.source_id, m.timestamp, bytes(m.data).hex()] for m in log)
        assert found == sorted(message[:3] for message in content["messages"])
        assert log.verify().is_whole
        copy = tmp_path / "copy" / folder
        log.to_npy(copy)
        for path in (tmp_path / "npy/session_data_log").glob("*.npy"):
            assert (copy / path.name).read_bytes() == path.read_bytes(), "byte for byte the same"


def test_a_payload_that_begins_as_its_own_head_comes_back_whole(tmp_path) -> None:
    payload = bytes([1, 7, 0, 0, 0, 0, 0, 0, 0]) * 2 + b"x"
    with DataLogger(tmp_path, sync="none") as logger:
        logger.input_queue.log(1, 7, payload)
        logger.input_queue.log(1, 8, b"")
    assert [bytes(m.data) for m in logger.read()] == [payload, b""]
    logger.compress_logs(True)
    assert [bytes(m.data) for m in logger.read()] == [payload, b""]


def test_arrays_without_source_and_time_inside_are_payload_as_a_whole(tmp_path) -> None:
    np.save(tmp_path / f"001_{7:020d}.npy", np.arange(20, dtype=np.uint8))
    with NpzWriter(tmp_path / "2_log.npz", compress=True) as writer:
        writer.add(f"002_{8:020d}", b"payload")
    found = [(m.source_id, bytes(m.data)) for m in open_log(tmp_path)]
    assert found == [(1, bytes(range(20))), (2, b"payload")]
