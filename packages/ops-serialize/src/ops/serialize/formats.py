"""Names and numbers of the formats, and the protocol of their writers.

`holds(obj)` is the guarantee behind "never loses anything silently": it is true only for objects that
come back equal in value and type, so detection can choose a compact format where that costs nothing
and everything else goes to FRAME. `dumps` refuses what `holds` refuses.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from ops.serialize.errors import UnsupportedTypeError

__all__ = ["CUSTOM_ID", "FORMAT_IDS", "BuiltinFormat", "SerializationFormat", "Serializer"]


class SerializationFormat(StrEnum):
    """The formats that a container's content can have."""

    PICKLE = "pickle"
    JSON = "json"
    PARQUET = "parquet"
    NUMPY = "numpy"
    TORCH = "torch"
    ARROW = "arrow"
    FRAME = "frame"
    MSGPACK = "msgpack"
    YAML = "yaml"
    CSV = "csv"


# Numbers in files; never reuse one.
FORMAT_IDS = {f: i for i, f in enumerate(SerializationFormat, 1)}
CUSTOM_ID = 255


@runtime_checkable
class Serializer(Protocol):
    """What ops-cache and others take: bytes from an object and back."""

    @property
    def format(self) -> str:
        """The name of the format."""
        ...

    def dumps(self, obj: Any, /) -> bytes:
        """Return *obj* as bytes."""
        ...

    def loads(self, data: Any, /) -> Any:
        """Return the object that `dumps` was given."""
        ...


class BuiltinFormat:
    """The shape that the built-in formats share."""

    format: SerializationFormat

    def holds(self, obj: Any) -> bool:
        """Whether *obj* comes back equal in value and type."""
        raise NotImplementedError

    def require(self, obj: Any) -> None:
        """Raise `UnsupportedTypeError` for what does not."""
        if not self.holds(obj):
            raise UnsupportedTypeError(
                f"{self.format.name} would not give this {type(obj).__qualname__} back unchanged.",
                suggestions=("Use SerializationFormat.FRAME, or give no format.",),
            )
