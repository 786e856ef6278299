"""Pre-materializing: the saver turns what segments hold into `.npy` files while they are written.

It saves time in `stop`, and nothing depends on it: until `stop` commits the layout (see `layout`), its
files are ignored and the segments are the truth. Each round has a folder of its own, with a record
of how far every writer was taken; renaming that folder is the commit of the round, and then its files
move up. So a saver that is killed at any time leaves whole rounds, and the next one continues behind them.
Nothing of it is synced, so what is left after a restart of the machine is not used.

`stop` does not wait for a saver, which may be that of a starter that died: it takes the files away. They are in a
folder of a random name, so a saver that is paused meanwhile finds none at its paths afterwards, and never those of the next.

Tails are left to `stop`: what is in them moves to a segment soon, and is at most 256 KB a writer.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ops.datalog._chunks import writers_in
from ops.datalog._npy_archive import AHEAD, DRAFT, DROPPED
from ops.datalog.follow import Cursor
from ops.datalog.layout import Names, taken_names, write_npy
from ops.datalog.merge import merged

if TYPE_CHECKING:
    from ops.datalog._chunks import Run

#: In the folder in AHEAD: the round that is being made, the one that is whole, and how far those before it went.
_PART, _WHOLE, _THROUGH = "part", "whole", "through.json"
_NAME = re.compile(r"[0-9a-f]{16}")


class Ahead:
    """Lays out what the segments of *folder* have grown by. Raises BlockingIOError while another does."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._base = folder, folder / AHEAD
        self._base.mkdir(exist_ok=True)
        self._lock = os.open(self._base, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._path = self._base / _name_in(self._lock)
        self._through = _finish_round(self._path)
        self._cursors = {stem: Cursor(last) for stem, last in self._through.items()}
        self._old_names = taken_names(folder)

    def work(self) -> None:
        """Lay out what is new, a round for each few megabytes."""
        for files in writers_in(self._folder):
            cursor = self._cursors.setdefault(files.stem, Cursor())
            for run in cursor.grown(files.segments):
                self._round(run, files.stem, cursor.sequence)

    def give_up(self) -> None:
        """Remove what was laid out, to free the disk for messages; `stop` will lay out everything.

        It is renamed first: a kill during the removal must not leave a part of it to `adopt`.
        """
        if not self._is_ours():
            self.close()
            return
        dropped = self._folder / DROPPED
        shutil.rmtree(dropped, ignore_errors=True)
        with contextlib.suppress(OSError):  # adopted meanwhile
            self._base.rename(dropped)
        shutil.rmtree(dropped, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let another saver continue."""
        os.close(self._lock)

    def _round(self, run: Run, stem: str, last: int) -> None:
        if not self._is_ours():
            raise FileNotFoundError(f"{str(self._base)!r} was adopted.")
        part = self._path / _PART
        part.mkdir()
        names = Names(self._is_taken)
        for block in merged([run]):
            for name, head, row in names.of(block):
                write_npy(f"{part}/{name}.npy", head, row)
        self._through[stem] = last
        record = {"boot": _boot(), "through": self._through}
        (part / _THROUGH).write_text(json.dumps(record), encoding="ascii")
        part.rename(self._path / _WHOLE)
        _finish_round(self._path)

    def _is_ours(self) -> bool:
        """Return whether the path still leads to the folder that this object locked.

        A saver that has outlived its starter may find that of a later one there.
        """
        try:
            return os.path.samestat(self._base.stat(), os.fstat(self._lock))
        except FileNotFoundError:
            return False

    def _is_taken(self, name: str) -> bool:
        return name in self._old_names or os.path.exists(f"{self._path}/{name}.npy")


def adopt(folder: Path) -> dict[str, int]:
    """Make the pre-materialized files the draft of a layout; return the last sequence of each writer in it.

    Renaming comes first: a saver that still works, since it has outlived its starter, loses its paths.
    """
    draft, away = folder / DRAFT, folder / DROPPED
    shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(away, ignore_errors=True)
    try:
        (folder / AHEAD).rename(away)
    except FileNotFoundError:
        return {}
    for name in _names_in(away):
        (away / name).rename(draft)
        break
    shutil.rmtree(away, ignore_errors=True)
    if not draft.is_dir():
        return {}
    through = _finish_round(draft)
    if through:
        (draft / _THROUGH).unlink()
    else:
        shutil.rmtree(draft)
    return through


def _name_in(base: int) -> str:
    """Return the name of the folder in what *base* is open on, which is made there, wherever its path leads by now."""
    for name in _names_in(base):
        return name
    name = secrets.token_hex(8)
    os.mkdir(name, dir_fd=base)
    return name


def _names_in(base: int | Path) -> list[str]:
    return [name for name in os.listdir(base) if _NAME.fullmatch(name)]


def _finish_round(path: Path) -> dict[str, int]:
    """Drop a round that was cut off, move the files of a whole one up, and return how far they go.

    Without a record, or with that of an earlier start of the machine, nothing is kept.
    """
    shutil.rmtree(path / _PART, ignore_errors=True)
    whole = path / _WHOLE
    if whole.is_dir():
        for name in os.listdir(whole):
            if name != _THROUGH:
                os.rename(f"{whole}/{name}", f"{path}/{name}")
        with contextlib.suppress(FileNotFoundError):  # done, and cut off before the next line
            (whole / _THROUGH).rename(path / _THROUGH)  # last: until then this is done again
        whole.rmdir()
    with contextlib.suppress(FileNotFoundError):
        record = json.loads((path / _THROUGH).read_text(encoding="ascii"))
        if record["boot"] == _boot():
            through: dict[str, int] = record["through"]
            return through
    for name in os.listdir(path):
        os.unlink(f"{path}/{name}")
    return {}


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
