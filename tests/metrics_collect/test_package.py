import csv
import datetime as dt
import io
import json
import os
import tarfile
import tempfile

import pytest

from ops.metrics_collect import (
    BrokenTarballError,
    Extractor,
    Limits,
    Package,
    ParameterError,
    collector,
)

MOMENT = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)


@collector
def files(*, folder, count):
    paths = []
    for index in range(count):
        paths.append(folder / f"made-{index}.csv")
        paths[-1].write_text(f"id,name\n{index},x\n")
    return paths


@collector
def broken():
    raise OSError("no connection")


def package(collectors, **options):
    fixed = {"clock": lambda: MOMENT, "timer": lambda: 0.0}
    return Package(collectors, {"install_uuid": "u"}, **fixed, **options)


def test_a_big_result_spreads_over_tarballs_that_vanish_one_by_one(tmp_path):
    seen = []
    for path in package([files(folder=tmp_path, count=5)], max_size=30):
        assert all(not p.exists() for p in seen)
        seen.append(path)
        with tarfile.open(path) as tar:
            names = tar.getnames()
            manifest = json.load(tar.extractfile("manifest.json"))
        assert names[:3] == ["config.json", "manifest.json", "data_collection_status.csv"]
        assert manifest["members"]["files.csv"]["rows"] == 1
    assert [p.name for p in seen][-1] == "u-all-all-files-000002.tar.gz"
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_a_row_of_the_status_and_stops_nobody(tmp_path):
    [status] = [read_status(p) for p in package([broken(), files(folder=tmp_path, count=1)])]
    assert [(r["collector"], r["status"], r["file_name"]) for r in status] == [
        ("broken", "failed", ""),
        ("files", "ok", "files.csv"),
    ]
    assert status[0]["error"] == "OSError: no connection"


def test_a_format_with_a_field_that_is_none_is_refused_at_once():
    with pytest.raises(ParameterError, match="'nope'"):
        package([broken()], tarball_format="{nope}.tar.gz")
    with pytest.raises(ParameterError, match="'uuid'"):
        package([broken()], payload_format="{uuid}.{type}")


def test_equal_content_makes_equal_bytes(tmp_path):
    first, second = (
        [p.read_bytes() for p in package([files(folder=tmp_path, count=3)])] for _ in range(2)
    )
    assert first == second


def test_what_is_packed_comes_out_and_a_changed_byte_does_not(tmp_path):
    made = list(package([files(folder=tmp_path, count=3)], directory=tmp_path, keep=True))
    assert list(Extractor(made).frame("files")["id"]) == ["0", "1", "2"]
    content = bytearray(made[0].read_bytes())
    content[len(content) // 2] ^= 1
    made[0].write_bytes(content)
    extractor = Extractor(made, skip_broken=True)
    assert list(extractor.payloads()) == []
    assert list(extractor.broken) == [str(made[0])]
    with pytest.raises(BrokenTarballError, match=made[0].name):
        list(Extractor(made).payloads())


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
)
def test_members_that_are_no_plain_files_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(BrokenTarballError, match="no plain file"):
        list(Extractor([tarball_with(tmp_path, info)]).payloads())


@pytest.mark.parametrize("name", ["../up.csv", "/tmp/absolute.csv", "a/../../b"])
def test_members_that_lead_outside_are_refused(tmp_path, name):
    with pytest.raises(BrokenTarballError, match="refused"):
        list(Extractor([tarball_with(tmp_path, tarfile.TarInfo(name))]).payloads())


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    info = tarfile.TarInfo("bomb.csv")
    info.size = 1_000_000
    bomb = tarball_with(tmp_path, info, b"\0" * info.size)
    with pytest.raises(BrokenTarballError, match="over the limits"):
        list(Extractor([bomb], limits=Limits(bytes=1000)).payloads())


def tarball_with(folder, info, data=b""):
    path = folder / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(info, io.BytesIO(data))
    return path


def read_status(path):
    with tarfile.open(path) as tar:
        text = tar.extractfile("data_collection_status.csv").read().decode()
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("broken", [False, True])
def test_a_file_that_a_collector_only_found_stays_where_it_is(
    tmp_path, monkeypatch, broken
) -> None:
    temporary, given, found = (tmp_path / name for name in ("temporary", "given", "found"))
    for folder in (temporary, given, found):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    paths = [folder / "rows.csv" for folder in (found, given, temporary)]
    (found / "linked").symlink_to(temporary)
    (given / "folder.csv").mkdir()

    text = "a,b\n1\n" if broken else "a,b\n1,2\n"
    paths[0].write_text(text)
    os.utime(paths[0], (1_790_000_000, 1_790_000_000))

    @collector
    def rows(*, output_dir=None):
        for path in paths[1:]:
            path.write_text(text)
        return [*paths, found / "linked" / "rows.csv", given / "folder.csv"] if broken else paths

    package = Package([rows(output_dir=given)], {"install_uuid": "one"})
    for tarball in package:
        assert tarball.is_file()
    assert [status.status for status in package.statuses] == ["failed" if broken else "ok"]
    assert [path.exists() for path in paths] == [True, False, False]
    assert (given / "folder.csv").is_dir()
