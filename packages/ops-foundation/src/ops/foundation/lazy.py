"""Lazy exports: how every package of the suite keeps `import ops.x` light (PEP 562).

A package `__init__` names its public API three times, each for another reader: a `TYPE_CHECKING`
block for static tools, a literal `__all__` for `import *` and documentation, and the table given to
`lazy_exports`, which says where each name lives. `tests/contracts` proves that the three agree.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, homes: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of *package* for names that load on first use.

    *homes* maps a module to the public names it defines. A relative module (".locks") is resolved
    against *package*; an absolute one ("ops.foundation.locks") re-exports from a floor below.
    A loaded name is stored in the package, so each costs one import and then nothing.
    """
    origin = {name: module for module, names in homes.items() for name in names}

    def __getattr__(name: str) -> Any:  # noqa: N807 - the names that PEP 562 asks for
        try:
            module = origin[name]
        except KeyError:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg) from None
        value = getattr(import_module(module, package), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807 - the names that PEP 562 asks for
        return sorted({*vars(sys.modules[package]), *origin})

    return __getattr__, __dir__
