"""What the pages of a Parquet file unpack to, read from the headers of the pages themselves.

The footer names a size for each column, but the reader believes the header before each page, so a
small file could unpack to any size. Headers are Thrift structs in the compact protocol (parquet.thrift:
`PageHeader`; thrift-compact-protocol.md); only the numbers that matter are kept, all else is skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.serialize.errors import CorruptDataError
from ops.serialize.thrift import FALSE, I32, NUMBERS, STRUCT, TRUE, CompactReader

if TYPE_CHECKING:
    from ops.serialize.parquet_footer import Column

__all__ = ["unpacked_size"]

_UNCOMPRESSED, _COMPRESSED = 2, 3  # fields of PageHeader
_DATA, _DATA_V2 = 5, 8  # and those of its structs that count values, in their field 1


def unpacked_size(stream: memoryview, column: Column) -> int:
    """Return the bytes that the pages of *column*, a chunk in the footer, unpack to.

    Raises `CorruptDataError` for pages that do not lie in the chunk.
    """
    # Without rows there is a dictionary and no data page, whose offset is 0 then.
    pages = [column.data_page, *(() if column.dictionary is None else (column.dictionary,))]
    start = min((page for page in pages if page > 0), default=0)
    end = start + column.compressed
    if not 0 < start <= end <= len(stream):
        raise CorruptDataError("A column of the Parquet file lies outside of it.")
    reader, values, total = _Headers(stream, start, end), 0, 0
    while reader.at < end and (values < column.values or not total):
        header = reader.struct()
        packed, unpacked = header.get(_COMPRESSED, -1), header.get(_UNCOMPRESSED, -1)
        if packed < 0 or unpacked < 0:
            raise CorruptDataError("A page of the Parquet file has no size.")
        values += max(0, header.get((_DATA, 1), 0), header.get((_DATA_V2, 1), 0))
        total += unpacked
        reader.at += packed
    return total


class _Headers(CompactReader):
    """Reads the headers of pages."""

    def struct(self) -> dict[Any, int]:
        """Return the numbers of a struct by their field, those of its structs by pairs of fields."""
        found: dict[Any, int] = {}
        for field, kind in self.fields():
            if kind == STRUCT:
                inner = self.struct()
                found.update({(field, key): value for key, value in inner.items()})
            elif kind == I32:
                found[field] = self.int32()
            elif kind in NUMBERS:
                self.number()
            elif kind not in {TRUE, FALSE}:
                self.skip(kind)
        return found
