"""Digests depend on values and types, and on nothing else."""

import subprocess
import sys

import numpy as np
import pandas as pd
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
