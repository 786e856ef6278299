"""What the messages of an Arrow IPC stream claim, looked at before Arrow reads them.

A message is a table of flatbuffers, in which many references may lead to one part: a schema of a few bytes
can stand for any number of fields. So the fields are counted as often as a reader would meet them. Bodies
that are compressed, and dictionaries that are put together from pieces, are refused: a writer here makes
none, and they would unpack to whatever they claim. (Schema.fbs and Message.fbs of Arrow have the fields.)
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ops.serialize.errors import CorruptDataError

if TYPE_CHECKING:
    from ops.serialize.limits import Budget

__all__ = ["check_messages"]

_CONTINUATION = 0xFFFFFFFF
_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3
_OF_FIELD = 512  # bytes that Arrow takes for a field, beside its texts
_OF_TEXT = 64


def check_messages(data: memoryview, budget: Budget) -> None:
    """Count the fields in the IPC stream *data*; raise `CorruptDataError` for what no writer here makes."""
    at, end = 0, data.nbytes
    try:
        while at + 8 <= end:
            mark, size = struct.unpack_from("<Ii", data, at)
            if mark != _CONTINUATION:
                raise CorruptDataError("A message of Arrow does not start like one.")
            if not size:
                return
            if size < 0 or at + 8 + size > end:
                raise CorruptDataError("A message of Arrow is cut off.")
            body = _Message(data[at + 8 : at + 8 + size], budget).check()
            if body < 0 or at + 8 + size + body > end:
                raise CorruptDataError("The body of a message of Arrow is cut off.")
            at += 8 + size + body
    except struct.error as error:
        raise CorruptDataError("A message of Arrow points outside of itself.") from error


class _Message:
    """One message; positions are offsets in it, 0 for what is absent."""

    def __init__(self, message: memoryview, budget: Budget) -> None:
        self._message = message
        self._budget = budget

    def check(self) -> int:
        """Check the message and return the size of its body."""
        table = self._number("<I", 0)
        kind_at, body_at = self._field(table, 1), self._field(table, 3)
        kind = self._number("<B", kind_at) if kind_at else 0
        self._count_texts(self._vector(self._field(table, 4)))
        if kind == _SCHEMA:
            self._count_schema(self._follow(self._field(table, 2)))
        elif kind in {_RECORD_BATCH, _DICTIONARY_BATCH}:
            batch = self._follow(self._field(table, 2))
            if kind == _DICTIONARY_BATCH:
                is_delta = self._field(batch, 2)
                if is_delta and self._number("<B", is_delta):
                    raise CorruptDataError("A dictionary of Arrow is in pieces.")
                batch = self._follow(self._field(batch, 1))
            if self._field(batch, 3):
                raise CorruptDataError("A message of Arrow is compressed.")
        return self._number("<q", body_at) if body_at else 0

    def _count_schema(self, schema: int) -> None:
        self._count_texts(self._vector(self._field(schema, 2)))
        pending = self._vector(self._field(schema, 1))
        while pending:
            field = pending.pop()
            self._take(_OF_FIELD + self._length(self._field(field, 0)))
            kind = self._field(field, 3)
            if kind:  # what a type has of its own: the codes of a union, the name of a zone
                kind = self._follow(kind)
                for number in (0, 1):
                    self._take_part(kind, number)
            self._count_texts(self._vector(self._field(field, 6)))
            pending += self._vector(self._field(field, 5))

    def _take_part(self, table: int, number: int) -> None:
        """Count what a field of *table* may refer to; of a number it is nothing that counts."""
        at = self._field(table, number)
        if at and at + 4 <= len(self._message):
            start = at + self._number("<I", at)
            if start + 4 <= len(self._message):
                size = self._number("<I", start)
                self._take(size if start + 4 + size <= len(self._message) else 0)

    def _count_texts(self, tables: list[int]) -> None:
        for table in tables:
            size = self._length(self._field(table, 0)) + self._length(self._field(table, 1))
            self._take(2 * _OF_TEXT + size)

    def _take(self, size: int) -> None:
        self._budget.take(size)
        self._budget.copy(size)
        self._budget.take_time(16)

    def _number(self, form: str, at: int) -> int:
        if at < 0:
            raise CorruptDataError("A message of Arrow points outside of itself.")
        return int(struct.unpack_from(form, self._message, at)[0])

    def _field(self, table: int, number: int) -> int:
        """Return where the field *number* of *table* is, 0 when it is absent."""
        fields = table - self._number("<i", table)
        if fields < 0:
            raise CorruptDataError("A message of Arrow points outside of itself.")
        where = 4 + 2 * number
        if where + 2 > self._number("<H", fields):
            return 0
        offset = self._number("<H", fields + where)
        return table + offset if offset else 0

    def _follow(self, at: int) -> int:
        if not at:
            raise CorruptDataError("A message of Arrow has no content.")
        return at + self._number("<I", at)

    def _length(self, at: int) -> int:
        """Return the length of the text that the field at *at* refers to."""
        return self._number("<I", self._follow(at)) if at else 0

    def _vector(self, at: int) -> list[int]:
        """Return the tables in the vector that the field at *at* refers to."""
        if not at:
            return []
        start = self._follow(at)
        count = self._number("<I", start)
        first = start + 4
        if first + 4 * count > len(self._message):
            raise CorruptDataError("A message of Arrow points outside of itself.")
        self._budget.take_time(count)
        offsets = struct.unpack_from(f"<{count}I", self._message, first)
        return [first + 4 * n + offset for n, offset in enumerate(offsets)]
