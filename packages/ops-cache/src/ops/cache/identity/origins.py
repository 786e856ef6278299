"""Whose code a module is, and which program a function belongs to.

Code below the folders of the standard library is known by the version of Python, code in
`site-packages` by its distribution and version; all other code is the user's own and is followed.
An editable installation is the user's own, too.

A module name does not identify a program: each has its `__main__`, and two projects may each
have a `data.py`. So a function of the user's own code also carries the path of its file; in a
notebook the path of the notebook, where it is known, and at a prompt the working directory.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PYTHON", "USER", "Origin", "origin_of", "origin_of_import", "program_of"]

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Our own packages count by version also in a checkout: their code does not decide a result.
_SUITE = (
    "ops.cache",
    "ops.datalog",
    "ops.foundation",
    "ops.metrics_collect",
    "ops.observe",
    "ops.registry",
    "ops.resilience",
    "ops.serialize",
    "ops.shm",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where code comes from; installed code is known by *name* and *version*."""

    kind: Literal["user", "installed", "python"]
    name: str = ""
    version: str = ""


USER = Origin("user")
PYTHON = Origin("python", "Python", _PYTHON)


def origin_of(module: str | None, file: str | None = None) -> Origin:
    """Return the origin of code of the module named *module*, in *file* where that is known."""
    name = module or ""
    top = name.partition(".")[0]
    if name.startswith(_SUITE):
        return _installed("-".join(name.split(".")[:2]))
    if top in sys.builtin_module_names:
        return PYTHON
    if file is None or not os.path.isabs(file):  # generated code, or a prompt
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None:
            if top in sys.stdlib_module_names:
                return PYTHON
            root = getattr(
                sys.modules.get(top), "__file__", None
            )  # C extensions have their package
            file = root if top != "__main__" else None
    if file is None:
        return USER
    return _origin_of_file(os.path.dirname(file), top)


def origin_of_import(name: str) -> Origin | None:
    """Return the origin of the module that `import name` would load, without loading it."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return PYTHON
    if name.startswith(_SUITE):
        return origin_of(name)
    module = sys.modules.get(top)
    if module is not None:
        file = getattr(module, "__file__", None) or next(
            iter(getattr(module, "__path__", ())), None
        )
    else:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        file = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    return USER if file is None else _origin_of_file(os.path.dirname(file), top)


def program_of(module: str | None, file: str, namespace: Mapping[str, Any]) -> str | None:
    """Return what identifies the program of a function; None for installed code.

    Args:
        module: the name of the function's module.
        file: the file that its code was compiled from.
        namespace: the globals of the function.
    """
    if origin_of(module, file).kind != "user":
        return None
    # Environment JPY_SESSION_NAME: set by Jupyter: the notebook whose functions are cached.
    notebook = namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    if notebook and "__file__" not in namespace:
        return os.path.realpath(str(notebook))
    own = namespace.get("__file__")
    for path in (file, own):
        if isinstance(path, str) and os.path.isfile(path) and "ipykernel_" not in path:
            return os.path.realpath(path)
    return f"a prompt in {os.getcwd()}"


@functools.lru_cache(maxsize=4096)
def _origin_of_file(folder: str, top: str) -> Origin:
    folder = os.path.realpath(folder) + os.sep
    if "site-packages" + os.sep in folder or "dist-packages" + os.sep in folder:
        return _installed(top)
    for base in _libraries():
        if folder.startswith(base):
            return PYTHON
    return USER


@functools.cache
def _libraries() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib")
    return tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in names})


@functools.lru_cache(maxsize=1024)
def _installed(top: str) -> Origin:
    try:
        return Origin("installed", top, importlib.metadata.version(top))
    except importlib.metadata.PackageNotFoundError:
        pass
    for name in _owners().get(top, ()):  # sklearn is of scikit-learn
        return Origin("installed", name, importlib.metadata.version(name))
    return Origin("installed", top, str(getattr(sys.modules.get(top), "__version__", "")))


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
