"""What the footer of a Parquet file makes its reader allocate, and the schema of Arrow that lies in it.

The footer is one Thrift struct in the compact protocol (parquet.thrift: `FileMetaData`). An empty struct takes
a byte there, and a thousand in memory, so they are counted before the reader sees them.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from ops.serialize.errors import CorruptDataError
from ops.serialize.nodes.arrow_messages import check_messages
from ops.serialize.thrift import BINARY, FALSE, LIST, STRUCT, TRUE, CompactReader

if TYPE_CHECKING:
    from ops.serialize.limits import Budget

__all__ = ["check_footer"]

_MAGIC = b"PAR1"
_ROW_GROUPS, _KEY_VALUES = 4, 5  # fields of FileMetaData
_COLUMNS = 1  # of RowGroup
_OF_COLUMN = 1200  # bytes of a ColumnChunk
_OF_STRUCT = 200
_ARROW = b"ARROW:schema"


def check_footer(stream: memoryview, budget: Budget) -> None:
    """Count what the footer of the file in *stream* takes; raises `CorruptDataError`, `TooLargeError`."""
    size = int.from_bytes(stream[-8:-4], "little")
    start = len(stream) - 8 - size
    if bytes(stream[-4:]) != _MAGIC or start < len(_MAGIC):
        raise CorruptDataError("The Parquet file has no footer.")
    _Footer(stream, start, len(stream) - 8, budget).check()


class _Footer(CompactReader):
    """Walks the footer once."""

    def __init__(self, stream: memoryview, start: int, end: int, budget: Budget) -> None:
        super().__init__(stream, start, end)
        self._budget = budget

    def check(self) -> None:
        """Count everything, and what the schema of Arrow takes."""
        for number, kind in self.fields():
            if number == _KEY_VALUES and kind == LIST:
                self._key_values()
            elif number == _ROW_GROUPS and kind == LIST:
                for item in self.items():
                    self._row_group(item)
            elif kind not in {TRUE, FALSE}:
                self.skip(kind)

    def on_struct(self) -> None:
        """Count a struct when it starts."""
        self._budget.take(_OF_STRUCT)
        self._budget.copy(_OF_STRUCT)
        self._budget.take_time(4)

    def _row_group(self, kind: int) -> None:
        if kind != STRUCT:
            raise CorruptDataError("A group of rows of the Parquet file is none.")
        self.on_struct()
        for number, inner in self.fields():
            if number == _COLUMNS and inner == LIST:
                for item in self.items():
                    self._budget.take(_OF_COLUMN)
                    self._budget.copy(_OF_COLUMN)
                    self.skip(item)
            elif inner not in {TRUE, FALSE}:
                self.skip(inner)

    def _key_values(self) -> None:
        for kind in self.items():
            if kind != STRUCT:
                raise CorruptDataError("The metadata of the Parquet file are none.")
            texts = {1: b"", 2: b""}
            for number, inner in self.fields():
                if inner == BINARY:
                    texts[number] = self.binary()
                elif inner not in {TRUE, FALSE}:
                    self.skip(inner)
            if texts[1] == _ARROW:
                self._arrow(texts[2])

    def _arrow(self, text: bytes) -> None:
        try:
            schema = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise CorruptDataError("The schema of the Parquet file is no base64.") from error
        check_messages(memoryview(schema), self._budget)
