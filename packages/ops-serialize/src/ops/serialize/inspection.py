"""Looking into a file without loading it: what it is, and what loading it would import.

`scan` reads containers of ops.serialize, plain pickles (also compressed), files of joblib and of torch, and
NumPy's `.npy` and `.npz`.
"""

from __future__ import annotations

import ast
import bz2
import gzip
import io
import lzma
import pathlib
import re
import struct
import zipfile
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ops.serialize.container import open_container
from ops.serialize.errors import CorruptDataError, SerializeError, TooLargeError
from ops.serialize.formats import SerializationFormat
from ops.serialize.layout import MAGIC
from ops.serialize.nodes.parts import registered
from ops.serialize.pickle_scan import NOT_FOLLOWED, findings_in, may_be_stream
from ops.serialize.pickled_dtypes import bounded_size
from ops.serialize.smart import FORMATS_BY_ID
from ops.serialize.tree import is_tree
from ops.serialize.tree_reader import names_of_instances

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.files import StrPath
    from ops.serialize.container import Contents

__all__ = ["FileInfo", "inspect", "is_harmless", "scan"]

_PICKLED = {SerializationFormat.FRAME, SerializationFormat.PICKLE}
_ZIP = b"PK\x03\x04"
_NPY = b"\x93NUMPY"
_MOST_UNPACKED = 1 << 30
_HEAD = 1 << 16
_PICKLE_NAMES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".dat", ".data")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What a file of ops.serialize holds; sizes in bytes.

    *format* and *version* are those of the content and the container; *codec* is its compression
    and *signed* whether there is a signature. *stream_size* is the part before the *buffers*;
    *stored_size* is the whole file and *raw_size* what it is uncompressed. *checksum* is that of
    the header.
    """

    format: str
    version: int
    codec: str
    signed: bool
    stream_size: int
    buffers: int
    stored_size: int
    raw_size: int
    checksum: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def inspect(path: StrPath) -> FileInfo:
    """Return what *path* holds; nothing in it runs. Raises CorruptDataError, FutureVersionError."""
    contents = open_container(path, mmap="r", verify=False)
    return FileInfo(
        format=_name(contents.format),
        version=contents.version,
        codec=contents.codec.name.lower(),
        signed=contents.signed,
        stream_size=len(contents.stream),
        buffers=len(contents.entries),
        stored_size=len(contents.data),
        raw_size=len(contents.stream) + sum(entry.raw for entry in contents.entries),
        checksum=contents.checksum,
    )


def scan(path: StrPath) -> list[str]:
    """Return the names `module.attribute` that loading *path* would import, without running it.

    For a tree of data these are the classes that its reader would have to allow. What cannot be followed to
    its end is named too, as "could not be followed: ...": anything may hide there. Raises
    `CorruptDataError` for a file of none of the formats, or `TooLargeError` for one that unpacks to more
    than 1 GiB.

    >>> import pathlib, tempfile
    >>> from ops.serialize import dump
    >>> path = pathlib.Path(tempfile.mkdtemp(), "data.opsf")
    >>> dump([1, 2, 3], path)
    >>> scan(path)
    []
    """
    file = pathlib.Path(path)
    if file.exists() and not file.is_file():  # a FIFO would be waited for
        raise CorruptDataError(f"{file} is no file.")
    with file.open("rb") as opened:
        head = opened.read(16)
    if head.startswith(MAGIC):
        contents = open_container(path, mmap="r", verify=False)
        return sorted(set(_names_in_container(contents, 0)))
    try:
        return sorted(set(_names_in_data(file.read_bytes(), 0)))
    except (SerializeError, ImportError):
        raise
    except Exception as error:  # each kind of archive has errors of its own
        raise CorruptDataError(f"{file} cannot be read: {error}"[:1000]) from error


def is_harmless(name: str) -> bool:
    """Say whether *name* only makes plain values, or is a class that this process allows."""
    module, _, attribute = name.rpartition(".")
    return attribute in _HARMLESS.get(module, ()) or registered(name)


# Of what pickles of plain values, arrays and frames import; for reports alone: no pickle is run for it.
_HARMLESS: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "builtins": "object int float complex bool str bytes bytearray list tuple dict set frozenset "
        "slice range Ellipsis NotImplemented",
        "collections": "OrderedDict deque Counter",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "uuid": "UUID SafeUUID",
        "copyreg": "_reconstructor __newobj__",
        "_codecs": "encode",
        "pathlib": "PurePosixPath PureWindowsPath PosixPath WindowsPath Path",
        "pathlib._local": "PurePosixPath PureWindowsPath PosixPath WindowsPath Path",
        "numpy": "dtype ndarray",
        **{f"numpy.{core}.multiarray": "_reconstruct scalar" for core in ("core", "_core")},
        **{f"numpy.{core}.numeric": "_frombuffer" for core in ("core", "_core")},
        "joblib.numpy_pickle": "NumpyArrayWrapper",
        "torch._utils": "_rebuild_tensor_v2 _rebuild_parameter",
        "torch": "FloatStorage DoubleStorage HalfStorage LongStorage IntStorage ShortStorage "
        "CharStorage ByteStorage BoolStorage BFloat16Storage",
        "torch.serialization": "_get_layout",
    }.items()
}


def _names_in_container(contents: Contents, depth: int) -> Iterator[str]:
    name = FORMATS_BY_ID.get(contents.format)
    if is_tree(contents.stream):
        yield from names_of_instances(contents.stream)
    elif name in _PICKLED:
        yield from findings_in(bytes(contents.stream))
    elif name in {SerializationFormat.TORCH, SerializationFormat.NUMPY}:
        yield from _names_in_data(bytes(contents.stream), depth + 1)
    elif name is None:
        yield f"{NOT_FOLLOWED}: the content has the format number {contents.format}"


def _names_in_data(data: bytes, depth: int) -> Iterator[str]:
    if depth > 3:
        raise CorruptDataError("Archives are nested deeper than 3 levels.")
    if data.startswith(MAGIC):
        yield from _names_in_container(open_container(data, verify=False), depth)
    elif data.startswith(_ZIP):
        yield from _names_in_zip(data, depth)
    else:
        if zipfile.is_zipfile(io.BytesIO(data)):  # with something in front of it
            yield from _names_in_zip(data, depth)
        if data.startswith(_NPY):
            yield from _names_in_npy(data)
            return
        unpacked = _unpacked(data)
        if unpacked is None:
            yield from findings_in(data)
        else:
            yield from _names_in_data(unpacked, depth + 1)


def _unpacked(data: bytes) -> bytes | None:
    """Return *data* decompressed, as far as it can be, or None when it is not compressed."""
    if data.startswith(b"\x1f\x8b"):
        return _limited(gzip.GzipFile(fileobj=io.BytesIO(data)))
    if data.startswith(b"BZh"):
        return _limited(bz2.BZ2File(io.BytesIO(data)))
    if data.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return _limited(lzma.LZMAFile(io.BytesIO(data)))
    if data[:1] == b"\x78" and len(data) > 1 and int.from_bytes(data[:2], "big") % 31 == 0:
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(data, _MOST_UNPACKED)
        if unpacker.unconsumed_tail:
            raise _too_large()
        if unpacker.unused_data:
            raise CorruptDataError("Something stands behind the compressed data.")
        return unpacked
    return None


def _limited(file: Any) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            part = file.read(1 << 20)
        except (OSError, EOFError, lzma.LZMAError, zlib.error):
            if not parts:
                raise
            break  # cut off: what is there would be run
        if not part:
            break
        size += len(part)
        if size > _MOST_UNPACKED:
            raise _too_large()
        parts.append(part)
    return b"".join(parts)


def _too_large() -> TooLargeError:
    return TooLargeError(f"The file unpacks to more than {_MOST_UNPACKED} bytes.")


def _names_in_zip(data: bytes, depth: int) -> Iterator[str]:
    """Yield the names in the members of an archive that are, or may be, pickles."""
    size = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            with archive.open(member) as opened:
                head = opened.read(_HEAD)
            is_pickle = member.filename.lower().endswith(_PICKLE_NAMES) or _may_be_pickle(head)
            if "/code/" in member.filename and member.filename.endswith(".py"):
                yield f"torch.jit:{member.filename}"
            is_archive = head.startswith((MAGIC, _NPY, _ZIP))
            # Any name will do for a pickle; of tensors nothing but the start is read.
            if not is_pickle and not is_archive and not (head and may_be_stream(head)):
                continue
            with archive.open(member) as opened:
                content = opened.read(_MOST_UNPACKED - size + 1)
            size += len(content)
            if size > _MOST_UNPACKED:
                raise _too_large()
            yield from _names_in_member(member.filename, content, depth, is_known=is_archive)


def _names_in_member(name: str, content: bytes, depth: int, *, is_known: bool) -> Iterator[str]:
    """Yield the findings in a member; what only might be a pickle counts if it imports something."""
    try:
        found = list(_names_in_data(content, depth + 1))
    except CorruptDataError:  # tensors that look like the start of a pickle
        if name.lower().endswith((".pkl", ".pickle")) or is_known:
            raise
        return
    is_pickle = name.lower().endswith(_PICKLE_NAMES) or _may_be_pickle(content)
    if is_known or is_pickle or any(not name.startswith(NOT_FOLLOWED) for name in found):
        yield from found


def _may_be_pickle(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0x80 and head[1] in range(2, 6)


def _names_in_npy(data: bytes) -> Iterator[str]:
    """Yield what the pickle of an array of objects would import; several arrays may follow each other."""
    while data.startswith(_NPY):
        wide = data[6] > 1
        (size,) = struct.unpack_from("<I" if wide else "<H", data, 8)
        start = (12 if wide else 10) + size
        header: dict[str, Any] = {}
        try:
            header = ast.literal_eval(data[start - size : start].decode("latin-1").strip())
            item_size = _plain_size(header["descr"])
        except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
            item_size = None
        if item_size is None:  # objects, or what may turn out to be
            try:
                yield from findings_in(data[start:])
            except CorruptDataError as error:
                yield f"{NOT_FOLLOWED}: an array of unknown items ({error})"[:300]
            return
        end = bounded_size(header.get("shape"), item_size, len(data) - start)
        if end is None:
            yield f"{NOT_FOLLOWED}: an array is cut off"
            return
        data = data[start + end :]
    if data:
        yield f"{NOT_FOLLOWED}: something stands behind an array"


_PLAIN = re.compile(r"[<>|=]?([biufcSUVmM])(\d{1,9})(\[[0-9a-zA-Zμ]+\])?")


def _plain_size(descr: object) -> int | None:
    """Return the bytes of an item that is plainly made of numbers and texts, else None."""
    if isinstance(descr, str):
        found = _PLAIN.fullmatch(descr)
        return None if found is None else int(found[2]) * (4 if found[1] == "U" else 1)
    if not isinstance(descr, list):
        return None
    total = 0
    for field in descr:
        if not isinstance(field, tuple) or len(field) not in {2, 3}:
            return None
        size = _plain_size(field[1])
        if size is not None and len(field) == 3:
            shape = field[2] if isinstance(field[2], tuple) else (field[2],)
            size = bounded_size(shape, size, 1 << 40)
        if size is None:
            return None
        total += size
    return total


def _name(number: int) -> str:
    return str(FORMATS_BY_ID.get(number, "custom"))
