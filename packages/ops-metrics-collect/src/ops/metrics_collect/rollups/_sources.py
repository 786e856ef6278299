"""What has been added to a rollup: tarballs by their digests, and other sources by the names they were given.

A tarball of which an extractor selected only some of the rollup's collections is remembered with them, so
that the same may come again, and the rest cannot be taken for what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.metrics_collect.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Sources", "name_of"]

_SOME = "#collections="


def name_of(digest: str, selected: Collection[str] | None) -> str:
    """Return the name of a tarball of which these collections are added, or all."""
    return digest if selected is None else f"{digest}{_SOME}{','.join(sorted(selected))}"


class Sources:
    """The names of what has been added."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._whole: set[str] = set()  # without saying which collections

    def add(self, names: Collection[str]) -> None:
        """Remember that these have been added."""
        self.names.update(names)
        self._whole.update(name.partition(_SOME)[0] for name in names)

    def are_new(self, names: Collection[str]) -> bool:
        """Return whether none of these has been added; False when all have. Else it is a StateError."""
        shared = [name for name in names if name.partition(_SOME)[0] in self._whole]
        if shared and not self.names.issuperset(names):
            raise StateError(
                f"{len(shared)} of {len(names)} sources have been added already, or some of their "
                "collections, and aggregates cannot be taken apart.",
                suggestions=("Roll the sources up again into one.",),
            )
        return not shared
