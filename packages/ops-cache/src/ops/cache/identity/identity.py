"""The identity of a function: what its results stand for, kept for as long as it is true."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

from ops.cache.configuration import parameter
from ops.cache.identity.bytecode import changed_by
from ops.cache.identity.origins import USER, origin_of, program_of
from ops.cache.identity.reach import IMMUTABLE, Reach
from ops.cache.identity.watches import contents, is_plain
from ops.foundation.errors import ValidationError
from ops.serialize.digests import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Identity", "described_argument"]

_MISSING = object()
_FOLLOWED = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)


class Identity:
    """What a function computes: its code and all that this reaches, its program and its version.

    Args:
        func: the function, or any other callable.
        ignore: names of parameters and variables that do not change the result.
        depends_on: functions and classes that count beside those that the code reaches, and names
            of parameters (see `ops.cache.configure`) or of variables of the function's module.
        version: any value with a digest; a new one starts anew.
        code: with False neither the code nor what it reaches counts.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        ignore: frozenset[str] = frozenset(),
        depends_on: Iterable[Any] = (),
        version: Any = None,
        *,
        code: bool = True,
    ) -> None:
        self.func = func
        self.version = version
        self._ignore = ignore
        self._functions = [item for item in depends_on if not isinstance(item, str)]
        self._names = [item for item in depends_on if isinstance(item, str)]
        self._code = code
        self._current: tuple[Reach, str] | None = None
        inner = _innermost(func)
        self.module: str = str(getattr(inner, "__module__", None) or type(inner).__module__)
        if self.module == "__mp_main__":  # what a spawned process calls the main module
            self.module = "__main__"
        self.qualname: str = str(getattr(inner, "__qualname__", None) or type(inner).__qualname__)
        self.program: str | None = _program(inner)
        self._initial = _changed_values(func) if code else {}

    def current(self) -> str:
        """Return the digest of all that counts now, beside the arguments of a call.

        Raises:
            UncacheableCallError: a variable that the function closes over has no digest.
            ValidationError: a name in `depends_on` names nothing.
        """
        found = self._current
        if found is None or not found[0].watches.hold():
            found = self._walk()
        if not self._names:
            return found[1]
        return digest([found[1], self._parameters()], algorithm="blake2b")

    def parts(self) -> Mapping[str, str]:
        """Return a digest of each thing that counts, by a label for people."""
        self.current()
        found = self._current
        parts = dict(found[0].parts) if found else {}
        for name, value in self._parameters():
            parts[f"parameter `{name}`"] = digest(value, algorithm="blake2b")
        parts["version"] = digest(self.version, algorithm="blake2b")
        return parts

    def settle(self) -> None:
        """Let values that the function itself has changed, such as counters, no longer count."""
        if self._current is not None:
            self._current[0].watches.settle()

    def _walk(self) -> tuple[Reach, str]:
        reach = Reach(self._ignore, self._initial)
        reach.root(self.func, code=self._code)
        for item in self._functions:
            reach.dependency(item)
        whole = [self.module, self.qualname, self.program, self.version, reach.digest()]
        self._current = made = (reach, digest(whole, algorithm="blake2b"))
        return made

    def _parameters(self) -> list[tuple[str, Any]]:
        return [(name, self._parameter(name)) for name in self._names]

    def _parameter(self, name: str) -> Any:
        value = parameter(name, _MISSING)
        if value is not _MISSING:
            return value
        space = getattr(_innermost(self.func), "__globals__", {})
        if name in space:
            return space[name]
        raise ValidationError(
            f"{self.qualname} depends on {name!r}, which is neither a parameter nor a variable of "
            f"{self.module}.",
            suggestions=(f"Call configure({name.partition('.')[0]}=...), or correct the name.",),
        )


_types: dict[type, tuple[Reach, str]] = {}


def described_argument(value: Any) -> Any:
    """Return what stands for an argument of a call: its value, and its code where it has any."""
    if type(value) in IMMUTABLE:
        return value
    if isinstance(value, (*_FOLLOWED, type)) or hasattr(type(value), "__cache_dependencies__"):
        reach = Reach()
        return ("code", reach.argument(value), reach.digest())
    kinds = {type(value)}
    if type(value) in {list, tuple, set, frozenset}:
        kinds = set(map(type, value))
    elif type(value) is dict:
        kinds = set(map(type, value.values()))
    own = [_type_digest(cls) for cls in kinds - IMMUTABLE if _is_own(cls)]  # type: ignore[arg-type] # mypy takes no class for hashable
    return ("of", sorted(own), value) if own else value


@functools.lru_cache(maxsize=1024)  # needed for the arguments of every call
def _is_own(cls: type) -> bool:
    return origin_of(cls.__module__) is USER


def _type_digest(cls: type) -> str:
    found = _types.get(cls)
    if found is None or not found[0].watches.hold():
        reach = Reach()
        reach.add_class(cls)
        found = _types[cls] = (reach, reach.digest())
    return found[1]


def _changed_values(func: Any) -> dict[str, str]:
    """Return digests of what *func* itself changes in place, as it is before the first call."""
    if not isinstance(func, types.FunctionType):
        return {}
    code = func.__code__
    cells = dict(zip(code.co_freevars, func.__closure__ or (), strict=True))
    values = {
        name: contents(cells[name]) if name in cells else func.__globals__.get(name)
        for name in changed_by(code)
    }
    return {
        name: digest(value, algorithm="blake2b")
        for name, value in values.items()
        if type(value) not in IMMUTABLE and is_plain(value)
    }


def _innermost(func: Any) -> Any:
    """Return the function that a partial or bound method is made of."""
    while isinstance(func, functools.partial | types.MethodType):
        func = func.func if isinstance(func, functools.partial) else func.__func__
    return func


def _program(func: Any) -> str | None:
    if not isinstance(func, types.FunctionType):
        cls = func if isinstance(func, type) else type(func)
        func = getattr(cls, "__call__", None)  # noqa: B004 - its file
        if not isinstance(func, types.FunctionType):
            return None
    return program_of(func.__module__, func.__code__.co_filename, func.__globals__)
