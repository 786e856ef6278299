"""What a check of a store found, whichever backend it is on."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["Report"]


@dataclasses.dataclass(slots=True)
class Report:
    """What a check found; *problems* are sentences.

    *torn_lines* and *unstarted* runs, which have no whole first line, are what kills left behind. *unknown_frames* are
    of kinds that a later version writes: they change nothing here and are kept. *elsewhere* names what MLflow
    keeps outside of the store, which is not checked.
    """

    runs: int = 0
    unstarted: int = 0
    versions: int = 0
    logged_models: int = 0
    traces: int = 0
    datasets: int = 0
    unknown_frames: int = 0
    torn_lines: int = 0
    removed_copies: int = 0
    elsewhere: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong; what was never acknowledged is no problem."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return dataclasses.asdict(self) | {"is_sound": self.is_sound}
