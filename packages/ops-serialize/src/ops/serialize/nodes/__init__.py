"""The closed set of typed nodes: how an object is taken apart, and how our own code builds it again.

An encoder returns the name of a node and its parts, which are written like any other value. A builder gets
these parts back from a file that any program may have written, so it checks each of them before a constructor
that would believe them. Nodes of a library live in the module named for it, which is imported when an
object of that library is met, or a file names one of its nodes (`"np.array"`: the prefix is the library's).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ops.serialize.errors import CorruptDataError, UnsupportedTypeError
from ops.serialize.nodes.parts import Allowed, Raw, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    Encoder = Callable[[Any], tuple[str, tuple[Any, ...]]]
    Builder = Callable[..., Any]

__all__ = ["Allowed", "Raw", "Reading", "builder_for", "encoder_for"]

_MODULES = {
    "numpy": "numpy_nodes",
    "pandas": "pandas_nodes",
    "pyarrow": "arrow_nodes",
    "torch": "torch_nodes",
    "pytz": "pandas_nodes",  # zones that pandas 2 makes
}
_PREFIXES = {"np": "numpy", "pd": "pandas", "pa": "pyarrow", "torch": "torch"}

known_encoders: dict[type, Encoder | None] = {}
_builders: dict[str, Builder] = {}


def encoder_for(obj: Any, allowed: Allowed) -> tuple[str, tuple[Any, ...]]:
    """Return the name of the node that *obj* becomes, and its parts.

    Raises `UnsupportedTypeError` when it is no data.
    """
    kind = type(obj)
    encoder = known_encoders.get(kind)
    if encoder is None and kind not in known_encoders:
        encoder = known_encoders[kind] = _find(kind)
    if encoder is not None:
        return encoder(obj)
    from ops.serialize.nodes.instances import encode_instance, name_of

    if allowed.cls(name_of(kind)) is kind:
        return encode_instance(obj)
    raise UnsupportedTypeError(
        f"A {kind.__module__}.{kind.__qualname__} is no plain data, so it can only be stored as a "
        "pickle, and those are read only from a source that is vouched for.",
        suggestions=(
            (
                'Store and load it with trust="user" (for yourself), trust=Signed(key) (for who has '
                f"the key), or trust=Safe(allow=({kind.__qualname__},)) if it is a dataclass, an enum "
                "or a named tuple."
            ),
        ),
    )


def builder_for(name: Any) -> Builder:
    """Return the function that builds the node called *name*; raises `CorruptDataError`."""
    builder = _builders.get(name) if type(name) is str else None
    if builder is None:
        if type(name) is not str:
            raise CorruptDataError("The name of a node is no text.")
        library = _PREFIXES.get(name.partition(".")[0])
        _builders.update(_module(library).BUILDERS)
        builder = _builders.get(name)
        if builder is None:
            raise CorruptDataError(f"A node called {name[:80]!r} is unknown.")
    return builder


def _find(kind: type) -> Encoder | None:
    root = kind.__module__.partition(".")[0]
    if issubclass(kind, type):
        return _type
    found: Encoder | None = _module(root).encoder_of(kind) if root in _MODULES else None
    return found or _module(None).encoder_of(kind)


def _type(value: type) -> tuple[str, tuple[Any, ...]]:
    is_of_numpy = value.__module__.partition(".")[0] == "numpy"
    found: tuple[str, tuple[Any, ...]] = _module("numpy" if is_of_numpy else None).encode_type(
        value
    )
    return found


def _module(library: str | None) -> Any:
    name = "standard_nodes" if library is None else _MODULES[library]
    return importlib.import_module(f"ops.serialize.nodes.{name}")
