"""Compare-and-set by version: no writer waits, and the later one gets both versions in its error.

A reader takes a version with the value, works, and commits with the version it saw. The commit
checks and changes under a lock that is held only for this step. In memory the version counts up;
for a file it counts in a small file beside it (`<name>.version`), replaced atomically, and the
check runs under a `FileLock` (`<name>.lock`), so it holds between processes.
"""

from __future__ import annotations

import os
import pathlib
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import ConflictError
from ops.foundation.forks import keep_over_forks
from ops.foundation.paths import anchored

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from ops.foundation.paths import StrPath

__all__ = ["OptimisticLock"]


class OptimisticLock:
    """A value with a version, in memory or (with *path*) in a file shared by processes.

    In a file the value is bytes; `read` of a file that is not there gives `(None, 0)`.

    >>> balance = OptimisticLock(value=10)
    >>> amount, version = balance.read()
    >>> balance.compare_and_set(version, amount + 5), balance.read()
    (1, (15, 1))
    """

    def __init__(self, path: StrPath | None = None, *, value: Any = None) -> None:
        self.path: pathlib.Path | None = None if path is None else pathlib.Path(anchored(path))
        self._value = value
        self._version = 0
        # Held while a process forks, so that a child finds value and version whole.
        self.mutex: threading.RLock = threading.RLock()
        keep_over_forks(self)

    @property
    def version(self) -> int:
        """The version now; 0 before the first commit."""
        return self.read()[1]

    def read(self) -> tuple[Any, int]:
        """Return the value and its version, which belong together."""
        with self._exclusive():
            return self._read()

    def compare_and_set(self, expected_version: int, value: Any) -> int:
        """Store *value* if the version is still the expected one and return the new version.

        Otherwise raise `ConflictError` with `.expected` and `.actual`; nothing is changed.
        """
        with self._exclusive():
            _, actual = self._read()
            if actual != expected_version:
                raise ConflictError(
                    f"Version {expected_version} was expected and {actual} was found.",
                    expected=expected_version,
                    actual=actual,
                    suggestions=("Read again and repeat the change.",),
                )
            self._store(value, actual + 1)
            return actual + 1

    def update(self, change: Callable[[Any], Any], attempts: int = 100) -> Any:
        """Apply *change* to the value until a commit succeeds, at most *attempts* times.

        Raises `ConflictError` after the last one, `ValidationError` for a coroutine function.
        """
        refuse_coroutine_function(change, "change")
        for attempt in range(1, attempts + 1):
            value, version = self.read()
            changed = change(value)
            try:
                self.compare_and_set(version, changed)
            except ConflictError:
                if attempt == attempts:
                    raise
            else:
                return changed
        raise ValueError(f"attempts={attempts} allows no attempt.")

    def _exclusive(self) -> contextlib.AbstractContextManager[Any]:
        if self.path is None:
            return self.mutex
        from ops.foundation.file_lock import FileLock

        return FileLock(f"{self.path}.lock")

    def _read(self) -> tuple[Any, int]:
        if self.path is None:
            return self._value, self._version
        try:
            version = int(self._version_file.read_text("ascii"))
        except FileNotFoundError:
            version = 0
        try:
            return self.path.read_bytes(), version
        except FileNotFoundError:
            return None, version

    def _store(self, value: Any, version: int) -> None:
        if self.path is None:
            self._value, self._version = value, version
            return
        from ops.foundation.atomic_files import atomic_write

        # The version first: a crash in between makes a reader's commit fail, never succeed wrongly.
        with atomic_write(self._version_file, "w") as text:
            text.write(str(version))
        with atomic_write(self.path, "wb") as file:
            file.write(value)

    @property
    def _version_file(self) -> pathlib.Path:
        return pathlib.Path(f"{os.fspath(self.path or '')}.version")
