"""No pickle gadget runs unless the caller vouches for the data."""

import pickle
from fractions import Fraction

import pytest

from ops.serialize import (
    Safe,
    SignatureError,
    Signed,
    UntrustedDataError,
    deserialize_data,
    serialize_data,
)
from ops.serialize.formats import FORMAT_IDS, SerializationFormat
from ops.serialize.packing import pack

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
    for stream in (pickle.dumps(array), pickle.dumps(Outer())):
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
