"""Function results that outlive the process: `@cache`.

A call is recognised by a digest of its bound arguments (so keyword, positional and default are one
call) and of what the function is: its code and all that this reaches, its program, and a version
(see `ops.cache.identity`). The result lies in
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
import stat
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
from ops.cache.configuration import cache_folder, cache_limits
from ops.cache.errors import CorruptEntryWarning, UncacheableCallError, UnsuitableFolderError
from ops.cache.expiry import check_ttl
from ops.cache.explanation import explain, save_parts
from ops.cache.flights import SingleFlight
from ops.cache.identity.bytecode import names_of
from ops.cache.identity.identity import Identity, described_argument
from ops.cache.identity.reach import IMMUTABLE
from ops.cache.key_locks import KeyLocks
from ops.cache.limits import (
    CacheLimits,
    Watch,
    entries_below,
    entry_at,
    reduce_entries,
    remove_entry,
)
from ops.cache.memory import MISSING, MemoryCache
from ops.cache.own_files import can_be_mapped, refuse_key_inside
from ops.cache.sources import as_names, refuse_generators
from ops.foundation.errors import ValidationError
from ops.foundation.files import atomic_write
from ops.foundation.formatting import format_bytes, format_duration
from ops.foundation.logs import get_logger
from ops.serialize.digests import digest
from ops.serialize.errors import UnsupportedTypeError
from ops.serialize.smart import SmartSerializer
from ops.serialize.trust import check_trust

if TYPE_CHECKING:
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
_watch = Watch()
# Equal values of one of these types have equal digests (unlike 0.0 and -0.0): a dict recognises them.
_TO_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
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
        self._own_folder = None if folder is None else pathlib.Path(folder)
        self._mmap: Literal["c", "r"] = mmap
        self._identity = Identity(func, self._ignore, as_names(depends_on), version, code=code)
        self._digests: MemoryCache[Any, str] = MemoryCache(1024)
        self._prefix: tuple[pathlib.Path | None, str] = (None, "")
        self._resolved: tuple[pathlib.Path | None, bytes] = (None, b"")
        self._ttl = check_ttl(ttl)
        self._compress = compress
        check_trust(trust)
        self._trust: Trust = trust
        self._flights: SingleFlight[str] = SingleFlight()
        self._memory: MemoryCache[str, Any] = MemoryCache(256, max_memory=64 << 20)

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
        found = self._read(key)
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
        return self._path(self.hash(kwargs))

    def path_of(self, *args: P.args, **kwargs: P.kwargs) -> pathlib.Path:
        """Return the path of the result of a call with *args* and *kwargs*.

        Raises `UncacheableCallError` when an argument has no digest.
        """
        return self._path(self._key(self._bind(args, kwargs)))

    def read(self, key: str, default: Any = None) -> Any:
        """Return the stored result whose 32 hex digits are *key*, or *default*."""
        found = self._read(key)
        return default if found is MISSING else found

    def remove(self, key: str) -> None:
        """Remove the stored result whose 32 hex digits are *key*."""
        remove_entry(self._path(key))

    def load(self, kwargs: Mapping[str, Any], default: Any = None) -> Any:
        """Return the stored result of a call with *kwargs*, or *default*."""
        found = self._read(self.hash(kwargs))
        return default if found is MISSING else found

    def save(self, kwargs: Mapping[str, Any], result: R) -> None:
        """Store *result* as that of a call with *kwargs*; raises `UncacheableCallError` as `hash` does."""
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
        found = [entry_at(path.with_suffix(".pkl")) for path in self._files()]
        return reduce_entries([entry for entry in found if entry], limits)

    def info(self) -> dict[str, Any]:
        """Return folder, number of entries and bytes of the results of this function."""
        sizes = []
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):  # it is being removed
                sizes.append(path.with_suffix(".pkl").stat().st_size)
        return {"folder": str(self._folder()), "entries": len(sizes), "size": sum(sizes)}

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
            path=self._path(key),
            is_stored=self._read(key) is not MISSING,
            name=f"{self._identity.module}.{self._identity.qualname}",
            arguments={n: digest(v, algorithm="blake2b") for n, v in self._named(bound).items()},
            parts=self._identity.parts(),
            entries=self._files(),
        )

    def __cache_dependencies__(self) -> list[Any]:
        """Return what a cached function that calls this one depends on."""
        return [self._func, self._options["version"], *self._options["depends_on"]]

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
            folder = self._checked_folder()
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

    # Files

    def _base(self) -> pathlib.Path:
        return self._own_folder or cache_folder()

    def _folder(self) -> pathlib.Path:
        return self._base() / "cache" / _safe_name(self._identity.module)

    def _checked_folder(self) -> pathlib.Path:
        """Return the folder, unless a link leads elsewhere; its owner alone may say where results go."""
        folder = self._folder()
        if folder.is_symlink():
            raise UnsuitableFolderError(
                f"{folder} is a symbolic link, so it is not used as a part of a cache.",
                suggestions=("Remove the link, or give its target to configure(data_folder=...).",),
            )
        return folder

    def _path(self, key: str) -> pathlib.Path:
        return pathlib.Path(self._stem(key) + ".pkl")

    def _stem(self, key: str) -> str:
        base = self._base()
        known, prefix = self._prefix
        if base is not known and base != known:  # comparing paths is slow
            prefix = str(self._folder() / f"{_safe_name(self._identity.qualname)}_")
            self._prefix = (base, prefix)
        return prefix + key

    def _files(self) -> list[pathlib.Path]:
        name = re.escape(_safe_name(self._identity.qualname))
        pattern = re.compile(name + r"_[0-9a-f]{32}\.yaml")
        found = [p for p in self._checked_folder().glob("*.yaml") if pattern.fullmatch(p.name)]
        return [p for p in found if _is_file(p) and self._is_own(p)]

    def _is_own(self, metadata: pathlib.Path) -> bool:
        """Say whether an entry is of this program: another one may have the same names."""
        try:
            descriptor = os.open(metadata, _TO_READ)
            with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                record = json.loads(file.read())
            return bool(record.get("program", self._identity.program) == self._identity.program)
        except (OSError, ValueError, AttributeError, RecursionError):
            return True  # damaged, or being removed

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
        self._checked_folder()
        if os.path.lexists(path) and not _is_file(path):
            return MISSING  # a FIFO would make us wait, a link would lead elsewhere
        try:
            mapped: Any = self._mmap if can_be_mapped(path) else None
            result = self._serializer(key).load(path, mmap=mapped)
        except Exception as error:  # noqa: BLE001 - any damage means the same: compute again
            if not os.path.exists(stem + ".yaml"):  # noqa: PTH110 - a string, as above
                return MISSING  # another process has cleared it meanwhile
            msg = f"The stored result {path} cannot be read and is computed again: {error}"
            warnings.warn(CorruptEntryWarning(msg), stacklevel=4)
            return MISSING
        self._keep(stem, stamp, result)
        return result

    def _serializer(self, key: str) -> SmartSerializer:
        # What a signature is for: the result of one call of one function.
        name = f"{self._identity.module}.{self._identity.qualname}"
        if self._trust == "user":
            refuse_key_inside(self._base() / "cache")
        base = self._base()
        known, path = self._resolved
        if base is not known and base != known:
            path = os.fsencode(base.resolve())
            self._resolved = (base, path)
        return SmartSerializer(trust=self._trust, context=("ops.cache.result", path, name, key))

    def _write(self, key: str, bound: Mapping[str, Any], result: Any, seconds: float) -> None:
        path = self._path(key)
        self._checked_folder()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # "auto" probes each buffer: one that does not shrink stays raw, and is mapped when read.
        compression: Any = None if self._compress is False else "auto"
        self._serializer(key).dump(result, path, compression=compression)
        size = path.stat().st_size
        record = {
            "function": self._identity.qualname,
            "module": self._identity.module,
            "program": self._identity.program,
            "signature": str(self._signature),
            # Not those that are ignored: what changes no result may be a password.
            "arguments": {n: _shown(value) for n, value in bound.items() if n not in self._ignore},
            "created": dt.datetime.now(dt.UTC).isoformat(),
            "version": None if self._identity.version is None else str(self._identity.version),
            "time_taken": seconds,
            "size": size,
            "code": save_parts(path.parent, self._identity.parts()),
            "argument_digests": {
                name: digest(value, algorithm="blake2b")[:16]
                for name, value in self._named(bound).items()
            },
        }
        with atomic_write(path.with_suffix(".yaml")) as file:
            file.write(json.dumps(record, indent=2) + "\n")
        folder = self._base() / "cache"
        if _watch.is_due(folder, size, limits := cache_limits()):
            reduce_entries(entries_below(folder), limits)
        name = f"{self._identity.module}.{self._identity.qualname}"
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


def _safe_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".")[:120] or "_"


def _is_file(path: pathlib.Path) -> bool:
    """Say whether *path* is a regular file itself: no link, no FIFO."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_small(value: object) -> bool:
    return not isinstance(value, (str, bytes)) or len(value) <= 1024  # what is kept stays small


def _refuse_one_shot(func: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(inspect.unwrap(func)):
        raise ValidationError(
            f"{getattr(func, '__qualname__', func)} is a coroutine function, which @cache cannot await.",
            suggestions=("Use memoize(cache=DiskCache(...)).",),
        )
    refuse_generators(func, "Cache")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - it is for people to look at, and the result is good
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= 200 else text[:197] + "..."
