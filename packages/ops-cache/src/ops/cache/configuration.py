"""Where results are stored, and parameters that cached functions can depend on.

The folder is the one given to `configure`, else `DATA_FOLDER` of the environment, else that of a
`.env` file in the working directory, else the user's cache folder. A parameter is the one given to
`configure`, else what `params.py` in the working directory assigns to its name. That file is read,
not run: an assignment counts when its value is written out, as in `epochs = 10`.
"""

from __future__ import annotations

import ast
import functools
import os
import pathlib
import re
import sys
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from ops.foundation.files import StrPath

__all__ = ["cache_folder", "configure", "parameter"]

_PARAMS = pathlib.Path("params.py")
_ASSIGNMENT = re.compile(
    r"""\s*(export\s+)?DATA_FOLDER\s*=\s*((?P<mark>["'])(?P<quoted>.*?)(?P=mark)|(?P<plain>.*?))(\s#.*|\s*$)"""
)

_settings: dict[str, Any] = {}
_parameters: dict[str, Any] = {}


def configure(data_folder: StrPath | EllipsisType | None = ..., **params: Any) -> None:
    """Set the data folder and parameters of this process; what is left out stays as it is.

    *data_folder* None goes back to the environment.
    """
    if not isinstance(data_folder, EllipsisType):
        _settings["data_folder"] = None if data_folder is None else pathlib.Path(data_folder)
    _parameters.update(params)


def parameter(name: str, default: Any = None) -> Any:
    """Return the parameter at a dotted *name*, or *default* when it is not set.

    Raises `ValidationError` when `params.py` assigns something to it that is no plain value.
    """
    first, *rest = name.split(".")
    value = _parameters[first] if first in _parameters else _from_params(first, default)
    for part in rest:
        value = value.get(part, default) if isinstance(value, dict) else default
    return value


def cache_folder() -> pathlib.Path:
    """Return the folder that holds `cache/`."""
    chosen: pathlib.Path | None = _settings.get("data_folder")
    if chosen is not None:
        return chosen
    if folder := os.environ.get("DATA_FOLDER") or _from_dotenv(pathlib.Path(".env")):
        return pathlib.Path(folder).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA"):
        return pathlib.Path(base) / "ops"
    home = pathlib.Path.home()
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "ops"


def configured_folder() -> str | None:
    """Return the folder given to `configure`, for other processes; None where there is none."""
    chosen = _settings.get("data_folder")
    return None if chosen is None else str(chosen.absolute())


def _from_dotenv(path: pathlib.Path) -> str | None:
    version = _version_of(path)
    return None if version is None else _read_dotenv(path, version)


def _from_params(name: str, default: Any) -> Any:
    version = _version_of(_PARAMS)
    if version is None:
        return default
    node = _read_params(_PARAMS, version).get(name)
    if node is None:
        return default
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValidationError(
            f"{_PARAMS.absolute()} assigns {ast.unparse(node)!r} to {name}, which is computed.",
            suggestions=(f"Write the value out, or call configure({name}=...).",),
        ) from error


def _version_of(path: pathlib.Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _read_params(path: pathlib.Path, _version: tuple[int, ...]) -> dict[str, ast.expr]:
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError) as error:
        raise ValidationError(f"{path.absolute()} cannot be read: {error}") from error
    found: dict[str, ast.expr] = {}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                found[target.id] = value
    return found


@functools.lru_cache(maxsize=4)
def _read_dotenv(path: pathlib.Path, _version: tuple[int, ...]) -> str | None:
    try:
        # A path in an unknown encoding comes out as it went in.
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        if found := _ASSIGNMENT.match(line):
            return found["quoted"] or found["plain"].strip()
    return None
