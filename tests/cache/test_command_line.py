"""The command line over a folder of stored results."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from ops.cache import DiskCache, cache, configure
from ops.cache.__main__ import main


@pytest.fixture
def stored(tmp_path: pathlib.Path) -> Iterator[Any]:
    configure(data_folder=tmp_path)
    function = cache(lambda x: x)
    function(1), function(2)
    yield function
    configure(data_folder=None)


def test_ls_lists_what_is_stored(
    stored: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ls", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sorted(row["metadata"]["arguments"]["x"] for row in rows) == ["1", "2"]
    assert main(["info", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("2 entries")


def test_verify_finds_the_damaged_one(
    stored: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path)]) == 0
    path = stored.filename({"x": 1})
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["verify", str(tmp_path)]) == 1
    assert path.name in capsys.readouterr().out


def test_prune_removes_what_killed_writers_left(stored: Any, tmp_path: pathlib.Path) -> None:
    folder = stored.filename({"x": 1}).parent
    old, new = (folder / f".{name}.pkl.0123456789ab.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    main(["prune", str(tmp_path)])
    assert (old.exists(), new.exists()) == (False, True)
    assert stored.info()["entries"] == 2


def test_prune_keeps_what_is_new_and_clear_keeps_nothing(
    stored: Any, tmp_path: pathlib.Path
) -> None:
    main(["prune", str(tmp_path), "--older-than-days", "1"])
    assert stored.info()["entries"] == 2
    main(["clear", str(tmp_path)])
    assert stored.info()["entries"] == 0


def test_a_folder_without_a_cache_is_wrong_usage(tmp_path: pathlib.Path) -> None:
    assert main(["ls", str(tmp_path)]) == 2


def test_the_folder_of_a_disk_cache_works_too(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DiskCache(tmp_path / "d") as store:
        store.set("k", 1)
        store.set(("t", 1), 2, ttl=1e-9)
        folder = str(tmp_path / "d")
        assert main(["ls", folder]) == 0
        assert capsys.readouterr().out == "'k'\n"
        assert main(["prune", folder]) == 0
        assert capsys.readouterr().out == "1 entries removed\n"
        assert main(["info", folder, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["entries"] == 1
        assert main(["verify", folder]) == 0
        assert "damaged_entries: 0" in capsys.readouterr().out
        store.set("large", b"x" * 300_000)
        next(p for p in (tmp_path / "d/blobs").rglob("*") if p.is_file()).unlink()
        assert main(["verify", folder]) == 1
        assert main(["clear", folder]) == 0
        assert list(store) == []


@pytest.mark.parametrize("days", ["-1", "nan", "soon"])
def test_prune_refuses_an_age_that_is_none(stored: Any, tmp_path: pathlib.Path, days: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["prune", str(tmp_path), f"--older-than-days={days}"])
    assert stored.info()["entries"] == 2


def test_a_folder_of_a_newer_version_is_a_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = {"format": "ops-cache log", "version": 99, "salt": "00" * 16}
    (tmp_path / "cache.json").write_text(json.dumps(marker))
    assert main(["info", str(tmp_path)]) == 1
    assert "format version 99" in capsys.readouterr().err


def test_a_dry_run_removes_nothing(
    stored: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clear", str(tmp_path), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("2 entries would be removed")
    assert stored.info()["entries"] == 2
    with DiskCache(tmp_path / "d") as store:
        store.set("k", 1)
        store.set("t", 2, ttl=1e-9)
        for verb, expected in (("prune", "1 entries"), ("clear", "2 entries")):
            assert main([verb, str(tmp_path / "d"), "--dry-run"]) == 0
            assert capsys.readouterr().out.startswith(f"{expected} would be removed")
        assert store.get("k") == 1
        assert store.expire() == 1
