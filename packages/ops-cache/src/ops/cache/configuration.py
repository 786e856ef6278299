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

from ops.cache.limits import CacheLimits, entries_below, reduce_entries
from ops.foundation.errors import ValidationError
from ops.foundation.paths import anchored

if TYPE_CHECKING:
    import datetime as dt

    from ops.foundation.files import StrPath

__all__ = ["cache_folder", "cache_limits", "configure", "parameter", "reduce_size"]

_PARAMS = pathlib.Path("params.py")
_ASSIGNMENT = re.compile(
    r"""\s*(export\s+)?DATA_FOLDER\s*=\s*((?P<mark>["'])(?P<quoted>.*?)(?P=mark)|(?P<plain>.*?))(\s#.*|\s*$)"""
)

# Environment OPS_CACHE_MAX_BYTES: the most bytes that results of `cache` may take in the data
# folder, metadata included (default: no limit).
# Environment OPS_CACHE_MAX_ITEMS: the most results of `cache` in the data folder (default: no
# limit).
# Environment OPS_CACHE_MAX_AGE: seconds since a result was last used after which it may be
# removed (default: no limit).
_LIMITS = ("OPS_CACHE_MAX_BYTES", "OPS_CACHE_MAX_ITEMS", "OPS_CACHE_MAX_AGE")

_settings: dict[str, Any] = {}
_parameters: dict[str, Any] = {}


def configure(
    data_folder: StrPath | EllipsisType | None = ...,
    *,
    cache_limits: CacheLimits | EllipsisType | None = ...,
    **params: Any,
) -> None:
    """Set the data folder, its limits and parameters of this process; what is left out stays as it is.

    Args:
        data_folder: where results are stored, a relative one where it is now; None goes back to
            the environment.
        cache_limits: what all results of the folder may take; None goes back to the environment
            (`OPS_CACHE_MAX_BYTES`, `OPS_CACHE_MAX_ITEMS`, and `OPS_CACHE_MAX_AGE` in seconds).
        params: values of parameters that cached functions depend on.

    Raises `ValidationError` for a parameter whose name is nearly that of an option.
    """
    import difflib

    for name in params:
        if near := difflib.get_close_matches(name, ("data_folder", "cache_limits"), 1, 0.8):
            raise ValidationError(
                f"configure has no option {name!r}; did you mean {near[0]!r}?",
                suggestions=(
                    "A parameter of that name is too easily taken for it; give it another.",
                ),
            )
    if not isinstance(cache_limits, EllipsisType):
        _settings["cache_limits"] = cache_limits
    if not isinstance(data_folder, EllipsisType):
        _settings["data_folder"] = (
            None if data_folder is None else pathlib.Path(anchored(data_folder))
        )
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
    # Environment DATA_FOLDER: the folder in which `cache` keeps results, also from a line of
    # `.env` in the working folder (default: `ops` in the user's cache folder).
    # Environment XDG_CACHE_HOME, LOCALAPPDATA: the user's cache folder (default: `~/.cache`, on
    # macOS `~/Library/Caches`).
    if folder := os.environ.get("DATA_FOLDER") or _from_dotenv(pathlib.Path(".env")):
        return pathlib.Path(folder).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA"):
        return pathlib.Path(base) / "ops"
    home = pathlib.Path.home()
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "ops"


def cache_limits() -> CacheLimits:
    """Return what all results of the data folder may take.

    Raises `ValidationError` when a variable of the environment is no number.
    """
    chosen: CacheLimits | None = _settings.get("cache_limits")
    if chosen is not None:
        return chosen
    return _limits_of(*map(os.environ.get, _LIMITS))


@functools.lru_cache(maxsize=4)
def _limits_of(*texts: str | None) -> CacheLimits:
    numbers: list[float | None] = []
    for name, text in zip(_LIMITS, texts, strict=True):
        try:
            numbers.append(float(text) if text else None)
        except ValueError as error:
            raise ValidationError(f"{name} is a number, not {text!r}.") from error
    most_bytes, items, age = numbers
    return CacheLimits(
        bytes=None if most_bytes is None else int(most_bytes),
        items=None if items is None else int(items),
        age=age,
    )


def configured_folder() -> str | None:
    """Return the folder given to `configure`, for other processes; None where there is none."""
    chosen = _settings.get("data_folder")
    return None if chosen is None else str(chosen.absolute())


def reduce_size(
    *,
    bytes: int | None = None,  # noqa: A002 - as joblib calls it
    items: int | None = None,
    age: float | dt.timedelta | None = None,
) -> int:
    """Remove stored results of the data folder beyond these limits, used longest ago first.

    Args:
        bytes: what the results that stay may take.
        items: how many may stay.
        age: seconds, or a timedelta, since they were last used.

    Returns how many were removed. Raises `ValidationError` for a negative limit.
    """
    limits = CacheLimits(bytes=bytes, items=items, age=age)
    return reduce_entries(entries_below(cache_folder() / "cache"), limits)


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
