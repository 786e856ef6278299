"""Collectors, storages and rollups of other distributions, by entry point.

| group | an entry is | used by |
|---|---|---|
| `ops.metrics_collect.collectors` | a collector factory, bound to `db=` if it has that parameter | `--collect NAME` |
| `ops.metrics_collect.storages` | a function that makes a storage of what follows `NAME:` | `--ship NAME:rest` |
| `ops.metrics_collect.rollups` | a subclass of `Rollup`, called with `memory_bytes=` | `--dataframe NAME` |

Names of this distribution win, so that an installed plug-in cannot change what a known name means.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.metrics_collect.errors import ParameterError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Kind", "loaded", "names"]

Kind: TypeAlias = Literal["collectors", "storages", "rollups"]


def names(kind: Kind) -> list[str]:
    """Return the names of the plug-ins of a kind, without loading them."""
    return sorted({entry.name for entry in _entries(kind)})


def loaded(kind: Kind, name: str) -> Any:
    """Return what the plug-in *name* is.

    Raises `ParameterError` when there is none, when two distributions have one, and when it cannot be
    imported.
    """
    found = [entry for entry in _entries(kind) if entry.name == name]
    if not found:
        raise ParameterError(f"There is no plug-in {name!r} among the {kind}.")
    if len({entry.value for entry in found}) > 1:
        owners = sorted(str(entry.dist.name if entry.dist else "?") for entry in found)
        raise ParameterError(
            f"Several distributions have a plug-in {name!r} among the {kind}: {', '.join(owners)}.",
            suggestions=("Uninstall all but one.",),
        )
    try:
        return found[0].load()
    except (ImportError, AttributeError) as error:
        raise ParameterError(
            f"The plug-in {name!r} ({found[0].value}) cannot be loaded: {error}."
        ) from error


def _entries(kind: Kind) -> list[EntryPoint]:
    return list(entry_points(group=f"ops.metrics_collect.{kind}"))
