"""The compact protocol of Thrift, in which Parquet writes its footer and the headers of its pages.

(thrift-compact-protocol.md.) Nothing is kept of what is skipped, and everything is read within its bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.serialize.errors import CorruptDataError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BINARY", "FALSE", "I32", "I64", "LIST", "NUMBERS", "STRUCT", "TRUE", "CompactReader"]

_DEEPEST = 16  # structs inside each other; the formats have eight
TRUE, FALSE, _BYTE, _I16, I32, I64, _DOUBLE, BINARY, LIST, _SET, _MAP, STRUCT = range(1, 13)
NUMBERS = frozenset((_I16, I32, I64))


class CompactReader:
    """Reads a struct of *stream* from *at* on, and nothing behind *end*.

    Raises `CorruptDataError` for what is none.
    """

    def __init__(self, stream: memoryview, start: int, end: int) -> None:
        self._stream = stream
        self._end = end
        self._depth = 0
        self.at: int = start

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and type of each field of a struct; the caller reads its value in between."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CorruptDataError("A struct of the Parquet file is nested too deeply.")
        field = 0
        while kind := self._byte():
            delta, kind = kind >> 4, kind & 15
            field = field + delta if delta else self.number()
            yield field, kind
        self._depth -= 1

    def items(self) -> Iterator[int]:
        """Yield the type of each item of a list; the caller reads its value in between."""
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(count):
            yield head & 15

    def number(self) -> int:
        """Return a number."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def int32(self) -> int:
        """Return a number of 32 bits; of a longer one what a reader in C++ keeps of it."""
        return (self.number() + (1 << 31)) % (1 << 32) - (1 << 31)

    def binary(self) -> bytes:
        """Return bytes."""
        size = self._varint()
        start = self.at
        self._pass(size)
        return bytes(self._stream[start : self.at])

    def on_struct(self) -> None:
        """Do something when a struct is skipped."""

    def skip(self, kind: int) -> None:
        """Pass over a value of the type *kind*; of true and false in a struct there is none."""
        if kind in NUMBERS:
            self._varint()
        elif kind == BINARY:
            self._pass(self._varint())
        elif kind == STRUCT:
            self.on_struct()
            for _, inner in self.fields():
                if inner not in {TRUE, FALSE}:
                    self.skip(inner)
        elif kind in {LIST, _SET}:
            self._depth += 1
            if self._depth > _DEEPEST:
                raise CorruptDataError("A list of the Parquet file is nested too deeply.")
            for inner in self.items():
                self.skip(inner)
            self._depth -= 1
        elif kind == _DOUBLE:
            self._pass(8)
        elif kind in {TRUE, FALSE, _BYTE}:  # in a list
            self._pass(1)
        else:  # neither footer nor headers have a map
            raise CorruptDataError(f"A struct of the Parquet file has the type {kind}.")

    def _pass(self, size: int) -> None:
        if size > self._end - self.at:
            raise CorruptDataError("A struct of the Parquet file is cut off.")
        self.at += size

    def _byte(self) -> int:
        at = self.at
        if at >= self._end:
            raise CorruptDataError("A struct of the Parquet file is cut off.")
        self.at = at + 1
        return self._stream[at]

    def _varint(self) -> int:
        byte = self._byte()
        if byte < 128:
            return byte
        value, shift = byte & 127, 7
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise CorruptDataError("A number of the Parquet file is too long.")
