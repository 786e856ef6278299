"""How objects that are no plain builtins enter a digest: by their class and by all that they hold.

Most are taken apart as pickle takes them apart, with two additions. Functions that rebuild an object
count by their name, not by their code, which is the library's and changes with it. And a class that
was derived in Python from one that knows nothing of attributes (`date`, `Fraction`, an array) has
its attributes added, since pickle's answer is that of the base. What `cached_property` has stored is
derived from the rest and does not count.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import functools
import pathlib
import pickle
import sys
import types
import zoneinfo
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.serialize.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.serialize._canonical import Canonical

__all__ = ["attributes", "class_name", "write_reduced", "writer_of"]

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_SET_REDUCERS: tuple[Any, ...] = (set.__reduce__, frozenset.__reduce__)


@functools.lru_cache(maxsize=512)
def writer_of(kind: type) -> Callable[[Canonical, Any, type], bytes]:
    """Return what writes objects of exactly *kind*, which is no plain builtin.

    Libraries are recognised by the modules of their classes, and not imported before.
    """
    if issubclass(kind, type):
        return _write_name
    for base in kind.__mro__:
        library = base.__module__.partition(".")[0]
        if library in {"numpy", "torch"}:
            from ops.serialize import _arrays

            return _arrays.write_numpy if library == "numpy" else _arrays.write_torch
        if library in {"pandas", "pyarrow"}:
            from ops.serialize import _tables

            return _tables.write_pandas if library == "pandas" else _tables.write_arrow
    for bases, write in _WRITERS:
        if issubclass(kind, bases):
            return write
    if _is_all_attributes(kind):
        return _write_attributes
    return _write_dataclass if dataclasses.is_dataclass(kind) else write_reduced


def class_name(kind: type) -> tuple[str, str]:
    """Return module and qualified name."""
    return kind.__module__, kind.__qualname__


def _write_enum(out: Canonical, obj: Any, kind: type) -> bytes:
    # Combinations of flags may have no name, and no two members have one value.
    name = "" if isinstance(obj, enum.Flag) else obj.name
    try:
        value = out.node(obj._value_)
    except UnsupportedTypeError:
        if not name:
            raise
        value = b""  # the name is enough
    return out.tag("enum", *class_name(kind), name) + value


def _write_name(out: Canonical, obj: Any, kind: type) -> bytes:
    reducer = copyreg.dispatch_table.get(kind)
    if reducer is not None and isinstance(obj, type) and kind is not type:
        return write_reduced(out, obj, kind)  # as NumPy's classes of dtypes
    owner = getattr(obj, "__self__", None)
    name = getattr(obj, "__qualname__", obj.__name__)
    if owner is None or isinstance(owner, types.ModuleType):
        return out.tag("name", getattr(obj, "__module__", ""), name)
    return out.tag("method", getattr(obj, "__module__", ""), name) + out.node(owner)


def _write_function(out: Canonical, obj: Any, kind: type) -> bytes:  # noqa: ARG001 - the shared shape
    try:
        cells = tuple(cell.cell_contents for cell in obj.__closure__ or ())
    except ValueError as error:
        raise UnsupportedTypeError(
            f"{obj.__qualname__} has no digest: a variable it uses has no value yet."
        ) from error
    content = (obj.__code__, obj.__defaults__, obj.__kwdefaults__, cells)
    return out.tag("function", obj.__module__, obj.__qualname__) + out.nodes(*content)


def _write_method(out: Canonical, obj: Any, kind: type) -> bytes:  # noqa: ARG001 - the shared shape
    return out.tag("bound") + out.nodes(obj.__func__, obj.__self__)


def _write_code(out: Canonical, obj: Any, kind: type) -> bytes:  # noqa: ARG001 - the shared shape
    counts = (obj.co_argcount, obj.co_posonlyargcount, obj.co_kwonlyargcount, obj.co_flags)
    names = (obj.co_names, obj.co_varnames, obj.co_freevars, obj.co_cellvars)
    return out.tag("code", *counts) + out.nodes(
        obj.co_code, obj.co_exceptiontable, names, obj.co_consts
    )


def _write_path(out: Canonical, obj: Any, kind: type) -> bytes:
    base = next(base for base in kind.__mro__ if base.__module__.partition(".")[0] == "pathlib")
    return out.tag("path", *class_name(kind)) + out.nodes(str(obj), attributes(obj, kind, base))


def _write_zone(out: Canonical, obj: Any, kind: type) -> bytes:
    if obj.key is None:
        raise UnsupportedTypeError(
            "A ZoneInfo that was read from a file without a key has no digest."
        )
    held = attributes(obj, kind, zoneinfo.ZoneInfo)
    return out.tag("zone", *class_name(kind)) + out.nodes(obj.key, held)


def _write_union(out: Canonical, obj: Any, kind: type) -> bytes:  # noqa: ARG001 - the shared shape
    return out.unordered(obj.__args__, "union")


def _write_constant(out: Canonical, obj: Any, kind: type) -> bytes:  # noqa: ARG001 - the shared shape
    return out.tag("constant", repr(obj))


def _write_proxy(out: Canonical, obj: Any, kind: type) -> bytes:
    return out.tag("object", *class_name(kind)) + out.node(dict(obj))


_WRITERS: tuple[tuple[Any, Callable[[Canonical, Any, type], bytes]], ...] = (
    (enum.Enum, _write_enum),
    ((type, types.BuiltinFunctionType, types.ModuleType), _write_name),
    (types.FunctionType, _write_function),
    (types.MethodType, _write_method),
    (types.CodeType, _write_code),
    (pathlib.PurePath, _write_path),
    (zoneinfo.ZoneInfo, _write_zone),
    (types.UnionType, _write_union),
    ((types.EllipsisType, types.NotImplementedType), _write_constant),
    (types.MappingProxyType, _write_proxy),
)


def _is_all_attributes(kind: Any) -> bool:
    """Say whether instances hold nothing but attributes, and pickle keeps just these."""
    methods = ("__getnewargs__", "__getnewargs_ex__", "__del__")
    if not (
        _is_default(kind)
        and kind.__getstate__ is object.__getstate__
        and all(base is object or base.__flags__ & _HEAP_TYPE for base in kind.__mro__)
        and not any(hasattr(kind, method) for method in methods)
    ):
        return False
    try:
        object.__new__(kind).__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - of a type that is written in C, or has a metaclass of its own
        return False
    return True


def _write_attributes(out: Canonical, obj: Any, kind: type) -> bytes:
    held = attributes(obj, kind, object)
    for name in _field_names(kind):
        if name not in held and hasattr(obj, name):  # set in the class, or by a descriptor
            held[name] = getattr(obj, name)
    return out.tag("object", *class_name(kind)) + out.node(held)


@functools.lru_cache(maxsize=512)
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def _write_dataclass(out: Canonical, obj: Any, kind: type) -> bytes:
    """Write the fields, which pickle's methods may leave out, and all that pickle keeps."""
    missing = object()
    held = ((f.name, getattr(obj, f.name, missing)) for f in dataclasses.fields(obj))
    fields = {name: value for name, value in held if value is not missing}
    return out.tag("dataclass") + out.node(fields) + write_reduced(out, obj, kind)


def write_reduced(out: Canonical, obj: Any, kind: type) -> bytes:
    """Write what pickle would rebuild *obj* from, and attributes that it would forget."""
    reducer = copyreg.dispatch_table.get(kind)
    head = out.tag("object", *class_name(kind))
    if isinstance(obj, set | frozenset) and kind.__reduce__ in _SET_REDUCERS:
        return head + out.unordered(obj, "set") + out.node(attributes(obj, kind, object))
    try:
        parts: Any = obj.__reduce_ex__(5) if reducer is None else reducer(obj)
    except (RecursionError, MemoryError, OpsError):
        raise
    except Exception as error:  # of the method of a user's class: anything
        raise UnsupportedTypeError(
            f"A {'.'.join(class_name(kind))} has no digest: {error}."
        ) from error
    if isinstance(parts, str):
        return head + out.tag(_module_of(obj, parts), parts)
    make, arguments, state, items, pairs = (*parts, None, None, None)[:5]
    if _is_default(kind):
        state = _without_derived(state, kind)
        lost = None
    else:
        base = _base_that_reduces(kind)
        lost = None if base is None else (attributes(obj, kind, base) or None)
        if isinstance(state, dict) and lost and lost.items() <= state.items():
            lost = None
    content = out.nodes(arguments, state, None if items is None else list(items), lost)
    if pairs is not None:
        pairs = list(pairs)
        if isinstance(obj, dict) and not isinstance(obj, OrderedDict):
            pairs = dict(pairs)
    return head + _callable(out, make) + content + out.node(pairs)


def _callable(out: Canonical, make: Any) -> bytes:
    """Write by its name what can be imported by it, else as the value that it is."""
    name = getattr(make, "__qualname__", "<none>")
    if "<" in name or not isinstance(make, type | types.FunctionType | types.BuiltinFunctionType):
        return out.node(make)
    owner = getattr(make, "__self__", None)
    if owner is not None and not isinstance(owner, type | types.ModuleType):
        return out.node(make)
    return out.tag("name", getattr(make, "__module__", ""), name)


def _module_of(obj: Any, name: str) -> str:
    """Return the module that *obj* is the global *name* of, as pickle requires."""
    module = getattr(obj, "__module__", None) or pickle.whichmodule(obj, name)  # type: ignore[attr-defined]
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not obj:
        raise UnsupportedTypeError(
            f"A {type(obj).__qualname__} has no digest: {module}.{name} is another object."
        )
    return str(module)


def _is_default(kind: Any) -> bool:
    return (
        kind not in copyreg.dispatch_table
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
    )


def _base_that_reduces(kind: type) -> type | None:
    """Return the base of *kind* that defines how to pickle it, if it knows nothing of attributes.

    A Python class outside the standard library has decided itself what counts.
    """
    for base in kind.__mro__:
        own = vars(base)
        if "__reduce_ex__" in own or "__reduce__" in own:
            native = not base.__flags__ & _HEAP_TYPE
            library = base.__module__.partition(".")[0] in sys.stdlib_module_names
            return base if base is not kind and (native or library) else None
    return None


def attributes(obj: Any, kind: type, base: type) -> dict[str, Any]:
    """Return what *obj* holds in its `__dict__` and in slots of the classes below *base*."""
    found = dict(getattr(obj, "__dict__", ()))
    for owner in kind.__mro__[: kind.__mro__.index(base)]:
        slots = vars(owner).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            private = slot.startswith("__") and not slot.endswith("__")
            name = f"_{owner.__name__.lstrip('_')}{slot}" if private else slot
            if name not in {"__dict__", "__weakref__"} and hasattr(obj, name):
                found[name] = getattr(obj, name)
    return {name: value for name, value in found.items() if name not in _derived(kind)}


@functools.lru_cache(maxsize=512)
def _derived(kind: type) -> frozenset[str]:
    """Return the names under which `cached_property` stores what it has computed."""
    return frozenset(
        name
        for base in kind.__mro__
        for name, value in vars(base).items()
        if isinstance(value, functools.cached_property)
    )


def _without_derived(state: Any, kind: Any) -> Any:
    derived = _derived(kind)
    if not derived or kind.__getstate__ is not object.__getstate__:
        return state
    held, slots = state if isinstance(state, tuple) else (state, None)
    held = {name: value for name, value in (held or {}).items() if name not in derived} or None
    return held if slots is None else (held, slots)
