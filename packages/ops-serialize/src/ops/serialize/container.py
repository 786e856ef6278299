"""Reading containers: everything is verified before it is used.

Header, table and stream always, the buffers on every load except a mapped one, where reading them all is
what the caller avoids (`mmap=`, as in `numpy.load`; or `verify=True`). A load reads the file into memory of
its own, verifies that, and uses that: changing or cutting the file later changes nothing. A signed
container is never mapped, since what is verified must be what is used. See `layout` for the bytes.
"""

from __future__ import annotations

import dataclasses
import errno
import hmac
import mmap as _mmap
import os
import stat
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.foundation.errors import OpsError
from ops.serialize.codecs import Codec, decode, spread, unshuffle
from ops.serialize.errors import (
    CorruptDataError,
    FutureVersionError,
    SignatureError,
    TooLargeError,
    UntrustedDataError,
    in_words,
    missing_library,
)
from ops.serialize.layout import (
    ALIGNMENT,
    ENTRY,
    HEADER,
    MAGIC,
    NO_MAC,
    OLD_VERSION,
    SIGNED,
    TABLE_ENTRY,
    VERSION,
    Sum,
    digest_of,
    head_checksum,
    unpack_entry,
)
from ops.serialize.limits import Budget
from ops.serialize.tree import is_tree
from ops.serialize.tree_reader import decode_tree
from ops.serialize.trust import Signed, allowed_by, check_trust, unpickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.foundation.files import StrPath
    from ops.serialize.layout import Entry
    from ops.serialize.trust import Trust

__all__ = ["Contents", "Mmap", "check_version", "open_container", "read_frame"]

Mmap: TypeAlias = Literal["r", "c"]
_FLAGS_AT = 11
_SMALL = 64 << 10
# How many bytes a codec can make of one, by its format; what claims more is damaged.
_MOST_TIMES = {Codec.LZ4: 256, Codec.ZLIB: 1100, Codec.ZSTD: 1 << 16}


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """A container whose header, table and stream have been verified.

    With *vouched* its signature was verified, and all its buffers with it.
    """

    format: int
    version: int
    codec: Codec
    signed: bool
    vouched: bool
    stream: memoryview
    entries: tuple[Entry, ...]
    start: int  # where the first gap begins
    data: memoryview
    checksum: str
    budget: Budget


def open_container(
    source: Any,
    *,
    mmap: Mmap | None = None,
    trust: Trust = "safe",
    context: tuple[str | bytes, ...] = (),
    verify: bool = True,
    max_size: int | None = None,
    opener: Callable[[StrPath], int] | None = None,
) -> Contents:
    """Verify the container in *source* (a path or a buffer) and return its parts.

    *context* is what its signature is for, beside the context of the key (see `Signed.bound`). *verify*
    extends the check to the buffers; those of signed containers are always checked. *opener* opens a path
    for reading. Raises `CorruptDataError`, `FutureVersionError`, `TooLargeError` before
    anything beyond *max_size* bytes is unpacked, or `SignatureError` when *trust* has a key and the
    signature is missing or wrong.
    """
    check_trust(trust)
    try:
        if isinstance(source, str | os.PathLike):
            data = _read_file(source, mmap, trust, max_size, opener or _open_to_read)
        elif isinstance(source, bytes):
            data = memoryview(source)
        else:  # the caller may write to it while it is read
            data = memoryview(bytes(source))
        contents = _open(data, trust, context, max_size)
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        raise TooLargeError("There is not enough memory for what the data claims.") from error
    if verify or contents.vouched:
        _verify_buffers(contents)
    return contents


def _open_to_read(path: StrPath) -> int:
    # A FIFO must not make us wait for a writer.
    flags = ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK")
    return os.open(path, os.O_RDONLY | sum(getattr(os, name, 0) for name in flags))


def _read_file(
    path: StrPath,
    mmap: Mmap | None,
    trust: Trust,
    max_size: int | None,
    opener: Callable[[StrPath], int],
) -> memoryview:
    descriptor = opener(path)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CorruptDataError(f"{os.fspath(path)} is no file.")
        size = status.st_size
        if not size:
            raise CorruptDataError(f"{os.fspath(path)} is empty.")
        if max_size is not None:
            Budget(0, 2 * max_size + (1 << 20)).take(size)
        head = os.read(descriptor, HEADER.size)
        os.lseek(descriptor, 0, os.SEEK_SET)
        if head[:8] != MAGIC:
            raise CorruptDataError(
                f"{os.fspath(path)} does not start like a container of ops-serialize."
            )
        is_signed = len(head) > _FLAGS_AT and head[_FLAGS_AT] & SIGNED
        is_private = isinstance(trust, Signed) or (trust == "user" and is_signed)
        if mmap is not None and not is_private:
            access = _mmap.ACCESS_READ if mmap == "r" else _mmap.ACCESS_COPY
            return memoryview(_mmap.mmap(descriptor, 0, access=access))
        data = _private_copy(descriptor, size)
        return data.toreadonly() if mmap == "r" else data
    finally:
        os.close(descriptor)


def _private_copy(descriptor: int, size: int) -> memoryview:
    """Return what the file holds in memory of our own, writable."""
    memory: Any
    if size >= _SMALL and hasattr(_mmap, "MAP_ANONYMOUS"):  # zeroed by the system, as it is filled
        memory = _mmap.mmap(-1, size, flags=_mmap.MAP_PRIVATE | _mmap.MAP_ANONYMOUS)
    else:
        memory = bytearray(size)
    view = memoryview(memory)
    at = 0
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        while at < size:
            count = file.readinto(view[at : at + (1 << 30)])
            if not count:
                raise CorruptDataError(f"The file was cut to {at} bytes while it was read.")
            at += count
    return view


def _open(
    data: memoryview, trust: Trust, context: tuple[str | bytes, ...], max_size: int | None
) -> Contents:
    if data.nbytes < HEADER.size:
        raise CorruptDataError(f"{data.nbytes} bytes are too few for a container.")
    raw_head = bytes(data[: HEADER.size])
    head = HEADER.unpack(raw_head)
    magic, version, format_id, codec, flags, count, stored, raw, mac, total, expected = head
    if magic != MAGIC:
        raise CorruptDataError("The data does not start like a container of ops-serialize.")
    layout = ENTRY if version == OLD_VERSION else TABLE_ENTRY
    table_end = HEADER.size + count * layout.size
    end = table_end + stored
    if total != data.nbytes or end > data.nbytes:
        if version > VERSION:
            raise _future(version)
        raise CorruptDataError(f"The container has {data.nbytes} bytes where {total} were written.")
    # Copies: what is checked here is what is used, also of a file that is mapped.
    table, stream = bytes(data[HEADER.size : table_end]), bytes(data[table_end:end])
    if head_checksum(raw_head[:-8], table, stream) != expected:
        raise CorruptDataError("The checksum of header, table and stream is wrong.")
    if version > VERSION:
        raise _future(version)
    if not version:
        raise CorruptDataError("The container has format version 0.")
    entries = tuple(unpack_entry(version, fields) for fields in layout.iter_unpack(table))
    is_signed = bool(flags & SIGNED)
    parts = (HEADER.pack(*head[:8], NO_MAC, total, bytes(8)), table, stream)
    key = None if version == OLD_VERSION else _verifying_key(trust, is_signed=is_signed)
    if key is not None:
        if not is_signed or not hmac.compare_digest(key.bound(*context).mac(*parts), mac):
            raise SignatureError(
                "The data was not signed with this key for this purpose.",
                suggestions=(
                    "Nothing of it was used. Sign it with the key, for the same purpose.",
                ),
            )
        if any(entry.algorithm not in {Sum.BLAKE2B, Sum.BLAKE3} for entry in entries):
            raise SignatureError("The buffers of the data are not covered by its signature.")
    vouched = key is not None
    budget = Budget(data.nbytes, max_size)
    _check_entries(entries, end, total)
    known = _codec(codec)
    _check_claim(known, stored, raw)
    wanted = [entry.raw for entry in entries if entry.codec or max_size is not None]
    if known or max_size is not None:
        wanted.append(raw)
    _take(budget, sum(wanted))
    return Contents(
        format=format_id,
        version=version,
        codec=known,
        signed=is_signed,
        vouched=vouched,
        stream=decode(stream, known, raw),
        entries=entries,
        start=end,
        data=data,
        checksum=expected.hex(),
        budget=budget,
    )


def _take(budget: Budget, unpacked: int) -> None:
    try:
        budget.take(unpacked)
    except TooLargeError:
        raise TooLargeError(
            f"The data unpacks to {unpacked} bytes, and max_size allows {budget.limit}.",
            suggestions=("Raise max_size if you know where the data comes from.",),
        ) from None


def _verifying_key(trust: Trust, *, is_signed: bool) -> Signed | None:
    """Return the key whose signature the data must have, None where it need not have one."""
    if isinstance(trust, Signed):
        return trust
    if trust == "user" and is_signed:
        from ops.serialize.user_key import user_key

        return user_key()
    return None


def _future(version: int) -> FutureVersionError:
    return FutureVersionError(
        f"The container has format version {version}; this ops-serialize reads up to {VERSION}.",
        suggestions=("Upgrade ops-serialize.",),
    )


def check_version(contents: Contents, trust: Trust) -> None:
    """Raise `UntrustedDataError` for an old container that the caller does not vouch for."""
    if contents.version == OLD_VERSION and trust != "all":
        raise UntrustedDataError(
            "ops.serialize",
            "format_1",
            reason=(
                "The data has format version 1, whose streams are pickles and whose signatures do not "
                "cover all of it, so it is read only with trust='all'."
            ),
            suggestions=(
                (
                    "If you know where it comes from, write it again: python -m ops.serialize convert "
                    "--trust all OLD NEW"
                ),
            ),
        )


def _codec(number: int) -> Codec:
    try:
        return Codec(number)
    except ValueError:
        raise CorruptDataError(f"The codec number {number} is unknown.") from None


def _check_claim(codec: Codec, stored: int, raw: int) -> None:
    """Refuse a size that *stored* bytes cannot unpack to."""
    most = stored if codec is Codec.NONE else stored * _MOST_TIMES[codec] + 4096
    if raw > most or (codec is Codec.NONE and raw != stored):
        raise CorruptDataError(f"{stored} bytes cannot unpack to the {raw} that they claim.")


def _check_entries(entries: tuple[Entry, ...], end: int, total: int) -> None:
    """Check that the buffers lie one behind the other, each at the first aligned offset."""
    for number, entry in enumerate(entries):
        if entry.offset != end + -end % ALIGNMENT:
            raise CorruptDataError(f"Buffer {number} is not at the offset of the table.")
        end = entry.offset + entry.stored
        _check_claim(_codec(entry.codec), entry.stored, entry.raw)
        if entry.itemsize and (entry.itemsize > 16 or entry.raw % entry.itemsize):
            raise CorruptDataError(f"Buffer {number} has no whole number of items.")
    if end != total:
        raise CorruptDataError("There are bytes behind the last buffer.")


def _verify_buffers(contents: Contents) -> None:
    """Check every buffer's digest, and that what lies between buffers is zero."""
    data, end = contents.data, contents.start
    for number, entry in enumerate(contents.entries):
        if any(data[end : entry.offset]):
            raise CorruptDataError(f"There is something before buffer {number}.")
        end = entry.offset + entry.stored
        found = digest_of(data[entry.offset : end], entry.algorithm)
        if not hmac.compare_digest(found, entry.digest):
            raise CorruptDataError(f"The checksum of buffer {number} is wrong.")


def read_frame(contents: Contents, trust: Trust, *, copy: bool) -> Any:
    """Rebuild the object of a FRAME; *copy* gives it writable memory of its own.

    Raises `UntrustedDataError` for a pickle that nothing vouches for.
    """
    check_version(contents, trust)
    is_data = is_tree(contents.stream)
    if not is_data and not contents.vouched and trust != "all":
        unpickle(contents.stream, (), trust)  # refuses, naming what it would import

    def buffer(entry: Entry) -> Any:
        data = contents.data[entry.offset : entry.offset + entry.stored]
        if not entry.codec:
            return memoryview(bytearray(data)) if copy else data
        raw = decode(data, _codec(entry.codec), entry.raw)
        if entry.itemsize:
            return unshuffle(raw, entry.itemsize)
        return memoryview(bytearray(raw)) if raw.readonly else raw

    parallel = any(entry.codec for entry in contents.entries)
    try:
        buffers = spread(buffer, contents.entries, parallel=parallel)
    except OpsError:
        raise
    except MemoryError as error:
        raise TooLargeError("There is not enough memory for what the data claims.") from error
    except ImportError as error:
        raise missing_library(error) from error
    except Exception as error:  # each codec has errors of its own
        raise CorruptDataError(f"A buffer could not be unpacked: {in_words(error)}") from error
    if is_data:
        return decode_tree(contents.stream, buffers, allowed_by(trust), contents.budget)
    return unpickle(contents.stream, buffers, trust, vouched=contents.vouched)
