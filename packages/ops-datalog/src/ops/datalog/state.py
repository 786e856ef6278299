"""What all processes of a log share: whether it is open, and whether its saver met an error.

`log.state` is a file of eight 64-bit words that every writer maps. Word 0 is the token: 0 while the log
is stopped, otherwise a number that changes with every event. A put compares it with the one it knows,
which is all that the fast path pays for; only when they differ does it look at the other words:

    1  the last token that was used      2  how often the log was started     3  errors of the saver
    4  the process that started it       5  how often its files were replaced
    6  1 when `stop` lays the log out as .npy files

Readers look at a copy of the words (`words_of`), which needs no right to write. The starter's process ID
serves messages only; whether it lives is known by its lock on `log.owner` (see `_liveness`).
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
from typing import TYPE_CHECKING

from ops.datalog._liveness import is_held, open_regular
from ops.datalog.errors import LogFormatError
from ops.foundation.errors import LockTimeout
from ops.foundation.processes import this_process

if TYPE_CHECKING:
    from pathlib import Path

NAME = "log.state"
OWNER_NAME = "log.owner"
ERRORS = "saver.errors"
_BYTES = 64
_ANNOUNCING_SECONDS = 1.0
TOKEN, LAST_TOKEN, GENERATION, ERROR_COUNT, STARTER, LAYOUTS, NPY = range(7)


class LogState:
    """The shared words of the log in *folder*; `words[TOKEN]` is what the fast path reads."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self._folder = folder
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        fd = os.open(folder / NAME, flags, 0o644)
        try:
            if os.fstat(fd).st_size < _BYTES:
                os.posix_fallocate(fd, 0, _BYTES)
            self._file = os.fstat(fd)
            self.words: memoryview[int] = memoryview(mmap.mmap(fd, _BYTES)).cast("Q")
        finally:
            os.close(fd)

    def open(self, *, npy: bool = False) -> None:
        """Let puts pass, as a new generation: writers of the one before begin new files."""
        self.words[GENERATION] += 1
        self.words[STARTER] = this_process()
        self.words[NPY] = int(npy)
        self._announce()

    def close(self) -> None:
        """Refuse puts from now on."""
        self.words[TOKEN] = 0

    @property
    def is_open(self) -> bool:
        """Whether puts pass."""
        return bool(self.words[TOKEN])

    @property
    def has_living_owner(self) -> bool:
        """Whether the logger that started the log last still runs."""
        return is_held(self._folder / OWNER_NAME)

    def is_current(self) -> bool:
        """Return whether this is still the state of the folder, and not of one that was there before."""
        try:
            return os.path.samestat(self._file, (self._folder / NAME).stat())
        except OSError:
            return False

    def add_error(self, text: str) -> None:
        """Make an error known to the owner and to the next put of every writer.

        To the owner alone when another process takes longer to close the log, or to replace its files.
        """
        # The file keeps the text; on a disk that is full the number alone has to do.
        with contextlib.suppress(OSError), (self._folder / ERRORS).open("a") as file:
            file.write(json.dumps(text) + "\n")
        self.words[ERROR_COUNT] += 1
        if not self.is_current():
            return
        from ops.foundation.locks import FileLock  # rarely needed

        # The process that closes the log holds this lock: it stays closed, though it was open when we looked.
        lock = FileLock(self._folder / NAME)
        with contextlib.suppress(LockTimeout):
            lock.acquire(_ANNOUNCING_SECONDS)
            try:
                if self.is_open:
                    self._announce()
            finally:
                lock.release()

    def errors(self) -> list[str]:
        """Return the texts of all errors so far."""
        try:
            lines = (self._folder / ERRORS).read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        texts = []
        for line in lines:
            with contextlib.suppress(ValueError):  # a line that was cut off
                texts.append(str(json.loads(line)))
        unnamed = int(self.words[ERROR_COUNT]) - len(texts)
        return texts + ["The saver failed, and its message did not fit on the disk."] * unnamed

    def forget_errors(self) -> None:
        """Begin with no errors; what writers have seen of earlier ones is forgotten with them."""
        (self._folder / ERRORS).unlink(missing_ok=True)
        self.words[ERROR_COUNT] = 0

    def _announce(self) -> None:
        self.words[LAST_TOKEN] += 1
        self.words[TOKEN] = self.words[LAST_TOKEN]


def words_of(folder: Path) -> tuple[int, ...]:
    """Return the words of the log in *folder* as they are now; zeros when it has none."""
    try:
        fd = open_regular(folder / NAME)
    except (OSError, LogFormatError):
        return (0,) * 8
    try:
        return struct.unpack("<8Q", os.pread(fd, _BYTES, 0).ljust(_BYTES, b"\0"))
    finally:
        os.close(fd)


def layouts(folder: Path) -> int:
    """Return how often the files of the log in *folder* were replaced by others."""
    return words_of(folder)[LAYOUTS]
