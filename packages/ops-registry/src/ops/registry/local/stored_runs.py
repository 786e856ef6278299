"""Runs of a list, whose fields are read when one of them is looked at.

A list of 20 000 runs takes two seconds to decode, and callers mostly look at a few of them. Each
is a `Run`, equal to one that was read at once, and keeps the text that it was listed with: it does not follow later changes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ops.registry.local.index.stored_rows import StoredRow, row_of
from ops.registry.records import Run
from ops.registry.tracking.run_records import to_run

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable

    from ops.registry.local.index.stored_rows import AnyRow

__all__ = ["StoredRun", "to_runs"]

_FIELDS = tuple(field.name for field in dataclasses.fields(Run))


def to_runs(rows: Iterable[AnyRow], artifacts: pathlib.Path) -> list[Run]:
    """Return rows as public records; *artifacts* is the folder of all runs' artifacts."""
    return [
        _stored(row.text, artifacts) if isinstance(row, StoredRow) else to_run(row, artifacts)
        for row in rows
    ]


class StoredRun(Run):
    """A run that was listed. Once a field was looked at, it is as any other run."""

    __slots__ = ("_artifacts", "_text")

    _artifacts: pathlib.Path
    _text: str

    def __getattr__(self, name: str) -> Any:
        """Read all fields; only what has no value yet comes here."""
        if name not in _FIELDS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        run = to_run(row_of(self._text), self._artifacts)
        for field in _FIELDS:
            object.__setattr__(self, field, getattr(run, field))
        return getattr(run, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as the run that it is."""
        return Run, _values(self)

    def __eq__(self, other: object) -> bool:
        """Whether the other run, listed or not, is the same."""
        return isinstance(other, Run) and _values(self) == _values(other)

    __hash__ = Run.__hash__

    def __repr__(self) -> str:
        return repr(Run(*_values(self)))


def _values(run: Run) -> tuple[Any, ...]:
    return tuple(getattr(run, field) for field in _FIELDS)


def _stored(text: str, artifacts: pathlib.Path) -> StoredRun:
    made = object.__new__(StoredRun)
    object.__setattr__(made, "_text", text)
    object.__setattr__(made, "_artifacts", artifacts)
    return made
