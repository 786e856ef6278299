"""What bytes a value becomes, and what a reader may make of them.

bytes and str are stored as they are. Anything else is a pickle, loaded under the rules of
`ops.serialize` (by default only plain values and arrays; nothing that is not allowed is imported).
From 256 KiB on a value is a container file of `ops.serialize`, whose arrays are mapped, not read.
"""

from __future__ import annotations

import hmac
import pickle
from typing import TYPE_CHECKING, Any, Final

from ops.cache.disk.records import Flag
from ops.serialize.container import open_container, read_frame
from ops.serialize.errors import (
    CorruptDataError,
    SignatureError,
    UnsupportedTypeError,
)
from ops.serialize.formats import FORMAT_IDS, SerializationFormat
from ops.serialize.packing import pack, pickle_parts, pickled
from ops.serialize.trust import MAC_SIZE, Signed, unpickle

if TYPE_CHECKING:
    from ops.foundation.files import StrPath
    from ops.serialize.formats import Serializer
    from ops.serialize.packing import Packed
    from ops.serialize.trust import Trust

__all__ = ["Encoding", "ValueCodec"]

_FRAME = FORMAT_IDS[SerializationFormat.FRAME]
_NUMPY = b"numpy"  # in every stream that names something of NumPy


class Encoding:
    """How a value is encoded: the low four bits of a record's flags."""

    PICKLE: Final = 0
    BYTES: Final = 1
    STR: Final = 2
    CUSTOM: Final = 3


class ValueCodec:
    """Turns values into bytes and back under one trust and, if given, one serializer."""

    def __init__(self, trust: Trust, serializer: Serializer | None, blob_from: int) -> None:
        self._trust: Trust = trust
        self._key = trust if isinstance(trust, Signed) else None
        self._serializer = serializer
        self._blob_from = blob_from

    def encode(self, key: bytes, value: Any) -> tuple[int, bytes | Packed]:
        """Return flags and the bytes of *value*, or the container that is to be its file."""
        if self._serializer is not None:
            encoding, data = Encoding.CUSTOM, self._serializer.dumps(value)
        elif type(value) is bytes:
            encoding, data = Encoding.BYTES, value
        elif type(value) is str:
            encoding, data = Encoding.STR, value.encode("utf-8", "surrogatepass")
        else:
            return self._encode_object(key, value)
        if len(data) < self._blob_from:
            return encoding, data
        return encoding | Flag.BLOB, self._pack(pickle.PickleBuffer(data))

    def _encode_object(self, key: bytes, value: Any) -> tuple[int, bytes | Packed]:
        large: list[pickle.PickleBuffer] = []
        try:
            data = pickle.dumps(value, 5, buffer_callback=large.append)
            if (large or _NUMPY in data) and (
                sum(memoryview(b).nbytes for b in large) < self._blob_from
            ):
                # Once more, arrays in terms that cannot be forged; values without any pay nothing.
                data, large = pickled(value), []
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UnsupportedTypeError(
                f"A {type(value).__module__}.{type(value).__qualname__} cannot be stored: {error}",
            ) from error
        if large or len(data) >= self._blob_from:
            return Encoding.PICKLE | Flag.BLOB, self._pack(value)
        if self._key is not None:
            data = self._mac(key, data) + data
        return Encoding.PICKLE, data

    def _pack(self, value: Any) -> Packed:
        stream, buffers = pickle_parts(value)
        return pack(stream, buffers, format_id=_FRAME, key=self._key)

    def decode(self, key: bytes, flags: int, data: bytes) -> Any:
        """Return the value of a record; raises errors of `ops.serialize`."""
        encoding = flags & 0xF
        if encoding == Encoding.BYTES:
            return data
        if encoding == Encoding.PICKLE:
            if self._key is not None:
                mac, data = data[:MAC_SIZE], data[MAC_SIZE:]
                if not hmac.compare_digest(mac, self._mac(key, data)):
                    raise SignatureError("The entry was not signed with this key.")
            return unpickle(data, (), self._trust)
        return self._from_bytes(encoding, data)

    def _from_bytes(self, encoding: int, data: bytes) -> Any:
        if encoding == Encoding.BYTES:
            return data
        if encoding == Encoding.STR:
            try:
                return data.decode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise CorruptDataError(f"The entry is no text: {error}") from error
        if encoding == Encoding.CUSTOM and self._serializer is not None:
            return self._serializer.loads(data)
        raise CorruptDataError(
            f"The entry has encoding {encoding}, which this cache cannot read.",
            suggestions=("Open the cache with the serializer that it was written with.",),
        )

    def load(self, flags: int, path: StrPath, *, verify: bool) -> Any:
        """Return the value in the file at *path*; arrays are private, writable maps of it."""
        contents = open_container(path, mmap="c", key=self._key, verify=verify)
        value = read_frame(contents, self._trust, copy=False)
        encoding = flags & 0xF
        return value if encoding == Encoding.PICKLE else self._from_bytes(encoding, bytes(value))

    def _mac(self, key: bytes, data: bytes) -> bytes:
        assert self._key is not None  # noqa: S101 - the callers asked
        return self._key.mac(len(key).to_bytes(8, "little"), key, data)
