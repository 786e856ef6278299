"""What all processes of a log share: whether it is open, and whether its saver met an error.

`log.state` is a file of eight 64-bit words that every writer maps. Word 0 is the token: 0 while the log
is stopped, otherwise a number that changes with every event. A put compares it with the one it knows,
which is all that the fast path pays for; only when they differ does it look at the other words:

    1  the last token that was used      2  how often the log was started     3  errors of the saver
    4  the process that started it       5  how often its files were replaced
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
from typing import TYPE_CHECKING

from ops.foundation.processes import is_alive, this_process

if TYPE_CHECKING:
    from pathlib import Path

NAME = "log.state"
ERRORS = "saver.errors"
_BYTES = 64
TOKEN, LAST_TOKEN, GENERATION, ERROR_COUNT, STARTER, LAYOUTS = range(6)


class LogState:
    """The shared words of the log in *folder*; `words[TOKEN]` is what the fast path reads."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self._folder = folder
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        fd = os.open(folder / NAME, flags, 0o644)
        try:
            if os.fstat(fd).st_size < _BYTES:
                os.posix_fallocate(fd, 0, _BYTES)
            self.words: memoryview[int] = memoryview(mmap.mmap(fd, _BYTES)).cast("Q")
        finally:
            os.close(fd)

    def open(self) -> None:
        """Let puts pass, as a new generation: writers of the one before begin new files."""
        self.words[GENERATION] += 1
        self.words[STARTER] = this_process()
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
        """Whether the process that started the log last still runs."""
        return is_alive(int(self.words[STARTER]))

    def add_error(self, text: str) -> None:
        """Make an error known to the owner and to the next put of every writer."""
        # The file keeps the text; on a disk that is full the number alone has to do.
        with contextlib.suppress(OSError), (self._folder / ERRORS).open("a") as file:
            file.write(json.dumps(text) + "\n")
        self.words[ERROR_COUNT] += 1
        if self.is_open:
            self._announce()

    def errors(self) -> list[str]:
        """Return the texts of all errors so far."""
        try:
            lines = (self._folder / ERRORS).read_text().splitlines()
        except FileNotFoundError:
            lines = []
        texts = [json.loads(line) for line in lines if line.endswith('"')]
        unnamed = int(self.words[ERROR_COUNT]) - len(texts)
        return texts + ["The saver failed, and there was no room to say why."] * unnamed

    def forget_errors(self) -> None:
        """Begin with no errors; what writers have seen of earlier ones is forgotten with them."""
        (self._folder / ERRORS).unlink(missing_ok=True)
        self.words[ERROR_COUNT] = 0

    def _announce(self) -> None:
        self.words[LAST_TOKEN] += 1
        self.words[TOKEN] = self.words[LAST_TOKEN]


def layouts(folder: Path) -> int:
    """Return how often the files of the log in *folder* were replaced by others."""
    try:
        with (folder / NAME).open("rb") as file:
            return int.from_bytes(file.read(_BYTES)[8 * LAYOUTS : 8 * LAYOUTS + 8], "little")
    except FileNotFoundError:
        return 0
