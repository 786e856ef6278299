"""What the pages of a Parquet file unpack to, read from the headers of the pages themselves.

The footer names a size for each column, but the reader believes the header before each page, so a
small file could unpack to any size. Headers are Thrift structs in the compact protocol (parquet.thrift:
`PageHeader`; thrift-compact-protocol.md); only the numbers that matter are kept, all else is skipped.
"""

from __future__ import annotations

from typing import Any

from ops.serialize.errors import CorruptDataError

__all__ = ["unpacked_size"]

_UNCOMPRESSED, _COMPRESSED = 2, 3  # fields of PageHeader
_DATA, _DATA_V2 = 5, 8  # and those of its structs that count values, in their field 1
_DEEPEST = 8  # structs inside each other; the format has four
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


def unpacked_size(stream: memoryview, column: Any) -> int:
    """Return the bytes that the pages of *column*, a chunk in the metadata, unpack to.

    Raises `CorruptDataError` for pages that do not lie in the chunk.
    """
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    end = start + column.total_compressed_size
    if not 0 < start <= end <= len(stream):
        raise CorruptDataError("A column of the Parquet file lies outside of it.")
    reader, values, total = _Headers(stream, start, end), 0, 0
    while reader.at < end and values < column.num_values:
        header = reader.struct(0)
        packed, unpacked = header.get(_COMPRESSED, -1), header.get(_UNCOMPRESSED, -1)
        if packed < 0 or unpacked < 0:
            raise CorruptDataError("A page of the Parquet file has no size.")
        values += max(0, header.get((_DATA, 1), 0), header.get((_DATA_V2, 1), 0))
        total += unpacked
        reader.at += packed
    return total


class _Headers:
    """Reads structs of the compact protocol from *at* on."""

    def __init__(self, stream: memoryview, start: int, end: int) -> None:
        self._stream = stream
        self._end = end
        self.at = start

    def struct(self, depth: int) -> dict[Any, int]:
        """Return the numbers of a struct by their field, those of its structs by pairs of fields."""
        if depth > _DEEPEST:
            raise CorruptDataError("The header of a page of the Parquet file is nested too deeply.")
        found: dict[Any, int] = {}
        field = 0
        while kind := self._byte():
            delta, kind = kind >> 4, kind & 15
            field = field + delta if delta else self._number()
            if kind == _STRUCT:
                inner = self.struct(depth + 1)
                found.update({(field, key): value for key, value in inner.items()})
            elif kind in {_I16, _I32, _I64}:
                found[field] = self._number()
            elif kind not in {_TRUE, _FALSE}:
                self._skip(kind, depth)
        return found

    def _skip(self, kind: int, depth: int) -> None:
        if kind in {_TRUE, _FALSE, _BYTE}:  # in a list they take a byte each
            self._byte()
        elif kind in {_I16, _I32, _I64}:
            self._number()
        elif kind == _DOUBLE:
            self.at += 8
        elif kind == _BINARY:
            length = self._varint()
            self.at += length
        elif kind in {_LIST, _SET}:
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            for _ in range(count):
                self._skip(head & 15, depth)
        elif kind == _STRUCT:
            self.struct(depth + 1)
        else:  # no header of a page has a map
            raise CorruptDataError(f"The header of a page of the Parquet file has the type {kind}.")

    def _byte(self) -> int:
        if self.at >= self._end:
            raise CorruptDataError("The header of a page of the Parquet file is cut off.")
        self.at += 1
        return self._stream[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise CorruptDataError("A number in a header of the Parquet file is too long.")

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
