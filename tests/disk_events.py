"""What a program does that durability depends on, in order: flushes, renames, links, removals, truncations.

The fixture `disk_events` (in `tests/conftest.py`) records every such call of `os` in the test's process, in
all threads. A test compares `lines`, which read like this for `atomic_write(..., durable="full")`:

    sync notes.txt~        the temporary file of notes.txt, whose random part is left out
    rename notes.txt~ -> notes.txt
    sync .                 the folder

Truncation by a file object's own `truncate()` goes past `os` and is not seen: use `os.ftruncate`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_TEMPORARY = re.compile(r"(?:^|(?<=/))\.(?P<name>[^/]*)\.[0-9a-f]{8,32}\.tmp$")


@dataclasses.dataclass(frozen=True)
class DiskEvent:
    """One call: its kind, the file or folder, the new name, and the size of what was flushed or cut."""

    kind: str
    path: str
    target: str = ""
    size: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.path}" + (f" -> {self.target}" if self.target else "")


class DiskEvents:
    """The calls so far, with paths relative to *root*."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self.events: list[DiskEvent] = []

    @property
    def lines(self) -> list[str]:
        """The events as text."""
        return [str(event) for event in self.events]

    def of(self, *kinds: str) -> list[DiskEvent]:
        """Return the events of these kinds: "sync", "rename", "link", "remove", "truncate"."""
        return [event for event in self.events if event.kind in kinds]

    def clear(self) -> None:
        """Forget what was recorded."""
        self.events.clear()

    def in_order(self, *lines: str) -> bool:
        """Return whether these lines come one after the other, whatever is between them."""
        remaining = iter(self.lines)
        return all(line in remaining for line in lines)

    def record_calls_of(self, patch: pytest.MonkeyPatch) -> None:
        """Record the calls of `os`, which do what they always do."""
        for name, kind in _CALLS.items():
            if hasattr(os, name):
                patch.setattr(os, name, self._recording(kind, getattr(os, name)))

    def _recording(self, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            # Before the call for what it removes, and only once it has succeeded.
            event = self._event(kind, args, kwargs)
            result = call(*args, **kwargs)
            if kind == "truncate":
                event = self._event(kind, args, kwargs)
            self.events.append(event)
            return result

        return recorded

    def _event(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DiskEvent:
        first, *rest = args
        if kind in {"sync", "truncate"}:
            return DiskEvent(kind, self._name(first), size=os.stat(first).st_size)
        folders = kwargs.get("src_dir_fd", kwargs.get("dir_fd")), kwargs.get("dst_dir_fd")
        names = [self._name(p, d) for p, d in zip((first, *rest[:1]), folders, strict=False)]
        return DiskEvent(kind, *names) if kind in {"rename", "link"} else DiskEvent(kind, names[0])

    def _name(self, path: Any, folder: int | None = None) -> str:
        if isinstance(path, int) or hasattr(path, "fileno"):
            number = path if isinstance(path, int) else path.fileno()
            text = os.readlink(f"/proc/self/fd/{number}")
        else:
            base = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
            joined = os.path.join(base, os.fsdecode(path))
            # Not the last component: a link that is renamed is not what it leads to.
            text = os.path.join(os.path.realpath(os.path.dirname(joined)), os.path.basename(joined))
        if text == self._root or text.startswith(self._root + os.sep):
            text = os.path.relpath(text, self._root)
        return _TEMPORARY.sub(r"\g<name>~", text)


_CALLS = {
    "fsync": "sync",
    "fdatasync": "sync",
    "rename": "rename",
    "replace": "rename",
    "renames": "rename",
    "link": "link",
    "unlink": "remove",
    "remove": "remove",
    "truncate": "truncate",
    "ftruncate": "truncate",
}
