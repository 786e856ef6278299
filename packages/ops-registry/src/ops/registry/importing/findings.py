"""What an import could not take, by name: nothing is left out in silence."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from ops.registry.errors import MLOpsException

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Findings", "ForeignDataError"]

#: So many are named one by one; of more the number is.
_MOST = 1_000


class ForeignDataError(MLOpsException):
    """Something in another program's files is not what that program writes; the import goes on without it."""


@dataclasses.dataclass(slots=True)
class Findings:
    """*refused* is what is damaged or hostile, *left_out* what an import does not bring by design."""

    refused: list[str] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    _more: int = 0

    def refuse(self, where: str, reason: object) -> None:
        """Note that what is at *where* is not taken."""
        line = f"{_shown(where)}: {reason}"
        if line in self.refused:
            return
        if len(self.refused) < _MOST:
            self.refused.append(line)
        else:
            self._more += 1

    @contextlib.contextmanager
    def refusing(self, where: str) -> Iterator[None]:
        """Note what the block raises about *where*, and go on without it."""
        try:
            yield
        except (ForeignDataError, OSError, ValueError) as error:
            self.refuse(where, error)

    def leave_out(self, what: str) -> None:
        """Note that *what* is not brought."""
        if what not in self.left_out:
            self.left_out.append(what)

    def all_refused(self) -> list[str]:
        """Return what was refused, and how much more there was than is named."""
        return self.refused + ([f"and {self._more} more"] if self._more else [])


def _shown(where: str) -> str:
    """Return a path that can be printed whatever bytes are in it: it comes from outside."""
    text = where.encode("utf-8", "backslashreplace").decode()
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return shown if len(shown) <= 300 else f"{shown[:200]}…{shown[-60:]}"
