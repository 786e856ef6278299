"""What was seen before another process changed it: each test lets that happen between a look and the act on it."""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import threading

import numpy as np
import pytest

from ops.shm import (
    SegmentExistsError,
    SegmentNotFoundError,
    SharedMemoryArray,
    cleanup_stale,
    layout,
    mapping,
    segments,
)

CREATOR = """
import os, sys
import numpy as np
from ops.shm import SharedMemoryArray
SharedMemoryArray.create_array(sys.argv[1], np.arange(6), exist_ok=True)
os._exit(0)
"""


@pytest.fixture
def create(child):
    """Let a program that ends at once create the segment, or replace it."""

    def create(name: str) -> None:
        assert child(CREATOR, name).wait() == 0

    return create


def test_a_segment_that_replaces_one_that_is_being_cleaned_up_stays(name, create, once) -> None:
    create(name)
    once(segments, "_is_unused", lambda: create(name))
    assert name not in cleanup_stale()
    assert SharedMemoryArray.attach(name)[5] == 5


def test_a_segment_that_is_used_again_while_others_are_cleaned_up_stays(name, create, once) -> None:
    create(name)
    users = []
    once(segments, "_is_unused", lambda: users.append(SharedMemoryArray.attach(name)))
    assert name not in cleanup_stale()
    users[0][0] = 7
    assert SharedMemoryArray.attach(name)[0] == 7
    users[0].disconnect()
    assert name in cleanup_stale()
    with pytest.raises(SegmentNotFoundError):
        SharedMemoryArray.attach(name)


def test_a_segment_that_was_made_since_segments_were_listed_keeps_its_lock(
    name, create, once
) -> None:
    once(segments, "list_segments", lambda: create(name))
    cleanup_stale()
    SharedMemoryArray.attach(name)[0] = 7
    assert SharedMemoryArray.attach(name)[0] == 7


@pytest.mark.parametrize("end", ["destroy", "take over"])
def test_a_name_is_not_removed_from_the_segment_that_has_just_taken_it(
    name, create, once, monkeypatch, end
) -> None:
    create(name)
    made = []

    def replace() -> None:
        made.append(SharedMemoryArray.create_array(name, np.full(3, 9), exist_ok=True))

    replacing = threading.Thread(target=replace)

    def begin() -> None:
        replacing.start()
        replacing.join(0.3)  # until it is done, or waits

    monkeypatch.setattr(mapping, "_NAMING_SECONDS", 30.0)
    once(mapping, "_leads_to" if hasattr(mapping, "_leads_to") else "is_linked", begin)
    if end == "destroy":
        SharedMemoryArray.attach(name).destroy()
        replacing.join()
        assert SharedMemoryArray.attach(name)[0] == 9
    else:
        # Either is right: it comes after the replacement, or is replaced.
        try:
            mine = SharedMemoryArray.create_array(name, np.full(3, 8))
        except SegmentExistsError:
            mine = None
        replacing.join()
        assert SharedMemoryArray.attach(name)[0] == 9
        assert not made[0].is_stale
        assert mine is None or mine.is_stale
    assert [info.name for info in segments.list_segments()].count(name) == 1


@pytest.mark.parametrize("where", ["mmap", "maps", "listdir"])
def test_what_cannot_be_looked_at_for_want_of_descriptors_is_not_cleaned_up(
    name, monkeypatch, where
):
    array = SharedMemoryArray.create_array(name, np.arange(3))
    semaphore = mapping.semaphore_file(array._lock.instance)
    array.disconnect()

    def refuse(path, *_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    with monkeypatch.context() as patch:
        if where == "mmap":
            patch.setattr(segments.mapping, "Mapped", refuse)
        elif where == "maps":
            patch.setattr(pathlib.Path, "read_text", refuse)
        else:  # as pathlib lists folders, and as we do
            patch.setattr(os, "scandir", refuse)
            patch.setattr(os, "listdir", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            cleanup_stale()
    assert semaphore.exists()
    again = SharedMemoryArray.attach(name)
    again[0] = 7
    assert again[0] == 7


def test_a_boot_that_cannot_be_read_now_is_no_other_boot(monkeypatch):
    layout.this_boot.cache_clear()

    def refuse(path):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "read_bytes", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            layout.this_boot()
    assert (
        layout.this_boot()
        == int.from_bytes(
            hashlib.blake2b(
                pathlib.Path("/proc/sys/kernel/random/boot_id").read_bytes(), digest_size=8
            ).digest(),
            "little",
        )
        >> 1
    )
