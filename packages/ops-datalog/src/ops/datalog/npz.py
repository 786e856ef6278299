""".npz archives of very many small arrays: written at a microsecond each, read without a table in memory.

An .npz is a ZIP of .npy members (APPNOTE.TXT of PKWARE, version 6.3). `zipfile` keeps an object per
member and writes each with several calls; a million messages make that minutes and a gigabyte. Here a
member is a few packed headers around the data, gathered to writes of 4 MB, and the directory is bytes.
What comes out is an ordinary archive: `numpy.load` and `unzip` read it.

Reading goes through the directory once and keeps three numbers of a member. Stored and deflated members
are read, of archives of any origin that are neither encrypted nor split.
"""

from __future__ import annotations

import ast
import functools
import os
import struct
import zlib
from io import FileIO
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from ops.datalog._liveness import open_regular
from ops.datalog._writer_files import naming
from ops.datalog.errors import LogFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_EXTRA_64 = struct.Struct("<HHQ")
_STORED, _DEFLATED = 0, 8
_LIMIT, _MANY = 0xFFFFFFFF, 0xFFFF
_DATE = 33  # the first day that ZIP knows, 1980-01-01
_WRITE_BYTES = 4 << 20
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
#: What stands before the payload in the .npy of a message: its source and its time.
_ENTRY_HEAD = struct.Struct("<BQ")
ENTRY_HEAD = _ENTRY_HEAD.size
pack_entry_head = _ENTRY_HEAD.pack


class Member(NamedTuple):
    """One member: its name without .npy, where its local header is, and how long it is stored."""

    name: str
    offset: int
    stored: int


class NpzWriter:
    """Writes an archive to *path*; the caller renames it when it is whole."""

    def __init__(self, path: Path, *, compress: bool) -> None:
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._method = _DEFLATED if compress else _STORED
        self._parts: list[bytes] = []
        self._waiting, self._offset, self._count = 0, 0, 0
        self._directory = bytearray()

    def add(self, name: str, data: bytes) -> None:
        """Add a one-dimensional uint8 array."""
        self.add_npy(name, npy_header(len(data)) + data)

    def add_npy(self, name: str, content: bytes) -> None:
        """Add the content of a .npy file."""
        stored = content
        if self._method == _DEFLATED:
            deflate = zlib.compressobj(wbits=-15)
            stored = deflate.compress(content) + deflate.flush()
        self._add(name, stored, self._method, zlib.crc32(content), len(content))

    def add_stored(self, name: str, stored: bytes, method: int, crc: int, size: int) -> None:
        """Add a member as another archive holds it."""
        self._add(name, stored, method, crc, size)

    def _add(self, name: str, stored: bytes, method: int, crc: int, size: int) -> None:
        if len(stored) >= _LIMIT or size >= _LIMIT:
            raise LogFormatError(f"{name!r} is larger than 4 GB, which a log archive cannot hold.")
        file_name = f"{name}.npy".encode()
        local = _LOCAL.pack(
            b"PK\3\4", 20, 0, method, 0, _DATE, crc, len(stored), size, len(file_name), 0
        )
        offset = self._offset
        extra = _EXTRA_64.pack(1, 8, offset) if offset >= _LIMIT else b""
        self._directory += _CENTRAL.pack(
            b"PK\1\2", 45, 20, 0, method, 0, _DATE, crc, len(stored), size, len(file_name),
            len(extra), 0, 0, 0, 0o600 << 16, min(offset, _LIMIT),
        ) + file_name + extra  # fmt: skip
        self._count += 1
        self._write(local + file_name, stored)

    def _write(self, head: bytes, rest: bytes = b"") -> None:
        self._parts += (head, rest)
        size = len(head) + len(rest)
        self._offset += size
        self._waiting += size
        if self._waiting > _WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        left = memoryview(b"".join(self._parts))
        with naming(self._path):
            while left:
                left = left[self._file.write(left) :]
        self._parts, self._waiting = [], 0

    def close(self) -> None:
        """Write the directory, and bring everything to the disk."""
        start, size, count = self._offset, len(self._directory), self._count
        self._write(bytes(self._directory))
        if count >= _MANY or start + size >= _LIMIT:
            end = self._offset
            self._write(
                _END_64.pack(b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
                + _LOCATOR_64.pack(b"PK\6\7", 0, end, 1)
            )
        few = min(count, _MANY)
        self._write(_END.pack(b"PK\5\6", 0, 0, few, few, min(size, _LIMIT), min(start, _LIMIT), 0))
        self._flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


def members(path: Path) -> Iterator[Member]:
    """Yield the members of an archive; raises LogFormatError when it is none that we can read."""
    with FileIO(open_regular(path)) as file:
        start, size, count = _directory(file.fileno(), path)
        directory = os.pread(file.fileno(), size, start)
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise LogFormatError(f"{path.name} has a directory that ends too early.")
        fields = _CENTRAL.unpack_from(directory, at)
        stored, full, name_size, extra_size, comment, offset = (
            fields[i] for i in (8, 9, 10, 11, 12, 16)
        )
        name_at = at + _CENTRAL.size
        name = directory[name_at : name_at + name_size].decode(errors="replace")
        if _LIMIT in {stored, full, offset}:
            extra = directory[name_at + name_size : name_at + name_size + extra_size]
            try:
                stored, offset = _large(extra, stored, full, offset)
            except (struct.error, StopIteration):
                raise LogFormatError(f"{path.name} has a damaged directory.") from None
        yield Member(name.removesuffix(".npy"), offset, stored)
        at = name_at + name_size + extra_size + comment


def read_member(data: bytes, at: int, path: Path) -> tuple[bytes, int]:
    """Return the .npy content of the member whose local header is at *at* in *data*, and its end.

    Raises LogFormatError when it is damaged.
    """
    stored, method, crc, end, size = _stored_member(data, at, path)
    content = stored
    try:
        if (
            method == _DEFLATED
        ):  # to no more than its header's size: a few bytes could become gigabytes
            content = zlib.decompressobj(-15).decompress(stored, size + 1)
    except zlib.error as error:
        raise LogFormatError(f"{path.name} is damaged at offset {at}: {error}") from error
    if method not in {_STORED, _DEFLATED} or zlib.crc32(content) != crc:
        raise LogFormatError(f"{path.name} is damaged at offset {at}.")
    return content, end


def member_size(member: Member) -> int:
    """Return an upper bound of the bytes that a member takes, with its local header."""
    return _LOCAL.size + len(member.name) + 4 + 256 + member.stored


def _stored_member(data: bytes, at: int, path: Path) -> tuple[bytes, int, int, int, int]:
    if at + _LOCAL.size > len(data) or data[at : at + 4] != b"PK\3\4":
        raise LogFormatError(f"{path.name} has no member at offset {at}.")
    try:
        return _read_stored(data, at)
    except struct.error as error:
        raise LogFormatError(f"{path.name} is damaged at offset {at}: {error}") from error


def _read_stored(data: bytes, at: int) -> tuple[bytes, int, int, int, int]:
    fields = _LOCAL.unpack_from(data, at)
    method, crc, stored, full = fields[3], fields[6], fields[7], fields[8]
    begin = at + _LOCAL.size + fields[9] + fields[10]
    if _LIMIT in {stored, full}:  # numpy.savez writes all sizes as 64 bits
        extra = data[begin - fields[10] : begin]
        full, stored = struct.unpack_from("<QQ", extra, 4)
    return data[begin : begin + stored], method, crc, begin + stored, full


def copy_members(path: Path, writer: NpzWriter, skip: set[str]) -> list[str]:
    """Copy all members whose names are not in *skip* to *writer* as they are stored, and add those.

    Returns what is wrong with those that are damaged, which are left out.
    """
    damaged = []
    with path.open("rb", buffering=0) as file:
        for member in members(path):
            if member.name not in skip:
                skip.add(member.name)
                data = os.pread(file.fileno(), member_size(member), member.offset)
                try:
                    read_member(data, 0, path)
                    stored, method, crc, _, size = _stored_member(data, 0, path)
                except LogFormatError as error:
                    damaged.append(f"{member.name}: {error}")
                else:
                    writer.add_stored(member.name, stored, method, crc, size)
    return damaged


@functools.lru_cache(maxsize=1024)
def npy_header(length: int) -> bytes:
    """Return what stands before the data of a one-dimensional uint8 array in a .npy file."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({length},), }}".encode()
    padding = -(len(_NPY_MAGIC) + 2 + len(text) + 1) % 64
    size = struct.pack("<H", len(text) + padding + 1)
    return _NPY_MAGIC + size + text + b" " * padding + b"\n"


def payload_of(content: bytes, source: int, time: int) -> tuple[int, int]:
    """Return offset and size of the payload in the .npy of a message; raises ValueError.

    Files of the message logger's layout begin with source (u8) and time (u64, little-endian), which are
    no part of the payload; arrays that do not are payload as a whole.
    """
    begin, size = npy_data(content)
    if size >= ENTRY_HEAD and content.startswith(pack_entry_head(source, time), begin):
        return begin + ENTRY_HEAD, size - ENTRY_HEAD
    return begin, size


def npy_data(content: bytes) -> tuple[int, int]:
    """Return offset and size of the bytes of the array in a .npy file; raises ValueError."""
    if content[:6] != _NPY_MAGIC[:6] or len(content) < 12:
        raise ValueError("not a .npy file")
    wide = content[6] > 1
    length = int.from_bytes(content[8 : 12 if wide else 10], "little")
    begin = (12 if wide else 10) + length
    size = _npy_size(content[begin - length : begin])
    if begin + size != len(content):
        raise ValueError(f"{len(content) - begin} bytes of data instead of {size}")
    return begin, size


@functools.lru_cache(maxsize=1024)
def _npy_size(header: bytes) -> int:
    try:
        fields = ast.literal_eval(header.decode("latin1"))
        dtype = np.lib.format.descr_to_dtype(fields["descr"])
        size = dtype.itemsize
        for axis in fields["shape"]:
            size *= axis
        if min(fields["shape"], default=0) < 0:
            raise ValueError("a negative shape")
    except (SyntaxError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"a header that cannot be read: {error}") from error
    if dtype.hasobject:
        raise ValueError("an array of objects, which may run code when it is loaded")
    return size


def _directory(fd: int, path: Path) -> tuple[int, int, int]:
    """Return offset, size and number of members of the directory."""
    total = os.fstat(fd).st_size
    reach = min(total, _END.size + _MANY)
    data = os.pread(fd, reach, total - reach)
    at = data.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(data):
        raise LogFormatError(f"{path.name} is no archive, or was cut short.")
    _, _, _, _, count, size, start, _ = _END.unpack_from(data, at)
    if count == _MANY or _LIMIT in {size, start}:
        locator = at - _LOCATOR_64.size
        if locator >= 0 and data[locator : locator + 4] == b"PK\6\7":
            _, _, where, _ = _LOCATOR_64.unpack_from(data, locator)
            data = os.pread(fd, _END_64.size, where) if where <= total else b""
            if len(data) != _END_64.size:
                raise LogFormatError(f"{path.name} has a damaged directory.")
            fields = _END_64.unpack(data)
            count, size, start = fields[7], fields[8], fields[9]
    if start + size > total:
        raise LogFormatError(f"{path.name} has a directory that lies outside of it.")
    return start, size, count


def _large(extra: bytes, stored: int, full: int, offset: int) -> tuple[int, int]:
    """Read the 64-bit sizes that stand in for those that did not fit."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            words = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            if full == _LIMIT:
                next(words)
            stored = next(words) if stored == _LIMIT else stored
            offset = next(words) if offset == _LIMIT else offset
            break
        at += 4 + length
    return stored, offset
