"""Settings that would be believed and mean nothing are refused; keys are what their file holds."""

from __future__ import annotations

import os

import pytest

from ops.foundation.errors import ValidationError
from ops.serialize import (
    CorruptDataError,
    Safe,
    Signed,
    SmartSerializer,
    deserialize_data,
    inspect,
    load,
    register_custom_serializer,
    scan,
    serialize_data,
)


@pytest.mark.parametrize("size", [-1, 0, True, "1GB", float("nan"), b"1"])
def test_a_limit_that_limits_nothing_is_refused(size) -> None:
    with pytest.raises(ValueError, match="max_size"):
        SmartSerializer(max_size=size)


@pytest.mark.parametrize("key", ["x" * 32, bytearray(32), None, 32])
def test_a_key_is_bytes(key) -> None:
    with pytest.raises(TypeError, match="bytes"):
        Signed(key)


@pytest.mark.parametrize("allow", ["os.system", None, (1,), [None]])
def test_what_is_allowed_is_a_sequence_of_names_and_classes(allow) -> None:
    with pytest.raises(TypeError, match="allow"):
        Safe(allow)


def test_a_list_of_names_is_a_tuple_of_them() -> None:
    assert Safe(["a.B"]) == Safe(("a.B",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        (b"\xff" * 15 + b" ", b"\xff" * 15 + b" "),
        (b"\n" + b"\x80" * 31, b"\n" + b"\x80" * 31),
        (b"thirty-two letters in plain text\n", b"thirty-two letters in plain text"),
    ],
)
def test_a_key_of_random_bytes_is_kept_whole(tmp_path, written, key) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(written)
    assert Signed.from_file(path) == Signed(key)


def test_a_predicate_that_is_always_true_because_nothing_awaits_it_is_refused() -> None:
    async def accepts(obj: object) -> bool:
        return False

    for kind in (accepts, "list"):
        with pytest.raises(ValidationError):
            SmartSerializer().register_serializer(kind, None)  # type: ignore[arg-type]
        with pytest.raises(ValidationError):
            register_custom_serializer(kind, None)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.parametrize("read", [load, inspect, scan])
def test_what_is_no_file_is_refused_instead_of_waited_for(tmp_path, read) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(CorruptDataError, match="no file"):
            read(path)


@pytest.mark.parametrize("trust", ["safe", Signed(b"0123456789abcdef")])
def test_frames_without_rows_come_back(trust) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    full = pandas.DataFrame(
        {
            "number": [1, 2],
            "text": ["a", None],
            "time": pandas.date_range("2026-01-01", periods=2),
            "kind": pandas.Categorical(["x", "y"]),
        }
    )
    for frame in (full[:0], full[:0][["number"]], full.query("number > 5"), full[["text"]][:0]):
        back = deserialize_data(serialize_data(frame, trust=trust), trust=trust)
        pandas.testing.assert_frame_equal(back, frame)
        assert (
            SmartSerializer(trust=trust)
            .deserialize(serialize_data(frame, "parquet", trust=trust))
            .equals(frame)
        )
