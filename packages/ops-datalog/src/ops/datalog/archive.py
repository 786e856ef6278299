"""Two ways to lay a log out for the long run: one .npy per message, one .npz per source.

Both can be cut off at any moment without losing or doubling a message. The .npy files are made in a
folder beside their place; renaming that folder to `layout.done` is the commit. From then on the
segments are superfluous and are removed, and the files move to their names one by one; whoever comes
next (`finish_layout`) completes a move that was cut off. An archive replaces the old one by a rename.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ops.datalog.errors import DataLogError, LogNotFoundError
from ops.datalog.reader import LogReader
from ops.foundation.files import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.datalog.reader import Message

__all__ = ["compress_npy_logs"]

DONE, DRAFT = "layout.done", "layout.draft"
Progress = Callable[[int, int], object]


def lay_out_npy(folder: Path) -> int:
    """Turn the segments of *folder* into `SOURCE_TIME.npy` files; return how many messages.

    Nobody may write meanwhile. Messages of equal source and time get `_1`, `_2`, … appended.
    """
    finish_layout(folder)
    reader = LogReader(folder)
    draft = folder / DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    if not reader.writers():
        return 0
    draft.mkdir()
    count = 0
    for name, message in _named(reader, _taken_names(folder)):
        np.save(draft / name, message.data)
        count += 1
    draft.rename(folder / DONE)
    sync_directory(folder)
    finish_layout(folder)
    return count


def finish_layout(folder: Path) -> None:
    """Complete a layout whose commit was made: remove the segments, move the files."""
    done = folder / DONE
    if not done.is_dir():
        return
    for pattern in ("*.seg", "*.tail"):
        for path in folder.glob(pattern):
            path.unlink()
    for path in done.iterdir():
        path.rename(folder / path.name)
    done.rmdir()


def _named(reader: LogReader, taken: set[str]) -> Iterator[tuple[str, Message]]:
    for message in reader.segment_messages():
        base = f"{message.source_id:03d}_{message.timestamp:020d}"
        name, number = base, 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        yield f"{name}.npy", message


def _taken_names(folder: Path) -> set[str]:
    names = {path.stem for path in folder.glob("*.npy")}
    for path in folder.glob("*_log.npz"):
        with zipfile.ZipFile(path) as archive:
            names |= {name.removesuffix(".npy") for name in archive.namelist()}
    return names


def compress_npy_logs(
    log_directory: str | os.PathLike[str],
    *,
    remove_sources: bool = False,
    compress: bool = True,
    verify_integrity: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Gather the .npy files of each source into `SOURCE_log.npz`; return the archives.

    An archive that exists is extended. *compress* deflates. *verify_integrity* reads each archive
    back and compares before anything is removed; *remove_sources* removes the .npy files then.
    *progress* gets (messages done, messages in all).

    Raises LogNotFoundError (no .npy files), DataLogError (an archive does not read back equal).
    """
    folder = Path(log_directory)
    finish_layout(folder)
    by_source: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("[0-9][0-9][0-9]_*.npy")):
        by_source[path.name[:3]].append(path)
    if not by_source:
        raise LogNotFoundError(f"{str(folder)!r} holds no .npy log files.")
    total, done = sum(map(len, by_source.values())), 0
    archives = []
    for source, paths in by_source.items():
        archive = folder / f"{int(source)}_log.npz"
        _extend(archive, paths, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
        if verify_integrity:
            _compare(archive, paths)
        if remove_sources:
            for path in paths:
                path.unlink()
        archives.append(archive)
        done += len(paths)
        if progress is not None:
            progress(done, total)
    return archives


def _extend(archive: Path, paths: list[Path], method: int) -> None:
    draft = archive.with_name(f".{archive.name}.draft")
    with zipfile.ZipFile(draft, "w", method, allowZip64=True) as new:
        known: set[str] = set()
        if archive.exists():
            with zipfile.ZipFile(archive) as old:
                for name in old.namelist():
                    known.add(name)
                    new.writestr(name, old.read(name))
        for path in paths:
            if path.name not in known:
                new.writestr(path.name, path.read_bytes())
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(archive)
    sync_directory(archive.parent)


def _compare(archive: Path, paths: list[Path]) -> None:
    with zipfile.ZipFile(archive) as packed:
        for path in paths:
            stored = np.load(io.BytesIO(packed.read(path.name)), allow_pickle=False)
            if not np.array_equal(stored, np.load(path, allow_pickle=False)):
                raise DataLogError(f"{archive.name} does not hold {path.name} as it is.")
