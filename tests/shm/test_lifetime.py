"""How segments end, are replaced and taken over, and who may do what with them."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from ops.foundation.errors import ValidationError
from ops.shm import (
    OwnerDiedError,
    ReadOnlyError,
    SegmentExistsError,
    SegmentNotFoundError,
    SharedMemoryArray,
    StaleSegmentError,
    mapping,
)

USES = {
    "reading an element": lambda a: a[0],
    "reading a range": lambda a: a.read_data((0, 2)),
    "reading all": lambda a: a.read_into(np.empty(6, np.uint64)),
    "viewing": lambda a: a.view().__enter__(),
    "writing": lambda a: a.__setitem__(0, 1),
    "writing data": lambda a: a.write_data((0, 2), [1, 2]),
    "holding": lambda a: a.array(write=True).__enter__(),
    "adding": lambda a: a.add(0, 1),
    "exchanging": lambda a: a.compare_exchange(0, 1, 2),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
@pytest.mark.parametrize("end", ["replaced", "destroyed"])
def test_the_next_access_to_a_segment_that_ended_says_so(array, name, use, end) -> None:
    consumer = SharedMemoryArray.attach(name)
    assert not consumer.is_stale
    if end == "replaced":
        SharedMemoryArray.create_array(name, np.ones(3), exist_ok=True)
    else:
        array.destroy()
    assert consumer.is_stale
    with pytest.raises(StaleSegmentError, match=end):
        use(consumer)


def test_connecting_again_leads_to_the_replacement(array, name) -> None:
    new = SharedMemoryArray.create_array(name, np.ones(3), exist_ok=True)
    array.connect()
    assert array.shape == (3,)
    new[0] = 8
    assert array[0] == 8
    new.destroy()
    with pytest.raises(SegmentNotFoundError):
        array.connect()
    assert not array.is_connected


def test_waiting_for_a_change_ends_with_the_segment(array, name) -> None:
    consumer = SharedMemoryArray.attach(name)
    changed: list[bool] = []
    waiting = threading.Thread(target=lambda: changed.append(consumer.wait_changed(60)))
    waiting.start()
    array.destroy()
    waiting.join(60)
    assert changed == [True]


def test_a_name_that_was_removed_by_hand_is_noticed(array, name) -> None:
    mapping.path_of(name).unlink()
    assert array.is_stale
    assert array.wait_changed(30)


def test_the_end_of_a_segment_that_is_held_is_reported_after_the_block(array, name) -> None:
    other = SharedMemoryArray.attach(name)
    with array.array(write=True) as a:
        other.destroy()
        a[0] = 5
    with pytest.raises(StaleSegmentError):
        array[0]


def test_a_name_can_be_removed_early_while_all_carry_on(array, name) -> None:
    other = SharedMemoryArray.attach(name)
    array.destroy(retire=False)
    assert name not in SharedMemoryArray.list_segments()
    other[0] = 5
    assert array.add(0, 1) == 6
    assert array.is_stale


CREATE = """
import sys, os, numpy as np
from ops.shm import SharedMemoryArray
array = SharedMemoryArray.create_array(sys.argv[1], np.arange(int(sys.argv[2])))
print("made", flush=True)
sys.stdin.readline()
"""


def test_what_an_ended_program_left_is_taken_over(name, child) -> None:
    for length in (3, 4, 3):
        program = child(CREATE, name, length)
        out, _ = program.communicate("\n")
        assert (out, program.returncode) == ("made\n", 0)
    assert SharedMemoryArray.attach(name).shape == (3,)


def test_what_is_used_or_whose_creator_lives_is_not_taken_over(name, child) -> None:
    creator = child(CREATE, name, 3)
    assert creator.stdout.readline() == "made\n"
    with pytest.raises(SegmentExistsError):
        SharedMemoryArray.create_array(name, np.zeros(1))
    user = SharedMemoryArray.attach(name)
    creator.communicate("\n")
    with pytest.raises(SegmentExistsError):
        SharedMemoryArray.create_array(name, np.zeros(1))
    reader = SharedMemoryArray.attach(name, readonly=True)
    user.disconnect()
    with pytest.raises(SegmentExistsError):
        SharedMemoryArray.create_array(name, np.zeros(1))
    reader.disconnect()
    assert SharedMemoryArray.create_array(name, np.zeros(1)).shape == (1,)


def test_a_disconnected_segment_of_this_program_is_not_taken_over(array, name) -> None:
    array.disconnect()
    with pytest.raises(SegmentExistsError):
        SharedMemoryArray.create_array(name, np.zeros(1))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_removal_at_exit_is_an_option(name, method, tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from __future__ import annotations\nimport multiprocessing, os, sys\nimport numpy as np\n"
        "from ops.shm import SharedMemoryArray\n"
        "def make(name): SharedMemoryArray.create_array(name, np.zeros(2), remove_at_exit=True)\n"
        "if __name__ == '__main__':\n"
        "    name = sys.argv[1]\n"
        "    array = SharedMemoryArray.create_array(name, np.zeros(2), remove_at_exit=True)\n"
        "    pid = os.fork()\n"
        "    if not pid: sys.exit()\n"
        "    os.waitpid(pid, 0)\n"
        "    assert name in SharedMemoryArray.list_segments(), 'a child is not the creator'\n"
        "    process = multiprocessing.get_context(sys.argv[2]).Process(target=make, args=(name + '-c',))\n"
        "    process.start(); process.join()\n"
        "    assert process.exitcode == 0\n"
        "    assert name + '-c' not in SharedMemoryArray.list_segments(), 'its creator has ended'\n",
        encoding="utf-8",
    )
    subprocess.run([sys.executable, str(program), name, method], check=True)
    assert name not in SharedMemoryArray.list_segments()


def test_an_object_that_only_reads_reads_and_nothing_else(array, name) -> None:
    reader = SharedMemoryArray.attach(name, readonly=True)
    assert reader.is_readonly
    assert reader[:].tolist() == [1, 2, 3, 4, 5, 6]
    array[0] = 9
    assert reader[0] == 9
    with reader.view() as view:
        assert view.sum() == 29
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
    for use in (
        lambda: reader.__setitem__(0, 1),
        lambda: reader.write_data((0, 2), [1, 2], with_lock=False),
        reader.array,
        lambda: reader.add(0, 1),
    ):
        with pytest.raises(ReadOnlyError):
            use()
    assert pickle.loads(pickle.dumps(reader)).is_readonly


def test_a_reader_waits_for_a_write_and_knows_when_its_writer_is_dead(array, name, child) -> None:
    reader = SharedMemoryArray.attach(name, readonly=True)
    with array.array(write=True) as a:
        reading = threading.Thread(target=lambda: got.append(int(reader[0])))
        got: list[int] = []
        reading.start()
        a[0] = 5
        a[1] = 6
    reading.join(60)
    assert got[0] in {1, 5}
    writer = child(
        "import sys, os\nfrom ops.shm import SharedMemoryArray\n"
        "with SharedMemoryArray.attach(sys.argv[1]).array(write=True) as a: a[0] = 7; os._exit(9)",
        name,
    )
    assert writer.wait() == 9
    with pytest.raises(OwnerDiedError, match="only read"):
        reader[0]
    array[1] = 1  # recovers
    assert reader[0] == 7


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o666])
def test_the_mode_holds_for_the_segment_and_its_lock(name, mode) -> None:
    old = os.umask(0o077)
    try:
        array = SharedMemoryArray.create_array(name, np.zeros(2), mode=mode)
    finally:
        os.umask(old)
    files = mapping.path_of(name), mapping.semaphore_file(array._lock.instance)
    assert [file.stat().st_mode & 0o777 for file in files] == [mode, mode]


@pytest.mark.parametrize("mode", [0o400, 0o777, "rw", 0o1600, 0])
def test_a_mode_that_makes_no_sense_is_refused(name, mode) -> None:
    with pytest.raises(ValidationError, match="mode"):
        SharedMemoryArray.create_array(name, np.zeros(2), mode=mode)


def test_another_user_reads_what_the_mode_allows(name) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    SharedMemoryArray.create_array(name, np.arange(3), mode=0o644)
    program = (
        "import os, sys\nfrom ops.shm import SharedMemoryArray\nos.setuid(65534)\n"
        "assert SharedMemoryArray.attach(sys.argv[1], readonly=True)[1] == 1\n"
        "try: SharedMemoryArray.attach(sys.argv[1])\n"
        "except PermissionError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, name], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_one_array_needs_one_descriptor_and_gives_it_back(array, name) -> None:
    def ours() -> int:
        found = 0
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found += "/dev/shm/" in os.readlink(f"/proc/self/fd/{number}")
        return found

    gc.collect()
    before = ours()
    others = [SharedMemoryArray.attach(name) for _ in range(5)]
    assert ours() == before + 5
    for other in others:
        other.disconnect()
    assert ours() == before
