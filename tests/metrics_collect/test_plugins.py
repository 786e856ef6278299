"""Collectors, storages and rollups of another distribution, found by their entry points."""

from __future__ import annotations

import json
import sys

import pytest

from ops.metrics_collect import ParameterError, StorageDirectory, plugins
from ops.metrics_collect.__main__ import main
from ops.metrics_collect.uris import storage_of

MODULE = """
import pathlib
import pyarrow as pa
from ops.metrics_collect import Measure, Rollup, StorageDirectory, collector

@collector(primary_key="id")
def tickets(*, db, since, until, output_dir=None):
    path = pathlib.Path(output_dir, "tickets.csv")
    path.write_text("id,team\\n1,ops\\n2,ops\\n")
    return [path]

def folder_of(rest):
    return StorageDirectory(rest)

class DataframeTickets(Rollup):
    collections = ("tickets",)
    keys = {"team": pa.string()}
    measures = (Measure("count", "sum", pa.int64()),)
    row_ids = {"tickets": ("tickets", "id")}
    columns = frozenset({"id", "team"})

    def prepare(self, raw, config, collection):
        return pa.table({"team": raw["team"], "count": pa.array([1] * raw.num_rows)})
"""
ENTRIES = """
[ops.metrics_collect.collectors]
tickets = acme_usage:tickets
[ops.metrics_collect.storages]
acme = acme_usage:folder_of
s3 = acme_usage:folder_of
gone = acme_usage:nothing
[ops.metrics_collect.rollups]
tickets = acme_usage:DataframeTickets
"""


def install(folder, name, entries):
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)


@pytest.fixture
def acme(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    install(folder, "acme_usage", ENTRIES)
    (folder / "acme_usage.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("acme_usage", None)


def test_an_installed_distribution_gives_names_to_the_command_line(acme, chain, tmp_path, capsys):
    place = f"acme:{tmp_path / 'there'}"
    state = ["--state", str(tmp_path / "state"), "--json"]
    source = ["--db", str(chain.folder / "source.db"), "--collect", " tickets ,"]
    span = ["--since", "2026-10-01", "--until", "2026-10-02"]
    assert main(["backfill", *source, *span, "--ship", place, *state]) == 0
    output = tmp_path / "tickets.json"
    rollup = ["rollup", "--dataframe", "tickets", "-o", str(output), "--ship", place, *state]
    assert main(rollup) == 0
    assert json.loads(output.read_text()) == [{"team": "ops", "count": 2}]
    capsys.readouterr()
    assert (
        main(["backfill", *source[:2], "--collect", "tikets", *span, "--ship", place, *state]) == 2
    )
    assert "['tikets']; there are ['tickets']" in capsys.readouterr().err


def test_names_of_this_distribution_win(acme):
    assert not isinstance(storage_of("s3://bucket/prefix"), StorageDirectory)


def test_what_cannot_be_loaded_and_what_two_have_are_errors_with_names(acme, tmp_path):
    with pytest.raises(ParameterError, match=r"'gone'.*acme_usage:nothing.*cannot be loaded"):
        storage_of("gone:x")
    with pytest.raises(ParameterError, match="no plug-in 'absent'"):
        plugins.loaded("storages", "absent")
    entries = "[ops.metrics_collect.storages]\nacme = other:thing\n"
    install(acme, "other_usage", entries)
    with pytest.raises(ParameterError, match="acme_usage, other_usage"):
        storage_of("acme:x")
