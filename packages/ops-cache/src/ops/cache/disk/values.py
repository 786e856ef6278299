"""What bytes a value becomes, and what a reader may make of them.

bytes and str are stored as they are, plain data as JSON or as a tree of data of `ops.serialize`, and anything
else as a pickle, where the trust of the cache allows it: signed, unless that is "all". From 256 KiB on a
value is a container file of `ops.serialize`, whose arrays are mapped, not read, where only this user can
write to the file. A signature covers what the value is, which cache it is in and which key it belongs to, so
that a signed value is refused under another key or in another cache. With `Signed(key)` every value is
signed, with "user" only pickles are.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final

from ops.cache.disk.records import Flag
from ops.cache.disk.streams import bytes_tree, only_buffer
from ops.cache.own_files import can_be_mapped, open_own_to_read
from ops.serialize.container import open_container, read_frame
from ops.serialize.errors import (
    CorruptDataError,
    SignatureError,
    TooLargeError,
    UnsupportedTypeError,
    UntrustedDataError,
    in_words,
)
from ops.serialize.formats import FORMAT_IDS, SerializationFormat
from ops.serialize.limits import Budget
from ops.serialize.packing import frame_parts, pack, pickled
from ops.serialize.plain_formats import JsonSerializer, is_plain
from ops.serialize.tree_reader import decode_tree
from ops.serialize.tree_writer import encode_tree
from ops.serialize.trust import (
    MAC_SIZE,
    Signed,
    allowed_by,
    check_trust,
    may_pickle,
    signing_key,
    unpickle,
)

if TYPE_CHECKING:
    from ops.foundation.files import StrPath
    from ops.serialize.formats import Serializer
    from ops.serialize.packing import Packed
    from ops.serialize.trust import Trust

__all__ = ["Encoding", "ValueCodec"]

_FRAME = FORMAT_IDS[SerializationFormat.FRAME]
_json = JsonSerializer()


class Encoding:
    """How a value is encoded: the low four bits of a record's flags.

    SIGNED is added to one of the others: the value then starts with its MAC.
    """

    PICKLE: Final = 0
    BYTES: Final = 1
    STR: Final = 2
    CUSTOM: Final = 3
    TREE: Final = 4
    JSON: Final = 5
    SIGNED: Final = 8


class ValueCodec:
    """Turns values into bytes and back under one trust and, if given, one serializer.

    Args:
        trust: What may be stored and read.
        serializer: Encodes every value, instead of the built-in way.
        blob_from: The size in bytes from which on a value is a file of its own.
        purpose: What is part of every signature: the kind of the store, and which one it is.
        was_moved: Whether the store may hold what was signed for another one, which counts as missing.
    """

    def __init__(
        self,
        trust: Trust,
        serializer: Serializer | None,
        blob_from: int,
        purpose: tuple[str | bytes, ...],
        *,
        was_moved: bool = False,
    ) -> None:
        check_trust(trust)
        self._trust: Trust = trust
        self._purpose = purpose
        self.was_moved = was_moved
        self._serializer = serializer
        self._blob_from = blob_from
        # Encoded so, and with no MAC in front, a value is what was stored, and needs no codec.
        self._signs_all = isinstance(trust, Signed)
        self.as_stored = -1 if self._signs_all else Encoding.BYTES

    def encode(self, key: bytes, value: Any) -> tuple[int, bytes | Packed]:
        """Return flags and the bytes of *value*, or the container that is to be its file.

        Raises `UnsupportedTypeError` for what could not be read again under this trust.
        """
        if self._serializer is not None:
            encoding, data = Encoding.CUSTOM, self._serializer.dumps(value)
        elif type(value) is bytes:
            encoding, data = Encoding.BYTES, value
        elif type(value) is str:
            encoding, data = Encoding.STR, value.encode("utf-8", "surrogatepass")
        elif is_plain(value):
            encoding, data = Encoding.JSON, _json.write(value)
        else:
            return self._encode_object(key, value)
        if len(data) < self._blob_from:
            return self._signed(key, encoding, data) if self._signs_all else (encoding, data)
        if encoding == Encoding.JSON:
            return self._pack_object(key, value)
        return encoding | Flag.BLOB, self._pack(
            key, *encode_tree(data, allowed_by("safe")), pickled=False
        )

    def encode_stream(self, key: bytes, data: memoryview) -> tuple[int, bytes | Packed]:
        """Return what `encode` returns for *data* as bytes, which is not copied where it is large."""
        if self._serializer is not None or data.nbytes < self._blob_from:
            return self.encode(key, bytes(data))
        packed = self._pack(key, bytes_tree(), [(data, 1)], pickled=False)
        return Encoding.BYTES | Flag.BLOB, packed

    def _encode_object(self, key: bytes, value: Any) -> tuple[int, bytes | Packed]:
        encoding = Encoding.TREE
        try:
            data, buffers = encode_tree(value, allowed_by(self._trust))
        except UnsupportedTypeError:
            if not may_pickle(self._trust):
                raise
            encoding, data, buffers = Encoding.PICKLE, pickled(value), []
        size = len(data) + sum(raw.nbytes for raw, _ in buffers)
        if size >= self._blob_from:
            return self._pack_object(key, value)
        if buffers:
            data, _ = encode_tree(value, allowed_by(self._trust), inline=self._blob_from)
        return self._signed(key, encoding, data)

    def _signed(self, key: bytes, encoding: int, data: bytes) -> tuple[int, bytes]:
        signer = signing_key(self._trust, pickled=encoding == Encoding.PICKLE)
        if signer is None:
            return encoding, data
        encoding |= Encoding.SIGNED
        return encoding, self._mac(signer, key, encoding, data) + data

    def _mac(self, signer: Signed, key: bytes, encoding: int, data: bytes) -> bytes:
        return signer.bound(*self._purpose, "record", bytes((encoding,)), key).mac(data)

    def _pack_object(self, key: bytes, value: Any) -> tuple[int, Packed]:
        stream, buffers, is_pickle = frame_parts(value, self._trust)
        encoding = Encoding.PICKLE if is_pickle else Encoding.TREE
        return encoding | Flag.BLOB, self._pack(key, stream, buffers, pickled=is_pickle)

    def _pack(self, key: bytes, stream: bytes, buffers: Any, *, pickled: bool) -> Packed:
        signer = signing_key(self._trust, pickled=pickled)
        if signer is not None:
            signer = signer.bound(*self._purpose, "blob", key)
        return pack(stream, buffers, format_id=_FRAME, key=signer)

    def decode(self, key: bytes, flags: int, data: bytes) -> Any:
        """Return the value of a record.

        Raises `SignatureError` and `UntrustedDataError` for what this trust does not read, and
        `CorruptDataError` for what cannot be read at all; for "user" these are all the same, since
        whatever another has written is of no use.
        """
        try:
            return self._decode(key, flags & 0xF, data)
        except TooLargeError as error:
            raise CorruptDataError(str(error)) from error
        except (SignatureError, UntrustedDataError) as error:
            raise self._as_damage(error) from error

    def _as_damage(self, error: SignatureError | UntrustedDataError) -> Exception:
        is_of_another = self.was_moved and isinstance(error, SignatureError)
        return CorruptDataError(str(error)) if self._trust == "user" or is_of_another else error

    def _decode(self, key: bytes, encoding: int, data: bytes) -> Any:
        is_signed = bool(encoding & Encoding.SIGNED)
        plain = encoding & ~Encoding.SIGNED
        vouched = False
        if is_signed:
            mac, data = data[:MAC_SIZE], data[MAC_SIZE:]
            signer = signing_key(self._trust, pickled=plain == Encoding.PICKLE)
            if signer is not None:
                if not hmac.compare_digest(mac, self._mac(signer, key, encoding, data)):
                    raise SignatureError("The entry was not signed with this key for this path.")
                vouched = True
        elif isinstance(self._trust, Signed):
            raise SignatureError("The entry was not signed.")
        if plain == Encoding.PICKLE:
            return unpickle(data, (), self._trust, vouched=vouched)
        if plain == Encoding.TREE:
            return decode_tree(data, (), allowed_by(self._trust), Budget(len(data)))
        return self._from_bytes(plain, data)

    def _from_bytes(self, encoding: int, data: bytes) -> Any:
        if encoding == Encoding.BYTES:
            return data
        if encoding == Encoding.STR:
            try:
                return data.decode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise CorruptDataError(f"The entry is no text: {error}") from error
        if encoding == Encoding.JSON:
            try:
                return _json.loads(data)
            except Exception as error:
                raise CorruptDataError(f"The entry is no JSON: {in_words(error)}") from error
        if encoding == Encoding.CUSTOM and self._serializer is not None:
            return self._serializer.loads(data)
        raise CorruptDataError(
            f"The entry has encoding {encoding}, which this cache cannot read.",
            suggestions=("Open the cache with the serializer that it was written with.",),
        )

    def load(
        self, key: bytes, flags: int, path: StrPath, *, verify: bool, as_view: bool = False
    ) -> Any:
        """Return the value in the file at *path*; raises as `decode` does.

        Arrays are private, writable maps of the file, or memory of their own where another user could
        change it. With *as_view* bytes are a view of the file.
        """
        encoding = flags & 0x7
        try:
            contents = open_container(
                path,
                mmap=("r" if as_view else "c") if can_be_mapped(path) else None,
                trust=self._trust,
                context=(*self._purpose, "blob", key),
                verify=verify,
                opener=open_own_to_read,
            )
            if as_view and encoding == Encoding.BYTES and (found := only_buffer(contents)):
                return found.toreadonly()
            value = read_frame(contents, self._trust, copy=False)
        except TooLargeError as error:
            raise CorruptDataError(str(error)) from error
        except (SignatureError, UntrustedDataError) as error:
            raise self._as_damage(error) from error
        if encoding in {Encoding.PICKLE, Encoding.TREE}:
            return value
        if type(value) is not bytes:
            raise CorruptDataError("The entry is no bytes.")
        return self._from_bytes(encoding, value)
