"""Finding, copying and ageing out files."""

import datetime as dt
import errno
import os
import pathlib

import pytest

from ops.foundation import (
    atomic_write,
    cleanup_old_files,
    copy_with_progress,
    file_listing,
    find_files,
    get_file_info,
)
from ops.foundation.removal import remove_as_seen

NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)


@pytest.fixture
def aged(tmp_path):
    for days in range(5):
        path = tmp_path / f"{days}.log"
        path.write_text("x")
        moment = NOW.timestamp() - days * 86400
        os.utime(path, (moment, moment))
    return tmp_path


def test_old_files_go_and_the_newest_are_kept(aged):
    gone = cleanup_old_files(aged, "*.log", days=0.5, keep_count=2, now=NOW)
    assert [p.name for p in gone] == ["4.log", "3.log", "2.log"]
    assert [p.name for p in find_files(aged)] == ["0.log", "1.log"]


def test_a_dry_run_removes_nothing(aged):
    assert len(cleanup_old_files(aged, days=1.5, dry_run=True, now=NOW)) == 3
    assert len(list(find_files(aged))) == 5


def test_no_limit_at_all_is_refused_rather_than_removing_everything(aged):
    with pytest.raises(ValueError, match="every file"):
        cleanup_old_files(aged)


def test_a_copy_reports_its_progress_and_a_failing_callback_leaves_the_target(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    calls = []
    copy_with_progress(tmp_path / "a", tmp_path / "b", lambda c, t: calls.append((c, t)))
    assert calls[-1] == (3_000_000, 3_000_000)
    assert get_file_info(tmp_path / "b").size_bytes == 3_000_000
    (tmp_path / "b").write_text("old")
    with pytest.raises(ZeroDivisionError):
        copy_with_progress(tmp_path / "a", tmp_path / "b", lambda c, t: 1 / 0)
    assert (tmp_path / "b").read_text() == "old"


@pytest.mark.parametrize("pattern", ["../*", "sub/*", "/etc/*"])
def test_a_pattern_cannot_lead_out_of_the_folder(aged, pattern):
    with pytest.raises(ValueError, match="pattern="):
        cleanup_old_files(aged, pattern, keep_count=0)


def test_a_naive_moment_is_refused(aged):
    with pytest.raises(ValueError, match="time zone"):
        cleanup_old_files(aged, days=1, now=dt.datetime(2024, 1, 1))


def test_a_file_that_somebody_else_removes_meanwhile_is_no_error(aged, monkeypatch):
    monkeypatch.setattr(file_listing, "find_files", lambda *_, **__: [aged / "gone"])
    assert cleanup_old_files(aged, days=1) == []


def test_the_file_of_a_running_write_is_neither_found_nor_counted_nor_removed(tmp_path):
    for number in range(3):
        path = tmp_path / f"ckpt{number}"
        path.write_text("x")
        os.utime(path, (1e9 + number, 1e9 + number))
    with atomic_write(tmp_path / "ckpt3") as file:
        file.write("new")
        assert [p.name for p in find_files(tmp_path)] == ["ckpt0", "ckpt1", "ckpt2"]
        assert cleanup_old_files(tmp_path, keep_count=3, dry_run=True) == []
        assert len(cleanup_old_files(tmp_path, keep_count=0)) == 3
    assert [p.name for p in find_files(tmp_path)] == ["ckpt3"]


def test_what_a_dead_write_left_behind_goes_when_it_is_older_than_a_day_and_than_the_days(tmp_path):
    left = tmp_path / ".ckpt.0123456789ab.tmp"
    other = tmp_path / ".mine.tmp"
    for path in (left, other):
        path.write_text("x")
        os.utime(path, (0, 0))
    day = dt.timedelta(days=1)
    assert cleanup_old_files(tmp_path, "ckpt*", keep_count=0, now=EPOCH + day / 2) == []
    assert left.exists()
    assert cleanup_old_files(tmp_path, "ckpt*", days=7, now=EPOCH + 2 * day) == []
    assert left.exists()
    assert (
        cleanup_old_files(tmp_path, "ckpt*", keep_count=0, dry_run=True, now=EPOCH + 2 * day) == []
    )
    assert left.exists()
    assert cleanup_old_files(tmp_path, "ckpt*", keep_count=0, now=EPOCH + 2 * day) == []
    assert (left.exists(), other.exists()) == (False, True)


def test_what_a_dead_write_of_another_name_left_behind_stays(tmp_path):
    left = tmp_path / ".ckpt.0123456789ab.tmp"
    left.write_text("x")
    os.utime(left, (0, 0))
    assert cleanup_old_files(tmp_path, "*.log", keep_count=0) == []
    assert left.exists()


EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize("way", ["replaced", "written", "replaced as it is removed"])
def test_a_file_that_is_written_while_old_ones_are_removed_stays(
    tmp_path, monkeypatch, way
) -> None:
    files = [tmp_path / name for name in ("a.log", "b.log")]
    for file in files:
        file.write_text("old")
        os.utime(file, (0, 0))

    def write() -> None:
        if way == "written":
            files[1].write_text("new")
        else:
            with atomic_write(files[1]) as file:
                file.write("new")

    rename, done = pathlib.Path.rename, []

    def renamed(self, target):
        if self == files[way.endswith("removed")] and not done:
            done.append(self)
            write()
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", renamed)
    assert cleanup_old_files(tmp_path, "*.log", days=1) == files[:1]
    assert done
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b.log": "new"}


def test_a_folder_that_is_made_anew_while_it_is_removed_stays(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "v1"
    folder.mkdir()
    seen = folder.lstat()
    rename = pathlib.Path.rename

    def made_anew(self, target):
        if self == folder:
            folder.rmdir()
            folder.mkdir()
            (folder / "new").touch()
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "rename", made_anew)
        assert not remove_as_seen(folder, seen)
    assert [path.name for path in tmp_path.rglob("*")] == ["v1", "new"]
    assert remove_as_seen(folder, folder.lstat())
    assert not remove_as_seen(folder, seen)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_read_is_no_empty_one(aged, monkeypatch) -> None:
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        list(find_files(aged))
