"""Where results are stored, and parameters that cached functions can depend on.

The folder is the one given to `configure`, else `DATA_FOLDER` of the environment, else that of a
`.env` file in the working directory, else the user's cache folder.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.foundation.files import StrPath

__all__ = ["cache_folder", "configure", "parameter"]

_settings: dict[str, Any] = {}
_parameters: dict[str, Any] = {}


def configure(data_folder: StrPath | None = None, **params: Any) -> None:
    """Set the data folder and parameters of this process; None goes back to the environment."""
    _settings["data_folder"] = None if data_folder is None else pathlib.Path(data_folder)
    _parameters.update(params)


def parameter(name: str) -> Any:
    """Return the parameter at a dotted *name*, or None when it is not set."""
    value: Any = _parameters
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
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


def _from_dotenv(path: pathlib.Path) -> str | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return _read_dotenv(path, (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=4)
def _read_dotenv(path: pathlib.Path, _version: tuple[int, ...]) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.removeprefix("export ").partition("=")
        if name.strip() == "DATA_FOLDER":
            return value.strip().strip("\"'")
    return None
