"""What others put into the folder of a cache costs an entry at most: no error, no waiting, no file elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.cache import CorruptEntryWarning, DiskCache, cache, configure
from ops.cache.__main__ import main
from ops.cache.errors import UnsuitableFolderError
from ops.serialize import SerializeError, SignatureError, Signed, serialize_data

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX folders")
KEY = Signed(b"0" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    configure(data_folder=tmp_path / "data")
    yield tmp_path / "data" / "cache" / __name__.replace("/", "_")
    configure(data_folder=None)


def put_record(directory: Path, key: bytes) -> None:
    """Append a record as DiskCache would, with a key that it never writes."""
    with DiskCache(directory) as store:
        salt = store._log.segments.salt
    seed = zlib.crc32(salt + (1).to_bytes(8, "little"))
    body = struct.pack("<HHIQd", 1, 0, len(key), 1, 0.0) + key + b"x"
    with (directory / "00000001.seg").open("ab") as file:
        file.write(b"OPL1" + struct.pack("<I", zlib.crc32(body, seed)) + body)


@pytest.mark.parametrize(
    "key", [b"p{[]:1}", b"p{1:2}", b"", b"p[1", b"p[1]", b"s\xff", b"p" + b"-" * 5000 + b"1"]
)
def test_a_key_that_cannot_be_read_is_skipped_with_a_warning(tmp_path: Path, key: bytes) -> None:
    with DiskCache(tmp_path) as store:
        store["a"] = 1
    put_record(tmp_path, key)
    with DiskCache(tmp_path) as store, pytest.warns(CorruptEntryWarning, match="key"):
        assert list(store) == ["a"]
    with DiskCache(tmp_path) as store, pytest.warns(CorruptEntryWarning, match="key"):
        assert dict(store.items()) == {"a": 1}


def double(x: int) -> int:
    return 2 * x


def test_metadata_that_nests_without_end_is_damaged(folder: Path) -> None:
    cached = cache(double)
    assert cached(1) == 2
    (metadata,) = folder.glob("*.yaml")
    metadata.write_text("[" * 100_000)
    assert cached.info()["entries"] == 1
    assert cached.explain(2).changes == ()
    assert cached.clear() == 1


def test_entries_that_are_no_files_are_ignored(folder: Path, tmp_path: Path) -> None:
    cached = cache(double)
    assert cached(1) == 2
    (metadata,) = folder.glob("*.yaml")
    os.mkfifo(metadata.with_name(metadata.stem[:-32] + "0" * 32 + ".yaml"))
    (metadata.with_name(metadata.stem[:-32] + "1" * 32 + ".yaml")).symlink_to(tmp_path / "x")
    assert cached.info()["entries"] == 1
    metadata.with_suffix(".pkl").unlink()
    os.mkfifo(metadata.with_suffix(".pkl"))
    assert cache(double)(1) == 2


def test_a_link_in_the_place_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.parent.mkdir(parents=True)
    folder.symlink_to(elsewhere)
    with pytest.raises(UnsuitableFolderError, match="symbolic link"):
        cache(double)(1)
    with pytest.raises(UnsuitableFolderError, match="symbolic link"):
        cache(double).clear()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("kind", ["FIFO", "folder", "link"])
def test_a_key_that_is_no_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    key = tmp_path / "key"
    monkeypatch.setenv("OPS_SERIALIZE_USER_KEY_FILE", str(key))
    if kind == "FIFO":
        os.mkfifo(key, 0o600)
    elif kind == "folder":
        key.mkdir(mode=0o700)
    else:
        (tmp_path / "x").write_text("00" * 32)
        (tmp_path / "x").chmod(0o600)
        key.symlink_to(tmp_path / "x")
    with pytest.raises(SerializeError):
        serialize_data(print, trust="user")


def test_a_cache_that_was_copied_over_another_is_not_believed(tmp_path: Path) -> None:
    with DiskCache(tmp_path / "a") as store:
        store["model"] = print
    with DiskCache(tmp_path / "b") as store:
        store["model"] = len
    shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
    with DiskCache(tmp_path / "b") as store:
        with pytest.warns(CorruptEntryWarning):
            assert store.get("model") is None
        store["model"] = len
        assert store["model"] is len
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with DiskCache(tmp_path / "link") as store:  # the same folder by another name
        assert store["model"] is print


def test_results_that_were_copied_are_computed_again(tmp_path: Path) -> None:
    calls: list[int] = []

    @cache(trust=KEY, ignore=["calls"])
    def work(x: int) -> Any:
        calls.append(x)
        return [x]

    with contextlib.ExitStack() as stack:
        stack.callback(configure, data_folder=None)
        configure(data_folder=tmp_path / "a")
        assert work(1) == work(1) == [1]
        assert len(calls) == 1
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        configure(data_folder=tmp_path / "b")
        with pytest.warns(CorruptEntryWarning):
            assert work(1) == [1]
        assert len(calls) == 2


def test_what_was_signed_in_a_folder_that_moved_is_missing_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    with DiskCache(tmp_path / "a", trust=KEY) as store:
        store["k"] = "signed there"
        store["large"] = "x" * 400_000
    (tmp_path / "a").rename(tmp_path / "b")
    with DiskCache(tmp_path / "b", trust=KEY) as store:
        for key in ("k", "large"):
            with pytest.warns(CorruptEntryWarning, match="not signed"):
                assert store.get(key) is None
        store["k"] = "signed here"
        with pytest.warns(CorruptEntryWarning):
            assert store.get_or_compute("large", lambda: 5) == 5
        assert (store["k"], store["large"]) == ("signed here", 5)
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    with DiskCache(tmp_path / "c", trust=KEY) as store:
        store.clear()  # from now on this is its place, and anything else is forged
        store["k"] = 1
    forger = Signed(b"another key of 32 bytes or more!")
    with DiskCache(tmp_path / "c", trust=forger) as store, pytest.raises(SignatureError):
        store.get("k")
    with DiskCache(tmp_path / "c", trust=KEY) as store:
        assert store["k"] == 1


def test_the_command_line_removes_nothing_behind_a_link(folder: Path, tmp_path: Path) -> None:
    cached = cache(double)
    assert cached(2) == 4
    models = tmp_path / "models"
    models.mkdir()
    kept = [models / "precious.pkl", models / "precious.yaml", models / ".x.tmp"]
    for file in kept:
        file.write_text("{}")
        os.utime(file, (0, 0))
    (tmp_path / "data" / "cache" / "evil").symlink_to(models)
    for verb in ("prune", "clear"):
        assert main([verb, str(tmp_path / "data"), "--quiet"]) == 0
    assert all(file.exists() for file in kept)
    assert cached.info()["entries"] == 0


def test_the_record_of_code_is_not_written_through_a_link(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.mkdir(parents=True)
    (folder / ".code").symlink_to(elsewhere)
    cached = cache(double)
    with contextlib.suppress(UnsuitableFolderError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cached(2) == 4
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("content", ["[]", "3", '{"a": []}', None])
def test_a_record_of_code_that_is_none_is_not_compared(folder: Path, content: str | None) -> None:
    cached = cache(double)
    assert cached(2) == 4
    for file in (folder / ".code").glob("*.json"):
        file.unlink()
        if content is None:
            os.mkfifo(file)
        else:
            file.write_text(content)
    assert not cached.explain(3).is_stored


def test_metadata_in_a_pipe_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    cached = cache(double)
    assert cached(2) == 4
    (metadata,) = folder.glob("*.yaml")
    metadata.unlink()
    os.mkfifo(metadata)
    assert main(["info", str(tmp_path / "data")]) == 0
