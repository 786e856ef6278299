"""The footer of a Parquet file: what it makes its reader allocate, and where its columns lie.

The footer is one Thrift struct in the compact protocol (parquet.thrift: `FileMetaData`). An empty struct takes
a byte there, and a thousand in memory, so they are counted before Arrow's reader sees them. What is needed
of it is read here too: some accessors of Arrow end the process where a footer contradicts itself.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from typing import TYPE_CHECKING, Any

from ops.serialize.errors import CorruptDataError
from ops.serialize.nodes.arrow_messages import check_messages
from ops.serialize.thrift import BINARY, FALSE, I32, I64, LIST, STRUCT, TRUE, CompactReader

if TYPE_CHECKING:
    from ops.serialize.limits import Budget

__all__ = ["BYTE_ARRAY", "FIXED_LENGTH", "Column", "Footer", "read_footer"]

BYTE_ARRAY, FIXED_LENGTH = 6, 7  # of the enum `Type`
_MAGIC = b"PAR1"
_OF_COLUMN = 1200  # bytes of a ColumnChunk in memory
_OF_STRUCT = 200
_ARROW = b"ARROW:schema"


@dataclasses.dataclass(slots=True)
class Column:
    """A chunk of a column: its pages lie in *compressed* bytes from *data_page* or *dictionary* on."""

    data_page: int = -1
    dictionary: int | None = None
    compressed: int = -1
    values: int = 0
    path: str = ""


@dataclasses.dataclass(slots=True)
class Footer:
    """The rows, type and length of each column of the schema, and the chunks of each group of rows."""

    rows: int = 0
    leaves: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    groups: list[list[Column]] = dataclasses.field(default_factory=list)


def read_footer(stream: memoryview, budget: Budget) -> Footer:
    """Count what the footer of the file in *stream* takes, and return its content.

    Raises `CorruptDataError` or `TooLargeError`.
    """
    size = int.from_bytes(stream[-8:-4], "little")
    start = len(stream) - 8 - size
    if bytes(stream[-4:]) != _MAGIC or start < len(_MAGIC):
        raise CorruptDataError("The Parquet file has no footer.")
    return _Reader(stream, start, len(stream) - 8, budget).footer()


class _Reader(CompactReader):
    """Walks the footer once; fields of another type than the format has are passed over, as Arrow does."""

    def __init__(self, stream: memoryview, start: int, end: int, budget: Budget) -> None:
        super().__init__(stream, start, end)
        self._budget = budget

    def footer(self) -> Footer:
        found = Footer()
        for field, kind in self.fields():
            if (field, kind) == (2, LIST):
                found.leaves = [leaf for leaf in map(self._element, self.items()) if leaf]
            elif (field, kind) == (3, I64):
                found.rows = self.number()
            elif (field, kind) == (4, LIST):
                found.groups = [self._group(item) for item in self.items()]
            elif (field, kind) == (5, LIST):
                for item in self.items():
                    self._key_value(item)
            else:
                self._pass_over(kind)
        if any(len(group) != len(found.leaves) for group in found.groups):
            raise CorruptDataError("The columns of the Parquet file are not those of its schema.")
        return found

    def on_struct(self, size: int = _OF_STRUCT) -> None:
        """Count a struct of *size* bytes when it starts."""
        self._budget.take(size)
        self._budget.copy(size)
        self._budget.take_time(4)

    def _pass_over(self, kind: int) -> None:
        if kind not in {TRUE, FALSE}:
            self.skip(kind)

    def _enter(self, kind: int, size: int = _OF_STRUCT) -> None:
        if kind != STRUCT:
            raise CorruptDataError("A struct of the Parquet file is none.")
        self.on_struct(size)

    def _element(self, kind: int) -> tuple[int, int] | None:
        """Return type and length of an element of the schema, None for one that has others below."""
        self._enter(kind)
        numbers: dict[int, int] = {}
        for field, inner in self.fields():
            if inner == I32:
                numbers[field] = self.int32()
            else:
                self._pass_over(inner)
        is_leaf = not numbers.get(5) and 1 in numbers
        return (numbers[1], max(numbers.get(2, 0), 0)) if is_leaf else None

    def _group(self, kind: int) -> list[Column]:
        self._enter(kind)
        columns: list[Column] = []
        for field, inner in self.fields():
            if (field, inner) == (1, LIST):
                columns = [self._column(item) for item in self.items()]
            else:
                self._pass_over(inner)
        return columns

    def _column(self, kind: int) -> Column:
        self._enter(kind, _OF_COLUMN)
        column = Column()
        for field, inner in self.fields():
            if (field, inner) == (1, BINARY):
                raise CorruptDataError("A column of the Parquet file lies in another one.")
            if (field, inner) == (3, STRUCT):
                self._metadata(column)
            else:
                self._pass_over(inner)
        return column

    def _metadata(self, column: Column) -> None:
        numbers: dict[int, int] = {}
        for field, kind in self.fields():
            if kind == I64:
                numbers[field] = self.number()
            elif (field, kind) == (3, LIST):
                column.path = ".".join(self._text(item) for item in self.items())
            else:
                self._pass_over(kind)
        column.values = max(numbers.get(5, 0), 0)
        column.compressed = numbers.get(7, -1)
        column.data_page = numbers.get(9, -1)
        column.dictionary = numbers.get(11)

    def _text(self, kind: int) -> str:
        if kind != BINARY:
            raise CorruptDataError("A name of the Parquet file is no text.")
        return self.binary().decode("utf-8", "replace")

    def _key_value(self, kind: int) -> None:
        self._enter(kind)
        texts: dict[Any, bytes] = {}
        for field, inner in self.fields():
            if inner == BINARY:
                texts[field] = self.binary()
            else:
                self._pass_over(inner)
        if texts.get(1) == _ARROW:
            try:
                schema = base64.b64decode(texts.get(2, b""), validate=True)
            except binascii.Error as error:
                raise CorruptDataError("The schema of the Parquet file is no base64.") from error
            check_messages(memoryview(schema), self._budget)
