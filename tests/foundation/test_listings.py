"""Finding, copying and ageing out files."""

import datetime as dt
import os

import pytest

from ops.foundation import (
    cleanup_old_files,
    copy_with_progress,
    find_files,
    get_file_info,
    listings,
)

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
    monkeypatch.setattr(listings, "find_files", lambda *_, **__: [aged / "gone"])
    assert cleanup_old_files(aged, days=1) == []
