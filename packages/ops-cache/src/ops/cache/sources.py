"""What a function is: its code, and the values it carries with it.

Functions made by one factory share their source and differ in the closure, so the fingerprint of a
function covers its source text, the variables it closes over and its defaults; functions among
these count by their own fingerprint. Bytecode stands in for the text of lambdas (two of them may
share a line) and of functions whose source is not available.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
import types
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ops.cache.errors import UncacheableCallError
from ops.foundation.errors import ValidationError
from ops.serialize.digests import digest
from ops.serialize.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["IMMUTABLE", "as_names", "fingerprint", "is_constant", "refuse_generators"]

T = TypeVar("T")

IMMUTABLE = frozenset((int, float, complex, str, bytes, bool, type(None)))

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)

_codes: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def as_names(names: Iterable[T]) -> tuple[T, ...]:
    """Return *names*, or what they stand for, as a tuple; a single string is one, not its letters."""
    return (cast("T", names),) if isinstance(names, str) else tuple(names)


def refuse_generators(func: Callable[..., Any], instead: str) -> None:
    """Raise `ValidationError` for a generator function, whose result can be read only once."""
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise ValidationError(
            f"{func.__qualname__} is a generator function, whose result can be read only once.",
            suggestions=(f"{instead} a function that returns a list or tuple.",),
        )


def fingerprint(
    func: Callable[..., Any],
    seen: frozenset[int] = frozenset(),
    ignore: frozenset[str] = frozenset(),
    *,
    code: bool = True,
) -> str:
    """Return a digest that changes when the code of *func* or a value that it carries does.

    *ignore* names variables and parameters whose values do not count; with *code* False only the
    values do; *seen* holds the ids of the functions that are being described, to end recursion.
    Raises `UncacheableCallError` naming the variable when a value has no digest.
    """
    seen |= {id(func)}
    described: list[Any] = [func.__qualname__] if hasattr(func, "__qualname__") else []
    if code:
        described.append(_code(func))
    wrapped = getattr(func, "__wrapped__", None)
    for name, value in _carried(func):
        if name in ignore:
            continue
        if value is wrapped and isinstance(value, types.FunctionType):  # has the same parameters
            described.append((name, fingerprint(value, seen, ignore, code=code)))
        else:
            described.append((name, _describe(func, name, value, seen)))
    return digest(described, algorithm="blake2b")


def is_constant(func: object) -> bool:
    """Say whether the fingerprint of *func* can never change: it carries plain values at most."""
    return (
        isinstance(func, types.FunctionType)
        and not func.__closure__
        and not hasattr(func, "__wrapped__")
        and all(type(value) in IMMUTABLE for _, value in _carried(func))
    )


def _carried(func: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values of what belongs to *func* besides its code."""
    if isinstance(func, functools.partial):
        yield from (("func", func.func), ("args", func.args), ("keywords", func.keywords))
    elif isinstance(func, types.MethodType):
        yield from (("__func__", func.__func__), ("__self__", func.__self__))
    elif isinstance(func, types.FunctionType):
        for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        defaults = func.__defaults__ or ()
        names = func.__code__.co_varnames[: func.__code__.co_argcount]
        yield from zip(names[len(names) - len(defaults) :], defaults, strict=True)
        yield from (func.__kwdefaults__ or {}).items()
    elif isinstance(func, types.BuiltinFunctionType):
        if not isinstance(func.__self__, types.ModuleType | None):
            yield "__self__", func.__self__
    elif not isinstance(func, type) and not hasattr(func, "__wrapped__"):
        yield "object", _Opaque(func)
    wrapped = getattr(func, "__wrapped__", None)
    if wrapped is not None:
        yield "__wrapped__", wrapped


class _Opaque:
    """A callable object, to be described by its content and not as a function."""

    def __init__(self, content: object) -> None:
        self.content = content


def _describe(func: Any, name: str, value: Any, seen: frozenset[int]) -> Any:
    if type(value) in IMMUTABLE:
        return value
    if id(value) in seen:
        return ("recursion",)
    if hasattr(value, "dependency_fingerprint"):
        return ("cached", value.dependency_fingerprint(seen))
    if isinstance(value, _FUNCTIONS) or hasattr(value, "__wrapped__"):
        return ("function", fingerprint(value, seen))
    content: Any = value.content if isinstance(value, _Opaque) else value
    if type(content) in {list, tuple}:
        seen |= {id(content)}
        return (type(content).__name__, [_describe(func, name, item, seen) for item in content])
    if type(content) is dict:
        seen |= {id(content)}
        pairs = [(_plain(func, name, k), _describe(func, name, content[k], seen)) for k in content]
        return ("dict", pairs)
    return ("value", _plain(func, name, content))


def _plain(func: Any, name: str, value: Any) -> str:
    try:
        return digest(value, algorithm="blake2b")
    except UnsupportedTypeError as error:
        owner = getattr(func, "__qualname__", repr(func))
        msg = f"{owner} cannot be recognised again: the value of its variable {name!r}: {error}"
        hint = f"Pass {name!r} as an argument, or name it in `ignore` if it changes no result."
        raise UncacheableCallError(msg, suggestions=(hint,)) from error


def _code(func: Any) -> str:
    try:
        found = _codes.get(func)
    except TypeError:  # neither hashable nor weakly referenceable: describe it each time
        return _read_code(func)
    if found is None:
        found = _codes[func] = _read_code(func)
    return found


def _read_code(func: Any) -> str:
    code = getattr(func, "__code__", None)
    if code is None:
        code = getattr(getattr(type(func), "__call__", None), "__code__", None)  # noqa: B004 - its code
    subject = func if isinstance(func, type) else code
    if subject is None:  # a C function: its name is all there is
        kind = type(func)
        name = (getattr(func, "__module__", ""), getattr(func, "__qualname__", kind.__qualname__))
        return digest([kind.__module__, *map(str, name)], algorithm="blake2b")
    if code is None or code.co_name != "<lambda>":
        try:
            # Of the code object: of the function, inspect would read what it wraps instead.
            return digest(textwrap.dedent(inspect.getsource(subject)), algorithm="blake2b")
        except (OSError, TypeError):  # typed into a prompt, or made by exec
            pass
    return digest(subject, algorithm="blake2b")
