"""What could not be looked at is no fact: an error of the system makes no entry damaged, absent or ours."""

from __future__ import annotations

import errno
import mmap
import os
import pathlib
import sqlite3
from collections.abc import Callable, Iterator

import pytest

from ops.cache import DiskCache, cache, configure, stored_results
from ops.cache.disk import checks
from ops.cache.diskcache import folders
from ops.cache.joblib_memory import Memory

CODES = [errno.EMFILE, errno.EACCES, errno.EIO]


def refusal(code: int) -> Callable[..., None]:
    def refuse(path: object = "", *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    return refuse


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    configure(data_folder=tmp_path)
    yield tmp_path
    configure(data_folder=None)


@cache
def double(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("code", CODES)
def test_a_large_value_that_cannot_be_opened_now_is_not_repaired_away(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with DiskCache(tmp_path) as disk:
        disk.set("large", bytes(10 << 20))
        with monkeypatch.context() as patch:
            patch.setattr(checks, "open_own_to_read", refusal(code))
            with pytest.raises(OSError, match=os.strerror(code)):
                disk.check(repair=True)
        assert disk.get("large") == bytes(10 << 20)
        assert disk.check().is_sound


def test_a_segment_that_there_is_no_memory_for_now_is_not_empty(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DiskCache(tmp_path) as disk:
        disk._log.segment_bytes = 1 << 12
        for number in range(100):
            disk.set(number, bytes(100))
        assert len(disk._log.segments.numbers()) > 1
    for hint in tmp_path.glob("*.hint"):
        hint.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", refusal(errno.ENOMEM))
        with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
            DiskCache(tmp_path)
    with DiskCache(tmp_path) as disk:
        assert all(disk.get(number) == bytes(100) for number in range(100))


def test_a_folder_of_results_that_cannot_be_listed_is_not_cleared(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert double(2) == 4
    with monkeypatch.context() as patch:
        for call in ("listdir", "scandir"):
            patch.setattr(os, call, refusal(errno.EACCES))
        with pytest.raises(PermissionError):
            double.clear()
    assert double.clear() == 1


@pytest.mark.parametrize("code", CODES)
def test_a_result_that_cannot_be_read_now_is_not_taken_for_one_of_this_program(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    assert double(3) == 6
    (metadata,) = folder.glob("cache/*/*.yaml")
    real = os.open

    def refuse(path: str, *options: int, **named: int) -> int:
        if os.fspath(path) == os.fspath(metadata):
            raise OSError(code, os.strerror(code), os.fspath(path))
        return real(path, *options, **named)

    with monkeypatch.context() as patch:
        patch.setattr(stored_results.os, "open", refuse)
        if code == errno.EACCES:
            assert double.clear() == 0
        else:
            with pytest.raises(OSError, match=os.strerror(code)):
                double.clear()
    assert metadata.exists()


def test_a_memory_that_could_not_be_cleared_says_so(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(tmp_path / "memory", verbose=0)
    assert memory.cache(abs)(-1) == 1
    with monkeypatch.context() as patch:
        for call in ("unlink", "rmdir"):
            patch.setattr(os, call, refusal(errno.EACCES))
        with pytest.raises(PermissionError):
            memory.clear(warn=False)
    memory.clear(warn=False)
    memory.clear(warn=False)


def test_a_log_that_cannot_be_looked_at_is_not_left_out(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite3.connect(tmp_path / "cache.db").close()
    (tmp_path / "cache.db").touch()
    (tmp_path / "cache.db-wal").write_bytes(b"log")
    store = folders.Store(tmp_path)
    real = os.stat

    def refuse(path: str, **options: object) -> os.stat_result:
        if os.fspath(path).endswith("-wal"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))
        return real(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        store._connect()


def test_shards_that_cannot_be_listed_are_not_left_out(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("000", "001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cache.db").touch()
    assert len(folders.stores_in(tmp_path)) == 2
    for call in ("listdir", "scandir"):
        monkeypatch.setattr(os, call, refusal(errno.EACCES))
    with pytest.raises(PermissionError):
        folders.stores_in(tmp_path)
