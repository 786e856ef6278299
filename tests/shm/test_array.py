"""What a SharedMemoryArray is and does within one process."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ops.foundation.errors import ResourceError, ValidationError
from ops.shm import (
    NotConnectedError,
    SegmentExistsError,
    SegmentNotFoundError,
    SharedMemoryArray,
    StaleSegmentError,
    UnsupportedArrayError,
    ViewChangedError,
    list_segments,
    mapping,
)

CYCLES = 10_000 if os.environ.get("OPS_FAULTS") == "full" else 1_000
DTYPES = ["u1", "i8", ">f4", "f8", "c16", "?", "U5", "S3", "M8[ns]", [("a", "i4"), ("b", "f8", 2)]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_attached_array_equals_its_prototype(name, dtype, shape, order) -> None:
    prototype = np.zeros(shape, dtype, order)
    with SharedMemoryArray.create_array(name, prototype) as made:
        with SharedMemoryArray.attach(name) as seen:
            assert seen.dtype == prototype.dtype
            assert seen.shape == prototype.shape
            copy = seen[...]
            assert np.array_equal(copy, prototype)
            assert copy.flags.f_contiguous == prototype.flags.f_contiguous
        made.destroy()


def test_arrays_of_references_are_refused(name) -> None:
    with pytest.raises(UnsupportedArrayError, match="fixed-size dtype"):
        SharedMemoryArray.create_array(name, np.array([object()]))
    assert name not in SharedMemoryArray.list_segments()


def test_a_taken_name_is_refused_unless_it_may_be_replaced(array, name) -> None:
    with pytest.raises(SegmentExistsError, match="exist_ok=True"):
        SharedMemoryArray.create_array(name, np.zeros(3))
    replacement = SharedMemoryArray.create_array(name, np.zeros(3), exist_ok=True)
    assert SharedMemoryArray.attach(name).shape == (3,)
    with pytest.raises(StaleSegmentError, match="connect"):
        array[0]
    array.destroy()  # what that name was when it was attached to, which is gone already
    assert SharedMemoryArray.attach(name).shape == (3,)
    replacement.destroy()
    assert name not in SharedMemoryArray.list_segments()
    replacement.disconnect()


def test_attaching_to_nothing_names_what_is_missing(name) -> None:
    with pytest.raises(SegmentNotFoundError, match=name):
        SharedMemoryArray.attach(name)


@pytest.mark.parametrize("bad", ["", "a\0b", "x" * 2000])
def test_impossible_names_are_refused(bad) -> None:
    with pytest.raises(ValidationError):
        SharedMemoryArray.create_array(bad, np.zeros(1))


@pytest.mark.parametrize("suffix", ["/../../etc/passwd", "é" * 100, "x" * 900, "a b", "\udc80"])
def test_any_other_name_works_and_stays_in_its_folder(name, suffix) -> None:
    whole = name + suffix
    with SharedMemoryArray.create_array(whole, np.arange(3)) as array:
        assert SharedMemoryArray.attach(whole).name == whole
        (info,) = [i for i in list_segments() if i.name == whole]
        assert info.path.parent == type(info.path)("/dev/shm")
        array.destroy()


def test_segments_are_private_to_their_user(array, name) -> None:
    (info,) = [i for i in list_segments() if i.name == name]
    assert info.path.stat().st_mode & 0o777 == 0o600


def test_reading_by_integer_and_by_ranges(array) -> None:
    assert array.read_data(2) == np.uint64(3)
    assert isinstance(array.read_data(2), np.uint64)
    assert array.read_data((1, 4)).tolist() == [2, 3, 4]
    assert array.read_data((4,), convert_output=True) == [5, 6]
    assert array.read_data((-2,), convert_output=True, with_lock=False) == [5, 6]
    assert type(array.read_data(0, convert_output=True)) is int


@pytest.mark.parametrize("index", [6, -7, (7,), (0, 7), (4, 2), (1, 2, 3)])
def test_an_index_outside_the_array_is_an_error_not_a_short_answer(array, index) -> None:
    with pytest.raises(IndexError):
        array.read_data(index)
    with pytest.raises(IndexError):
        array.write_data(index, 1)


def test_writing_converts_what_fits(array) -> None:
    array.write_data(1, 7.0)
    array.write_data((3, 5), ["10", "11"][0:0] or [10, 11])
    array.write_data((5,), np.array([9], dtype=np.int8), with_lock=False)
    assert array[:].tolist() == [1, 7, 3, 10, 11, 9]


@pytest.mark.parametrize("value", [-1, 1.5, 2**64, "seven", float("nan"), None])
def test_writing_refuses_what_does_not_fit_and_changes_nothing(array, value) -> None:
    with pytest.raises(ValidationError):
        array.write_data(1, value)
    assert array[:].tolist() == [1, 2, 3, 4, 5, 6]


def test_writing_a_wrong_shape_is_refused(array) -> None:
    with pytest.raises(ValidationError, match="shape"):
        array.write_data((1, 3), [1, 2, 3])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prototype=hnp.arrays(
        st.sampled_from(["i2", "f4", "u8"]), hnp.array_shapes(min_dims=1, max_dims=3)
    ),
    data=st.data(),
)
def test_indexing_is_numpy_indexing(name, prototype, data) -> None:
    index = data.draw(hnp.basic_indices(prototype.shape, allow_newaxis=True))
    with SharedMemoryArray.create_array(name, prototype, exist_ok=True) as array:
        assert np.array_equal(array[index], prototype[index], equal_nan=True)
        expected = prototype.copy()
        expected[index] = 1
        array[index] = 1
        assert np.array_equal(array[...], expected, equal_nan=True)


def test_what_is_read_is_a_copy(name) -> None:
    with SharedMemoryArray.create_array(name, np.zeros(3, [("a", "i4")])) as array:
        record, part = array[0], array[:]
        array[0] = (5,)
        assert record["a"] == 0
        assert part["a"].tolist() == [0, 0, 0]


def test_a_disconnected_array_says_so(array) -> None:
    array.disconnect()
    array.disconnect()
    assert not array.is_connected
    for use in (
        lambda: array[0],
        lambda: array.__setitem__(0, 1),
        lambda: array.read_data((0,), with_lock=False),
        lambda: array.write_data(0, 1),
        lambda: array.add(0, 1),
        lambda: array.view().__enter__(),
    ):
        with pytest.raises(NotConnectedError, match="connect"):
            use()
    array.connect()
    array.connect()
    assert array[0] == 1


def test_a_view_outlives_the_array(array, name) -> None:
    with array.view() as view:
        kept = view
    array.destroy()
    array.disconnect()
    del array
    gc.collect()
    assert kept.tolist() == [1, 2, 3, 4, 5, 6]


def test_a_view_that_was_written_under_is_refused(array) -> None:
    with array.view() as view:
        assert view.sum() == 21
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 5
    with pytest.raises(ViewChangedError), array.view():
        array[0] = 2


def test_holding_the_array_makes_many_changes_one_write(array) -> None:
    before = array.version
    with array.array(write=True) as held:
        held[:2] = 0
        array[2] = 0
        with array.array(write=True) as again:
            again[3] = 0
    assert array.version == before + 1
    assert array[:].tolist() == [0, 0, 0, 0, 5, 6]
    with array.array() as held, pytest.raises(ValueError, match="read-only"):
        held[0] = 1


def test_an_error_inside_a_write_releases_the_lock(array) -> None:
    with pytest.raises(ZeroDivisionError), array.array(write=True):
        raise ZeroDivisionError
    with pytest.raises(OverflowError):
        array[0] = -1
    array[0] = 4
    assert array[0] == 4


def test_atomic_operations(array) -> None:
    assert array.add(0, 5) == 6
    assert array.compare_exchange(0, 6, 100)
    assert not array.compare_exchange(0, 6, 200)
    assert array[0] == 100


def test_waiting_for_a_change(array) -> None:
    known = array.version
    assert not array.wait_changed(0.0)
    array[0] = 9
    assert array.wait_changed(0.0, since=known)


def test_reading_into_an_existing_array(array) -> None:
    out = np.empty(6, np.uint64)
    array.read_into(out)
    assert out.tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="broadcast"):
        array.read_into(np.empty(5, np.uint64))


def test_always_locking_gives_the_same_values(name) -> None:
    with SharedMemoryArray.create_array(name, np.arange(4), lock="always") as array:
        array[1:3] = 7
        assert array[:].tolist() == [0, 7, 7, 3]
        assert array.read_data(2) == 7
    with pytest.raises(ValidationError, match="always"):
        SharedMemoryArray.create_array(name, np.arange(4), lock="sometimes")


def test_pickling_travels_as_the_name(array) -> None:
    copy = pickle.loads(pickle.dumps(array))
    copy[0] = 77
    assert array[0] == 77
    assert len(pickle.dumps(array)) < 300


@pytest.mark.fault
@pytest.mark.timeout(900)
def test_creating_and_destroying_leaks_nothing(name, fault_record) -> None:
    def resources() -> dict[str, int]:
        mine = [file for file in os.listdir("/dev/shm") if name in file]
        statm = Path("/proc/self/statm").read_text().split()
        maps = Path("/proc/self/maps").read_text().count("ops-shm")
        return {
            "descriptors": len(os.listdir("/proc/self/fd")), "segments": len(mine),
            "maps": maps, "pages": int(statm[1]),
        }  # fmt: skip

    def semaphores() -> int:
        return len(list(Path("/dev/shm").glob("sem.ops-shm-*")))

    def cycles(count: int) -> None:
        for _ in range(count):
            array = SharedMemoryArray.create_array(name, np.zeros(8))
            array[0] = 1
            array.destroy()
            array.disconnect()

    cycles(50)  # what is made once and kept
    gc.collect()
    before, named = resources(), semaphores()
    cycles(CYCLES)
    gc.collect()
    after = resources()
    fault_record["create and destroy"] = {
        "cycles": CYCLES, **{f"{what} more": after[what] - before[what] for what in after},
    }  # fmt: skip
    # The process itself comes and goes by a megabyte; a page for each cycle would be many more.
    assert after["pages"] - before["pages"] < 400
    assert after | {"pages": 0} == before | {"pages": 0}
    assert semaphores() - named < CYCLES // 2, "other programs may be making some of their own"


def test_no_room_is_an_error_at_creation(name) -> None:
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, "u1"), (1 << 45,), (0,))
    with pytest.raises(OSError, match=r"space|large|memory"):
        SharedMemoryArray.create_array(name, huge)
    assert name not in SharedMemoryArray.list_segments()


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_refused_with_a_sentence(name, monkeypatch, system) -> None:
    monkeypatch.setattr(sys, "platform", system)
    mapping.directory.cache_clear()
    try:
        with pytest.raises(ResourceError, match=f"Linux; this is {system}"):
            SharedMemoryArray.create_array(name, np.zeros(3))
        with pytest.raises(ResourceError, match=f"Linux; this is {system}"):
            SharedMemoryArray.attach(name)
    finally:
        mapping.directory.cache_clear()


def test_python_numbers_are_written_as_they_are_or_refused(name) -> None:
    with SharedMemoryArray.create_array(name, np.zeros(2, np.int8)) as array:
        for value in (-128, 127, 5.0):
            array.write_data(0, value)
            assert array[0] == value
        for value in (-129, 128, 0.5, True + 127):
            with pytest.raises(ValidationError):
                array.write_data(0, value)
        with pytest.raises(IndexError):
            array.write_data(2, 1)
        array.destroy()


def test_disconnecting_inside_the_lock_gives_it_back(array, name) -> None:
    other = SharedMemoryArray.attach(name)
    with array.array(write=True) as a:
        a[0] = 9
        array.disconnect()
    with other.array(write=True, timeout=1) as b:
        assert b[0] == 9
    array.connect()
    with array.array(write=True, timeout=1) as a:
        a[0] = 8
    assert other[0] == 8


@pytest.mark.parametrize(
    ("dtype", "start", "amount", "end"),
    [
        ("u1", 250, 10, 4),
        ("u1", 3, -5, 254),
        ("i1", 127, 1, -128),
        ("i8", 1, 2.0, 3),
        ("f4", 1, 0.5, 1.5),
    ],
)
def test_adding_wraps_as_the_dtype_does(name, dtype, start, amount, end) -> None:
    with SharedMemoryArray.create_array(name, np.array([start], dtype)) as array:
        assert array.add(0, amount) == array[0] == end
        array.destroy()


@pytest.mark.parametrize(
    ("dtype", "amount"), [("i8", 2.7), ("u8", "1"), ("f8", 1j), ("M8[s]", 1), ("U3", "a"), ("?", 1)]
)
def test_adding_what_would_be_lost_is_refused_before_anything_is_written(
    name, dtype, amount
) -> None:
    with SharedMemoryArray.create_array(name, np.zeros(2, dtype)) as array:
        with pytest.raises(ValidationError):
            array.add(0, amount)
        assert array.version == 0
        array.destroy()


def test_atomic_operations_are_for_one_element(array) -> None:
    with pytest.raises(IndexError, match="one element"):
        array.add(slice(0, 2), 1)
    with pytest.raises(IndexError, match="one element"):
        array.compare_exchange(slice(0, 2), 1, 2)
    assert array[:2].tolist() == [1, 2]


@pytest.mark.parametrize("index", [1.5, "a", None, (1.5, 3), (None,), [1], slice(1, 3)])
def test_what_is_no_index_is_an_index_error(array, index) -> None:
    with pytest.raises(IndexError, match="no index"):
        array.read_data(index)
    with pytest.raises(IndexError, match="no index"):
        array.write_data(index, 1)


def test_an_imaginary_part_is_not_dropped(name) -> None:
    with SharedMemoryArray.create_array(name, np.zeros(2)) as array:
        with pytest.raises(ValidationError, match="does not fit"):
            array.write_data(0, 1 + 2j)
        array.write_data(1, 3 + 0j)
        assert array[:].tolist() == [0, 3]
        array.destroy()


def test_a_masked_array_is_refused_because_its_mask_would_be_lost(name) -> None:
    with pytest.raises(UnsupportedArrayError, match="mask"):
        SharedMemoryArray.create_array(name, np.ma.array([1, 2], mask=[0, 1]))


@pytest.mark.parametrize("name", [None, b"x", Path("x"), 5])
def test_a_name_that_is_no_text_is_refused(name) -> None:
    with pytest.raises(ValidationError, match="name"):
        SharedMemoryArray.create_array(name, np.zeros(1))
    with pytest.raises(ValidationError, match="name"):
        SharedMemoryArray.attach(name)
