"""`SmartSerializer`: chooses a lossless format by content, and reads anything it ever wrote.

Every result is a container (see `container`): its header names the format of the stream, so bytes
need no side information. Formats other than FRAME simply have no buffers.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import OpsError
from ops.serialize.container import check_version, open_container, read_frame
from ops.serialize.content_limits import check_content
from ops.serialize.detection import FORMATS, format_of_plain_type, holds_tensors
from ops.serialize.errors import (
    CorruptDataError,
    SerializeError,
    TooLargeError,
    UnsupportedTypeError,
    in_words,
    missing_library,
)
from ops.serialize.formats import CUSTOM_ID, FORMAT_IDS, SerializationFormat
from ops.serialize.limits import checked_max_size
from ops.serialize.packing import frame_parts, pack
from ops.serialize.tensor_formats import with_shared_storages
from ops.serialize.tree import is_tree
from ops.serialize.trust import check_trust, may_pickle, signing_key, unpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.foundation.files import StrPath
    from ops.serialize.codecs import Compression
    from ops.serialize.container import Contents, Mmap
    from ops.serialize.formats import Serializer
    from ops.serialize.packing import Packed
    from ops.serialize.trust import Signed, Trust

__all__ = [
    "SerializationResult",
    "SmartSerializer",
    "deserialize_data",
    "detect_serialization_format",
    "dump",
    "get_serializer",
    "load",
    "register_custom_serializer",
    "serialize_data",
]

COMPRESS_FROM = 4096
FORMATS_BY_ID = {number: name for name, number in FORMAT_IDS.items()}
_PACKED_ALREADY = {SerializationFormat.PARQUET}


@dataclasses.dataclass(frozen=True, slots=True)
class SerializationResult:
    """What `serialize` made; *data* alone is enough to read it back.

    *format* is the one that was chosen; *compressed* is whether; *original_size* and
    *compressed_size* are in bytes, before and after. *checksum* is that of the container, in
    hexadecimal digits.
    """

    data: bytes
    format: SerializationFormat | str
    compressed: bool
    original_size: int
    compressed_size: int
    checksum: str


class SmartSerializer:
    """Serializes any object in the smallest format that gives it back unchanged.

    *compression* "auto" compresses bytes from 4 KiB on and leaves files raw, so that they can be
    mapped.

    Args:
        compression: "auto", or the name of a codec, or None.
        trust: What may be read, and so what is written (see `ops.serialize.trust`): under "safe" data
            only; under "user", `Signed` and "all" other objects too, as pickles, which the first two sign.
        formats: Serializers by type, before the built-in ones.
        max_size: The most bytes that a load may allocate; beyond it is `TooLargeError`. By default what
            the data holds uncompressed, and 1 GiB or 64 times the data's size, whichever is more, for
            what it unpacks to.
        context: What signatures are for, beside the context of the key (see `Signed.bound`).

    Raises ValueError for a *max_size* that is no number of bytes.

    >>> serializer = SmartSerializer()
    >>> packed = serializer.serialize({"rows": 3})
    >>> packed.compressed, serializer.deserialize(packed)
    (False, {'rows': 3})
    """

    def __init__(
        self,
        compression: Compression | None = "auto",
        trust: Trust = "safe",
        formats: Mapping[type, Serializer] | None = None,
        max_size: int | None = None,
        context: tuple[str | bytes, ...] = (),
    ) -> None:
        self.compression: Compression | None = compression
        check_trust(trust)
        self.trust: Trust = trust
        self.max_size: int | None = checked_max_size(max_size)
        self._context = context
        self._custom: list[tuple[Callable[[Any], bool], Serializer]] = []
        for kind, serializer in (formats or {}).items():
            self.register_serializer(kind, serializer)

    def serialize(
        self,
        obj: Any,
        format: SerializationFormat | str | None = None,  # noqa: A002 - the published name
        compress: bool | None = None,  # noqa: FBT001 - the published signature
    ) -> SerializationResult:
        """Return *obj* as bytes, with format, sizes and checksum.

        *format* forces one, which then refuses what it would change; None takes the smallest that
        holds *obj*. *compress* True compresses whatever the size, False never; None follows the
        serializer's `compression`. Raises `UnsupportedTypeError` when the trust could not read the
        object again, `SerializeError` for a format that is not registered.
        """
        packed, name = self._pack(
            obj, format, self._codec_for_bytes(compress=compress), compress=compress
        )
        return SerializationResult(
            data=packed.tobytes(),
            format=name,
            compressed=packed.codec != 0,
            original_size=packed.original_size,
            compressed_size=packed.size,
            checksum=packed.checksum,
        )

    def deserialize(
        self,
        data: SerializationResult | bytes | bytearray | memoryview,
        format: SerializationFormat | str | None = None,  # noqa: A002 - the published name
    ) -> Any:
        """Return the object in *data*; *format*, when given, must be the one the data has.

        Raises `CorruptDataError`, `UntrustedDataError`, `SignatureError`, `TooLargeError`,
        `FutureVersionError`, and `SerializeError` for another format.
        """
        source = data.data if isinstance(data, SerializationResult) else data
        if isinstance(source, str | os.PathLike):
            raise TypeError(f"deserialize takes bytes, not {source!r}; load(path) reads a file.")
        contents = open_container(
            source, trust=self.trust, context=self._context, max_size=self.max_size
        )
        return self._read(contents, format, copy=True)

    def dump(self, obj: Any, path: StrPath, compression: Compression | None = None) -> None:
        """Write *obj* to *path*, whole or not at all, as a FRAME without copying its buffers.

        *compression* None takes that of the serializer, where "auto" leaves files raw. Tensors, and
        trees with tensors in them, are written as TORCH. Raises `UnsupportedTypeError` for an
        object that is no data when the trust could not read it again.
        """
        own: Compression | None = None if self.compression == "auto" else self.compression
        chosen: Compression | None = compression or own
        serializer = self._custom_for(obj)
        as_frame = serializer is None and not holds_tensors(obj)
        name = SerializationFormat.FRAME if as_frame else None
        self._pack(obj, name, chosen, compress=None)[0].write(path)

    def load(self, path: StrPath, mmap: Mmap | None = None, *, verify: bool | None = None) -> Any:
        """Read *path* into memory of its own, verify it, and return the object.

        Args:
            path: What `dump` wrote.
            mmap: "r" (read-only) or "c" (writes stay private) maps the buffers instead of reading them:
                nothing is copied, but the arrays are the file. Who writes to it changes them, and who
                cuts it kills this process with SIGBUS, so map only files that are not written to. They are
                not verified unless *verify* is True. Signed files are read all the same.
            verify: Whether the buffers are checked; header, table and stream always are.

        Raises `CorruptDataError`, `UntrustedDataError`, `SignatureError`, or `TooLargeError`, and
        `SerializeError` for a custom format that is not registered here.
        """
        if mmap not in {None, "r", "c"}:
            raise ValueError(f"mmap={mmap!r} is unknown; use 'r' (read-only), 'c' or None.")
        check = mmap is None if verify is None else verify
        contents = open_container(
            os.fspath(path),
            mmap=mmap,
            trust=self.trust,
            context=self._context,
            verify=check,
            max_size=self.max_size,
        )
        return self._read(contents, None, copy=False)

    def detect_format(self, obj: Any) -> SerializationFormat | str:
        """Return the format that `serialize` would choose."""
        serializer = self._custom_for(obj)
        return format_of_plain_type(obj) if serializer is None else serializer.format

    def register_serializer(
        self, kind: type | Callable[[Any], bool], serializer: Serializer
    ) -> None:
        """Use *serializer* for objects of a type (exactly) or for which a predicate is true.

        Raises `ValidationError` for a *kind* that is neither, such as a coroutine function.
        """
        if isinstance(kind, type):
            exact = kind
            self._custom.insert(0, (lambda obj: type(obj) is exact, serializer))
        else:
            refuse_coroutine_function(kind, "kind")
            self._custom.insert(0, (kind, serializer))

    def _key(self, *, pickled: bool) -> Signed | None:
        key = signing_key(self.trust, pickled=pickled)
        return key if key is None or not self._context else key.bound(*self._context)

    def _custom_for(self, obj: Any) -> Serializer | None:
        for accepts, serializer in (*self._custom, *_global_custom):
            if accepts(obj):
                return serializer
        return None

    def _codec_for_bytes(self, *, compress: bool | None) -> Compression | None:
        if compress is False:
            return None
        if compress and self.compression in {None, "none"}:
            return "auto"
        return self.compression

    def _pack(
        self,
        obj: Any,
        forced: str | None,
        compression: Compression | None,
        *,
        compress: bool | None,
    ) -> tuple[Packed, SerializationFormat | str]:
        serializer = self._custom_for(obj) if forced is None else self._named(forced)
        if serializer is not None:
            name = serializer.format.encode()
            if not 0 < len(name) < 256:
                raise ValueError(f"The format name {serializer.format!r} has not 1 to 255 bytes.")
            content = bytes([len(name)]) + name + serializer.dumps(obj)
            codec = self._threshold(len(content), compression, compress=compress)
            key = self._key(pickled=False)
            return pack(content, format_id=CUSTOM_ID, compression=codec, key=key), serializer.format
        chosen = SerializationFormat(forced) if forced else format_of_plain_type(obj)
        is_pickle = chosen is SerializationFormat.PICKLE
        if is_pickle and not may_pickle(self.trust):
            raise UnsupportedTypeError(
                "A PICKLE is a program, and this trust reads data only.",
                suggestions=(
                    'Give no format, or use trust="user", trust=Signed(key) or trust="all".',
                ),
            )
        stream: Any
        buffers: list[tuple[memoryview, int]] = []
        if chosen is SerializationFormat.FRAME:
            stream, buffers, is_pickle = frame_parts(obj, self.trust)
        elif chosen is SerializationFormat.TORCH:
            FORMATS[chosen].require(obj)
            stream, buffers, is_pickle = frame_parts(with_shared_storages(obj), "safe")
        else:
            stream = FORMATS[chosen].dumps(obj)
        if chosen in _PACKED_ALREADY and not compress:
            compression = None
        size = len(stream) + sum(raw.nbytes for raw, _ in buffers)
        codec = self._threshold(size, compression, compress=compress)
        key = self._key(pickled=is_pickle)
        number = FORMAT_IDS[chosen]
        return pack(stream, buffers, format_id=number, compression=codec, key=key), chosen

    @staticmethod
    def _threshold(
        size: int, compression: Compression | None, *, compress: bool | None
    ) -> Compression | None:
        if compression == "auto" and not compress and size < COMPRESS_FROM:
            return None
        return compression

    def _named(self, name: str) -> Serializer | None:
        """Return the custom serializer called *name*, or None for a built-in format."""
        if name in set(SerializationFormat):
            return None
        for _, serializer in (*self._custom, *_global_custom):
            if serializer.format == name:
                return serializer
        raise SerializeError(
            f"No serializer for the format {name!r} is registered here.",
            suggestions=(f"Known are {', '.join(SerializationFormat)} and what you register.",),
        )

    def _read(self, contents: Contents, expected: str | None, *, copy: bool) -> Any:
        check_version(contents, self.trust)
        if contents.format == CUSTOM_ID:
            length = contents.stream[0] if len(contents.stream) else 0
            try:
                name = str(contents.stream[1 : 1 + length], "utf-8")
            except UnicodeDecodeError as error:
                raise CorruptDataError(f"The name of the format is no text: {error}.") from error
        else:
            length = 0
            if contents.format not in FORMATS_BY_ID:
                raise CorruptDataError(f"The format number {contents.format} is unknown.")
            name = FORMATS_BY_ID[contents.format]
        if expected is not None and expected != name:
            raise SerializeError(f"The data has the format {name!r}, not {str(expected)!r}.")
        if contents.format == CUSTOM_ID:
            serializer = self._named(name)
            if serializer is None:
                raise CorruptDataError(f"{name!r} is not the name of a custom format.")
            return serializer.loads(bytes(contents.stream[1 + length :]))
        if name == SerializationFormat.FRAME:
            return read_frame(contents, self.trust, copy=copy)
        if name == SerializationFormat.PICKLE:
            return unpickle(contents.stream, (), self.trust, vouched=contents.vouched)
        if name == SerializationFormat.TORCH and is_tree(contents.stream):
            return read_frame(contents, self.trust, copy=copy)
        is_trusted = self.trust == "all"
        return _read_format(SerializationFormat(name), contents, is_trusted=is_trusted)


def _read_format(name: SerializationFormat, contents: Contents, *, is_trusted: bool) -> Any:
    if contents.entries:
        raise CorruptDataError(f"A container of {name.name} has no buffers.")
    try:
        if not is_trusted:
            check_content(name, contents.stream, contents.budget)
        return FORMATS[name].loads(contents.stream)
    except OpsError:
        raise
    except MemoryError as error:
        raise TooLargeError("There is not enough memory for what the data claims.") from error
    except ImportError as error:
        raise missing_library(error) from error
    except Exception as error:  # each parser has errors of its own
        raise CorruptDataError(
            f"The {name.name} content could not be read: {in_words(error)}"
        ) from error


_global_custom: list[tuple[Callable[[Any], bool], Serializer]] = []


def register_custom_serializer(kind: type | Callable[[Any], bool], serializer: Serializer) -> None:
    """Register *serializer* for every `SmartSerializer` of this process.

    *kind* is a type (exactly) or a predicate. Raises `ValidationError` for one that is neither.
    """
    scratch = SmartSerializer()
    scratch.register_serializer(kind, serializer)
    _global_custom[:0] = scratch._custom  # noqa: SLF001 - the same module


def serialize_data(
    obj: Any,
    format: SerializationFormat | str | None = None,  # noqa: A002 - the published name
    compression: Compression | None = "auto",
    trust: Trust = "safe",
) -> bytes:
    """Return *obj* as bytes that `deserialize_data` reads back unchanged.

    *format* forces a `SerializationFormat` (None: the smallest that holds *obj*). *compression*
    "auto" compresses from 4 KiB on, None never. *trust* is what will read it: under "safe" an
    object that is no data raises `UnsupportedTypeError`; "user" and `Signed` sign, and may pickle,
    as "all" does.

    >>> deserialize_data(serialize_data({"a": (1, 2)}))
    {'a': (1, 2)}
    """
    return SmartSerializer(compression, trust).serialize(obj, format).data


def deserialize_data(
    data: SerializationResult | bytes | bytearray | memoryview,
    format: SerializationFormat | str | None = None,  # noqa: A002 - the published name
    trust: Trust = "safe",
) -> Any:
    """Return the object that `serialize_data` was given.

    *data* is its bytes; *format*, when given, must be the one the data has. *trust* decides what
    may be read: "safe" (data only), "user" (what this user signed), a `Safe` or `Signed`, or "all".
    Raises `CorruptDataError`, `UntrustedDataError`, `SignatureError`, `TooLargeError`, and
    `SerializeError` for another format.

    >>> deserialize_data(serialize_data([1, None, "two"]))
    [1, None, 'two']
    """
    return SmartSerializer(trust=trust).deserialize(data, format)


def dump(
    obj: Any, path: StrPath, compression: Compression | None = None, trust: Trust = "safe"
) -> None:
    """Write *obj* to *path*, atomically; uncompressed by default, so it can be mapped.

    *compression* is "lz4", "zstd", "zlib", "auto" or None. *trust* is what will read it: under
    "safe" an object that is no data raises `UnsupportedTypeError`; "user" and `Signed` sign, and
    may pickle, as "all" does.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "config.opsf")
    >>> dump({"depth": 12, "shape": (3, 4)}, path)
    >>> load(path)
    {'depth': 12, 'shape': (3, 4)}
    """
    SmartSerializer(compression, trust).dump(obj, path)


def load(
    path: StrPath, mmap: Mmap | None = None, *, trust: Trust = "safe", verify: bool | None = None
) -> Any:
    """Read from *path* what `dump` wrote.

    *mmap* "r" or "c" maps buffers instead of reading them; *trust* decides what may be read, and
    *verify* whether mapped buffers are checked: see `SmartSerializer.load`, which names the errors.
    """
    return SmartSerializer(trust=trust).load(path, mmap, verify=verify)


def detect_serialization_format(obj: Any) -> SerializationFormat | str:
    """Return the format that `serialize_data` would choose for *obj*."""
    return SmartSerializer().detect_format(obj)


def get_serializer(
    format: SerializationFormat | str,  # noqa: A002 - the published name
    trust: Trust = "safe",
) -> Serializer:
    """Return a `Serializer` that writes containers of one format."""
    return _OneFormat(str(format), trust)


class _OneFormat:
    def __init__(self, name: str, trust: Trust) -> None:
        self._smart = SmartSerializer(trust=trust)
        self._smart._named(name)  # noqa: SLF001 - refuse unknown names now
        self._name = name

    @property
    def format(self) -> str:
        return self._name

    def dumps(self, obj: Any, /) -> bytes:
        return self._smart.serialize(obj, self._name).data

    def loads(self, data: Any, /) -> Any:
        return self._smart.deserialize(data, self._name)
