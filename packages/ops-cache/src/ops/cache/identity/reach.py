"""All that the code of a function can reach by name.

From a function the walk goes to the functions, classes, modules and constants that its globals,
attributes of modules, closure and defaults lead to, and on from each of these, as long as the code
is the user's own (see `origins`). What it finds becomes `parts`: a label that a person can read and
a digest of what stands behind it. Results of a function are the same for as long as its parts are.

Names are resolved now; `watches` holds what each name led to, so that a name that is bound anew, in
a notebook for instance, is noticed.

Not followed: attributes of objects whose class is only known when the code runs (classes of
arguments are added by the caller), names that are computed (`getattr(module, name)`), and C code.
"""

from __future__ import annotations

import enum
import functools
import importlib
import importlib.util
import sys
import types
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from ops.cache.errors import UncacheableCallError
from ops.cache.identity.bytecode import changed_by, code_digest, imports_of, names_of
from ops.cache.identity.origins import USER, origin_of, origin_of_import
from ops.cache.identity.watches import Watches, contents, is_plain
from ops.serialize.digests import digest
from ops.serialize.errors import SerializeError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ops.cache.identity.origins import Origin

__all__ = ["IMMUTABLE", "Reach"]

IMMUTABLE = frozenset((int, float, complex, str, bytes, bool, type(None)))

_CALLABLES = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
)
#: Made by Python for each class, or of use to people and type checkers only.
_NO_BEHAVIOUR = frozenset(
    (
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dataclass_fields__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__qualname__",
        "__static_attributes__",
        "__type_params__",
        "__weakref__",
        "_abc_impl",
    )
)


class Reach:
    """A walk over what functions can reach; see the module.

    Args:
        ignore: names of variables and parameters of the root whose values do not count.
        initial: digests of values that the root itself changes, as they were before it ran, by name.
    """

    def __init__(
        self, ignore: frozenset[str] = frozenset(), initial: Mapping[str, str] | None = None
    ) -> None:
        self.parts: dict[str, str] = {}
        self.watches: Watches = Watches()
        self._ignore = ignore
        self._initial = initial or {}
        self._root: Mapping[str, Any] | None = None
        self._labels: dict[int, str] = {}  # of what was visited, by id
        self._alive: list[Any] = []  # so that no id is given out twice
        self._taken: set[str] = set()
        self._done: set[Any] = set()  # names of namespaces
        self._pending: deque[tuple[types.CodeType, Mapping[str, Any]]] = deque()

    def root(self, func: Any, *, code: bool = True) -> None:
        """Add the function whose results are stored; with *code* False only what it carries.

        Raises `UncacheableCallError` naming a variable that it closes over and has no digest.
        """
        self._root = getattr(func, "__globals__", None)
        self._callable(func, func, code=code, ignore=self._ignore)
        self._drain()

    def dependency(self, value: Any) -> None:
        """Add a function or class that was named as a dependency."""
        self._describe("dependency", value, None)
        self._drain()

    def argument(self, value: Any) -> Any:
        """Return what stands for *value*, a function or class that was passed as an argument."""
        made = self._describe("argument", value, value)
        self._drain()
        return made

    def add_class(self, cls: type) -> None:
        """Add the class of an argument."""
        self._class(cls)
        self._drain()

    def digest(self) -> str:
        """Return the digest of all parts."""
        return digest(sorted(self.parts.items()), algorithm="blake2b")

    def _drain(self) -> None:
        while self._pending:
            code, namespace = self._pending.popleft()
            names = names_of(code)
            self._names(names, namespace, changed_by(code))
            for module, level in sorted(imports_of(code)):
                self._import(module, level, names, namespace)

    # Code. What is visited gets a label once, which stands for it wherever it is met again. *owner*
    # is the function that needs a digest of each value, if any.

    def _callable(
        self, func: Any, owner: Any, *, code: bool = True, ignore: frozenset[str] = frozenset()
    ) -> str:
        known = self._labels.get(id(func))
        if known is not None:
            return known
        if isinstance(func, types.FunctionType):
            return self._function(func, owner, code=code, ignore=ignore)
        name = getattr(func, "__qualname__", type(func).__qualname__)
        if hasattr(type(func), "__cache_dependencies__"):
            label = self._label(func, "cached function", name)
            made = [self._describe("dependency", v, owner) for v in func.__cache_dependencies__()]
            self.parts[label] = _digest(made)
            return label
        label = self._label(func, "callable", name)
        self.parts[label] = _digest(list(self._carried(func, owner, ignore)))
        return label

    def _carried(self, func: Any, owner: Any, ignore: frozenset[str]) -> Iterator[Any]:
        """Yield what a callable that is no function consists of."""
        values: dict[str, Any] = {}
        yield type(func).__qualname__
        if isinstance(func, functools.partial):
            values = {"func": func.func, "args": func.args, "keywords": func.keywords}
        elif isinstance(func, types.MethodType):
            values = {"__func__": func.__func__}
            yield self._bound_to(func.__self__, owner)
        elif isinstance(func, types.BuiltinFunctionType):
            yield self._installed(func, origin_of(getattr(func, "__module__", None)))
            if not isinstance(func.__self__, types.ModuleType | None):
                values = {"__self__": func.__self__}
        elif hasattr(func, "__wrapped__"):
            values = {"__wrapped__": func.__wrapped__}
        else:
            yield self._class(type(func))
            yield self._state("object", func, owner, watch=True)
        for name, value in values.items():
            if name not in ignore:
                yield name, self._describe(name, value, owner, watch=True)

    def _bound_to(self, instance: Any, owner: Any) -> Any:
        """Return what stands for the instance that a method is bound to."""
        if isinstance(instance, type) or origin_of(type(instance).__module__) is not USER:
            return self._describe("__self__", instance, owner, watch=True)
        # Attribute by attribute: one of them may be this very method, cached.
        self.watches.attributes(instance)
        state = [
            (name, self._describe(name, value, owner, watch=True))
            for name, value in sorted(vars(instance).items(), key=itemgetter(0))
        ]
        return (self._class(type(instance)), state)

    def _function(
        self, func: types.FunctionType, owner: Any, *, code: bool, ignore: frozenset[str]
    ) -> str:
        body = func.__code__
        origin = origin_of(func.__module__, body.co_filename)
        if origin is not USER and owner is not func and not func.__closure__:
            return self._installed(func, origin)
        label = self._label(func, "function", func.__qualname__, body.co_filename)
        made: list[Any] = [code_digest(body)] if code else []
        changed = changed_by(body) if body.co_freevars else set()
        for name, cell in zip(body.co_freevars, func.__closure__ or (), strict=True):
            if name in ignore:
                continue
            self.watches.cell(cell)
            value = contents(cell)
            if name in changed and is_plain(value):
                made.append((name, self._initial_digest(name, value, func is owner)))
            else:
                made.append((name, self._describe(name, value, owner, watch=True)))
        for name, value in _defaults(func):
            if name not in ignore:
                made.append((name, self._describe(name, value, owner, watch=True)))
        wrapped = getattr(func, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType) and id(wrapped) not in self._labels:
            made.append(self._function(wrapped, owner, code=code, ignore=ignore))
        self.parts[label] = _digest(made)
        if code and origin is USER:
            self._pending.append((body, func.__globals__))
        return label

    def _initial_digest(self, name: str, value: Any, is_root: bool) -> str:  # noqa: FBT001 - one call
        known = self._initial.get(name) if is_root else None
        return _digest(value) if known is None else known

    def _names(
        self,
        names: Iterable[str],
        namespace: Mapping[str, Any],
        changed: Collection[str] = (),
    ) -> None:
        used = sorted(name for name in names if name in namespace and not self._is_hidden(name))
        if used:
            self.watches.names(namespace, used)
        for name in used:
            value = namespace[name]
            if isinstance(value, types.ModuleType):
                self._module(value, names)
            elif _is_followed(value):
                self._describe(name, value, None)
            elif (id(namespace), name) not in self._done:
                self._done.add((id(namespace), name))
                label = self._label(None, "constant", name, str(namespace.get("__file__") or ""))
                if name in changed and is_plain(value):
                    is_root = self._root is namespace
                    self.parts[label] = self._initial_digest(name, value, is_root)
                else:
                    self.parts[label] = _digest(self._describe(name, value, None, watch=True))

    def _module(self, module: types.ModuleType, names: Iterable[str]) -> str:
        origin = origin_of(module.__name__, getattr(module, "__file__", None))
        if origin is not USER:
            return self._installed(module, origin)
        visited = (id(module), frozenset(names))  # another function may use other names of it
        if visited not in self._done:
            self._done.add(visited)
            self._names(names, vars(module))
        return module.__name__

    def _import(
        self, name: str, level: int, names: Iterable[str], namespace: Mapping[str, Any]
    ) -> None:
        try:
            if level:
                package = str(namespace.get("__package__") or "")
                name = importlib.util.resolve_name("." * level + name, package)
            origin = origin_of_import(name)
            if origin is USER:  # the function would import it, unless its result is stored
                self._module(importlib.import_module(name), names)
                self._module(sys.modules[name.partition(".")[0]], names)
            elif origin is not None:
                self._installed(None, origin)
        except Exception:  # noqa: BLE001 - an optional module: the function has to deal with it
            return

    def _class(self, cls: type) -> str:
        known = self._labels.get(id(cls))
        if known is not None:
            return known
        origin = origin_of(cls.__module__)
        if origin is not USER:
            return self._installed(cls, origin)
        label = self._label(cls, "class", cls.__qualname__, _file_of(cls))
        made: list[Any] = [self._describe("base", base, None) for base in cls.__bases__]
        if type(cls) is not type:
            made.append(self._describe("metaclass", type(cls), None))
        members: Mapping[str, Any] = {}
        if issubclass(cls, enum.Enum):
            members = cls.__members__
            made += [(name, self._describe(name, m.value, None)) for name, m in members.items()]
        for name, value in sorted(vars(cls).items(), key=itemgetter(0)):
            if name in _NO_BEHAVIOUR or name in members:
                continue
            if issubclass(cls, enum.Enum) and name.startswith("_") and not callable(value):
                continue  # its tables of members
            if not isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
                made.append((name, self._attribute(name, value)))
        self.parts[label] = _digest(made)
        return label

    def _attribute(self, name: str, value: Any) -> Any:
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        elif isinstance(value, functools.cached_property):
            value = value.func
        elif isinstance(value, property):
            parts = (value.fget, value.fset, value.fdel)
            return [None if f is None else self._describe(name, f, None) for f in parts]
        return self._describe(name, value, None)

    def _installed(self, value: Any, origin: Origin) -> str:
        label = f"distribution `{origin.name}`" if origin.kind == "installed" else origin.name
        self.parts[label] = origin.version
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
        return f"{label}: {getattr(value, '__module__', '')}.{name}"

    # Values

    def _describe(self, name: str, value: Any, owner: Any, *, watch: bool = False) -> Any:
        """Return what stands for *value* in a digest."""
        if type(value) in IMMUTABLE:
            return value
        if isinstance(value, types.ModuleType):
            return ("module", self._module(value, ()))
        if isinstance(value, type):
            return ("class", self._class(value))
        if _is_followed(value):
            return ("callable", self._callable(value, owner))
        if type(value) in {list, tuple, dict} and not is_plain(value):
            if id(value) in self._labels:
                return ("recursion", self._labels[id(value)])
            self._labels[id(value)] = name
            self._alive.append(value)
            items = value.items() if type(value) is dict else enumerate(value)
            made = [
                (self._state(name, key, owner), self._describe(name, item, owner, watch=watch))
                for key, item in items
            ]
            del self._labels[id(value)]
            return (type(value).__name__, made)
        return ("value", self._state(name, value, owner, watch=watch))

    def _state(self, name: str, value: Any, owner: Any, *, watch: bool = False) -> str:
        try:
            made = _digest(value)
        except SerializeError as error:
            if owner is None:  # a logger, a lock, a connection: only its class is known
                return self._class(type(value))
            who = getattr(owner, "__qualname__", repr(owner))
            msg = f"{who} cannot be recognised again: the value of its variable {name!r}: {error}"
            hint = f"Pass {name!r} as an argument, or name it in `ignore` if it changes no result."
            raise UncacheableCallError(msg, suggestions=(hint,)) from error
        if watch:
            self.watches.value(value, made)
        if origin_of(type(value).__module__) is USER:
            self._class(type(value))
        return made

    def _label(self, value: Any, kind: str, name: str, file: str = "") -> str:
        base = file.replace("\\", "/").rpartition("/")[2]
        # Cells of notebooks and prompts have file names of their own in each session.
        known = base and "ipykernel_" not in file and not base.startswith("<")
        label = wanted = f"{kind} `{name}`" + (f" in {base}" if known else "")
        number = 1
        while label in self._taken:
            number += 1
            label = f"{wanted} ({number})"
        self._taken.add(label)
        if value is not None:
            self._labels[id(value)] = label
            self._alive.append(value)
        return label

    def _is_hidden(self, name: str) -> bool:
        return name in self._ignore or (name.startswith("__") and name.endswith("__"))


def _digest(value: Any) -> str:
    return digest(value, algorithm="blake2b")


def _is_followed(value: Any) -> bool:
    if isinstance(value, (*_CALLABLES, type)):
        return True
    cls = type(value)
    return hasattr(cls, "__cache_dependencies__") or (
        callable(value)
        and (
            isinstance(getattr(value, "__wrapped__", None), types.FunctionType)
            or origin_of(cls.__module__) is USER
        )
    )


def _defaults(func: types.FunctionType) -> Iterator[tuple[str, Any]]:
    defaults = func.__defaults__ or ()
    names = func.__code__.co_varnames[: func.__code__.co_argcount]
    yield from zip(names[len(names) - len(defaults) :], defaults, strict=True)
    yield from (func.__kwdefaults__ or {}).items()


def _file_of(cls: type) -> str:
    return str(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")
