"""Data is never a program: what runs is what the caller, or a key, vouches for."""

import dataclasses
import enum
import hashlib
import pathlib
import pickle
import sys
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

import ops.serialize.container as container_module
from ops.serialize import (
    CorruptDataError,
    Safe,
    SerializationFormat,
    SerializeError,
    SignatureError,
    Signed,
    UnsupportedTypeError,
    UntrustedDataError,
    allow_type,
    deserialize_data,
    dump,
    load,
    serialize_data,
)
from ops.serialize.__main__ import main
from ops.serialize.container import open_container
from ops.serialize.formats import FORMAT_IDS
from ops.serialize.layout import HEADER, MAGIC, Sum, head_checksum
from ops.serialize.packing import pack, pickled

GADGETS = [
    "os.system",
    "posix.system",
    "nt.system",
    "os.popen",
    "os.execv",
    "os.spawnl",
    "os.remove",
    "subprocess.Popen",
    "subprocess.call",
    "subprocess.check_output",
    "subprocess.getoutput",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "builtins.__import__",
    "builtins.open",
    "builtins.getattr",
    "builtins.setattr",
    "builtins.globals",
    "builtins.type",
    "builtins.map",
    "importlib.import_module",
    "runpy.run_path",
    "code.interact",
    "pty.spawn",
    "shutil.rmtree",
    "socket.socket",
    "webbrowser.open",
    "pickle.loads",
    "marshal.loads",
    "ctypes.CDLL",
    "types.FunctionType",
    "types.CodeType",
    "functools.partial",
    "operator.attrgetter",
    "operator.methodcaller",
    "timeit.timeit",
    "pdb.run",
    "numpy.load",
    "numpy.fromfile",
    "numpy.memmap",
    "numpy.testing._private.utils.runstring",
    "pandas.read_pickle",
    "pandas.eval",
    "pathlib.Path.write_text",
    "pathlib.Path.unlink",
    "pandas.DataFrame.to_pickle",
    "pyarrow.lib.memory_map",
    "pyarrow.lib.foreign_buffer",
]


def container(stream, kind=SerializationFormat.FRAME):
    return pack(stream, format_id=FORMAT_IDS[kind]).tobytes()


def call(full, argument="touch /tmp/owned"):
    """A protocol-4 stream that calls the dotted name with one string."""
    parts = full.split(".")
    at = 2 if parts[:2] == ["pathlib", "Path"] or parts[1:2] == ["DataFrame"] else 1
    split = 1 if at == 2 else len(parts) - 1
    module, name = ".".join(parts[:split]), ".".join(parts[split:])
    text = b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name))
    return b"\x80\x04" + text + b"\x93\x8c" + bytes([len(argument)]) + argument.encode() + b"\x85R."


@pytest.mark.parametrize("kind", [SerializationFormat.FRAME, SerializationFormat.PICKLE])
@pytest.mark.parametrize("gadget", GADGETS)
def test_a_gadget_is_refused_by_safe_and_by_signed(gadget, kind):
    data = container(call(gadget), kind)
    with pytest.raises(UntrustedDataError):
        deserialize_data(data)
    with pytest.raises(SignatureError):
        deserialize_data(data, trust=Signed(b"0123456789abcdef"))


def test_a_gadget_inside_an_object_array_or_a_reduce_is_refused():
    class Evil:
        def __reduce__(self):
            return eval, ("1/0",)

    class Outer:
        def __reduce__(self):
            return list, ([Evil()],)

    array = np.array([Evil(), None], dtype=object)
    for stream in (pickled(array), pickled(Outer())):
        with pytest.raises(UntrustedDataError, match=r"builtins\.eval"):
            deserialize_data(container(stream))


def test_no_pickle_at_all_is_run_unless_it_is_vouched_for():
    for value in (None, 1, [1], {"a": (1, 2.5)}, np.arange(3)):
        data = container(pickle.dumps(value, 5))
        for trust in ("safe", "user", Safe(allow=("builtins.list", "builtins.int"))):
            with pytest.raises(UntrustedDataError, match="nothing vouches"):
                deserialize_data(data, trust=trust)
        assert np.array_equal(deserialize_data(data, trust="all"), value)


def test_a_persistent_id_is_refused():
    with pytest.raises(UntrustedDataError):
        deserialize_data(container(b"\x80\x04\x8c\x01xQ."))


class Color(enum.Enum):
    RED = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Report:
    name: str
    scores: list


@dataclasses.dataclass(slots=True)
class Slotted:
    a: int = 1


class Pair(NamedTuple):
    left: object
    right: object


class Plain:
    def __init__(self):
        self.a = 1


INSTANCES = [
    Color.RED,
    Mode.READ,
    Mode.READ | Mode.WRITE,
    Report("x", [1, {"a": (2,)}]),
    Slotted(5),
    Pair(1, [2]),
    [Color.RED, {Color.RED: Report("y", [])}, {Pair(1, 2)}],
]
CLASSES = (Color, Mode, Report, Slotted, Pair)


@pytest.mark.parametrize("value", INSTANCES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("by", ["class", "name"])
def test_classes_that_the_reader_allows_are_rebuilt_from_their_fields(value, by):
    names = tuple(f"{c.__module__}.{c.__qualname__}" for c in CLASSES)
    sys.modules.setdefault(__name__, sys.modules[Color.__module__])
    trust = Safe(allow=CLASSES if by == "class" else names)
    back = deserialize_data(serialize_data(value, trust=trust), trust=trust)
    assert back == value
    assert type(back) is type(value)
    with pytest.raises(UnsupportedTypeError, match="no plain data"):
        serialize_data(value)
    with pytest.raises(UntrustedDataError, match=r"Safe\(allow="):
        deserialize_data(serialize_data(value, trust=trust))


def test_a_plain_class_can_be_allowed_for_the_process(monkeypatch):
    monkeypatch.setattr("ops.serialize.nodes.parts._registered", {})
    assert allow_type(Plain) is Plain
    assert vars(deserialize_data(serialize_data([Plain()]))[0]) == {"a": 1}


class Custom:
    def __reduce__(self):
        return print, ("ran",)


class Stateful:
    def __setstate__(self, state):
        raise AssertionError("called")


@pytest.mark.parametrize("cls", [Custom, Stateful, np.ndarray, pathlib.Path, int])
def test_a_class_with_state_that_only_its_own_code_knows_cannot_be_allowed(cls):
    with pytest.raises(SerializeError, match="cannot be allowed"):
        allow_type(cls)


def test_what_the_trust_could_not_read_again_is_not_written(tmp_path):
    with pytest.raises(UnsupportedTypeError, match="trust="):
        dump(Custom(), tmp_path / "x")
    with pytest.raises(UnsupportedTypeError):
        serialize_data([1], SerializationFormat.PICKLE)
    assert not (tmp_path / "x").exists()


def test_plain_standard_values_need_no_permission():
    value = Fraction(1, 3)
    assert deserialize_data(serialize_data(value)) == value


def test_a_key_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"0123456789abcdef")
    for mode in (0o644, 0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(SignatureError, match="read by others"):
            Signed.from_file(path)
    path.chmod(0o600)
    assert Signed.from_file(path).key == b"0123456789abcdef"


def old_container(stream):
    """A FRAME of format 1 around a pickle."""
    head = HEADER.pack(
        MAGIC, 1, 7, 0, 0, 0, len(stream), len(stream), bytes(16), 64 + len(stream), bytes(8)
    )
    return head[:-8] + head_checksum(head[:-8], b"", stream) + stream


def test_a_file_of_format_1_is_read_where_it_is_trusted_and_says_else_how_to_convert_it(tmp_path):
    data = old_container(pickle.dumps({"a": [1, 2]}, 5))
    for trust in ("safe", "user", Signed(b"k" * 16)):
        with pytest.raises(UntrustedDataError, match=r"convert --trust all OLD NEW"):
            deserialize_data(data, trust=trust)
    assert deserialize_data(data, trust="all") == {"a": [1, 2]}
    (tmp_path / "old").write_bytes(data)
    assert main(["convert", "--trust", "all", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    assert load(tmp_path / "new") == {"a": [1, 2]}


def test_arrays_of_format_1_are_read_too():
    make = b"cops.serialize.rebuilding\nblank_array\n)R"
    state = pickle.dumps((1, (2,), np.dtype("<i8"), False, np.arange(2).tobytes()), 2)[2:-1]
    back = deserialize_data(old_container(b"\x80\x04" + make + state + b"b."), trust="all")
    assert back.tolist() == [0, 1]


# Signatures


KEY = Signed(b"0123456789abcdef")
SIGNED = {
    "json": [1],
    "tree": {"a": (1, 2)},
    "buffers": np.arange(5000.0),
    "pickle": [Fraction, Custom.__init__],
}


@pytest.mark.parametrize("kind", SIGNED)
def test_no_byte_of_signed_data_can_be_changed(kind):
    good = serialize_data(SIGNED[kind], trust=KEY, compression=None)
    assert deserialize_data(good, trust=KEY) is not None
    step = max(1, len(good) // 400)
    for position in {*range(0, len(good), step)} - {*range(56, 64)}:
        bad = bytearray(good)
        bad[position] ^= 0x10
        front = bytes(bad[:56]) + bytes(bad[64:])  # as a forger would: with a fitting checksum
        bad[56:64] = hashlib.blake2b(front, digest_size=8).digest()
        with pytest.raises(SerializeError):
            deserialize_data(bytes(bad), trust=KEY)


def test_the_buffers_of_signed_data_have_cryptographic_digests(tmp_path):
    dump(np.arange(5000.0), tmp_path / "x", trust=KEY)
    contents = open_container(tmp_path / "x")
    assert {entry.algorithm for entry in contents.entries} <= {Sum.BLAKE2B, Sum.BLAKE3}
    damaged = bytearray((tmp_path / "x").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "x").write_bytes(damaged)
    for mmap in (None, "r", "c"):
        with pytest.raises(CorruptDataError, match="buffer 0"):
            load(tmp_path / "x", mmap=mmap, trust=KEY)


def test_what_is_signed_for_one_purpose_is_refused_for_another():
    good, bad = KEY.bound("model", "good"), KEY.bound("model", "bad")
    data = serialize_data({"a": (1, 2)}, trust=good)
    assert deserialize_data(data, trust=good) == {"a": (1, 2)}
    for other in (bad, KEY, KEY.bound("modelgood"), KEY.bound("model"), good.bound("more")):
        with pytest.raises(SignatureError, match="purpose"):
            deserialize_data(data, trust=other)


def test_a_signed_file_that_is_rewritten_after_it_was_checked_changes_nothing(
    tmp_path, monkeypatch
):
    path = tmp_path / "x"
    dump([np.arange(50_000.0), {1, 2}], path, trust=KEY)
    real = container_module._verify_buffers

    def rewritten(contents):
        real(contents)
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))

    monkeypatch.setattr(container_module, "_verify_buffers", rewritten)
    for mmap in (None, "r"):
        back = load(path, mmap=mmap, trust=KEY)
        assert back[0][-1] == 49_999.0
        dump([np.arange(50_000.0), {1, 2}], path, trust=KEY)


def test_unsigned_data_is_refused_by_a_key_and_signed_data_is_data_without_one():
    with pytest.raises(SignatureError):
        deserialize_data(serialize_data([1]), trust=KEY)
    assert deserialize_data(serialize_data([1], trust=KEY)) == [1]
