"""Archives and exports hold what the log holds; other tools read them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.datalog import DataLogError, DataLogger, LogFormatError, compress_npy_logs, open_log
from ops.datalog import archive as archive_module
from ops.datalog.npz import NpzWriter, members, npy_data, read_member
from ops.foundation.errors import ValidationError

MESSAGES = 1_000_000 if os.environ.get("OPS_FAULTS") == "full" else 20_000


def contents(log) -> list[tuple[int, int, bytes]]:
    return [(m.source_id, m.timestamp, m.data.tobytes()) for m in log]


@pytest.fixture
def log(tmp_path):
    """Sources 1 (equal sizes) and 2 (any sizes), with equal times among them."""
    with DataLogger(tmp_path, layout="segments", sync="none") as logger:
        for number in range(300):
            logger.input_queue.log(1, number // 2, number.to_bytes(4, "little"))
            logger.input_queue.log(2, number, bytes(number % 5))
    return logger.read()


@pytest.mark.parametrize("layout", ["entries", "columnar"])
@pytest.mark.parametrize("compress", [True, False])
def test_archives_replace_the_segments_and_hold_the_same(log, layout, compress) -> None:
    before = contents(log)
    shown: list[tuple[int, int]] = []
    paths = compress_npy_logs(
        log.folder, True, compress=compress, layout=layout, verify_integrity=True,
        progress=lambda done, total: shown.append((done, total)),
    )  # fmt: skip
    assert [path.name for path in paths] == ["1_log.npz", "2_log.npz"]
    assert shown == [(300, 600), (600, 600)]
    assert contents(log) == before
    assert log.counts() == {1: 300, 2: 300}
    assert not list(log.folder.glob("*.seg"))
    steps: list[tuple[int, int]] = []
    assert log.verify(lambda done, total: steps.append((done, total))).is_whole
    assert steps[-1] == (600, 600)


def test_progress_that_nothing_would_await_is_refused_before_anything_changes(
    log, tmp_path
) -> None:
    async def progress(done: int, total: int) -> None: ...

    before = contents(log)
    for call in (
        lambda: log.verify(progress),
        lambda: log.to_npz(tmp_path / "out.npz", 1, progress),
        lambda: compress_npy_logs(log.folder, True, progress=progress),
    ):
        with pytest.raises(ValidationError, match="coroutine"):
            call()
    assert contents(log) == before
    assert list(log.folder.glob("*.seg"))
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("first", ["entries", "columnar"])
@pytest.mark.parametrize("second", ["entries", "columnar"])
def test_a_continued_log_extends_its_archives(tmp_path, first, second) -> None:
    expected = []
    for round_, layout in enumerate((first, second)):
        with DataLogger(tmp_path, exist_ok=True, sync="none") as logger:
            logger.input_queue.log(1, 5, bytes([round_]))
        expected.append((1, 5, bytes([round_])))
        logger.compress_logs(True, layout=layout, verify_integrity=True)
        assert contents(logger.read()) == expected


def test_numpy_and_unzip_read_the_archives(log) -> None:
    compress_npy_logs(log.folder, True)
    head = [1, 7, 0, 0, 0, 0, 0, 0, 0]  # source and time
    with np.load(log.folder / "1_log.npz") as archive:
        assert archive["001_00000000000000000007"].tolist() == [*head, 14, 0, 0, 0]
        assert archive["001_00000000000000000007_1"].tolist() == [*head, 15, 0, 0, 0]
        assert len(archive.files) == 300
    with zipfile.ZipFile(log.folder / "2_log.npz") as archive:
        assert archive.testzip() is None


def test_columns_are_what_a_columnar_archive_holds_and_much_smaller(log) -> None:
    compress_npy_logs(log.folder, True)
    entries = (log.folder / "1_log.npz").stat().st_size
    compress_npy_logs(log.folder, True, layout="columnar")
    assert (log.folder / "1_log.npz").stat().st_size < entries / 10
    with np.load(log.folder / "1_log.npz") as archive:
        assert archive["times"].tolist() == [n // 2 for n in range(300)]
        assert archive["data"].shape == (300, 4)
    with np.load(log.folder / "2_log.npz") as archive:
        assert archive["offsets"][:4].tolist() == [0, 0, 1, 3]
    assert log.columns(1).data.shape == (300, 4)


def test_a_columnar_archive_must_replace_its_sources(log) -> None:
    with pytest.raises(ValidationError, match="remove_sources"):
        compress_npy_logs(log.folder, layout="columnar")
    with pytest.raises(ValidationError, match="layout"):
        compress_npy_logs(log.folder, True, layout="diagonal")


def test_kept_sources_are_not_read_twice(log) -> None:
    before = contents(log)
    compress_npy_logs(log.folder)
    assert len(list(log.folder.glob("*.npy"))) == 600
    assert contents(log) == before


def test_several_processes_share_the_sources(log) -> None:
    before = contents(log)
    compress_npy_logs(log.folder, True, max_workers=2)
    assert contents(log) == before


def test_an_archive_that_does_not_read_back_equal_replaces_nothing(log, monkeypatch) -> None:
    before = contents(log)
    monkeypatch.setattr(archive_module.NpzWriter, "add", lambda self, name, data: None)
    with pytest.raises(DataLogError, match="does not hold"):
        compress_npy_logs(log.folder, True, verify_integrity=True)
    assert contents(log) == before
    assert list(log.folder.glob("*.seg"))
    assert not list(log.folder.glob("*.npz"))


def test_archives_of_numpy_itself_are_read(tmp_path) -> None:
    rows = {f"003_{time:020d}": np.arange(time, dtype=np.uint8) for time in range(5)}
    np.savez(tmp_path / "3_log.npz", **rows)
    np.savez_compressed(tmp_path / "4_log.npz", **{f"004_{9:020d}": np.zeros(7, np.uint8)})
    found = contents(open_log(tmp_path))
    assert found == [(3, t, bytes(range(t))) for t in range(5)] + [(4, 9, bytes(7))]


@pytest.mark.parametrize("compress", [True, False])
def test_a_flipped_bit_in_an_archive_costs_its_message_and_is_reported(tmp_path, compress) -> None:
    with DataLogger(tmp_path, sync="none") as logger:
        for number in range(4):
            logger.input_queue.log(1, number, bytes([number] * 5))
    logger.compress_logs(True, compress=compress)
    path = logger.output_directory / "1_log.npz"
    whole, log = path.read_bytes(), logger.read()
    spans = [(m.offset, m.offset + 30 + len(m.name) + 4 + m.stored) for m in members(path)]
    for place in range(spans[1][0] + 60, spans[1][1], 3):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        assert [m.timestamp for m in log] == [0, 2, 3]
        assert not log.verify().is_whole
    path.write_bytes(whole[: len(whole) // 2])
    assert contents(log) == []
    assert not log.verify().is_whole


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.binary(max_size=300), max_size=30), compress=st.booleans())
def test_any_bytes_come_back_from_an_archive(tmp_path, rows, compress) -> None:
    path = tmp_path / "a.npz"
    with NpzWriter(path, compress=compress) as writer:
        for number, row in enumerate(rows):
            writer.add(str(number), row)
    data = path.read_bytes()
    contents = [read_member(data, member.offset, path)[0] for member in members(path)]
    assert [content[npy_data(content)[0] :] for content in contents] == rows
    with np.load(path) as archive:
        assert [archive[name].tobytes() for name in archive.files] == rows


def test_what_is_no_archive_is_named(tmp_path) -> None:
    (tmp_path / "1_log.npz").write_bytes(b"no zip at all, and not a short text either")
    with pytest.raises(LogFormatError, match="1_log"):
        list(members(tmp_path / "1_log.npz"))
    np.savez(tmp_path / "1_log.npz", **{f"001_{1:020d}": np.array([{}], object)})
    report = open_log(tmp_path).verify()
    assert "objects" in report.damaged[0]


def test_arrow_and_parquet_hold_the_same_messages(log, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    shown: list[tuple[int, int]] = []
    table = log.to_arrow(progress=lambda *step: shown.append(step))
    assert shown[-1] == (600, 600)
    rows = zip(*(table[name].to_pylist() for name in ("source", "time", "data")), strict=True)
    assert list(rows) == contents(log)
    path = log.to_parquet(tmp_path / "log.parquet", source=1)
    assert parquet.read_table(path).equals(log.to_arrow(1))


def test_exports_to_numpy_files_hold_the_same_messages(log, tmp_path) -> None:
    with np.load(log.to_npz(tmp_path / "one.npz", 1)) as arrays:
        assert np.array_equal(arrays["times"], log.columns(1).times)
    folder = log.to_npy(tmp_path / "files")
    assert len(list(folder.iterdir())) == 600
    assert contents(open_log(folder)) == contents(log)
    assert contents(log) == contents(open_log(log.folder)), "the log is as it was"


def test_the_command_line_exports_parquet(log, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "log.parquet"
    command = [sys.executable, "-m", "ops.datalog", "export", str(log.folder), "--to", str(target)]
    subprocess.run(command, check=True, capture_output=True)
    assert parquet.read_table(target).num_rows == 600


@pytest.mark.fault
@pytest.mark.timeout(900)
def test_a_million_messages_of_one_source_are_archived_with_few_open_files(
    tmp_path, run_python, fault_record
) -> None:
    """A million in the full fault run, fewer in CI; 64 open files may have to do."""
    program = """
import resource, sys
import numpy as np
from ops.datalog import DataLogger
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
count = int(sys.argv[2])
with DataLogger(sys.argv[1], layout="segments", sync="none") as logger:
    for number in range(count):
        logger.input_queue.log(1, number, b"%016d" % number)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
logger.compress_logs(True, compress=False, verify_integrity=True)
found = sum(m.data.tobytes() == b"%016d" % m.timestamp for m in logger.read())
print(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    child = run_python(program, tmp_path, MESSAGES)
    found, kilobytes = map(int, child.stdout.read().split())
    fault_record["archive of one source, 64 open files"] = {
        "messages": MESSAGES, "read back equal": found, "memory in MB": kilobytes // 1024,
    }  # fmt: skip
    assert found == MESSAGES
    assert kilobytes < 1_500_000


@pytest.mark.parametrize("layout", ["entries", "columnar"])
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_damaged_is_kept_when_its_sources_are_removed(log, layout, workers) -> None:
    compress_npy_logs(log.folder)  # .npy files and archives
    for path in log.folder.glob("*.npz"):
        path.unlink()
    damaged = min(log.folder.glob("*.npy"))
    content = damaged.read_bytes()[:-1] + b"ab"
    damaged.write_bytes(content)
    compress_npy_logs(log.folder, True, layout=layout, max_workers=workers)
    assert not list(log.folder.glob("*.npy"))
    (kept,) = log.folder.glob("*.damaged")
    assert kept.name == f"{damaged.name}.damaged"
    assert kept.read_bytes() == content


def test_a_damaged_segment_is_kept_when_it_is_laid_out(tmp_path) -> None:
    logger = DataLogger(tmp_path, sync="none")
    with logger:
        for number in range(20):
            logger.input_queue.log(1, number, b"message")
        logger.input_queue.close()
        (segment,) = logger.output_directory.glob("*.seg")
        content = bytearray(segment.read_bytes())
        content[200] ^= 1
        segment.write_bytes(content)
    assert len(list(logger.output_directory.glob("*.npy"))) == 19
    (kept,) = logger.output_directory.glob("*.damaged")
    assert kept.read_bytes() == content


@pytest.mark.parametrize("layout", ["entries", "columnar"])
@given(seed=st.randoms(use_true_random=False))
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_any_damage_to_an_archive_is_reported_and_never_a_crash(tmp_path, layout, seed) -> None:
    folder = tmp_path / f"{layout}_data_log"
    if not folder.exists():
        with DataLogger(tmp_path, layout, layout="segments", sync="none") as logger:
            for number in range(30):
                logger.input_queue.log(1, number, bytes(number % 7))
        logger.compress_logs(remove_sources=True, layout=layout)
        (folder / "whole").write_bytes((folder / "1_log.npz").read_bytes())
    whole = (folder / "whole").read_bytes()
    data, at = bytearray(whole), seed.randrange(len(whole))
    data[at : at + seed.randrange(20)] = seed.randbytes(seed.choice([0, 1, 8]))
    (folder / "1_log.npz").write_bytes(data)
    expected = {(1, number, bytes(number % 7)) for number in range(30)}
    try:
        reader = open_log(folder)
        found = set(contents(reader.iter()))
        report = reader.verify()
    except LogFormatError:
        return
    assert found <= expected
    assert found == expected or report.damaged or report.messages < 30


def test_a_member_that_swells_is_not_unpacked(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "1_log.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("001_00000000000000000001.npy", bytes(1 << 20))
    data = bytearray((tmp_path / "1_log.npz").read_bytes())
    data[22:26] = (100).to_bytes(4, "little")  # it claims to be small
    with pytest.raises(LogFormatError, match="damaged"):
        read_member(bytes(data), 0, tmp_path / "1_log.npz")


def test_an_export_that_fails_leaves_nothing(log, tmp_path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    before = set(tmp_path.iterdir())
    with pytest.raises(OSError, match="space"):
        log.to_npz(tmp_path / "out.npz", 1)
    assert set(tmp_path.iterdir()) == before


def test_two_exports_to_one_name_do_not_mix(log, tmp_path, monkeypatch) -> None:
    save, target = np.savez_compressed, tmp_path / "out.npz"

    def overtaken(file, **arrays) -> None:
        monkeypatch.setattr(np, "savez_compressed", save)
        log.to_npz(target, 2)
        save(file, **arrays)
        with np.load(target) as found:
            assert "offsets" in found, "not yet replaced by the slower one"

    monkeypatch.setattr(np, "savez_compressed", overtaken)
    log.to_npz(target, 1)
    with np.load(target) as found:
        assert np.array_equal(found["times"], log.columns(1).times)
