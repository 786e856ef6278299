"""Reading in time order, by index, in bounded memory; and what damage does to an index."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.datalog import DataLogger, LogNotFoundError, LogPackage, footer, merge, open_log
from ops.datalog.footer import is_sealed, seal
from ops.datalog.scan import CHUNK_BYTES
from ops.datalog.writer import Writer


@pytest.fixture
def sealed(tmp_path):
    """A sealed segment of about 1.3 MB: source 1 in order, source 2 only in the second half."""
    with DataLogger(tmp_path, layout="segments", sync="none") as logger:
        for number in range(10_000):
            logger.input_queue.log(1 + (number >= 5000 and number % 2), number, bytes(100))
    (path,) = logger.output_directory.glob("*.seg")
    assert is_sealed(path)
    return path


@pytest.fixture
def scans(monkeypatch) -> list[str]:
    """The segments that were scanned for want of an index."""
    found: list[str] = []
    scan = footer.scan

    def counting(fd, size, *rest):
        found.append(str(size))
        return scan(fd, size, *rest)

    monkeypatch.setattr(footer, "scan", counting)
    return found


def test_a_sealed_segment_is_opened_without_a_scan(sealed, scans) -> None:
    log = open_log(sealed.parent)
    assert log.sources() == [1, 2]
    assert log.counts() == {1: 7500, 2: 2500}
    assert [m.timestamp for m in log.iter(start=4998, stop=5002)] == [4998, 4999, 5000, 5001]
    assert scans == []


def test_a_range_of_times_reads_only_the_chunks_that_can_hold_it(sealed, monkeypatch) -> None:
    read: list[int] = []
    pread = merge.os.pread

    def counting(fd, size, offset):
        data = pread(fd, size, offset)
        read.append(len(data))
        return data

    monkeypatch.setattr(merge.os, "pread", counting)
    assert len(list(open_log(sealed.parent).iter(1, 100, 110))) == 10
    assert sum(read) < CHUNK_BYTES + 10_000


@pytest.mark.parametrize("place", [-1, -12, -16, -17, -100])
def test_a_damaged_index_only_costs_time(sealed, scans, place) -> None:
    data = bytearray(sealed.read_bytes())
    data[place] ^= 0xFF
    sealed.write_bytes(data)
    assert [m.timestamp for m in open_log(sealed.parent)] == list(range(10_000))
    assert len(scans) == 1


def test_damage_after_sealing_costs_the_message_it_hit_and_is_reported(sealed) -> None:
    data = bytearray(sealed.read_bytes())
    data[64 + 132 * 3000 + 50] ^= 1
    sealed.write_bytes(data)
    log = open_log(sealed.parent)
    assert [m.timestamp for m in log] == [n for n in range(10_000) if n != 3000]
    report = log.verify()
    assert report.messages == 9999
    assert len(report.damaged) == 1
    assert [list(gaps) for gaps in report.gaps.values()] == [[(3001, 3001)]]


def test_a_segment_that_is_written_after_it_was_sealed_loses_nothing(logger) -> None:
    writer = Writer(logger.output_directory)
    writer.log(1, 1, bytes(20_000))
    (path,) = logger.output_directory.glob("*.seg")
    assert seal(path)
    assert seal(path), "a second time it is sealed already"
    writer.log(1, 2, bytes(20_000))
    assert not is_sealed(path)
    assert [m.timestamp for m in logger.read()] == [1, 2]
    assert logger.read().verify().is_whole
    writer.close()


def test_a_damaged_segment_is_not_sealed(sealed) -> None:
    data = sealed.read_bytes()[: 64 + 132 * 10]
    sealed.write_bytes(data + b"torn")
    assert not seal(sealed)
    assert sealed.read_bytes() == data + b"torn"


times = st.lists(st.integers(0, 30), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    producers=st.lists(times, min_size=1, max_size=4),
    start=st.integers(0, 31),
    stop=st.one_of(st.none(), st.integers(0, 31)),
    source=st.one_of(st.none(), st.integers(0, 3)),
    held=st.sampled_from([0, 1 << 20]),
)
def test_any_order_of_times_comes_out_sorted_and_equal_times_as_they_were_logged(
    tmp_path_factory, monkeypatch, producers, start, stop, source, held
) -> None:
    monkeypatch.setattr(merge, "HELD_BYTES", held)
    monkeypatch.setattr(merge, "_BLOCK", 3)
    folder = tmp_path_factory.mktemp("log")
    logged = []
    with DataLogger(folder, layout="segments", sync="none") as logger:
        for producer, stamps in enumerate(producers):
            writer = Writer(logger.output_directory, segment_bytes=200)
            for number, time in enumerate(stamps):
                data = bytes([producer, number]) + bytes(number % 3)
                writer.log(producer, time, data)
                logged.append((time, producer, data))
                if number % 7 == 6:
                    writer.flush()
            writer.close()
    if not logged:
        return
    expected = [
        row
        for row in sorted(logged, key=lambda row: row[:2])
        if row[0] >= start and (stop is None or row[0] < stop) and source in {None, row[1]}
    ]
    found = logger.read().iter(source, start, stop)
    assert [(m.timestamp, m.source_id, m.data.tobytes()) for m in found] == expected


def test_blocks_and_single_messages_of_several_sources_merge(logger) -> None:
    queue = logger.input_queue
    queue.put_many(1, np.arange(0, 100, 2), np.zeros((50, 4), np.uint8))
    for number in range(1, 100, 2):
        queue.log(2, number, b"odd")
    assert [m.timestamp for m in logger.read().merge()] == list(range(100))
    assert [m.timestamp for m in logger.read().merge(10, 13)] == [10, 11, 12]
    assert logger.read().counts() == {1: 50, 2: 50}


def test_times_of_the_whole_range_are_compared_exactly(logger) -> None:
    top = 2**64 - 1
    for time in (top, top - 1, 2**63, 2**63 - 1, 0):
        logger.input_queue.log(1, time, b"")
    assert [m.timestamp for m in logger.read().iter(start=2**63, stop=top)] == [2**63, top - 1]
    assert [m.timestamp for m in logger.read()] == [0, 2**63 - 1, 2**63, top - 1, top]
    assert [m.timestamp for m in logger.read().iter(start=-5, stop=-1)] == []
    assert len(list(logger.read().iter(start=-5, stop=2**65))) == 5


MEMORY = """
import resource, sys
from ops.datalog import open_log
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in open_log(sys.argv[1]))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_iterating_takes_memory_for_a_few_chunks_only(logger, run_python) -> None:
    rows = np.zeros((1000, 1000), np.uint8)
    for block in range(200):  # 200 MB
        logger.input_queue.put_many(1, np.arange(1000) + 1000 * block, rows)
    count, kilobytes = map(
        int, run_python(MEMORY, logger.output_directory).communicate()[0].split()
    )
    assert count == 200_000
    assert kilobytes < 60_000


@pytest.mark.fault
def test_many_more_files_than_may_be_open_are_read(logger, run_python) -> None:
    for number in range(80):
        writer = Writer(logger.output_directory)
        writer.log(1, number, bytes(20_000))
        writer.close()
    program = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\n"
        "from ops.datalog import open_log\nprint(sum(1 for _ in open_log(sys.argv[1])))"
    )
    assert run_python(program, logger.output_directory).communicate()[0] == "80\n"


def test_a_writer_of_a_generation_before_begins_new_files(tmp_path, run_python) -> None:
    """What another process logs after a stop and a start must not go into files that are gone."""
    program = """
import sys
from ops.datalog.sink import LogSink
sink = LogSink(sys.argv[1])
for line in sys.stdin:
    sink.log(1, int(line), b"x")
    print("done", flush=True)
"""
    logger = DataLogger(tmp_path, sync="none")
    logger.start()
    command = [sys.executable, "-c", program, str(logger.output_directory)]
    producer = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    for number in range(3):
        producer.stdin.write(f"{number}\n")
        assert producer.stdout.readline() == "done\n"
        logger.stop()
        assert [m.timestamp for m in logger.read()] == list(range(number + 1))
        logger.start()
    producer.stdin.close()
    producer.stdout.close()
    producer.wait()
    logger.stop()


def test_a_log_that_is_laid_out_while_it_is_read_says_so(tmp_path) -> None:
    logger = DataLogger(tmp_path, sync="none")
    logger.start()
    for number in range(10_000):
        logger.input_queue.log(1, number, bytes(100))
    messages = logger.read().iter()
    assert next(messages).timestamp == 0
    logger.stop()
    with pytest.raises(LogNotFoundError, match="while it was being read"):
        list(messages)
    assert len(list(logger.read())) == 10_000


def test_crc32c_logs_are_read_like_others(tmp_path) -> None:
    pytest.importorskip("google_crc32c")
    with DataLogger(tmp_path, layout="segments", checksum="crc32c", sync="none") as logger:
        logger.input_queue.put(LogPackage(1, 1, np.arange(9, dtype=np.uint8)))
        logger.input_queue.log(1, 2, bytes(50_000))
        logger.input_queue.log(1, 3, bytearray(b"tail"))
        assert [m.timestamp for m in logger.read()] == [1, 2, 3]
    assert logger.read().verify().is_whole


@pytest.mark.parametrize("source", [-1, 256, 999])
def test_a_source_that_cannot_be_has_no_messages(sealed, source) -> None:
    log = open_log(sealed.parent)
    assert list(log.iter(source)) == []
    assert log.counts(source) == {source: 0}


def test_a_file_named_like_an_impossible_message_is_none(sealed) -> None:
    for name in ("401_00000000000000000001", "001_99999999999999999999"):
        np.save(sealed.parent / f"{name}.npy", np.zeros(3, np.uint8))
    assert open_log(sealed.parent).sources() == [1, 2]
