"""Damage to a container is always found, wherever it is."""

import numpy as np
import pytest

from ops.serialize import (
    CorruptDataError,
    FutureVersionError,
    SignatureError,
    Signed,
    SmartSerializer,
    deserialize_data,
    dump,
    load,
    serialize_data,
)

KEY = Signed(b"0123456789abcdef")
OBJECTS = {
    "json": {"a": [1, 2.5, "x"]},
    "frame": {"a": (1, 2), "b": np.arange(600.0)},
    "numpy": np.arange(20),
}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("compression", [None, "zlib", "zstd"])
def test_every_flipped_bit_is_found(name, compression):
    good = serialize_data(OBJECTS[name], compression=compression)
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        with pytest.raises(CorruptDataError):
            deserialize_data(bad, trust="all")


@pytest.mark.parametrize("name", OBJECTS)
def test_every_truncation_is_found(name):
    good = serialize_data(OBJECTS[name])
    for size in range(len(good)):
        with pytest.raises(CorruptDataError):
            deserialize_data(good[:size], trust="all")


def test_bytes_behind_the_end_are_found():
    with pytest.raises(CorruptDataError):
        deserialize_data(serialize_data([1]) + b"\0")


def test_a_future_version_says_so():
    import hashlib

    data = bytearray(serialize_data([1]))
    data[8] = 3
    data[56:64] = hashlib.blake2b(bytes(data[:56]) + bytes(data[64:]), digest_size=8).digest()
    with pytest.raises(FutureVersionError, match="version 3"):
        deserialize_data(data)


def test_a_file_is_verified_when_it_is_not_mapped(tmp_path):
    path = tmp_path / "x.opsf"
    dump(np.zeros(10_000), path)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptDataError):
        load(path)
    with pytest.raises(CorruptDataError):
        load(path, mmap="r", verify=True)
    assert load(path, mmap="r").shape == (10_000,)


def test_an_empty_file_is_corrupt(tmp_path):
    (tmp_path / "x.opsf").touch()
    with pytest.raises(CorruptDataError, match="empty"):
        load(tmp_path / "x.opsf")


def test_a_signature_of_another_key_or_none_is_refused():
    signed = SmartSerializer(trust=KEY).serialize((1, 2)).data
    assert deserialize_data(signed, trust=KEY) == (1, 2)
    with pytest.raises(SignatureError):
        deserialize_data(signed, trust=Signed(b"another key that differs"))
    with pytest.raises(SignatureError):
        deserialize_data(serialize_data((1, 2)), trust=KEY)


def test_mapped_arrays_are_read_only_or_private(tmp_path):
    path = tmp_path / "x.opsf"
    dump(np.zeros(10_000), path)
    assert not load(path, mmap="r").flags.writeable
    load(path, mmap="c")[0] = 1
    assert load(path)[0] == 0
