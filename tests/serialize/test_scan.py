"""scan() follows the stack of a pickle as the unpickler would, in every kind of file that holds one."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.serialize import CorruptDataError, dump, scan
from ops.serialize.__main__ import main
from ops.serialize.formats import FORMAT_IDS, SerializationFormat
from ops.serialize.packing import pack
from ops.serialize.pickle_scan import names_in


class Gadget:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


SYSTEM = f"{os.system.__module__}.system"
CALL = b"(" + text("true") + b"tR."
FOOLING = {
    "decoys that are popped": b"\x80\x04" + text("os") + text("system") + text("builtins") + text("list") + b"00\x93" + CALL,
    "decoys behind a mark": b"\x80\x04" + text("os") + text("system") + b"(" + text("builtins") + text("list") + b"1\x93" + CALL,
    "names from the memo": b"\x80\x04" + text("system") + b"\x940" + text("os") + b"\x940h\x01h\x00\x93" + CALL,
    "names doubled": b"\x80\x04" + text("os") + text("x") + b"0" + text("system") + b"\x93" + CALL,
    "a memo written twice": b"\x80\x04" + text("list") + b"q\x000" + text("system") + b"q\x000" + text("os") + b"h\x00\x93" + CALL,
    "the old opcode": b"cos\nsystem\n" + b"(S'true'\ntR.",
    "an instance": b"(S'true'\nios\nsystem\n.",
    "an object": b"(cos\nsystem\nS'true'\no.",
    "a stream that breaks off": b"\x80\x04cos\nsystem\n(S'true'\ntR\xff\xff",
    "a second pickle behind the first": pickle.dumps(1) + b"cos\nsystem\n(S'true'\ntR.",
    "names of Python 2": b"\x80\x02cos\nsystem\n(S'true'\ntR.",
    "a name with dots": b"\x80\x04" + text("os") + text("system.__call__") + b"\x93" + CALL,
    "an attribute by name": b"\x80\x04" + text("builtins") + text("getattr") + b"\x93(cos\nsystem\n" + text("system") + b"tR.",
}  # fmt: skip


@pytest.mark.parametrize("how", FOOLING)
def test_no_arrangement_of_opcodes_hides_what_would_be_imported(how: str, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(FOOLING[how])
    assert any(name.startswith("os.system") for name in scan(tmp_path / "x.pkl"))
    assert main(["scan", str(tmp_path / "x.pkl")]) == 1
    data = pack(FOOLING[how], format_id=FORMAT_IDS[SerializationFormat.FRAME])
    data.write(tmp_path / "x.opsf")
    assert any(name.startswith("os.system") for name in scan(tmp_path / "x.opsf"))


def test_a_name_that_is_computed_is_reported_as_unknown() -> None:
    stream = (
        b"\x80\x04" + b"c_codecs\nencode\n" + b"(" + text("os") + b"tR" + text("system") + b"\x93."
    )
    assert names_in(stream) == ["_codecs.encode", "?.system"]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol_are_scanned(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "x").write_bytes(pickle.dumps([Gadget()], protocol))
    assert SYSTEM in scan(tmp_path / "x")
    (tmp_path / "y").write_bytes(pickle.dumps({"a": [1, (2.5, None)]}, protocol))
    assert scan(tmp_path / "y") == []
    assert main(["scan", str(tmp_path / "y")]) == 0


PACKERS = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zlib": zlib.compress}


@pytest.mark.parametrize("packer", PACKERS)
def test_compressed_pickles_are_scanned(tmp_path: Path, packer: str) -> None:
    (tmp_path / "x").write_bytes(PACKERS[packer](pickle.dumps(Gadget())))
    assert scan(tmp_path / "x") == [SYSTEM]


@pytest.mark.parametrize("compress", [0, 3])
def test_files_of_joblib_are_scanned_behind_their_arrays(tmp_path: Path, compress: int) -> None:
    joblib = pytest.importorskip("joblib")
    value = [
        np.arange(1000.0),
        np.array(["a", 1], dtype=object),
        {"w": np.zeros((3, 4), "<i4")},
        Gadget(),
    ]
    joblib.dump(value, tmp_path / "x.joblib", compress=compress)
    assert SYSTEM in scan(tmp_path / "x.joblib")
    joblib.dump(value[:3], tmp_path / "y.joblib", compress=compress)
    assert not [name for name in scan(tmp_path / "y.joblib") if "system" in name]
    assert main(["scan", str(tmp_path / "y.joblib")]) == 0


def test_archives_of_torch_and_numpy_are_scanned(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(Gadget(), 2))
        archive.writestr("x/data/0", bytes(1000))
        archive.writestr("x/version", "3\n")
    assert scan(tmp_path / "x.pt") == [SYSTEM]
    np.save(tmp_path / "y.npy", np.array([Gadget()], dtype=object), allow_pickle=True)
    assert SYSTEM in scan(tmp_path / "y.npy")
    np.savez(tmp_path / "z.npz", a=np.array([Gadget()], dtype=object), b=np.zeros(3))
    assert SYSTEM in scan(tmp_path / "z.npz")
    np.save(tmp_path / "w.npy", np.zeros(3))
    assert scan(tmp_path / "w.npy") == []
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("t/data.pkl", pickle.dumps(Gadget(), 2))
    pack(sink.getvalue(), format_id=FORMAT_IDS[SerializationFormat.TORCH]).write(
        tmp_path / "t.opsf"
    )
    assert scan(tmp_path / "t.opsf") == [SYSTEM]


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"PK\x03\x04garbage", b"\x1f\x8bgarbage", b"\x93NUMPY", bytes(100)]
)
def test_what_is_no_file_of_a_known_kind_is_an_error_of_ours(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CorruptDataError):
        scan(tmp_path / "x")
    assert main(["scan", str(tmp_path / "x")]) == 1


@pytest.mark.parametrize("cut", range(1, 60, 2))
def test_damage_is_never_a_raw_error(tmp_path: Path, cut: int) -> None:
    stream = pickle.dumps([Gadget(), {"a": [1, 2.5, "x"]}], 4)
    for damaged in (stream[:cut], stream[:cut] + b"\xff" + stream[cut + 1 :]):
        (tmp_path / "x").write_bytes(damaged)
        try:
            scan(tmp_path / "x")
        except CorruptDataError:
            continue


def test_scanning_runs_nothing(tmp_path: Path) -> None:
    class Marks:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "RAN"),)

    dump(Marks(), tmp_path / "x", trust="all")
    run = subprocess.run(
        [sys.executable, "-m", "ops.serialize", "scan", str(tmp_path / "x"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "mkdir" in run.stdout
    assert not (tmp_path / "RAN").exists()
