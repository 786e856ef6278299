"""Looking into a file without loading it: what it is, and what its stream would import."""

from __future__ import annotations

import pickletools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ops.serialize.container import open_container
from ops.serialize.formats import SerializationFormat
from ops.serialize.smart import FORMATS_BY_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.files import StrPath

__all__ = ["FileInfo", "inspect", "scan"]

_PICKLED = {SerializationFormat.FRAME, SerializationFormat.PICKLE}


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What a file of ops.serialize holds; sizes in bytes."""

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

    Empty for formats that hold no pickle stream. Raises CorruptDataError.
    """
    contents = open_container(path, mmap="r", verify=False)
    if _name(contents.format) not in _PICKLED:
        return []
    return sorted(set(_imports(bytes(contents.stream))))


def _imports(stream: bytes) -> Iterator[str]:
    """Yield what the GLOBAL opcodes of a pickle name; follows the memo, where names are kept."""
    texts: list[str] = []
    memo: dict[int, str] = {}
    top: str | None = None  # the text that the last opcode pushed
    for opcode, argument, _ in pickletools.genops(stream):
        pushed: str | None = None
        if opcode.name in {"GLOBAL", "INST"}:
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = top if top is not None else "?"
            pushed = top
        elif opcode.name in {"BINGET", "LONG_BINGET", "GET"} and isinstance(argument, int):
            pushed = memo.get(argument, "?")
            texts.append(pushed)
        elif isinstance(argument, str):
            pushed = argument
            texts.append(pushed)
        top = pushed


def _name(number: int) -> str:
    return str(FORMATS_BY_ID.get(number, "custom"))
