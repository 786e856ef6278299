"""The docstrings of the public names, and what each of them owes to its reader.

The reference is written from them, so this walks what a reader finds there: every name that a façade
exports, and the public methods and properties of the exported classes as far as they are defined in ops.*.
The docstring of a class documents its construction; a method that overrides another one inherits what the
docstring of the other says. What is raised is read from the source: the `raise` statements of a body and of
the private helpers of the same module that it calls directly.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.contracts import facades

from ops.foundation import OpsError

ROOT = pathlib.Path(__file__).parents[2]
#: Parameters from which on each of them is described.
MANY = 3


@dataclasses.dataclass(frozen=True)
class Documented:
    """A public function, method, property or constructor with the text that documents it."""

    name: str
    function: Callable[..., Any]
    owner: type | None
    docstring: str
    #: Whether it implements a method of another library, whose documentation has the parameters.
    implements: bool = False

    @property
    def package(self) -> str:
        return ".".join(self.function.__module__.split(".")[:2])

    @property
    def is_internal(self) -> bool:
        """Whether it is a constructor that users do not call: the docstring names what does."""
        return self.name.endswith("__") and "Made by `" in self.docstring

    def undescribed(self) -> list[str]:
        """Return the parameters that the docstring leaves out, where there are three or more."""
        if self.implements:
            return []
        named = self._parameters()
        if len(named) < MANY:
            named = [p for p in named if p.kind is p.VAR_KEYWORD]
        if self.owner is not None and issubclass(self.owner, OpsError):
            # What an error of ours passes on is described by OpsError.
            named = [p for p in named if p.kind is not p.VAR_KEYWORD]
        named = [p for p in named if not p.name.startswith("_")]
        return [p.name for p in named if not _names(self.docstring, p.name)]

    def _parameters(self) -> list[inspect.Parameter]:
        found = list(inspect.signature(self.function).parameters.values())
        is_bound = self.owner is not None and not isinstance(
            inspect.getattr_static(self.owner, self.function.__name__, None), staticmethod
        )
        return found[1:] if is_bound else found

    def raised(self) -> set[type[OpsError]]:
        """Return the exceptions of ours that the body and its private helpers raise."""
        found = set(_raised(self.function))
        for helper, caught in _helpers(self.function, self.owner):
            found |= {error for error in _raised(helper) if not issubclass(error, caught)}
        return found

    def unannounced(self) -> list[str]:
        """Return those of `raised` of which the docstring names neither the class nor a base."""
        if not re.search(r"\b[Rr]aise[sd]?\b", self.docstring):
            return sorted(error.__name__ for error in self.raised())
        return sorted(
            error.__name__
            for error in self.raised()
            if not any(_mentions(self.docstring, base) for base in error.__mro__)
        )


@functools.cache
def documented() -> list[Documented]:
    """Return all of them, each once, under the package that defines it."""
    found: dict[str, Documented] = {}
    for module in _modules():
        for name in module.__all__:
            for entry in _entries(getattr(module, name)):
                found.setdefault(entry.name, entry)
    return list(found.values())


@functools.cache
def records() -> list[type]:
    """Return the public dataclasses whose constructor is generated, each once."""
    public = [getattr(module, name) for module in _modules() for name in module.__all__]
    classes = [value for value in public if isinstance(value, type) and _is_own(value)]
    generated = [
        cls for cls in classes if dataclasses.is_dataclass(cls) and "__init__" in vars(cls)
    ]
    return [cls for cls in dict.fromkeys(generated) if not _is_ours(vars(cls)["__init__"])]


def undescribed_fields(record: type) -> list[str]:
    """Return the fields of a dataclass of three or more that neither docstring nor `#:` describes."""
    names = [f.name for f in dataclasses.fields(record) if f.init and not f.name.startswith("_")]
    if len(names) < MANY:
        return []
    commented = re.findall(r"#: .*\n(?:\s*#.*\n)*\s*(\w+):", inspect.getsource(record))
    text = record.__doc__ or ""
    return [name for name in names if not _names(text, name) and name not in commented]


@functools.cache
def _exported() -> frozenset[type]:
    values = [getattr(module, name) for module in _modules() for name in module.__all__]
    return frozenset(value for value in values if isinstance(value, type))


def _modules() -> Iterator[Any]:
    return map(importlib.import_module, packages())


def packages() -> list[str]:
    """Return the packages that have a façade."""
    files = facades.facades(ROOT)
    parts = [file.parent.parts for file in files]
    return sorted(".".join(part[part.index("src") + 1 :]) for part in parts)


def _entries(value: object) -> Iterator[Documented]:
    if isinstance(value, type):
        yield from _of_class(value)
    elif (function := _function(value)) is not None and _is_ours(function):
        yield Documented(_name(function), function, None, inspect.getdoc(value) or "")


def _of_class(cls: type) -> Iterator[Documented]:
    for owner in cls.__mro__:
        if not _is_own(owner):
            continue
        for name, member in vars(owner).items():
            function = _function(member)
            if function is None or not _is_ours(function):
                continue
            if name in {"__init__", "__post_init__"}:
                if inspect.getattr_static(cls, name) is member:
                    yield from _construction(cls, owner, function)
            elif not name.startswith(("_", "test_")):  # of the suites: fixtures of pytest
                docstring = _inherited(owner, name)
                implements = any(name in vars(base) for base in cls.__mro__ if not _is_own(base))
                yield Documented(_name(function), function, owner, docstring, implements)


def _construction(cls: type, owner: type, function: Callable[..., Any]) -> Iterator[Documented]:
    """Yield the constructor of *cls*; an inherited one under its owner, where readers find it."""
    home = owner if owner in _exported() else cls
    docstring = _of_construction(home, owner) + (function.__doc__ or "")
    entry = Documented(f"{_name(home)}.{function.__name__}", function, owner, docstring)
    if not entry.is_internal:
        yield entry


def _of_construction(cls: type, owner: type) -> str:
    """Return the docstrings of *cls* and of its public bases up to *owner*, whose constructor it has."""
    bases = [base for base in cls.__mro__ if issubclass(base, owner) and base in _exported()]
    return "\n".join(base.__doc__ or "" for base in {cls: 0, **dict.fromkeys(bases)})


def _inherited(owner: type, name: str) -> str:
    """Return the docstrings of the method *name* of *owner* and of those that it overrides."""
    ours = [base for base in owner.__mro__ if _is_own(base)]
    members = [vars(base)[name] for base in ours if name in vars(base)]
    return "\n".join(getattr(member, "__doc__", None) or "" for member in members)


def _function(member: object) -> Callable[..., Any] | None:
    """Return the function of a method, a property or a cached property."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    elif isinstance(member, property):
        member = member.fget
    elif isinstance(member, functools.cached_property):
        member = member.func
    member = inspect.unwrap(member) if callable(member) else None
    return member if inspect.isfunction(member) else None


def _is_own(cls: type) -> bool:
    return cls.__module__.startswith("ops.")


def _is_ours(function: Any) -> bool:
    # What a dataclass generates has no file.
    return getattr(function, "__module__", "").startswith("ops.") and not getattr(
        getattr(function, "__code__", None), "co_filename", "<"
    ).startswith("<")


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _names(docstring: str, parameter: str) -> bool:
    """Whether a parameter stands in prose as *name*, as `name=` or `**name`, or in an Args section."""
    name = re.escape(parameter)
    forms = (rf"\*{name}\*", rf"`\**{name}(=[^`]*)?`", rf"^\s*\**{name}( \([^)]*\))?:")
    return re.search("|".join(forms), docstring, flags=re.MULTILINE) is not None


def _mentions(docstring: str, error: type) -> bool:
    return (
        error not in {object, BaseException, Exception}
        and re.search(rf"\b{error.__name__}\b", docstring) is not None
    )


def _tree(function: Callable[..., Any]) -> ast.AST:
    code = function.__code__
    return _functions_of(code.co_filename)[code.co_firstlineno]


@functools.cache
def _functions_of(file: str) -> dict[int, ast.AST]:
    """Return the functions of a file by the line on which each begins, with its decorators."""
    nodes = ast.walk(ast.parse(pathlib.Path(file).read_text(encoding="utf-8")))
    functions = (
        n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    )
    return {
        min([n.lineno, *(d.lineno for d in getattr(n, "decorator_list", ()))]): n for n in functions
    }


def _raised(function: Callable[..., Any]) -> set[type[OpsError]]:
    found = set()
    for node, caught in _reached(function, _tree(function), ()):
        if isinstance(node, ast.Raise) and node.exc is not None:
            call = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            value = _resolved(function, call)
            if inspect.isfunction(value):  # One that makes the error, `raise _refused(name)`.
                value = _evaluated(value, value.__annotations__.get("return"))
            if (
                isinstance(value, type)
                and issubclass(value, OpsError)
                and not issubclass(value, caught)
            ):
                found.add(value)
    return found


def _reached(
    function: Callable[..., Any], node: ast.AST, caught: tuple[type, ...]
) -> Iterator[tuple[ast.AST, tuple[type, ...]]]:
    """Yield the nodes below *node*, each with the exceptions that the function catches there."""
    yield node, caught
    inside = caught
    if isinstance(node, ast.Try):
        inside += tuple(c for h in node.handlers for c in _classes(function, h.type))
    elif isinstance(node, ast.With):
        calls = [i.context_expr for i in node.items if isinstance(i.context_expr, ast.Call)]
        calls = [call for call in calls if ast.unparse(call.func).endswith("suppress")]
        inside += tuple(c for call in calls for arg in call.args for c in _classes(function, arg))
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _reached(function, child, inside if field == "body" else caught)


def _classes(function: Callable[..., Any], node: ast.expr | None) -> list[type]:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    found = [_resolved(function, name) for name in names if name is not None]
    return [value for value in found if isinstance(value, type)]


def _evaluated(function: Callable[..., Any], annotation: object) -> object:
    if not isinstance(annotation, str):
        return annotation
    return _resolved(function, ast.parse(annotation, mode="eval").body)


def _resolved(function: Callable[..., Any], node: ast.expr) -> object:
    """Return what a name, or a chain of attributes, means among the globals of *function*."""
    if isinstance(node, ast.Name):
        if node.id in function.__globals__:
            return function.__globals__[node.id]
        return _imported_inside(function).get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_resolved(function, node.value), node.attr, None)
    return None


def _imported_inside(function: Callable[..., Any]) -> dict[str, object]:
    return {
        alias.asname or alias.name: getattr(importlib.import_module(node.module), alias.name, None)
        for node in ast.walk(_tree(function))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ops.")
        for alias in node.names
    }


def _helpers(
    function: Callable[..., Any], owner: type | None
) -> Iterator[tuple[Callable[..., Any], tuple[type, ...]]]:
    for node, caught in _reached(function, _tree(function), ()):
        if not isinstance(node, ast.Call):
            continue
        target = node.func
        if isinstance(target, ast.Name) and target.id.startswith("_"):
            helper = function.__globals__.get(target.id)
        elif (
            isinstance(target, ast.Attribute)
            and target.attr.startswith("_")
            and isinstance(target.value, ast.Name)
            and target.value.id in {"self", "cls"}
            and owner is not None
        ):
            helper = _function(inspect.getattr_static(owner, target.attr, None))
        else:
            continue
        helper = inspect.unwrap(helper) if callable(helper) else None
        if inspect.isfunction(helper) and helper.__module__ == function.__module__:
            yield helper, caught
