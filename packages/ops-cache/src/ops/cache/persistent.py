"""Function results that outlive the process: `@cache`.

A call is recognised by a digest of its bound arguments (so keyword, positional and default are one
call) and of what the function is: its code and all that this reaches, its program, and a version
(see `ops.cache.identity`). The files are those of `ops.cache.stored_results`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import pathlib
import time
import warnings
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypeAlias,
    TypeVar,
    overload,
)

from ops.cache._pickling import reduced
from ops.cache.bound import BoundCacheWrapper
from ops.cache.errors import UncacheableCallError
from ops.cache.expiry import check_ttl
from ops.cache.explanation import explain
from ops.cache.identity.bytecode import names_of
from ops.cache.identity.identity import Identity, described_argument
from ops.cache.identity.reach import IMMUTABLE
from ops.cache.key_locks import KeyLocks
from ops.cache.limits import (
    CacheLimits,
    entry_at,
    reduce_entries,
    remove_entry,
)
from ops.cache.memory import MISSING, MemoryCache
from ops.cache.single_flight import SingleFlight
from ops.cache.sources import as_names, refuse_generators
from ops.cache.stored_results import StoredResults
from ops.foundation.callables import is_awaited
from ops.foundation.errors import ValidationError
from ops.foundation.formatting import format_bytes, format_duration
from ops.foundation.logs import get_logger
from ops.serialize.digests import digest
from ops.serialize.errors import UnsupportedTypeError
from ops.serialize.trust import check_trust

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Mapping

    from ops.cache.explanation import Explanation
    from ops.foundation.files import StrPath
    from ops.serialize.trust import Trust

__all__ = ["CacheWrapper", "cache"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
Dependency: TypeAlias = "Callable[..., Any] | str"

_log = get_logger("ops.cache")
# Equal values of one of these types have equal digests (unlike 0.0 and -0.0): a dict recognises them.
_RECOGNISED = frozenset((int, str, bytes, bool, type(None)))


class CacheWrapper(Generic[P, R]):
    """A function whose results are stored on disk. Made by `cache`.

    *folder* stands for the data folder, and *mmap* for how large arrays are mapped: "c", or "r"
    for arrays that cannot be changed. Without *strict* a result that cannot be stored is a warning
    and no error. The other arguments are those of `cache`.
    """

    def __init__(
        self,
        func: Callable[P, R],
        ignore: Iterable[str] = (),
        depends_on: Iterable[Dependency] = (),
        version: object = None,
        *,
        code: bool = True,
        ttl: float | dt.timedelta | None = None,
        compress: Literal["auto"] | bool = "auto",
        trust: Trust = "user",
        folder: StrPath | None = None,
        mmap: Literal["c", "r"] = "c",
        strict: bool = True,
    ) -> None:
        _refuse_one_shot(func)
        functools.update_wrapper(self, func)
        self._func = func
        self._signature = inspect.signature(func)
        self._ignore = frozenset(as_names(ignore))
        body = getattr(inspect.unwrap(func), "__code__", None)
        used = set() if body is None else {*body.co_freevars, *names_of(body)}
        if unknown := self._ignore - {*self._signature.parameters, *used}:
            msg = f"{func!r} has no parameter or variable {sorted(unknown)} that could be ignored."
            raise ValidationError(msg)
        self._options: dict[str, Any] = {
            "ignore": self._ignore,
            "depends_on": as_names(depends_on),
            "version": version,
            "code": code,
            "ttl": ttl,
            "compress": compress,
            "trust": trust,
            "folder": folder,
            "mmap": mmap,
            "strict": strict,
        }
        self._strict = strict
        self._identity = Identity(func, self._ignore, as_names(depends_on), version, code=code)
        self._digests: MemoryCache[Any, str] = MemoryCache(1024)
        check_trust(trust)
        self._results = StoredResults(
            self._identity,
            None if folder is None else pathlib.Path(folder),
            check_ttl(ttl),
            compress=compress,
            trust=trust,
            mmap=mmap,
        )
        self._flights: SingleFlight[str] = SingleFlight()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the stored result of this call, or compute and store it."""
        kinds = (*map(type, args), *map(type, kwargs.values()))
        if not _RECOGNISED.issuperset(kinds):
            return self._make(self._bind(args, kwargs), force=False)
        call = (self._identity.current(), args, *kwargs.items(), kinds)
        key = self._digests.get(call)
        if key is None:
            key = self._key(self._bind(args, kwargs))
            if all(map(_is_small, (*args, *kwargs.values()))):
                self._digests.set(call, key)
        found = self._results.read(key)
        if found is not MISSING:
            return found  # type: ignore[no-any-return] # what this function returned
        return self._compute_once(key, self._bind(args, kwargs))

    @overload
    def __get__(self, owner: None, kind: type, /) -> CacheWrapper[P, R]: ...
    @overload
    def __get__(
        self: CacheWrapper[Concatenate[Any, Q], R], owner: object, kind: type | None = None, /
    ) -> BoundCacheWrapper[Q, R]: ...
    def __get__(self, owner: Any, kind: type | None = None, /) -> Any:
        """Bind to an instance, as a method does; `self` is then part of the key."""
        return self if owner is None else BoundCacheWrapper(self, owner)

    def __reduce_ex__(self, protocol: Any, /) -> Any:
        """Pickle as the name of the function, or with the function where a name leads nowhere."""
        return reduced(self, self._func, self._options)

    def __repr__(self) -> str:
        return f"<cache of {self._identity.module}.{self._identity.qualname}>"

    def make(self, *args: Any, force: bool = False, **kwargs: Any) -> R:
        """Call the function with *args* and *kwargs*; with *force* compute and store also if there is a result."""
        return self._make(self._bind(args, kwargs), force=force)

    def hash(self, kwargs: Mapping[str, Any]) -> str:
        """Return the 32 hex digits that stand for a call with *kwargs*.

        Raises `UncacheableCallError` when an argument has no digest.
        """
        return self._key(self._bind((), kwargs))

    def filename(self, kwargs: Mapping[str, Any]) -> pathlib.Path:
        """Return the path of the result of a call with *kwargs*."""
        return self._results.path(self.hash(kwargs))

    def path_of(self, *args: P.args, **kwargs: P.kwargs) -> pathlib.Path:
        """Return the path of the result of a call with *args* and *kwargs*.

        Raises `UncacheableCallError` when an argument has no digest.
        """
        return self._results.path(self._key(self._bind(args, kwargs)))

    def read(self, key: str, default: Any = None) -> Any:
        """Return the stored result whose 32 hex digits are *key*, or *default*."""
        found = self._results.read(key)
        return default if found is MISSING else found

    def remove(self, key: str) -> None:
        """Remove the stored result whose 32 hex digits are *key*."""
        remove_entry(self._results.path(key))

    def load(self, kwargs: Mapping[str, Any], default: Any = None) -> Any:
        """Return the stored result of a call with *kwargs*, or *default*."""
        found = self._results.read(self.hash(kwargs))
        return default if found is MISSING else found

    def save(self, kwargs: Mapping[str, Any], result: R) -> None:
        """Store *result* as that of a call with *kwargs*; raises `UncacheableCallError` as `hash` does."""
        bound = self._bind((), kwargs)
        self._write(self._key(bound), bound, result, 0.0)

    def clear(self) -> int:
        """Remove the stored results of this function, of any version; return how many."""
        return self._results.clear()

    def reduce_size(
        self,
        *,
        bytes: int | None = None,  # noqa: A002 - as joblib calls it
        items: int | None = None,
        age: float | dt.timedelta | None = None,
    ) -> int:
        """Remove stored results of this function beyond these limits, used longest ago first.

        Args:
            bytes: what the results that stay may take.
            items: how many may stay.
            age: seconds, or a timedelta, since they were last used.

        Returns how many were removed. Raises `ValidationError` for a negative limit.
        """
        limits = CacheLimits(bytes=bytes, items=items, age=age)
        found = [entry_at(path.with_suffix(".pkl")) for path in self._results.metadata()]
        return reduce_entries([entry for entry in found if entry], limits)

    def info(self) -> dict[str, Any]:
        """Return folder, number of entries and bytes of the results of this function."""
        sizes = []
        for path in self._results.metadata():
            with contextlib.suppress(FileNotFoundError):  # it is being removed
                sizes.append(path.with_suffix(".pkl").stat().st_size)
        return {"folder": str(self._results.folder()), "entries": len(sizes), "size": sum(sizes)}

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Return what the key of a call is made of and, if it is not stored, what has changed.

        *args* and *kwargs* are those of the call. Nothing is computed or stored.
        `print(f.explain(3))` shows it. Raises `UncacheableCallError` when an argument has no
        digest.
        """
        bound = self._bind(args, kwargs)
        key = self._key(bound)
        return explain(
            key=key,
            path=self._results.path(key),
            is_stored=self._results.read(key) is not MISSING,
            name=f"{self._identity.module}.{self._identity.qualname}",
            arguments=self._digests_of(bound),
            parts=self._identity.parts(),
            entries=self._results.metadata(),
        )

    def __cache_dependencies__(self) -> list[Any]:
        """Return what a cached function that calls this one depends on."""
        return [self._func, self._options["version"], *self._options["depends_on"]]

    # One call

    def _make(self, bound: dict[str, Any], *, force: bool) -> R:
        key = self._key(bound)
        if force:
            return self._compute(key, bound)
        found = self._results.read(key)
        if found is not MISSING:
            return found  # type: ignore[no-any-return] # what this function returned
        return self._compute_once(key, bound)

    def _compute_once(self, key: str, bound: dict[str, Any]) -> R:
        """Compute what is missing, in one of the threads and processes that ask for it."""

        def lead() -> R:
            folder = self._results.checked_folder()
            with contextlib.suppress(OSError):  # without a folder there is nothing to share
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with KeyLocks(folder / ".computing").hold(key.encode()):
                found = self._results.read(key)
                return self._compute(key, bound) if found is MISSING else found

        def own(theirs: R) -> R:
            found = theirs if type(theirs) in IMMUTABLE else self._results.read(key)
            return theirs if found is MISSING else found

        return self._flights.do(
            self._results.stem(key), lead, lambda: self._compute(key, bound), own
        )

    def _compute(self, key: str, bound: dict[str, Any]) -> R:
        start = time.perf_counter()
        call = inspect.BoundArguments(self._signature, bound)
        result = self._func(*call.args, **call.kwargs)
        self._identity.settle()
        try:
            self._write(key, bound, result, time.perf_counter() - start)
        except OSError as error:  # a full disk, a folder that is read-only: the result is good
            _log.warning("The result of %s is not stored: %s", self._identity.qualname, error)
        except UnsupportedTypeError as error:
            if self._strict:
                raise
            msg = f"The result of {self._identity.qualname} is not stored: {error}"
            warnings.warn(msg, stacklevel=2)
        return result

    def _write(self, key: str, bound: Mapping[str, Any], result: Any, seconds: float) -> None:
        # Not those that are ignored: what changes no result may be a password.
        shown = {name: value for name, value in bound.items() if name not in self._ignore}
        call = (str(self._signature), shown, self._digests_of(bound))
        size = self._results.write(key, result, seconds, call=call)
        name = f"{self._identity.module}.{self._identity.qualname}"
        _log.info("Computed %s in %s (%s)", name, format_duration(seconds), format_bytes(size))

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def _key(self, bound: Mapping[str, Any]) -> str:
        try:
            return digest([self._identity.current(), self._named(bound)], algorithm="blake2b")[:32]
        except UnsupportedTypeError as error:
            msg = f"A call of {self._identity.qualname} cannot be cached: {error}"
            hint = "Name the parameter in `ignore` if it does not change the result."
            raise UncacheableCallError(msg, suggestions=(hint,)) from error

    def _named(self, bound: Mapping[str, Any]) -> dict[str, Any]:
        return {n: described_argument(v) for n, v in bound.items() if n not in self._ignore}

    def _digests_of(self, bound: Mapping[str, Any]) -> dict[str, str]:
        return {n: digest(v, algorithm="blake2b") for n, v in self._named(bound).items()}


@overload
def cache(func: Callable[P, R], /) -> CacheWrapper[P, R]: ...
@overload
def cache(
    *,
    ignore: Iterable[str] = (),
    depends_on: Iterable[Dependency] = (),
    version: object = None,
    code: bool = True,
    ttl: float | dt.timedelta | None = None,
    compress: Literal["auto"] | bool = "auto",
    trust: Trust = "user",
) -> Callable[[Callable[P, R]], CacheWrapper[P, R]]: ...
def cache(
    func: Callable[..., Any] | None = None,
    /,
    *,
    ignore: Iterable[str] = (),
    depends_on: Iterable[Dependency] = (),
    version: object = None,
    code: bool = True,
    ttl: float | dt.timedelta | None = None,
    compress: Literal["auto"] | bool = "auto",
    trust: Trust = "user",
) -> Any:
    """Store the results of a function on disk, until its source or its dependencies change.

    A call is known by its arguments and by the function's code with all that this reaches by name
    in your own code: helpers, classes, constants, and the versions of installed distributions. Edit
    any of them and the result is computed again; comments, docstrings, type hints and formatting do
    not count. `f.explain(...)` shows what does.

    Args:
        func: a function, method, partial or callable object; no generator or coroutine function.
        ignore: parameters, and variables it closes over or uses, that do not change the result.
        depends_on: functions and classes that count beside those that the code reaches, and names
            of parameters given to `configure` or of variables of the module.
        version: any value; a new one computes anew.
        code: with False neither the code nor what it reaches counts, only arguments and *version*.
        ttl: seconds, or a timedelta, for which a result counts; None is for ever.
        compress: False keeps large results raw, so that they are mapped when they are read.
        trust: what is stored and read (see `ops.serialize`). "user" signs what is no plain data with a
            key of this user, and computes again whatever else lies there; `Signed(key)` signs every
            result, for this call of this function.

    Raises:
        ValidationError: a name in *ignore* or *depends_on* names nothing, or *func* yields or is
            awaited.

    >>> import tempfile
    >>> from ops.cache import configure
    >>> configure(tempfile.mkdtemp())
    >>> @cache
    ... def area(width, height):
    ...     print("computing")
    ...     return width * height
    >>> area(3, 4), area(3, 4)
    computing
    (12, 12)
    >>> configure(None)
    """

    def decorate(function: Callable[..., Any]) -> CacheWrapper[..., Any]:
        return CacheWrapper(
            function,
            ignore,
            depends_on,
            version,
            code=code,
            ttl=ttl,
            compress=compress,
            trust=trust,
        )

    return decorate if func is None else decorate(func)


def _is_small(value: object) -> bool:
    return not isinstance(value, (str, bytes)) or len(value) <= 1024  # what is kept stays small


def _refuse_one_shot(func: Callable[..., Any]) -> None:
    refuse_generators(func, "Cache")
    if is_awaited(func) or inspect.iscoroutinefunction(inspect.unwrap(func)):
        raise ValidationError(
            f"{getattr(func, '__qualname__', func)} is a coroutine function, which @cache cannot await.",
            suggestions=("Use memoize(cache=DiskCache(...)).",),
        )
