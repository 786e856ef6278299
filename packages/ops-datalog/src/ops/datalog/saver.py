"""The saver: a small process beside the producers that brings their files to the disk, in batches.

What `put` accepted survives the death of any process without it; the saver is there for the crash of
the machine. Every interval it syncs the files that changed, several at a time, and gives an index to
segments that their writers have left for a next one. With `--lay-out` it pre-materializes `.npy` files before the
logger stops, in a thread of its own (see `_prelayout`). It gives the tails of producers that have ended back
as they end. Nothing waits for it and nothing goes through it,
so killing it loses nothing: the supervisor (see `_supervisor`) starts another.

It is a process and not a thread because a thread that computes an index would compete with the
producer for Python's lock; and it outlives the program that started it for as long as producers live.
It ends on request (a byte on its standard input), or when its starter and all writers are gone.
Its own parent it knows by process ID, which is right in any container: the kernel gives it a new parent.
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

from ops.datalog._liveness import is_held, open_regular
from ops.datalog.errors import DataLogError, LogFormatError
from ops.datalog.state import LogState
from ops.foundation.errors import LockTimeout
from ops.foundation.paths import listed

if TYPE_CHECKING:
    from collections.abc import Iterable


def main() -> None:
    """Run until requested to end: `python -m ops.datalog.saver FOLDER --interval 0.25 --threads 1`."""
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
        try:
            saver = Saver(options.folder, pool)
        except OSError as error:
            sys.exit(f"The saver of ops.datalog cannot work: {error}")
        if options.lay_out:
            threading.Thread(
                target=_prelay, args=(options.folder, options.interval), daemon=True
            ).start()
        ended = _wait(options.interval, starter)
        while not ended and (os.getppid() == starter or saver.has_living_writers()):
            saver.work()
            ended = _wait(options.interval, starter)


class Saver:
    """Syncs and seals the files of one log; `work` does what has come up since the last time."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._folder, self._pool = folder, pool
        self._state = LogState(folder)
        #: When each segment was written last, and its size: what a full disk took back may be written again.
        self._versions: dict[Path, tuple[int, int]] = {}
        self._sealed: set[Path] = set()
        self._reported: set[str] = set()

    def work(self) -> None:
        """Sync what changed, seal what is finished; errors go to the log's state, each kind once."""
        found = [*self._pool.map(_sync, self._changed()), self._seal(), self._absorb_ended()]
        for error in found:
            if error is not None and error not in self._reported:
                self._reported.add(error)
                self._state.add_error(error)

    def has_living_writers(self) -> bool:
        """Return whether any process that writes this log still runs."""
        return any(map(is_held, listed(self._folder, "*.tail")))

    def _changed(self) -> Iterable[Path]:
        # A tail is written through memory, which shows in no attribute of the file; when it is
        # clean its sync costs nothing.
        changed = listed(self._folder, "*.tail")
        for path in listed(self._folder, "*.seg"):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            version = found.st_mtime_ns, found.st_size
            if self._versions.get(path) != version:
                self._versions[path] = version
                changed.append(path)
        return changed

    def _seal(self) -> str | None:
        segments = listed(self._folder, "*.seg")
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

    def _absorb_ended(self) -> str | None:
        """Turn the tails of producers that were killed into segments, which take only what they hold."""
        if all(map(is_held, listed(self._folder, "*.tail"))):
            return None
        # Only here, for NumPy; and under the lock of processes that replace files, without waiting for it.
        from ops.datalog._shutdown import files_lock
        from ops.datalog.recovery import absorb_ended

        lock = files_lock(self._folder)
        try:
            lock.acquire(timeout=0)
        except LockTimeout:
            return None
        try:
            absorb_ended(self._folder)
        except FileNotFoundError:
            return None
        except (OSError, DataLogError) as error:
            return f"The tail of a producer that ended cannot be taken over: {error}"
        finally:
            lock.release()
        return None


def _prelay(folder: Path, interval: float) -> None:
    """Lay out until this process ends; what it cannot do is left to the end of the logger."""
    from ops.datalog._prelayout import Ahead

    try:
        ahead = Ahead(folder)
    except OSError:
        return  # an older saver works on it, or the disk is full
    try:
        while True:
            ahead.work()
            time.sleep(interval)
    except (OSError, DataLogError):
        ahead.give_up()


def _sync(path: Path) -> str | None:
    try:
        fd = open_regular(path, os.O_RDWR)
    except FileNotFoundError:
        return None  # closed or laid out meanwhile
    except LogFormatError:
        return None  # no file of a writer
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


def _wait(seconds: float, starter: int) -> bool:
    """Wait for *seconds*, at most; return whether the starter requested the end."""
    if os.getppid() != starter:
        time.sleep(seconds)
        return False
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    # A starter that died closes the pipe too; then the writers decide.
    return bool(readable) and (bool(os.read(0, 1)) or os.getppid() == starter)


if __name__ == "__main__":
    main()
