"""The saver: a small process beside the producers that brings their files to the disk, in batches.

What `put` accepted survives the death of any process without it; the saver is there for the crash of
the machine. Every interval it syncs the files that changed, several at a time, and gives an index to
segments that their writers have left for a next one. Asked to, it lays out `.npy` files ahead of the
logger's end, in a thread of its own (see `ahead`). Nothing waits for it and nothing goes through it,
so killing it loses nothing: the keeper (see `keeper`) starts another.

It is a process and not a thread because a thread that computes an index would take turns with the
producer for Python's lock; and it outlives the program that started it for as long as producers live.
It ends when it is told to (a byte on its standard input), or when its starter and all writers are gone.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ops.datalog.errors import DataLogError
from ops.datalog.state import LogState
from ops.foundation.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Offset of the owner's identity in a tail; see `writer`, which is not imported to start quickly.
_OWNER = 48


def main() -> None:
    """Run until told to end: `python -m ops.datalog.saver FOLDER --interval 0.25 --threads 1`."""
    parser = argparse.ArgumentParser(prog="ops.datalog.saver")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--interval", type=float, required=True, help="seconds")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument(
        "--lay-out", action="store_true", help="make .npy files while it is written"
    )
    options = parser.parse_args()
    starter = os.getppid()
    with ThreadPoolExecutor(options.threads) as pool:
        saver = Saver(options.folder, pool)
        if options.lay_out:
            threading.Thread(
                target=_lay_out_ahead, args=(options.folder, options.interval), daemon=True
            ).start()
        told = _wait(options.interval, starter)
        while not told and (os.getppid() == starter or saver.has_living_writers()):
            saver.work()
            told = _wait(options.interval, starter)


class Saver:
    """Syncs and seals the files of one log; `work` does what has come up since the last time."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._folder, self._pool = folder, pool
        self._state = LogState(folder)
        self._sizes: dict[Path, int] = {}
        self._sealed: set[Path] = set()
        self._reported: set[str] = set()

    def work(self) -> None:
        """Sync what changed, seal what is finished; errors go to the log's state, each kind once."""
        for error in [*self._pool.map(_sync, self._changed()), self._seal()]:
            if error is not None and error not in self._reported:
                self._reported.add(error)
                self._state.add_error(error)

    def has_living_writers(self) -> bool:
        """Tell whether any process that writes this log still runs."""
        return any(map(_owner_is_alive, self._folder.glob("*.tail")))

    def _changed(self) -> Iterable[Path]:
        # A tail is written through memory, which shows in no attribute of the file; when it is
        # clean its sync costs nothing.
        changed = list(self._folder.glob("*.tail"))
        for path in self._folder.glob("*.seg"):
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                continue
            if self._sizes.get(path) != size:
                self._sizes[path] = size
                changed.append(path)
        return changed

    def _seal(self) -> str | None:
        segments = sorted(self._folder.glob("*.seg"))
        for path, following in pairwise(segments):
            same_writer = path.name.rsplit(".", 2)[0] == following.name.rsplit(".", 2)[0]
            if same_writer and path not in self._sealed:
                self._sealed.add(path)
                # Only here, since it brings NumPy, and most logs never get to a second segment.
                from ops.datalog.footer import seal

                try:
                    seal(path)
                except FileNotFoundError:
                    continue
                except (OSError, DataLogError) as error:
                    return f"{path.name} cannot be sealed: {error}"
        return None


def _lay_out_ahead(folder: Path, interval: float) -> None:
    """Lay out until this process ends; what it cannot do is left to the end of the logger."""
    from ops.datalog.ahead import Ahead

    try:
        ahead = Ahead(folder)
    except OSError:
        return  # an older saver is at it, or there is no room
    try:
        while True:
            ahead.work()
            time.sleep(interval)
    except (OSError, DataLogError):
        ahead.give_up()


def _sync(path: Path) -> str | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # closed or laid out meanwhile
    except OSError as error:
        return f"{path.name} cannot be opened: {error.strerror}"
    try:
        os.fdatasync(fd)
    except OSError as error:
        return f"{path.name} cannot be synced: {error.strerror}"
    else:
        return None
    finally:
        os.close(fd)


def _owner_is_alive(tail: Path) -> bool:
    try:
        with tail.open("rb") as file:
            owner = file.read(_OWNER + 8)[_OWNER:]
    except FileNotFoundError:
        return False
    return is_alive(int.from_bytes(owner, "little"))


def _wait(seconds: float, starter: int) -> bool:
    """Wait for *seconds*, at most; return whether the starter told this process to end."""
    if os.getppid() != starter:
        time.sleep(seconds)
        return False
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    # A starter that died closes the pipe too; then the writers decide.
    return bool(readable) and (bool(os.read(0, 1)) or os.getppid() == starter)


if __name__ == "__main__":
    main()
