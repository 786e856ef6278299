"""Which files `save` keeps, and by which names."""

from __future__ import annotations

import glob as globbing
import os
import pathlib
from typing import TYPE_CHECKING

from ops.foundation.paths import walked
from ops.registry.errors import InvalidValueError

if TYPE_CHECKING:
    from ops.foundation.files import StrPath

__all__ = ["files_below", "files_to_save"]


def files_to_save(
    requested: StrPath | bytes, base_path: StrPath | None, own: pathlib.Path | None, *, glob: bool
) -> dict[str, str]:
    """Return what a path or pattern means now: the name of each file in the run, and its absolute path.

    A folder stands for all files in it. Names are relative to *base_path*; without it to the current folder, of an
    absolute path to the folder above that of the file, as in W&B, and of one in *own*, the folder of the run, to that.

    Raises `InvalidValueError` when there is no such file, or it is not below the base.
    """
    text = os.fsdecode(requested)
    absolute = os.path.abspath(text)  # noqa: PTH100 - not through links, and a pattern
    base = _base_of(text, absolute, base_path, own)
    found = sorted(globbing.glob(absolute)) if glob else [absolute]  # noqa: PTH207 - a pattern with its folder
    if not (glob and globbing.has_magic(text)) and not os.path.lexists(absolute):
        raise InvalidValueError(f"There is no file {text!r:.200} to save.")
    named = {}
    for path in found:
        for file in files_below(path):
            name = os.path.relpath(file, base).replace(os.sep, "/")
            if name == ".." or name.startswith("../"):
                raise InvalidValueError(
                    f"{text!r:.200} is not below {base!r:.200}, from which its name begins.",
                    suggestions=("Pass base_path, a folder above it.",),
                )
            named[name] = file
    return named


def files_below(path: str) -> list[str]:
    """Return a file, or all files of a folder."""
    if not os.path.isdir(path):  # noqa: PTH112 - a string
        return [path]
    walk = walked(path)
    return sorted(os.path.join(above, name) for above, names in walk for name in names)  # noqa: PTH118


def _base_of(text: str, absolute: str, base_path: StrPath | None, own: pathlib.Path | None) -> str:
    if base_path is not None:
        return os.path.abspath(base_path)  # noqa: PTH100 - not through links
    if own is not None and pathlib.Path(absolute).is_relative_to(own):
        return str(own)
    if os.path.isabs(text):  # noqa: PTH117 - a string
        return str(pathlib.Path(absolute).parent.parent)
    return os.getcwd()  # noqa: PTH109 - a string
