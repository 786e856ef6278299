"""No pickle gadget runs unless the caller vouches for the data."""

import importlib
import pickle
from fractions import Fraction

import numpy as np
import pytest

from ops.serialize import (
    CorruptDataError,
    Safe,
    SignatureError,
    Signed,
    UntrustedDataError,
    deserialize_data,
    serialize_data,
)
from ops.serialize.formats import FORMAT_IDS, SerializationFormat
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
    import numpy as np

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


def test_a_persistent_id_is_refused():
    with pytest.raises(UntrustedDataError):
        deserialize_data(container(b"\x80\x04\x8c\x01xQ."))


def test_the_error_names_what_to_allow_and_allowing_works():
    data = serialize_data(slice(1, 2), trust="all")
    assert deserialize_data(data) == slice(1, 2)
    data = serialize_data(range, SerializationFormat.FRAME)
    assert deserialize_data(data) is range
    stream = container(pickle.dumps(SerializationFormat.JSON))
    with pytest.raises(UntrustedDataError, match=r"Safe\(allow=") as caught:
        deserialize_data(stream)
    name = f"{caught.value.module}.{caught.value.name}"
    assert deserialize_data(stream, trust=Safe(allow=(name,))) is SerializationFormat.JSON


def test_plain_standard_values_need_no_permission():
    value = Fraction(1, 3)
    assert deserialize_data(serialize_data(value)) == value


def test_a_key_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"0123456789abcdef")
    path.chmod(0o644)
    with pytest.raises(SignatureError, match="read by others"):
        Signed.from_file(path)
    path.chmod(0o600)
    assert Signed.from_file(path).key == b"0123456789abcdef"


def frame(*parts):
    """A container whose stream is these opcodes."""
    stream = b"".join((b"\x80\x04", *parts, b"."))
    return pack(stream, format_id=FORMAT_IDS[SerializationFormat.FRAME]).tobytes()


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


# NumPy takes each of these for memory that is not there, or for Python objects that are none.
FORGED = [
    (named("numpy", "ndarray"), b"K\x02\x85", text("O"), b"C\x10" + b"A" * 16, b"\x87R"),
    (named("numpy", "dtype"), text("V8"), b"\x89\x88\x87R"),
    (named("numpy.core.multiarray", "_reconstruct"), named("numpy", "ndarray"), b"K\x00\x85", b"R"),
]


@pytest.mark.parametrize("parts", FORGED)
def test_a_stream_cannot_tell_numpy_what_lies_in_memory(parts):
    with pytest.raises(UntrustedDataError, match=r"numpy\.(ndarray|dtype)"):
        deserialize_data(frame(*parts))


def test_fields_that_reach_out_of_their_item_or_hide_objects_are_refused():
    for offset, form in ((1 << 20, "<f8"), (0, "|O")):
        make = named("ops.serialize.rebuilding", "structured_dtype")
        field = b"(" + text("f") + b"l(" + text(form) + b"l(" + b"J" + offset.to_bytes(4, "little")
        dtype = (make, b"(", field + b"l(NlK\x08\x89}tR")
        frombuffer = named(
            f"{np.ndarray.__reduce_ex__(np.zeros(1), 5)[0].__module__}", "_frombuffer"
        )
        data = frame(frombuffer, b"(", b"C\x08" + b"A" * 8, *dtype, b"K\x01\x85", text("C"), b"tR")
        with pytest.raises(CorruptDataError):
            deserialize_data(data)


@pytest.mark.parametrize(
    ("module", "name", "attribute"),
    [
        ("pathlib", "Path", "exists"),  # a new one, or one that it has
        ("fractions", "Fraction", "__add__"),
        ("ops.serialize.rebuilding", "blank_array", "__defaults__"),
    ],
)
def test_a_stream_cannot_change_the_classes_that_it_may_name(module, name, attribute):
    target = getattr(importlib.import_module(module), name)
    before = getattr(target, attribute)
    state = b"N}" + text(attribute) + b")s\x86b"
    with pytest.raises(CorruptDataError, match=attribute):
        deserialize_data(frame(named(module, name), state))
    assert getattr(target, attribute) is before
