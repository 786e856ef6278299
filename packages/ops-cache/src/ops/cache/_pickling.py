"""How cached functions travel to other processes.

A function that its module knows by name travels as that name, as plain functions do. One of
`__main__`, of a prompt or of another function has no name that a worker of joblib or dask could
look up; their pickler, cloudpickle, takes such functions by value, and so it gets the function and
the options to decorate it again. The data folder that was configured travels with both.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

from ops.cache import configuration

__all__ = ["reduced"]


def reduced(wrapper: Any, func: Any, options: dict[str, Any]) -> Any:
    """Return what `__reduce_ex__` of the cached function *wrapper* returns."""
    module, qualname = func_name(func)
    folder = configuration.configured_folder()
    if _is_found(wrapper, module, qualname) and not (module == "__main__" and _by_value()):
        return (_by_name, (module, qualname, folder))
    return (_again, (type(wrapper), func, options, folder))


def func_name(func: Any) -> tuple[str, str]:
    """Return the module and the qualified name of *func*, empty where it has none."""
    return (str(getattr(func, "__module__", "")), str(getattr(func, "__qualname__", "")))


def _is_found(wrapper: Any, module: str, qualname: str) -> bool:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is wrapper


def _by_value() -> bool:
    """Say whether the pickler that asks takes functions of `__main__` by value."""
    frame = sys._getframe(3)  # noqa: SLF001 - above `reduced` and `__reduce_ex__`
    return "cloudpickle" in str(frame.f_globals.get("__name__", ""))


def _by_name(module: str, qualname: str, folder: str | None) -> Any:
    _configure(folder)
    found = importlib.import_module(module)
    return functools.reduce(getattr, qualname.split("."), found)


def _again(kind: Any, func: Any, options: dict[str, Any], folder: str | None) -> Any:
    _configure(folder)
    return kind(func, **options)


def _configure(folder: str | None) -> None:
    if folder is not None and configuration.configured_folder() is None:
        configuration.configure(data_folder=folder)
