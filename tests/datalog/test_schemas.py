"""Payloads with a schema: named columns in every export; and MCAP files, written and read."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.datalog import (
    DataLogger,
    LogFormatError,
    LogSchema,
    LogSource,
    import_mcap,
    open_log,
)
from ops.datalog.messages import Columns
from ops.foundation.errors import ValidationError

DATA = Path(__file__).parent / "data"
XY = LogSchema("<f4", columns=("x", "y"), units=("mm", "mm"), rate=1000.0, time_unit="us")


@pytest.fixture
def log(tmp_path):
    """Source 1 with two rows a message, at 1 kHz; source 2 as bytes."""
    sources = {1: LogSource("arm", XY, {"serial": "A7"})}
    with DataLogger(tmp_path, "rig", layout="segments", sync="none", sources=sources) as logger:
        for number in range(3):
            rows = np.array([[number, 0.5], [number + 0.25, -1]], "<f4")
            logger.input_queue.log(1, 10_000 * number, rows)
        logger.input_queue.log(2, 5, b"\1\2")
        logger.describe(2, "raw")
    return logger.read()


TIMES = [0, 1000, 10_000, 11_000, 20_000, 21_000]
X = [0, 0.25, 1, 1.25, 2, 2.25]


def test_a_source_with_a_schema_has_named_columns_and_a_time_for_every_row(log) -> None:
    table = log.table(1)
    assert list(table) == ["time", "x", "y"]
    assert table["time"].tolist() == TIMES
    assert table["x"].tolist() == X
    assert log.described() == {1: LogSource("arm", XY, {"serial": "A7"}), 2: LogSource("raw")}
    with pytest.raises(LogFormatError, match="no schema"):
        log.table(2)


def test_the_messages_are_the_same_with_a_schema_and_without(log) -> None:
    assert len(list(log)) == 4
    assert log.columns(1).data.shape == (3, 16)
    assert log.verify().is_whole


def test_what_is_known_of_sources_stays_when_the_log_is_archived(log) -> None:
    from ops.datalog import compress_npy_logs

    before = log.described()
    compress_npy_logs(log.folder, remove_sources=True, layout="columnar")
    assert log.described() == before
    assert log.table(1)["time"].tolist() == TIMES


def test_arrow_and_parquet_have_named_columns_with_units(log, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = log.to_arrow(1)
    assert table.column_names == ["time", "x", "y"]
    assert table.schema.field("x").metadata == {b"unit": b"mm"}
    assert table.schema.field("time").metadata == {b"unit": b"us"}
    assert table.schema.metadata == {b"rate": b"1000.0"}
    assert table["x"].to_pylist() == X
    assert parquet.read_table(log.to_parquet(tmp_path / "a.parquet", 1)).equals(table)
    assert log.to_arrow().column_names == ["source", "time", "data"], "all sources are bytes"
    assert log.to_arrow(2)["data"].to_pylist() == [b"\1\2"]


def test_a_data_frame_has_named_columns(log) -> None:
    pytest.importorskip("pandas")
    frame = log.to_pandas(1)
    assert list(frame.columns) == ["time", "x", "y"]
    assert frame["x"].tolist() == X
    assert frame.attrs["units"] == {"x": "mm", "y": "mm"}
    assert log.to_pandas(2)["data"].tolist() == [b"\1\2"]


def test_a_matlab_file_has_a_structure_for_each_source(log, tmp_path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    found = scipy_io.loadmat(log.to_mat(tmp_path / "a.mat"), simplify_cells=True)
    assert found["arm"]["time"].tolist() == TIMES
    assert found["arm"]["x"].tolist() == X
    assert found["arm"]["units"]["x"] == "mm"
    assert found["raw"]["data"].tolist() == [1, 2]


def test_a_csv_file_has_named_columns_or_hexadecimal_data(log, tmp_path) -> None:
    with log.to_csv(tmp_path / "a.csv", 1).open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["x"]) for line in lines] == X
    with log.to_csv(tmp_path / "b.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert lines[1] == {"source": "2", "time": "5", "data": "0102"}


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.arrow", "a.csv", "a.npz", "a.mat", "a.mcap", "a/"]
)
def test_the_command_line_writes_what_the_name_says(log, tmp_path, name) -> None:
    before = sorted(path.name for path in log.folder.iterdir())
    target = tmp_path / name
    command = [
        sys.executable,
        "-m",
        "ops.datalog",
        "export",
        str(log.folder),
        "--source",
        "1",
        "--to",
    ]
    to = f"{target}/" if name == "a/" else str(target)
    done = subprocess.run([*command, to], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    magic = {
        "a.parquet": b"PAR1", "a.arrow": b"ARROW1", "a.csv": b"time,x,y\n", "a.npz": b"PK",
        "a.mat": b"MATLAB 5.0", "a.mcap": b"\x89MCAP",
    }  # fmt: skip
    if name == "a/":
        assert len(list(target.glob("*.npy"))) == 3
    else:
        assert target.read_bytes().startswith(magic[name])
    assert sorted(path.name for path in log.folder.iterdir()) == before


@pytest.mark.parametrize("name", ["a.xlsx", "a.h5", "a.parquet.gz"])
def test_a_format_that_is_not_known_is_refused(log, tmp_path, name) -> None:
    command = [sys.executable, "-m", "ops.datalog", "export", str(log.folder), "--to", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert name in done.stderr
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"dtype": object}, {"dtype": "nonsense"}, {"dtype": "f4", "columns": "xy"},
        {"dtype": "f4", "columns": ("x", "x")}, {"dtype": "f4", "columns": ("time",)},
        {"dtype": "f4", "units": ("m", "s")}, {"dtype": "f4", "units": {"x": "m"}},
        {"dtype": "f4", "rate": 0}, {"dtype": "f4", "rate": float("nan")},
        {"dtype": "f4", "time_unit": "h"}, {"dtype": [("a", "f4"), ("b", "f4")], "columns": ("x",)},
        {"dtype": "V0"},
    ],
    ids=str,
)  # fmt: skip
def test_a_schema_that_makes_no_sense_is_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        LogSchema(**wrong)


def test_a_payload_that_does_not_fit_its_schema_is_named(tmp_path) -> None:
    with DataLogger(tmp_path, sync="none", sources={1: LogSource(schema=XY)}) as logger:
        logger.input_queue.log(1, 1, bytes(8))
        logger.input_queue.log(1, 2, bytes(7))
    with pytest.raises(LogFormatError, match="source 1 at 2 has 7 bytes"):
        logger.read().table(1)


def test_structured_types_bring_their_names(tmp_path) -> None:
    dtype = np.dtype([("t", ">u2"), ("pos", "<f8", (3,)), ("imu", [("gx", "i1"), ("gy", "i1")])])
    schema = LogSchema(dtype, units={"t": "C"})
    rows = np.zeros(2, dtype)
    rows["t"], rows["pos"][:, 2], rows["imu"]["gy"] = 300, [1.5, 2.5], [-1, 1]
    with DataLogger(tmp_path, sync="none", sources={1: LogSource(schema=schema)}) as logger:
        logger.input_queue.log(1, 7, rows)
    table = logger.read().table(1)
    assert list(table) == ["time", "t", "pos_0", "pos_1", "pos_2", "imu.gx", "imu.gy"]
    assert table["t"].tolist() == [300, 300]
    assert table["t"].dtype == np.dtype("u2"), "in the byte order of this machine"
    assert table["pos_2"].tolist() == [1.5, 2.5]
    assert table["imu.gy"].tolist() == [-1, 1]
    assert logger.read().described()[1].schema == schema


@given(
    counts=st.lists(st.integers(0, 5), max_size=8),
    start=st.integers(0, 2**62),
    unit=st.sampled_from(["ns", "us", "ms"]),
)
def test_rows_of_a_message_are_a_step_of_the_rate_apart(counts, start, unit) -> None:
    schema = LogSchema("u1", rate=100.0, time_unit=unit)
    step = {"ns": 10_000_000, "us": 10_000, "ms": 10}[unit]
    times = np.array([start + 1000 * n for n in range(len(counts))], np.uint64)
    rows = [np.zeros(count, np.uint8) for count in counts]
    table = schema.table(1, Columns(times, rows))
    expected = [int(t) + step * n for t, c in zip(times, counts, strict=True) for n in range(c)]
    assert table["time"].tolist() == expected
    assert len(table["value"]) == sum(counts)


def test_names_of_sources_differ_and_numbers_are_sources(tmp_path) -> None:
    logger = DataLogger(tmp_path, sync="none")
    with logger:
        logger.describe(1, "a")
        with pytest.raises(ValidationError, match="differ"):
            logger.describe(2, "a")
        with pytest.raises(ValidationError, match="0 to 255"):
            logger.describe(256, "b")
        logger.describe(1, "b")
        logger.describe(2, "a")
    assert {n: s.name for n, s in logger.read().described().items()} == {1: "b", 2: "a"}


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 9, "sources": {}}'])
def test_damage_to_what_is_known_of_sources_costs_names_and_no_message(log, content) -> None:
    (log.folder / "log.sources.json").write_text(content)
    assert len(list(log)) == 4
    assert log.verify().messages == 4
    with pytest.raises(LogFormatError, match=r"log\.sources\.json"):
        log.described()


def test_an_mcap_file_holds_the_same_messages_and_rows(log, tmp_path) -> None:
    reader = pytest.importorskip("mcap.reader")
    path = log.to_mcap(tmp_path / "log.mcap")
    with path.open("rb") as file:
        found = list(reader.make_reader(file).iter_messages())
    rows = [(m.log_time, json.loads(m.data)) for s, c, m in found if c.topic == "arm"]
    assert [time for time, _ in rows] == [1000 * time for time in TIMES], "nanoseconds"
    assert [row["x"] for _, row in rows] == X
    schemas = {s.name: json.loads(s.data) for s, _, _ in found if s is not None}
    assert schemas["arm"]["properties"]["x"] == {"type": "number", "unit": "mm"}
    assert [(m.log_time, m.data) for _, c, m in found if c.topic == "raw"] == [(5, b"\1\2")]


@pytest.mark.parametrize(
    ("name", "count"),
    [("zstd", 120), ("lz4", 120), ("plain", 120), ("unchunked", 120), ("no_end", 97)],
)
def test_mcap_files_of_another_program_are_imported(tmp_path, name, count) -> None:
    pytest.importorskip("mcap")
    with tarfile.open(DATA / "mcap-1.6.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    log = import_mcap(tmp_path / f"{name}.mcap", tmp_path / "out")
    expected = json.loads((DATA / "mcap-1.6.0.expected.json").read_text())["messages"][:count]
    described = log.described()
    topics = {source.name: number for number, source in described.items()}
    assert set(topics) == {"/point", "/raw é"}
    assert described[topics["/point"]].metadata == {
        "message_encoding": "json", "schema": "Point", "schema_encoding": "jsonschema", "unit": "m",
    }  # fmt: skip
    for topic, number in topics.items():
        found = [(m.timestamp, bytes(m.data).hex()) for m in log.iter(number)]
        assert found == sorted((e[1], e[4]) for e in expected if e[0] == topic)
    again = import_mcap(log.to_mcap(tmp_path / "again.mcap"), tmp_path / "again")
    assert {s.name for s in again.described().values()} == set(topics)
    assert sum(again.counts().values()) == count


@pytest.mark.parametrize("content", [b"", b"no mcap at all", b"\x89MCAP0\r\n\x01\x07"])
def test_what_is_no_mcap_file_is_named(tmp_path, content) -> None:
    pytest.importorskip("mcap")
    (tmp_path / "x.mcap").write_bytes(content)
    try:
        log = import_mcap(tmp_path / "x.mcap", tmp_path / "out")
    except LogFormatError as error:
        assert "x.mcap" in str(error)  # noqa: PT017 - either is right
    else:
        assert list(log) == []


@pytest.mark.parametrize("on_full", ["raise", "drop"])
def test_a_minimum_of_free_space_counts_as_a_full_disk_and_names_the_file(
    tmp_path, on_full
) -> None:
    logger = DataLogger(
        tmp_path, layout="segments", sync="none", min_free_bytes=1 << 60, on_full=on_full
    )
    with logger:
        logger.input_queue.log(1, 1, b"fits the tail")
        if on_full == "drop":
            logger.input_queue.log(1, 2, bytes(20_000))
            assert logger.input_queue.dropped == 1
        else:
            with pytest.raises(OSError, match="are free, of which") as caught:
                logger.input_queue.log(1, 2, bytes(20_000))
            assert str(caught.value.filename).startswith(str(logger.output_directory))
    assert [m.timestamp for m in logger.read()] == [1]


def test_a_log_is_split_by_size_and_by_time(tmp_path) -> None:
    for name, options in {"size": {"split_bytes": 50_000}, "time": {"split_seconds": 1e-9}}.items():
        with DataLogger(tmp_path, name, layout="segments", sync="none", **options) as logger:
            for number in range(6):
                logger.input_queue.log(1, number, bytes(20_000))
        assert len(list(logger.output_directory.glob("*.seg"))) == {"size": 3, "time": 6}[name]
        assert [m.timestamp for m in open_log(logger.output_directory)] == list(range(6))
    with pytest.raises(ValidationError, match="split_bytes"):
        DataLogger(tmp_path, "wrong", split_bytes=0)
