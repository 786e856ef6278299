"""What NumPy users write first: it works, or it raises; it is never lost in silence."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from ops.foundation.errors import ValidationError
from ops.shm import SharedMemoryArray

RECORD = np.dtype(
    [("id", "u4"), ("pos", "f8"), ("box", "i2", (2,)), ("at", "M8[s]"), ("tag", "U3")]
)
FIRST = (1, 2.5, (3, 4), np.datetime64("2024-01-01"), "ab")


@pytest.fixture
def records(name) -> SharedMemoryArray:
    """Three records of all kinds of fields."""
    return SharedMemoryArray.create_array(f"{name}-r", np.zeros(3, RECORD))


@pytest.fixture
def times(name) -> SharedMemoryArray:
    """Three points in time, in microseconds."""
    return SharedMemoryArray.create_array(f"{name}-t", np.zeros(3, "M8[us]"))


@pytest.mark.parametrize(
    "write",
    [
        lambda a: a[0:2].__setitem__(0, 5),
        lambda a: a[0:4][1:3].__setitem__(0, 5),
        lambda a: a[[0, 1]].__setitem__(0, 5),
        lambda a: a[...].fill(0),
        lambda a: a[:].sort(),
        lambda a: np.asarray(a).__setitem__(0, 5),
        lambda a: np.copyto(a[:], 7),
        lambda a: next(iter(a[:].reshape(2, 3))).__setitem__(0, 5),
    ],
)
def test_writing_into_what_indexing_returned_is_refused(array, write) -> None:
    with pytest.raises(ValueError, match="read-only"):
        write(array)
    assert array[:].tolist() == [1, 2, 3, 4, 5, 6]


def test_writing_into_a_record_that_indexing_returned_is_refused(records) -> None:
    with pytest.raises(ValueError, match="read-only"):
        records[0]["id"] = 7
    with pytest.raises(ValueError, match="read-only"):
        records["pos"][0] = 7
    with pytest.raises(ValueError, match="read-only"):
        records[0:2]["pos"][0] = 7
    records["pos"] = 7
    assert records["pos"].tolist() == [7, 7, 7]


def test_copies_that_are_the_callers_can_be_written(array, records) -> None:
    for mine in (array.read_data((0,)), array[:].copy(), np.array(array)):
        mine[0] = 99
        np.add(mine, 1, out=mine)
    one = records.read_data(0)
    one["id"] = 9
    assert array[0] == 1
    assert records[0]["id"] == 0


def test_adding_in_place_to_one_element_works_and_to_a_range_is_refused(array) -> None:
    array[0] += 4
    assert array[0] == 5
    with pytest.raises(ValueError, match="read-only"):
        array[0:2] += 4  # would lose what others write meanwhile
    assert array[:2].tolist() == [5, 2]


def test_it_becomes_a_numpy_array_with_its_dtype_and_shape(name) -> None:
    shared = SharedMemoryArray.create_array(name, np.arange(6, dtype="i2").reshape(2, 3))
    as_array = np.asarray(shared)
    assert (as_array.dtype, as_array.shape) == (np.dtype("i2"), (2, 3))
    assert np.asarray(shared, dtype=float).dtype == float
    assert np.add(shared, 1).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.mean(shared) == 2.5
    with pytest.raises(ValueError, match="view"):
        np.array(shared, copy=False)
    assert len(shared) == 2
    assert [row.tolist() for row in shared] == [[0, 1, 2], [3, 4, 5]]
    assert 5 in shared
    assert 9 not in shared
    assert (shared.ndim, shared.size, shared.nbytes) == (2, 6, 12)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(shared)


def test_an_array_without_axes_has_no_length_as_in_numpy(name) -> None:
    flag = SharedMemoryArray.create_array(name, np.array(0))
    assert not flag
    flag[()] = 2
    assert flag
    with pytest.raises(TypeError, match="len"):
        len(flag)
    with pytest.raises(TypeError, match="iteration"):
        iter(flag)


def test_records_are_written_as_tuples_lists_and_arrays(records) -> None:
    records.write_data(0, FIRST)
    records.write_data((1, 3), [FIRST, (7, 8, [9, 10], "2025-05-05T05:05", "c")])
    assert records.read_data((0, 2), convert_output=True)[1][:2] == (1, 2.5)
    assert records[1]["at"] == np.datetime64("2024-01-01", "s")
    assert records[2]["box"].tolist() == [9, 10]
    records.write_data(0, records[2])
    assert records[0] == records[2]
    records.write_data((0,), records[1:2].repeat(3))
    assert records[2] == records[0] == records[1]


@pytest.mark.parametrize(
    "bad",
    [
        (1, 2.5),
        (-1, 2.5, (3, 4), "2024-01-01", "ab"),
        (1.5, 2.5, (3, 4), "2024-01-01", "ab"),
        (1, "x", (3, 4), "2024-01-01", "ab"),
        (1, 2.5, (3, 4, 5), "2024-01-01", "ab"),
        (1, 2.5, (3, 4), "2024-01-01T00:00:00.5", "ab"),
        (1, 2.5, (3, 4), "soon", "ab"),
        (1, 2.5, (3, 4), "2024-01-01", "abcd"),
        7,
        [FIRST, (1,)],
        np.zeros((), [("id", "u4")]),
    ],
    ids=str,
)
def test_a_record_of_which_a_field_does_not_fit_changes_nothing(records, bad) -> None:
    with pytest.raises(ValidationError):
        records.write_data(0, bad)
    assert records.version == 0


def test_records_are_exchanged_as_tuples(records) -> None:
    assert records.compare_exchange(0, records[0], FIRST)
    assert records.compare_exchange(0, FIRST, (2, 2.5, (3, 4), "2024-01-01", "ab"))
    assert not records.compare_exchange(0, FIRST, FIRST)
    assert not records.compare_exchange(0, (1,), FIRST)
    assert records[0]["id"] == 2


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (dt.datetime(2024, 1, 1, 2, 3, 4, 5), "2024-01-01T02:03:04.000005"),
        (dt.date(2024, 1, 1), "2024-01-01"),
        (dt.datetime(2024, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))), "2024-01-01T00:00"),
        ("2024-01-01", "2024-01-01"),
        (np.datetime64("2024-01-01T00:00:01.5"), "2024-01-01T00:00:01.5"),
        (np.datetime64("NaT", "us"), "NaT"),
        ("NaT", "NaT"),
    ],
    ids=str,
)
def test_dates_are_written_in_every_form_that_numpy_takes(times, value, stored) -> None:
    times.write_data(1, value)
    assert str(times[1]) == str(np.datetime64(stored, "us"))
    times.write_data((0, 2), [value, value])
    assert str(times[0]) == str(times[1])


@pytest.mark.parametrize(
    "bad", ["soon", np.datetime64("2024-01-01T00:00:00.0000005"), object(), None]
)
def test_dates_that_do_not_fit_are_refused(times, bad) -> None:
    with pytest.raises(ValidationError):
        times.write_data(1, bad)
    assert times.version == 0


def test_durations_are_written_and_kept(name) -> None:
    spans = SharedMemoryArray.create_array(name, np.zeros(2, "m8[ms]"))
    spans.write_data(0, dt.timedelta(seconds=1.5))
    spans.write_data(1, np.timedelta64("NaT", "us"))
    assert spans[0] == np.timedelta64(1500, "ms")
    with pytest.raises(ValidationError):
        spans.write_data(0, dt.timedelta(microseconds=1))


def test_nan_and_nat_can_be_exchanged(name, times) -> None:
    times.write_data(0, "NaT")
    assert times.compare_exchange(0, np.datetime64("NaT", "us"), "2024-01-01")
    floats = SharedMemoryArray.create_array(f"{name}-f", np.array([np.nan, 1.0]))
    assert floats.compare_exchange(0, float("nan"), 5)
    assert not floats.compare_exchange(1, float("nan"), 5)
    assert floats[:].tolist() == [5, 1]


def test_what_no_element_can_be_equal_to_is_not_exchanged(array) -> None:
    assert not array.compare_exchange(0, 1.5, 9)
    assert not array.compare_exchange(0, -1, 9)
    with pytest.raises(ValidationError):
        array.compare_exchange(0, 1, 1.5)
    assert array[0] == 1


def test_other_libraries_take_the_memory_without_a_copy(array) -> None:
    arrow = pytest.importorskip("pyarrow")
    with array.array() as held:
        column = arrow.Array.from_buffers(arrow.uint64(), len(held), [None, arrow.py_buffer(held)])
        assert column.to_pylist() == [1, 2, 3, 4, 5, 6]
        assert column.buffers()[1].address == held.ctypes.data
    with array.array(write=True) as held:
        assert np.frombuffer(held, np.uint64).ctypes.data == held.ctypes.data


def test_torch_takes_the_memory_without_a_copy(array) -> None:
    torch = pytest.importorskip("torch")
    with array.array(write=True) as held:
        torch.from_numpy(held.view(np.int64))[0] = 41
    assert array[0] == 41
