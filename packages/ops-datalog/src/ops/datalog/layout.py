"""Turning segments into files for the long run, so that it can be cut off at any moment.

New files are made in a folder beside their place; renaming that folder to `layout.done` is the commit.
From then on what it replaces is superfluous and is removed, and its files move to their names one by
one; whoever comes next (`finish_layout`) completes a move that was cut off, and who reads meanwhile
looks into the folder and not at what it replaces (`stored_files`).
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ops.datalog.merge import merged
from ops.datalog.messages import LogReport
from ops.datalog.npz import members, npy_header
from ops.datalog.runs import writer_runs
from ops.datalog.stored import DONE, DRAFT, REPLACES_NPY, stored_files
from ops.foundation.files import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ops.datalog.messages import Block


def lay_out_npy(folder: Path) -> int:
    """Turn the segments of *folder* into `SOURCE_TIME.npy` files; return how many messages.

    Nobody may write meanwhile. Messages of equal source and time get `_1`, `_2`, … appended.
    """
    finish_layout(folder)
    if next(folder.glob("*.seg"), None) is None and next(folder.glob("*.tail"), None) is None:
        return 0
    count = 0
    with draft_of(folder) as draft:
        names = Names(_taken_names(folder))
        for block in merged(list(writer_runs(folder, LogReport()))):
            for name, row in names.of(block):
                _write_npy(f"{draft}/{name}.npy", row)
                count += 1
    return count


@contextmanager
def draft_of(folder: Path, *, replaces_npy: bool = False) -> Iterator[Path]:
    """Give a folder for new files; what is in it at the end replaces the segments.

    *replaces_npy* replaces the .npy files as well.
    """
    draft = folder / DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    if replaces_npy:
        (draft / REPLACES_NPY).touch()
    sync_directory(draft)
    draft.rename(folder / DONE)
    sync_directory(folder)
    finish_layout(folder)


def finish_layout(folder: Path) -> None:
    """Complete a layout whose commit was made: remove what it replaces, move the files."""
    done = folder / DONE
    if not done.is_dir():
        return
    replaces_npy = (done / REPLACES_NPY).exists()
    for pattern in ("*.seg", "*.tail"):
        for path in folder.glob(pattern):
            path.unlink()
    if replaces_npy:
        for path in stored_files(folder).superseded:
            path.unlink(missing_ok=True)
    for path in done.iterdir():
        if path.name != REPLACES_NPY:
            path.rename(folder / path.name)
    (done / REPLACES_NPY).unlink(missing_ok=True)
    done.rmdir()


class Names:
    """Gives messages the names `SOURCE_TIME`, and `SOURCE_TIME_1`, … to those that are equal."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._last, self._number = "", 0

    def of(self, block: Block) -> Iterator[tuple[str, memoryview]]:
        """Yield name and data of each message; blocks have to come in time order."""
        for source, time, row in zip(
            block.sources.tolist(), block.times.tolist(), block.rows, strict=True
        ):
            base = f"{source:03d}_{time:020d}"
            if base != self._last:
                self._last, self._number = base, 0
            name = base if not self._number else f"{base}_{self._number}"
            while name in self._taken:
                self._number += 1
                name = f"{base}_{self._number}"
            self._number += 1
            yield name, row.data


def _taken_names(folder: Path) -> set[str]:
    files = stored_files(folder)
    names = {path.stem for path in files.npy}
    for archive in files.archives:
        names |= {member.name for member in members(archive)}
    return names


def _write_npy(path: str, data: memoryview) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        header = npy_header(len(data))
        if os.writev(fd, (header, data)) != len(header) + len(data):
            os.lseek(fd, 0, os.SEEK_SET)
            with open(fd, "wb", closefd=False) as file:
                file.write(header + data)
    finally:
        os.close(fd)
