"""Digests depend on values and types, and on nothing else."""

import datetime as dt
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.serialize import UnsupportedTypeError, digest

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
trees = st.recursive(
    scalars,
    lambda t: st.lists(t) | st.dictionaries(st.text() | st.integers(), t) | st.tuples(t, t),
    max_leaves=20,
)

PROGRAM = """
import datetime, pathlib, decimal
from ops.serialize import digest
print(digest({"b": {"x", "y", 1, None}, "a": [1.5, (True, b"z")], 3: frozenset("abcdef")}))
print(digest([datetime.date(2020, 1, 2), pathlib.PurePosixPath("a/b"), decimal.Decimal("1.0")]))
"""


@pytest.mark.parametrize("algorithm", ["xxh3_128", "blake2b", "sha256"])
def test_types_are_told_apart(algorithm):
    values = [
        1,
        True,
        1.0,
        "1",
        b"1",
        1 + 0j,
        (1,),
        [1],
        {1},
        frozenset({1}),
        {1: 1},
        None,
        -0.0,
        0.0,
    ]
    values += [np.int64(1), np.int32(1), np.array(1), np.array([1]), bytearray(b"1"), ..., {"1": 1}]
    assert len({digest(value, algorithm=algorithm) for value in values}) == len(values)


@given(trees)
def test_order_of_insertion_does_not_matter(tree):
    pairs = [("a", tree), ("b", 1), (3, tree)]
    assert digest(dict(pairs)) == digest(dict(reversed(pairs)))


@given(trees, trees)
def test_equal_digests_mean_equal_canonical_values(left, right):
    assert (digest(left) == digest(right)) == (repr(sort(left)) == repr(sort(right)))


def sort(tree):
    if isinstance(tree, dict):
        return {k: sort(tree[k]) for k in sorted(tree, key=lambda k: (type(k).__name__, k))}
    if isinstance(tree, list | tuple):
        return type(tree)(map(sort, tree))
    return tree


def test_another_process_with_another_hash_seed_agrees():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(outputs) == 1


def test_identity_and_interning_do_not_matter():
    shared = ["x"]
    assert digest([shared, shared]) == digest([["x"], ["".join("x")]])


def test_arrays_agree_in_any_memory_order_and_differ_by_dtype_and_shape():
    array = np.arange(12.0).reshape(3, 4)
    assert digest(array) == digest(np.asfortranarray(array))
    assert digest(array) != digest(array.astype("f4"))
    assert digest(array) != digest(array.reshape(4, 3))
    assert digest(np.array(["a", None], object)) != digest(np.array(["a", 1], object))


def test_frames_differ_by_value_name_index_and_dtype():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    others = [
        frame.rename(columns={"a": "c"}),
        frame.set_index(pd.Index([1, 2])),
        frame.astype({"a": "Int64"}),
        frame.astype({"b": "category"}),
        frame.iloc[::-1],
    ]
    assert digest(frame) == digest(frame.copy())
    assert len({digest(f) for f in [frame, *others]}) == len(others) + 1


def test_functions_differ_by_code():
    assert digest(lambda x: x + 1) != digest(lambda x: x + 2)


def test_what_has_no_canonical_form_raises():
    with pytest.raises(UnsupportedTypeError):
        digest(item for item in ())


def test_a_cycle_raises():
    cycle: list = []
    cycle.append(cycle)
    with pytest.raises(UnsupportedTypeError, match="cyclic"):
        digest(cycle)


def test_methods_of_builtins_differ_by_their_object():
    assert digest([1].append) != digest([2].append)
    assert digest([1].append) == digest([1].append)
    assert digest(len) == digest(len) != digest(max)


def test_bytes_between_the_fields_of_a_record_do_not_count() -> None:
    dtype = np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8]}, align=True)
    memory = bytearray(b"\xff" * 48)  # not a copy: NumPy may drop such bytes
    one, two = np.zeros(3, dtype), np.frombuffer(memory, dtype)
    two["a"], two["b"] = 0, 0
    assert memory[1:8] == b"\xff" * 7
    assert digest(one) == digest(two)
    two["a"][2] = 1
    assert digest(one) != digest(two)


def _arrow_pairs() -> list[tuple[Any, Any]]:
    """Equal arrays whose buffers differ: under nulls, by offset, by chunks."""
    values = np.array([1, 99, 3], np.int64)
    masked = pa.array(values, mask=np.array([False, True, False]))
    other = pa.array(np.array([1, -7, 3], np.int64), mask=np.array([False, True, False]))
    words = pa.array(["x", "ab", None, "c", ""])
    lists = pa.array([[1], None, [2, None], []])
    records = pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}])
    flags = pa.array([True, None, False, True])
    coded = pa.array(["u", "v", "u"]).dictionary_encode()
    recoded = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], pa.int32()), pa.array(["v", "u"]))
    pairs = [(masked, other), (coded, recoded)]
    for array in (words, lists, records, flags, words.cast(pa.large_string())):
        padded = pa.concat_arrays([array, array])
        pairs.append((array, padded.slice(len(array))))
        chunked = pa.chunked_array([array.slice(0, 2), array.slice(2)])
        pairs.append((pa.chunked_array([array]), chunked))
    return pairs


@pytest.mark.parametrize(("one", "two"), _arrow_pairs())
def test_equal_arrow_arrays_have_equal_digests(one: Any, two: Any) -> None:
    assert digest(one) == digest(two)
    assert digest(pa.table({"x": one})) == digest(pa.table({"x": two}))


@pytest.mark.parametrize(
    "values",
    [
        [[1, None], [None, 1], [1, 0], [1], []],
        [["ab", "c"], ["a", "bc"], ["abc"], ["ab", None, "c"], ["ab", "", "c"]],
        [[[1], [2]], [[1, 2]], [[1], None, [2]], [[1], [], [2]], [None, [1], [2]]],
        [[{"a": 1}], [{"a": None}], [None], [{"a": 2}]],
        [[True, False], [True, None], [True], [False, True]],
        [[b"ab"], ["ab"], [b"a", b"b"]],
        [[dt.date(2020, 1, 1)], [dt.datetime(2020, 1, 1)], [dt.timedelta(1)], [dt.time(1)]],
    ],
)
def test_arrow_arrays_that_differ_have_other_digests(values: list[Any]) -> None:
    assert len({digest(pa.array(value)) for value in values}) == len(values)


def test_the_frequency_of_an_index_counts() -> None:
    regular = pd.date_range("2020", periods=3, freq="D")
    assert digest(regular) != digest(pd.DatetimeIndex(list(regular)))


def test_what_is_masked_counts():
    one, other = (np.ma.array([1, 5], mask=[0, flag]) for flag in (0, 1))
    assert digest(one) != digest(other)
    assert digest(one) == digest(one.copy())


def test_a_function_whose_variables_have_no_value_yet_has_no_digest():
    def function():
        return later

    with pytest.raises(UnsupportedTypeError, match="no value yet"):
        digest(function)
    later = 1
    assert digest(function)


def test_fields_may_overlap_or_be_out_of_order():
    dtype = np.dtype({"names": ["a", "b"], "formats": ["u1", "<u2"], "offsets": [5, 1]})
    one = np.zeros(2, dtype)
    other = one.copy()
    other["b"] = 1
    assert digest(one) == digest(one.copy()) != digest(other)
