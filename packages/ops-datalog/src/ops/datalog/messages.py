"""What reading gives: messages one by one, blocks of them, columns, and reports."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Columns", "LogReport", "Message"]

#: This process, or the machine, has no descriptor or memory left.
_NO_DAMAGE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Message(NamedTuple):
    """One message; `data` is a uint8 array.

    Arrays of neighbouring messages share memory: who keeps one for long keeps a copy of it.
    """

    source_id: int
    timestamp: int
    data: np.ndarray


class Block(NamedTuple):
    """Messages in time order: `rows` is a uint8 array (n, size), or a list when sizes differ."""

    times: np.ndarray
    sources: np.ndarray
    rows: np.ndarray | list[np.ndarray]

    def messages(self) -> Iterator[Message]:
        """Yield the messages one by one."""
        fields = zip(self.sources.tolist(), self.times.tolist(), self.rows, strict=True)
        # What Message(...) does, without a call of Python's own for each.
        return map(tuple.__new__, repeat(Message), fields)


@dataclass(frozen=True, slots=True)
class Columns:
    """All messages of one source: `times` uint64 (n,), `data` uint8 (n, size) or a list of arrays."""

    times: np.ndarray
    data: np.ndarray | list[np.ndarray]

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> Columns:
        """Join blocks of one source."""
        times = np.concatenate([np.empty(0, np.uint64), *(block.times for block in blocks)])
        arrays = [block.rows for block in blocks if isinstance(block.rows, np.ndarray)]
        if len(arrays) == len(blocks) and len({rows.shape[1] for rows in arrays}) == 1:
            return cls(times, np.concatenate(arrays))
        return cls(times, [row for block in blocks for row in block.rows])


@dataclass(slots=True)
class LogReport:
    """What verify() found; `gaps` are sequence numbers that a writer used and that cannot be read.

    `damaged` describes what was found where, `damaged_files` are the paths of those files. `newer_files` are
    those of them that a newer ops-datalog wrote.

    *messages* counts what was read, *sources* are its numbers. *torn_bytes* are those of messages
    whose writer was stopped in the middle.
    """

    messages: int = 0
    sources: list[int] = field(default_factory=list)
    torn_bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    gaps: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    damaged_files: list[str] = field(default_factory=list)
    newer_files: list[str] = field(default_factory=list)

    def note_damage(self, path: Path, what: str) -> None:
        """Add damage in the file *path*."""
        self.damaged.append(f"{path.name}: {what}")
        if str(path) not in self.damaged_files:
            self.damaged_files.append(str(path))

    def note_unreadable(self, path: Path, error: Exception) -> None:
        """Add what reading the file *path* has raised; raises it when that is no damage of the file."""
        if isinstance(error, OSError) and error.errno in _NO_DAMAGE:
            raise error
        self.note_damage(path, str(error) or "cut short")

    def clear(self) -> None:
        """Clear everything, to start over."""
        self.messages, self.torn_bytes = 0, 0
        for found in (
            self.sources, self.damaged, self.gaps, self.damaged_files, self.newer_files,
        ):  # fmt: skip
            found.clear()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged and nothing is missing; torn ends of killed writers are normal."""
        return not self.damaged and not self.gaps
