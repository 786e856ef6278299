"""Function results that outlive the process: `@cache`.

A call is recognised by a digest of its bound arguments (so keyword, positional and default are one
call), the function's module, name, source and the values it closes over, what it depends on, and a
version. The result lies in
`<folder>/cache/<module>/<function>_<32 hex digits>.pkl`, a FRAME container of `ops.serialize`, with
a `.yaml` of the same name beside it (JSON, which is YAML). The result is written first and the
metadata last, each atomically: an entry exists only when both are there. Whatever cannot be read is
computed again, with a warning.

Plain immutable results are also kept in memory, bounded, and trusted only while the metadata file
is the one they came with; all others are read anew, so no two callers share a mutable object.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import inspect
import json
import os
import pathlib
import re
import time
import types
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

from ops.cache.configuration import cache_folder, parameter
from ops.cache.errors import CorruptEntryWarning, UncacheableCallError
from ops.cache.expiry import check_ttl
from ops.cache.flights import SingleFlight
from ops.cache.key_locks import KeyLocks
from ops.cache.memory import MISSING, MemoryCache
from ops.cache.sources import IMMUTABLE, as_names, fingerprint, is_constant, refuse_generators
from ops.foundation.errors import ValidationError
from ops.foundation.files import atomic_write
from ops.foundation.formatting import format_bytes, format_duration
from ops.foundation.logs import get_logger
from ops.serialize.digests import digest
from ops.serialize.errors import UnsupportedTypeError
from ops.serialize.smart import SmartSerializer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["CacheWrapper", "cache"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
Dependency: TypeAlias = "Callable[..., Any] | str"

_log = get_logger("ops.cache")
# Equal values of one of these types have equal digests (unlike 0.0 and -0.0): a dict recognises them.
_RECOGNISED = frozenset((int, str, bytes, bool, type(None)))


class CacheWrapper(Generic[P, R]):
    """A function whose results are stored on disk. Made by `cache`."""

    def __init__(
        self,
        func: Callable[P, R],
        ignore: Iterable[str] = (),
        depends_on: Iterable[Dependency] = (),
        version: object = None,
        *,
        code: bool = True,
        ttl: float | None = None,
        compress: Literal["auto"] | bool = "auto",
        trust: Any = "safe",
    ) -> None:
        _refuse_one_shot(func)
        functools.update_wrapper(self, func)
        self._func = func
        self._signature = inspect.signature(func)
        self._ignore = frozenset(as_names(ignore))
        closed_over = getattr(getattr(func, "__code__", None), "co_freevars", ())
        if unknown := self._ignore - {*self._signature.parameters, *closed_over}:
            msg = f"{func.__qualname__} has no parameter {sorted(unknown)} that could be ignored."
            raise ValidationError(msg)
        self._depends_on = as_names(depends_on)
        self._version = version
        self._constant: str | None = None
        self._digests: MemoryCache[Any, str] = MemoryCache(1024)
        self._prefix: tuple[pathlib.Path | None, str] = (None, "")
        self._code = code
        self._ttl = check_ttl(ttl)
        self._compress = compress
        self._serializer = SmartSerializer(trust=trust)
        self._flights: SingleFlight[str] = SingleFlight()
        self._memory: MemoryCache[str, Any] = MemoryCache(256, max_memory=64 << 20)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the stored result of this call, or compute and store it."""
        kinds = (*map(type, args), *map(type, kwargs.values()))
        if self._constant is not None and _RECOGNISED.issuperset(kinds):
            call = (args, *kwargs.items(), kinds)
            key = self._digests.get(call)
            if key is None:
                key = self._key(self._bind(args, kwargs))
                if all(map(_is_small, (*args, *kwargs.values()))):
                    self._digests.set(call, key)
            found = self._read(key)
            if found is not MISSING:
                return found  # type: ignore[no-any-return] # what this function returned
            return self._compute_once(key, self._bind(args, kwargs))
        return self._make(self._bind(args, kwargs), force=False)

    @overload
    def __get__(self, owner: None, kind: type, /) -> CacheWrapper[P, R]: ...
    @overload
    def __get__(
        self: CacheWrapper[Concatenate[Any, Q], R], owner: object, kind: type | None = None, /
    ) -> Callable[Q, R]: ...
    def __get__(self, owner: Any, kind: type | None = None, /) -> Any:
        """Bind to an instance, as a method does; `self` is then part of the key."""
        return self if owner is None else functools.partial(self, owner)

    def make(self, *args: Any, force: bool = False, **kwargs: Any) -> R:
        """Call the function; with *force* compute and store also if there is a result."""
        return self._make(self._bind(args, kwargs), force=force)

    def hash(self, kwargs: Mapping[str, Any]) -> str:
        """Return the 32 hex digits that stand for a call with *kwargs*."""
        return self._key(self._bind((), kwargs))

    def filename(self, kwargs: Mapping[str, Any]) -> pathlib.Path:
        """Return the path of the result of a call with *kwargs*."""
        return self._path(self.hash(kwargs))

    def load(self, kwargs: Mapping[str, Any], default: Any = None) -> Any:
        """Return the stored result of a call with *kwargs*, or *default*."""
        found = self._read(self.hash(kwargs))
        return default if found is MISSING else found

    def save(self, kwargs: Mapping[str, Any], result: R) -> None:
        """Store *result* as that of a call with *kwargs*."""
        bound = self._bind((), kwargs)
        self._write(self._key(bound), bound, result, 0.0)

    def clear(self) -> int:
        """Remove the stored results of this function, of any version; return how many."""
        self._memory.clear()
        metadata = self._files()
        for path in metadata:
            path.unlink(missing_ok=True)  # first: without it the result counts as missing
            path.with_suffix(".pkl").unlink(missing_ok=True)
        return len(metadata)

    def info(self) -> dict[str, Any]:
        """Return folder, number of entries and bytes of the results of this function."""
        sizes = []
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):  # it is being removed
                sizes.append(path.with_suffix(".pkl").stat().st_size)
        return {"folder": str(self._folder()), "entries": len(sizes), "size": sum(sizes)}

    def dependency_fingerprint(self, seen: frozenset[int] = frozenset()) -> str:
        """Return the digest of source, version and dependencies, transitively."""
        if self._constant is not None:
            return self._constant
        seen |= {id(self)}
        parts: list[Any] = [self._func.__module__, self._func.__qualname__, self._version]
        parts.append(fingerprint(self._func, seen, self._ignore, code=self._code))
        for item in self._depends_on:
            if isinstance(item, str):
                parts.append((item, parameter(item)))
            elif isinstance(item, CacheWrapper):
                if id(item) not in seen:
                    parts.append(item.dependency_fingerprint(seen))
            else:
                parts.append(fingerprint(item, seen))
        made = digest(parts, algorithm="blake2b")
        if is_constant(self._func) and all(map(is_constant, self._depends_on)):
            self._constant = made
        return made

    # One call

    def _make(self, bound: dict[str, Any], *, force: bool) -> R:
        key = self._key(bound)
        if force:
            return self._compute(key, bound)
        found = self._read(key)
        if found is not MISSING:
            return found  # type: ignore[no-any-return] # what this function returned
        return self._compute_once(key, bound)

    def _compute_once(self, key: str, bound: dict[str, Any]) -> R:
        """Compute what is missing, in one of the threads and processes that ask for it."""

        def lead() -> R:
            folder = self._folder()
            with contextlib.suppress(OSError):  # without a folder there is nothing to share
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with KeyLocks(folder / ".computing").hold(key.encode()):
                found = self._read(key)
                return self._compute(key, bound) if found is MISSING else found

        def own(theirs: R) -> R:
            found = theirs if type(theirs) in IMMUTABLE else self._read(key)
            return theirs if found is MISSING else found

        return self._flights.do(self._stem(key), lead, lambda: self._compute(key, bound), own)

    def _compute(self, key: str, bound: dict[str, Any]) -> R:
        start = time.perf_counter()
        call = inspect.BoundArguments(self._signature, bound)
        result = self._func(*call.args, **call.kwargs)
        try:
            self._write(key, bound, result, time.perf_counter() - start)
        except OSError as error:  # a full disk, a folder that is read-only: the result is good
            _log.warning("The result of %s is not stored: %s", self._func.__qualname__, error)
        return result

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def _key(self, bound: Mapping[str, Any]) -> str:
        named = {
            name: self._described(value)
            for name, value in bound.items()
            if name not in self._ignore
        }
        try:
            return digest([self.dependency_fingerprint(), named], algorithm="blake2b")[:32]
        except UnsupportedTypeError as error:
            msg = f"A call of {self._func.__qualname__} cannot be cached: {error}"
            hint = "Name the parameter in `ignore` if it does not change the result."
            raise UncacheableCallError(msg, suggestions=(hint,)) from error

    def _described(self, value: Any) -> Any:
        if isinstance(value, CacheWrapper):
            return ("cached", value.dependency_fingerprint())
        if isinstance(value, types.FunctionType):
            return ("function", fingerprint(value))
        return value

    # Files

    def _folder(self) -> pathlib.Path:
        return cache_folder() / "cache" / _safe_name(self._func.__module__)

    def _path(self, key: str) -> pathlib.Path:
        return pathlib.Path(self._stem(key) + ".pkl")

    def _stem(self, key: str) -> str:
        base = cache_folder()
        known, prefix = self._prefix
        if base is not known and base != known:  # comparing paths is slow
            prefix = str(self._folder() / f"{_safe_name(self._func.__qualname__)}_")
            self._prefix = (base, prefix)
        return prefix + key

    def _files(self) -> list[pathlib.Path]:
        name = re.escape(_safe_name(self._func.__qualname__))
        pattern = re.compile(name + r"_[0-9a-f]{32}\.yaml")
        return [p for p in self._folder().glob("*.yaml") if pattern.fullmatch(p.name)]

    def _read(self, key: str) -> Any:
        stem = self._stem(key)
        try:
            status = os.stat(stem + ".yaml")  # noqa: PTH116 - on the path of each hit: no Path
        except OSError:
            return MISSING
        if self._ttl is not None and time.time() - status.st_mtime >= self._ttl:
            return MISSING
        stamp = (status.st_ino, status.st_mtime_ns)
        kept = self._memory.get(stem)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        path = pathlib.Path(stem + ".pkl")
        try:
            result = self._serializer.load(path, mmap="c")
        except Exception as error:  # noqa: BLE001 - any damage means the same: compute again
            if not os.path.exists(stem + ".yaml"):  # noqa: PTH110 - a string, as above
                return MISSING  # another process has cleared it meanwhile
            msg = f"The stored result {path} cannot be read and is computed again: {error}"
            warnings.warn(CorruptEntryWarning(msg), stacklevel=4)
            return MISSING
        self._keep(stem, stamp, result)
        return result

    def _write(self, key: str, bound: Mapping[str, Any], result: Any, seconds: float) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # "auto" probes each buffer: one that does not shrink stays raw, and is mapped when read.
        compression: Any = None if self._compress is False else "auto"
        self._serializer.dump(result, path, compression=compression)
        size = path.stat().st_size
        record = {
            "function": self._func.__qualname__,
            "module": self._func.__module__,
            "signature": str(self._signature),
            # Not those that are ignored: what changes no result may be a password.
            "arguments": {n: _shown(value) for n, value in bound.items() if n not in self._ignore},
            "created": dt.datetime.now(dt.UTC).isoformat(),
            "version": None if self._version is None else str(self._version),
            "time_taken": seconds,
            "size": size,
        }
        with atomic_write(path.with_suffix(".yaml")) as file:
            file.write(json.dumps(record, indent=2) + "\n")
        name = f"{self._func.__module__}.{self._func.__qualname__}"
        _log.info("Computed %s in %s (%s)", name, format_duration(seconds), format_bytes(size))

    def _keep(self, stem: str, stamp: tuple[int, int], result: Any) -> None:
        if type(result) in IMMUTABLE and (
            not isinstance(result, (str, bytes)) or len(result) < 1 << 20
        ):
            self._memory.set(stem, (stamp, result))


@overload
def cache(func: Callable[P, R], /) -> CacheWrapper[P, R]: ...
@overload
def cache(
    *,
    ignore: Iterable[str] = (),
    depends_on: Iterable[Dependency] = (),
    version: object = None,
    code: bool = True,
    ttl: float | None = None,
    compress: Literal["auto"] | bool = "auto",
    trust: Any = "safe",
) -> Callable[[Callable[P, R]], CacheWrapper[P, R]]: ...
def cache(func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Store the results of a function on disk, until its source or its dependencies change.

    *ignore* names parameters, and variables it closes over, that do not change the result; *depends_on* holds functions whose
    source counts, and names of parameters given to `configure`; *code* False ignores the source;
    *ttl* is in seconds; *compress* False keeps large results raw, to be mapped; *trust* decides what a stored result may import (see `ops.serialize`).
    """
    if func is None:
        return lambda f: CacheWrapper(f, **options)
    return CacheWrapper(func, **options)


def _safe_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".")[:120] or "_"


def _is_small(value: object) -> bool:
    return not isinstance(value, (str, bytes)) or len(value) <= 1024  # what is kept stays small


def _refuse_one_shot(func: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(func):
        raise ValidationError(
            f"{func.__qualname__} is a coroutine function, which @cache cannot await.",
            suggestions=("Use memoize(cache=DiskCache(...)).",),
        )
    refuse_generators(func, "Cache")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - it is for people to look at, and the result is good
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= 200 else text[:197] + "..."
