"""How users call ops.serialize."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

from ops.serialize import (
    SerializationFormat,
    SerializationResult,
    Serializer,
    Signed,
    SmartSerializer,
    YamlConfig,
    digest,
    dump,
    load,
)


@dataclass
class Settings(YamlConfig):
    path: Path
    count: int = 3


class Upper:
    """A serializer of the user's own."""

    format = "upper"

    def dumps(self, obj: object, /) -> bytes:
        return str(obj).upper().encode()

    def loads(self, data: bytes, /) -> object:
        return data.decode()


def use(path: Path) -> None:
    own: Serializer = Upper()
    result = SmartSerializer("zstd", Signed(b"0" * 16)).serialize(
        {"a": 1}, SerializationFormat.JSON
    )
    assert_type(result, SerializationResult)
    assert_type(digest([1, own.format]), str)
    dump(result.data, path)
    load(path, mmap="r")
    assert_type(Settings.from_yaml(path), Settings)
