"""A /dev/shm of a container's own size, a full one, and interpreters that end in any order."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ops.shm import (
    SegmentFormatError,
    SegmentNotFoundError,
    SharedMemoryArray,
    StaleSegmentError,
    mapping,
)
from ops.shm.__main__ import main
from ops.shm.layout import Layout

SMALL = """
import errno, numpy as np
from ops.shm import SharedMemoryArray, list_segments
assert list_segments() == [], "the segments of the host are not to be seen"
kept = SharedMemoryArray.create_array("kept", np.arange(1000))
try:
    SharedMemoryArray.create_array("large", np.zeros(1 << 20))
except OSError as error:
    assert error.errno == errno.ENOSPC, error
    assert "large" in str(error)
else:
    raise AssertionError("2 MB had room for 8")
fill = open("/dev/shm/fill", "wb", buffering=0)
try:
    while True:
        fill.write(bytes(4096))
except OSError:
    pass
kept[:] = 7  # its space was allocated up front
assert SharedMemoryArray.attach("kept")[999] == 7
assert [info.name for info in list_segments()] == ["kept"]
print("fine")
"""

ENDINGS = {
    "with everything left as it is": "keep = array, view",
    "with the array gone before its view": "array.disconnect(); del array; keep = view",
    "with the view gone before the array": "del view; keep = array",
    "destroyed and in use": "array.destroy(); keep = array, view",
    "inside a cycle": "keep = [array, view]; keep.append(keep)",
    "inside the lock": "held = array.array(write=True); held.__enter__(); keep = held",
    "in a thread": (
        "import threading; threading.Thread(target=lambda: array.wait_changed(), daemon=True).start()"
    ),
}


@pytest.mark.fault
def test_a_small_and_full_shared_memory_is_an_error_and_no_crash() -> None:
    own = 'mount -t tmpfs -o size=2m tmpfs /dev/shm && exec "$@"'
    isolated = ["unshare", "--mount", "sh", "-c", own, "sh"]
    probe = subprocess.run([*isolated, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no mount namespace of our own here: {probe.stderr.strip()}")
    result = subprocess.run(
        [*isolated, sys.executable, "-c", SMALL], capture_output=True, text=True, check=False
    )
    assert result.stdout == "fine\n", result.stderr


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_an_interpreter_ends_quietly_and_leaves_the_segment_to_others(array, name, ending) -> None:
    program = f"""
import sys
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.attach(sys.argv[1])
with array.view() as view:
    pass
{ending}
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program, name],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    if "destroy" in ending:
        with pytest.raises(StaleSegmentError, match="destroyed"):
            array[0]
        return
    with array.array(write=True, timeout=10) as a:
        a[0] = 9
    assert array[0] == 9


@pytest.fixture
def foreign() -> Iterator[Path]:
    """A path among the segments, for what somebody else puts there."""
    path = mapping.path_of(f"test-foreign-{uuid.uuid4().hex}")
    yield path
    path.unlink(missing_ok=True)


WHOLE = bytes(Layout.of("n", np.zeros(9), locked_reads=False).header(1)) + bytes(72)
HOSTILE = {
    "garbage": b"x" * 5000,
    "nothing": b"",
    "cut short": WHOLE[:-1],
    "a description of references": WHOLE.replace(b"'<f8'", b"'|O8'"),
    "a description that nests": WHOLE[:1024] + b"(" * 3000 + WHOLE[4024:],
    "a larger shape": WHOLE.replace(b"(9,)", b"999,"),
    "a negative shape": WHOLE.replace(b"(9,)", b"-9, "),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_foreign_file_disturbs_neither_the_list_nor_the_cleaning(
    array, name, foreign, content
) -> None:
    foreign.write_bytes(content)
    assert name in SharedMemoryArray.list_segments()
    SharedMemoryArray.cleanup_stale()
    assert name in SharedMemoryArray.list_segments()
    with pytest.raises((SegmentFormatError, SegmentNotFoundError)):
        SharedMemoryArray.attach(foreign.name.removeprefix(mapping.PREFIX))
    assert main(["rm", foreign.name.removeprefix(mapping.PREFIX)]) == 0
    assert not foreign.exists()


def test_a_pipe_or_a_link_among_the_segments_is_passed_over(array, name, foreign, tmp_path) -> None:
    os.mkfifo(foreign)
    program = "from ops.shm import list_segments; print([i.name for i in list_segments()])"
    listed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    assert name in listed.stdout
    foreign.unlink()
    foreign.symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("data")
    made = SharedMemoryArray.create_array(
        foreign.name.removeprefix(mapping.PREFIX), np.zeros(1), exist_ok=True
    )
    made.destroy()
    made.disconnect()
    assert (tmp_path / "precious").read_text() == "data"


def test_a_copied_segment_does_not_take_the_original_with_it(array, name, foreign) -> None:
    shutil.copy(mapping.path_of(name), foreign)
    SharedMemoryArray.cleanup_stale()
    assert not foreign.exists()
    other = SharedMemoryArray.attach(name)
    with array.array(write=True):
        pass
    other[0] = 2
    assert array[0] == 2


def test_a_segment_of_another_container_is_not_stale(name, monkeypatch) -> None:
    monkeypatch.setattr("ops.shm.connection.pid_namespace", lambda: 1)
    SharedMemoryArray.create_array(name, np.zeros(1)).disconnect()
    gc.collect()
    assert name not in SharedMemoryArray.cleanup_stale()
    assert SharedMemoryArray.attach(name)[0] == 0


def test_cleaning_spares_a_segment_that_is_being_made(name, monkeypatch) -> None:
    publish = mapping.publish

    def clean_first(*arguments: object, **options: object) -> None:
        SharedMemoryArray.cleanup_stale()
        publish(*arguments, **options)

    monkeypatch.setattr(mapping, "publish", clean_first)
    with SharedMemoryArray.create_array(name, np.arange(3)) as array:
        array[0] = 5
        assert SharedMemoryArray.attach(name)[0] == 5
