"""Lazy exports: how every package of the suite keeps `import ops.x` light (PEP 562).

The list of a package's public names is the `TYPE_CHECKING` block of its `__init__`, where each is
imported under its own name; static tools read that and nothing else, so that they know a misspelt
name when they see one. The `else` branch hands the same names, by module, to `lazy_exports`.
`tests/contracts/facades.py` writes it and proves that the two agree.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, homes: Mapping[str, str]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__all__`, `__getattr__` and `__dir__` of *package* for names that load on first use.

    Args:
        package: the dotted name of the package whose `__init__` calls this.
        homes: the public names of each module, separated by spaces. A relative module (".locks")
            is resolved against *package*; an absolute one re-exports from another package.

    A loaded name is stored in the package, so each costs one import and then nothing.
    """
    origin = {name: module for module, names in homes.items() for name in names.split()}

    def __getattr__(name: str) -> Any:  # noqa: N807 - the names that PEP 562 asks for
        try:
            module = origin[name]
        except KeyError:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg, name=name, obj=sys.modules.get(package)) from None
        value = getattr(import_module(module, package), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807 - the names that PEP 562 asks for
        return sorted({*vars(sys.modules[package]), *origin})

    return sorted(origin), __getattr__, __dir__
