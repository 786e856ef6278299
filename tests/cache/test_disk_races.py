"""What was seen before another process changed it: each test lets that happen between a look and the act on it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from ops.cache import DiskCache
from ops.cache.disk import cache_directory
from ops.cache.disk.keys import encode_key
from ops.cache.disk.space import drop_oldest, rewrite_oldest

LARGE = bytes(400_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize("drop", [drop_oldest, rewrite_oldest])
def test_a_large_value_that_another_process_has_moved_stays_when_its_old_segment_goes(
    folder: Path, drop
) -> None:
    with DiskCache(folder) as one, DiskCache(folder) as two:
        one.set("large", LARGE, ttl=1000)
        one.log.seal()
        assert two.get("large") == LARGE
        one.set("last", 1)
        two.log.refresh()
        assert one.log.move(encode_key(b"", "large"), expires=one._clock() + 5000)
        if drop is rewrite_oldest:  # to *two*, which has not seen that, it has expired
            two.log.clock = lambda: one._clock() + 2000
        assert drop(two.log)
        assert one.get("large") == LARGE
        assert two.get("large") == LARGE
        assert one.check().damaged_entries == 0


def test_a_record_that_was_made_for_a_segment_that_is_full_by_now_is_made_again(
    folder: Path, monkeypatch
) -> None:
    from ops.cache.errors import CacheFullError

    with DiskCache(folder) as one, DiskCache(folder) as two:
        one.set("old", bytes(1000))
        one.log.seal()
        one.set("kept", 1)
        two.log.refresh()
        one.log.seal()
        one.set("newer", 2)
        write, refused = two.log.segments.write, []

        def full_at_first(data):
            if not refused:
                refused.append(data)
                raise CacheFullError("The disk is full.")
            return write(data)

        monkeypatch.setattr(two.log.segments, "write", full_at_first)
        two.set("written", 3)
        assert refused
        assert [one.get(key) for key in ("kept", "newer", "written")] == [1, 2, 3]
    with DiskCache(folder) as cache:
        assert cache.get("written") == 3
        assert cache.check().damaged_bytes == 0


def test_a_cache_that_another_process_began_behind_a_damaged_marker_is_not_removed(
    folder: Path, monkeypatch
) -> None:
    with DiskCache(folder) as cache:
        cache.set("lost", 1)
    (folder / cache_directory.MARKER).write_text("{")
    loads, begun = cache_directory.json.loads, []

    def begun_meanwhile(text, **options):
        try:
            return loads(text, **options)
        except ValueError:
            if not begun:
                begun.append(None)
                begun[0] = DiskCache(folder)
                begun[0].set("kept", 2)
            raise

    monkeypatch.setattr(cache_directory.json, "loads", begun_meanwhile)
    with DiskCache(folder) as late:
        assert late.get("kept") == 2
        late.set("both", 3)
        assert begun[0].get("both") == 3
    begun[0].close()


@pytest.mark.parametrize("names", ["in time", "meanwhile"])
def test_the_files_of_a_transaction_that_lasts_long_are_no_orphans(
    folder: Path, monkeypatch, names
) -> None:
    def age() -> None:
        for file in (folder / "blobs").rglob("*"):
            os.utime(file, (0, 0))

    with DiskCache(folder) as one, DiskCache(folder) as two:
        if names == "in time":
            with one.namespace("own").transact() as changes:
                changes.set("large", LARGE)
                age()
                assert two.check(repair=True).orphaned_files == 0
        else:
            files, open_one = two.log.blobs.files, contextlib.ExitStack()
            open_one.enter_context(one.namespace("own").transact()).set("large", LARGE)
            age()

            def ends_meanwhile():
                yield from files()
                open_one.close()

            monkeypatch.setattr(two.log.blobs, "files", ends_meanwhile)
            assert two.check(repair=True).orphaned_files == 0
        assert two.namespace("own").get("large") == LARGE
        monkeypatch.undo()
        left = folder / "blobs" / "00" / ("0" * 24)
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"left")
        age()
        assert two.check(repair=True).orphaned_files == 1
        assert not left.exists()
