"""What scan() cannot follow to its end is a finding: nothing can hide behind what it does not understand."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from ops.serialize import CorruptDataError, scan
from ops.serialize.__main__ import main
from ops.serialize.packing import pack
from ops.serialize.pickle_scan import NOT_FOLLOWED, findings_in, names_in

PLAIN = b"ccollections\nOrderedDict\n0"
CODE = b"cos\ngetpid\n)R."
FOLLOWED = {
    "a number in hex": b"I0x10\n0",
    "a number behind a blank": b"I 1\n0",
    "a number in octal": b"I010\n0",
    "a long number in hex": b"L0x10L\n0",
    "no number": b"Izz\n0",
    "a text that is not ASCII": b"S'\xe9'\n0",
    "a counted text that is not ASCII": b"U\x01\xe90",
    "a text that is not UTF-8": b"X\x01\0\0\0\xff0",
    "a lone surrogate": b"V\\ud800\n0",
    "a blank before a number of the memo": b"Np 1\n0",
    "a name of a persistent object": b"P\xe9\n0",
    "a name that is not ASCII": "c\xe9\n\xe9\n0".encode(),
    "a frame that is too long": b"\x95\xff\0\0\0\0\0\0\0",
    "nothing to take": b"0000",
}


@pytest.mark.parametrize("how", FOLLOWED)
@pytest.mark.parametrize("before", [b"", PLAIN])
def test_code_behind_odd_arguments_is_found(tmp_path: Path, how: str, before: bytes) -> None:
    (tmp_path / "x").write_bytes(before + FOLLOWED[how] + CODE)
    assert "os.getpid" in scan(tmp_path / "x")
    assert main(["scan", str(tmp_path / "x")]) == 1


UNCLEAR = {
    "no opcode": PLAIN + b"\xff" + CODE,
    "a stream without an end": PLAIN,
    "bytes behind a stream": b"N.\x01" + CODE,
    "many zeros and no pickle": b"N." + bytes(100) + b"\x01",
    "an item that the memo does not have": PLAIN + b"h\x09.",
    "an archive in name only": b"N.PK\x05\x06" + bytes(18),
}  # fmt: skip


@pytest.mark.parametrize("how", UNCLEAR)
def test_what_cannot_be_followed_is_a_finding(tmp_path: Path, how: str) -> None:
    (tmp_path / "x").write_bytes(UNCLEAR[how])
    assert main(["scan", str(tmp_path / "x")]) == 1


def test_a_second_pickle_behind_many_zeros_is_scanned(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"N." + bytes(100) + CODE)
    assert scan(tmp_path / "x") == ["os.getpid"]


def npy(descr: str, body: bytes, shape: str = "(1,)") -> bytes:
    header = f'{{"descr": {descr}, "fortran_order": False, "shape": {shape}, }}'.encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    "descr", ['"|O"', "'|O8'", "'object'", "[('a', 'O')]", "[('a', [('b', \"|O\")])]", "'zz'"]
)
def test_arrays_of_objects_are_known_however_they_are_spelled(tmp_path: Path, descr: str) -> None:
    (tmp_path / "x").write_bytes(npy(descr, CODE))
    assert "os.getpid" in scan(tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("a", npy(descr, CODE))
    assert "os.getpid" in scan(tmp_path / "z")


def test_plain_arrays_are_harmless_and_what_follows_them_is_scanned(tmp_path: Path) -> None:
    for value in (
        np.arange(3.0),
        np.array(["a"]),
        np.zeros((2, 0)),
        np.array(5),
        np.zeros(2, "M8[25s]"),
        np.zeros(2, [("a", "i4", (2, 3)), ("b", [("c", "S3")])]),
    ):
        np.save(tmp_path / "x.npy", value)
        assert scan(tmp_path / "x.npy") == []
        (tmp_path / "y").write_bytes((tmp_path / "x.npy").read_bytes() + npy('"|O"', CODE))
        assert scan(tmp_path / "y") == ["os.getpid"]
    (tmp_path / "y").write_bytes((tmp_path / "x.npy").read_bytes() + CODE)
    assert main(["scan", str(tmp_path / "y")]) == 1


def test_members_with_any_name_and_archives_behind_something_are_scanned(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("weights", CODE)
        archive.writestr("zeros", bytes(1 << 17))
        archive.writestr("numbers", np.arange(1 << 15, dtype="f4").tobytes())
    for before in (b"", b"N.", b"ccollections\nOrderedDict\n."):
        (tmp_path / "x").write_bytes(before + sink.getvalue())
        assert "os.getpid" in scan(tmp_path / "x")


@pytest.mark.parametrize("number", [99, 254])
def test_a_container_of_an_unknown_format_is_a_finding(tmp_path: Path, number: int) -> None:
    pack(CODE, format_id=number).write(tmp_path / "x")
    assert scan(tmp_path / "x")[0].startswith(NOT_FOLLOWED)
    assert main(["scan", str(tmp_path / "x")]) == 1


def test_the_state_of_a_dtype_is_one_that_numpy_writes(tmp_path: Path) -> None:
    fields = np.dtype([("a", "f8"), ("b", "U3"), ("c", "O"), ("d", "i4", (2,))])
    plain = [np.dtype(t) for t in ("f8", "U3", "S2", "O", "V8", "?", "M8[25s]", ">c16")]
    (tmp_path / "x").write_bytes(pickle.dumps([*plain, fields], 2))
    assert main(["scan", str(tmp_path / "x")]) == 0
    hostile = b"cnumpy\ndtype\n(X\x02\0\0\0V8I0\nI1\ntR(I3\nX\x01\0\0\0|NNNI-1\nI-1\nI63\ntb."
    (tmp_path / "x").write_bytes(hostile)
    assert main(["scan", str(tmp_path / "x")]) == 1


def test_arrays_of_joblib_hide_nothing(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    file = tmp_path / "x"
    for value in (np.zeros(4, [("a", "f8"), ("b", "f8")]), np.zeros(3, "U3"), np.zeros(3, "V2")):
        joblib.dump(value, file)
        assert main(["scan", str(file)]) == 0
    joblib.dump(np.zeros(3, [("a", "O"), ("b", "f8")]), file)
    assert main(["scan", str(file)]) == 0
    joblib.dump(np.zeros(4, [("a", "f8"), ("b", "f8")]), file)
    shorter = file.read_bytes().replace(b"\x8c\x03V16", b"\x8c\x02V1")
    file.write_bytes(shorter.replace(b"X\x03\0\0\0V16", b"X\x02\0\0\0V1"))
    assert main(["scan", str(file)]) == 1


def test_enormous_shapes_cost_nothing(tmp_path: Path) -> None:
    state = {"shape": ((1 << 2030) - 1,) * 20_000, "order": "C", "dtype": np.dtype("f8")}
    stream = pickle.dumps(state, 2)[2:-1]
    wrapper = b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81"
    (tmp_path / "x").write_bytes(wrapper + stream + b"b.")
    assert main(["scan", str(tmp_path / "x")]) == 1


def test_what_stands_behind_compressed_data_is_no_silence(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(zlib.compress(b"N.") + CODE)
    with pytest.raises(CorruptDataError):
        scan(tmp_path / "x")


def test_names_alone_hold_no_findings() -> None:
    assert names_in(PLAIN) == ["collections.OrderedDict"]


def test_arrays_of_joblib_are_also_read_as_the_opcodes_that_they_are_without_it() -> None:
    state = {"subclass": None, "shape": (len(CODE),), "order": "C", "dtype": np.dtype("u1")}
    wrapper = b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81"
    stream = wrapper + pickle.dumps(state, 2)[2:-1] + b"b" + CODE + b"."
    assert "os.getpid" in findings_in(stream)
    assert "os.getpid" not in names_in(stream)
