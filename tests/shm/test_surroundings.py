"""A /dev/shm of a container's own size, a full one, and interpreters that end in any order."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
        timeout=60,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    if "destroy" not in ending:
        with array.array(write=True, timeout=10) as a:
            a[0] = 9
    assert array[0] in {1, 9}
