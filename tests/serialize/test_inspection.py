"""Files are looked into without anything in them running."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys

import pytest

from ops.serialize import (
    Safe,
    SerializationFormat,
    SmartSerializer,
    dump,
    inspect,
    load,
    scan,
    serialize_data,
)


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/ops-serialize-was-here",)


@pytest.fixture
def run():
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ops.serialize", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_inspecting_tells_format_and_sizes(tmp_path) -> None:
    np = pytest.importorskip("numpy")
    dump({"a": np.zeros(10_000), "b": 1}, tmp_path / "x.opsf", compression="zlib")
    info = inspect(tmp_path / "x.opsf")
    assert (info.format, info.buffers, info.signed) == ("frame", 1, False)
    assert info.stored_size < 10_000 < info.raw_size


@dataclasses.dataclass
class Report:
    score: float


def test_scanning_names_what_would_be_imported_and_runs_nothing(tmp_path) -> None:
    dump([Evil(), Evil()], tmp_path / "evil", trust="all")
    assert [name for name in scan(tmp_path / "evil") if "system" in name]
    assert not os.path.exists("/tmp/ops-serialize-was-here")
    (tmp_path / "json").write_bytes(serialize_data({"a": 1}, SerializationFormat.JSON))
    assert scan(tmp_path / "json") == []


def test_scanning_data_names_the_classes_that_its_reader_must_allow(tmp_path) -> None:
    dump(
        {"when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "many": [dt.timedelta(1)] * 3},
        tmp_path / "a",
    )
    assert scan(tmp_path / "a") == []
    dump([Report(0.5)], tmp_path / "b", trust=Safe(allow=(Report,)))
    assert scan(tmp_path / "b") == [f"{__name__}.Report"]


def test_the_command_line(tmp_path, run) -> None:
    dump(list(range(5000)), tmp_path / "x.opsf")
    assert "format" in run("inspect", tmp_path / "x.opsf").stdout
    assert json.loads(run("inspect", tmp_path / "x.opsf", "--json").stdout)["version"] == 2
    assert (
        run("convert", tmp_path / "x.opsf", tmp_path / "y.opsf", "--compression", "zlib").returncode
        == 0
    )
    assert load(tmp_path / "y.opsf") == list(range(5000))
    assert run("scan", tmp_path / "y.opsf", "--json").stdout == "[]\n"
    missing = run("inspect", tmp_path / "none")
    assert missing.returncode == 2
    assert "none" in missing.stderr


def test_what_is_refused_is_marked_and_can_be_allowed_by_name(tmp_path, run) -> None:
    name = "argparse.Namespace"
    value = [dt.timedelta(1), argparse.Namespace(a=1)]
    dump(value, tmp_path / "x.opsf", trust=Safe(allow=(name,)))
    scanned = run("scan", tmp_path / "x.opsf")
    assert scanned.stdout.splitlines() == [f"{name}  (refused unless you allow it)"]
    assert scanned.returncode == 1
    refused = run("convert", tmp_path / "x.opsf", tmp_path / "y.opsf")
    assert refused.returncode == 1
    assert name in refused.stderr
    assert run("convert", tmp_path / "x.opsf", tmp_path / "y.opsf", "--allow", name).returncode == 0
    assert load(tmp_path / "y.opsf", trust=Safe(allow=(argparse.Namespace,))) == value


def test_the_examples_of_the_documents() -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    dataframe = pd.DataFrame({"a": [1.5, 2.5]})
    my_dict = {"a": [1, 2]}
    serializer = SmartSerializer()
    result = serializer.serialize(dataframe)
    data = serialize_data(my_dict, format=SerializationFormat.JSON)
    assert result.format == SerializationFormat.PARQUET
    assert serializer.deserialize(result).equals(dataframe)
    assert serializer.deserialize(data) == my_dict
