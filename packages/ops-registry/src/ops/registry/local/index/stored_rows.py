"""Rows of the table of an index, decoded when they are looked at: of thousands that are listed, few are.

A list of runs is in the order of the table already, so nothing in a row needs to be known to return it. What is on top
of the table is put in between by bisection, which looks at a few rows for each.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.registry.errors import CorruptStoreError
from ops.registry.json_values import decode
from ops.registry.run_rows import RunRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["AnyRow", "StoredRow", "merged_rows", "plain_row", "row_of"]


class StoredRow:
    """The text of a row; what it decodes to is kept, and is not the caller's to change."""

    __slots__ = ("_row", "text")

    def __init__(self, text: str) -> None:
        self.text: str = text
        self._row: RunRow | None = None

    def row(self) -> RunRow:
        """Return the row."""
        row = self._row
        if row is None:
            row = self._row = row_of(self.text)
        return row


AnyRow: TypeAlias = "StoredRow | RunRow"


def row_of(text: str) -> RunRow:
    """Return the row that an index keeps as *text*.

    Raises:
        CorruptStoreError: it is none.
    """
    try:
        return RunRow.from_plain(decode(text.encode()))
    except ValueError as error:
        raise CorruptStoreError(
            f"A row of the index cannot be read: {text!r:.80}.",
            suggestions=("Rebuild it from the journals: ops-registry fsck --repair.",),
        ) from error


def plain_row(row: AnyRow) -> RunRow:
    """Return a row, decoded if it was not yet."""
    return row.row() if isinstance(row, StoredRow) else row


def merged_rows(
    many: Sequence[AnyRow],
    few: Sequence[RunRow],
    key: Callable[[RunRow], Any],
) -> list[AnyRow]:
    """Return the rows of both, each of which is in the order of *key*, in that order."""
    found: list[AnyRow] = []
    done = 0
    for row in few:
        here = bisect.bisect_right(many, key(row), lo=done, key=lambda one: key(plain_row(one)))
        found += many[done:here]
        found.append(row)
        done = here
    found += many[done:]
    return found
