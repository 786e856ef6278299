"""Tarballs in the layout of the receiver: read, whoever wrote them, and written."""

from __future__ import annotations

import collections
import datetime as dt
import json
import pathlib
import tarfile

import pyarrow.compute as pc
import pytest

from ops.metrics_collect import (
    BrokenTarballError,
    DataframeDataCollectionStatus,
    DataframeJobevent,
    DataframeJobHostSummary,
    DataframeMainHost,
    Extractor,
    Package,
    ReportCCSPv2,
    collector,
)

ARCHIVE = pathlib.Path(__file__).with_name("data") / "metrics-utility-0.7.20260118.tar.gz"
DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)


@pytest.fixture
def tarballs(tmp_path):
    """The 22 tarballs that metrics-utility wrote from a fixture database."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "there", filter="data")
    return sorted((tmp_path / "there").rglob("*-*.tar.gz"))


def test_tarballs_of_the_program_are_read_with_all_their_rows(tarballs):
    expected = json.loads(
        ARCHIVE.with_name("metrics-utility-0.7.20260118.expected.json").read_text()
    )
    counts = collections.Counter()
    for payload in Extractor(tarballs).payloads():
        counts[payload.collection] += payload.batch.num_rows
    there = collections.Counter()
    for tarball in expected["tarballs"]:
        for name, member in tarball["members"].items():
            if name.endswith(".csv"):
                there[name.removeprefix("./").removesuffix(".csv")] += member["rows"]
    assert counts == there


def test_tarballs_of_the_program_are_rolled_up_and_reported(tarballs):
    made = {
        "job_host_summary": DataframeJobHostSummary(),
        "main_host": DataframeMainHost(),
        "main_jobevent": DataframeJobevent(),
        "data_collection_status": DataframeDataCollectionStatus(),
    }
    for rollup in made.values():
        rollup.add(Extractor(tarballs))
    summaries = made["job_host_summary"].group()
    direct = summaries.filter(pc.equal(summaries["managed_node_type"], "direct"))
    expected = json.loads(
        ARCHIVE.with_name("metrics-utility-0.7.20260118.expected.json").read_text()
    )
    days = expected["from_the_database"]["job_host_summary rows by modified day"]
    assert pc.sum(direct["host_runs"]).as_py() == sum(day["n"] for day in days) == 180
    tasks = sum(day[name] for day in days for name in ("ok", "dark", "failures", "skipped"))
    assert pc.sum(direct["task_runs"]).as_py() == tasks
    assert made["main_host"].group().num_rows == 60
    assert set(made["data_collection_status"].group()["collector"].to_pylist()) >= {"main_host"}
    sheets = {s.title: list(s.rows()) for s in ReportCCSPv2(made, {"price": 1}).sheets()}
    assert len(sheets["Jobs"]) == 30
    assert sheets["Usage Reporting"][-1][3].value == 60


@collector
def hosts(*, since, until, output_dir=None):
    path = pathlib.Path(output_dir, "hosts.csv")
    path.write_text("id,name\n1,web\n")
    return [path]


def test_what_is_written_for_the_receiver_has_its_layout_and_is_read_here(tmp_path):
    work = hosts(since=DAY, until=DAY + dt.timedelta(days=1))
    config = {"install_uuid": "u1"}
    [path] = Package([work], config, layout="controller", directory=tmp_path, keep=True)
    with tarfile.open(path) as tar:
        names = tar.getnames()
        manifest = json.load(tar.extractfile("./manifest.json"))
        status = tar.extractfile("./data_collection_status.csv").read().decode().splitlines()
    assert names[0] == "./config.json"
    assert manifest == {
        "config.json": "1.0",
        "data_collection_status.csv": "1.0",
        "hosts.csv": "1.0",
    }
    assert status[0] == "collection_start_timestamp,since,until,file_name,status,elapsed"
    [payload] = list(Extractor([path]).payloads({"hosts"}))
    assert (payload.config["install_uuid"], payload.batch.to_pylist()) == (
        "u1",
        [{"id": "1", "name": "web"}],
    )
    assert payload.since == DAY


def test_a_member_that_the_manifest_of_the_other_layout_does_not_name_is_refused(tmp_path):
    work = hosts(since=DAY, until=DAY + dt.timedelta(days=1))
    [path] = Package([work], {}, layout="controller", directory=tmp_path, keep=True)
    grown = tmp_path / "grown.tar.gz"
    with tarfile.open(path) as source, tarfile.open(grown, "w:gz") as target:
        for member in source:
            target.addfile(member, source.extractfile(member))
        target.addfile(tarfile.TarInfo("./more.csv"))
    with pytest.raises(BrokenTarballError, match="not those of its manifest"):
        list(Extractor([grown]).payloads())
