"""`Memory`: the interface of `joblib.Memory`, on the results of `@cache`.

What is stored, how a call is known and who may read it are those of `ops.cache.cache`; this module gives
them the names, arguments and return values of joblib, so that code written for it, such as the
pipelines of scikit-learn, can use it. docs/howto/come-from-joblib.md has what differs.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import pathlib
import shutil
import time
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, overload

from ops.cache._pickling import reduced
from ops.cache.limits import CacheLimits, entries_below, reduce_entries
from ops.cache.memory import MISSING
from ops.cache.persistent import CacheWrapper
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import ValidationError
from ops.foundation.paths import anchored, is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ops.foundation.files import StrPath
    from ops.serialize.trust import Trust

__all__ = ["MemorizedFunc", "MemorizedResult", "Memory"]

P = ParamSpec("P")
R = TypeVar("R")
MmapMode = Literal["r", "c"]
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Memory:
    """Remembers results of functions in a folder, as `joblib.Memory` does.

    Args:
        location: The folder, a relative one where it is now; None remembers nothing, and functions are
            called as they are.
        backend: "local", the only one.
        mmap_mode: "r" maps large arrays read-only; None and "c" give arrays whose changes stay private.
        compress: Whether arrays are compressed where that pays.
        verbose: Taken for compatibility; what is computed is logged to `ops.cache`.
        backend_options: None; there are none.
        trust: What is stored and read, as in `ops.cache.cache`.

    Raises:
        ValidationError: another *backend* or *mmap_mode*, or *backend_options*.
    """

    def __init__(
        self,
        location: StrPath | None = None,
        backend: str = "local",
        mmap_mode: MmapMode | None = None,
        compress: bool | int = False,
        verbose: int = 1,
        backend_options: None = None,
        *,
        trust: Trust = "user",
    ) -> None:
        if backend != "local" or backend_options:
            raise ValidationError(
                f"The only backend is 'local', without options, not {backend!r} with {backend_options!r}.",
                suggestions=("For many machines use memoize(cache=RedisCache(...)).",),
            )
        _check_mode(mmap_mode)
        self.location: str | None = None if location is None else anchored(location)
        self.mmap_mode: MmapMode | None = mmap_mode
        self.compress: bool | int = compress
        self.verbose: int = verbose
        self._trust: Trust = trust

    @overload
    def cache(
        self,
        func: Callable[P, R],
        ignore: Iterable[str] | None = None,
        verbose: int | None = None,
        mmap_mode: MmapMode | Literal[False] | None = False,
        cache_validation_callback: Callable[[dict[str, Any]], bool] | None = None,
    ) -> MemorizedFunc[P, R]: ...
    @overload
    def cache(
        self,
        func: None = None,
        ignore: Iterable[str] | None = None,
        verbose: int | None = None,
        mmap_mode: MmapMode | Literal[False] | None = False,
        cache_validation_callback: Callable[[dict[str, Any]], bool] | None = None,
    ) -> Callable[[Callable[P, R]], MemorizedFunc[P, R]]: ...
    def cache(
        self,
        func: Callable[..., Any] | None = None,
        ignore: Iterable[str] | None = None,
        verbose: int | None = None,
        mmap_mode: MmapMode | Literal[False] | None = False,
        cache_validation_callback: Callable[[dict[str, Any]], bool] | None = None,
    ) -> Any:
        """Return *func* with its results remembered; without *func*, what does that to a function.

        Args:
            func: a function, method or callable object.
            ignore: parameters that do not change the result.
            verbose: taken for compatibility.
            mmap_mode: as for `Memory`; False takes the one of the memory.
            cache_validation_callback: gets "duration" in seconds, "time" in seconds since the epoch and
                "input_args" of a stored result, and returns whether it counts.

        Raises:
            ValidationError: a name in *ignore* names no parameter, or *func* is a generator or coroutine,
                or the callback is.
        """
        refuse_coroutine_function(cache_validation_callback, "cache_validation_callback")
        mode = self.mmap_mode if mmap_mode is False else mmap_mode

        def decorate(function: Callable[..., Any]) -> MemorizedFunc[..., Any]:
            if isinstance(function, MemorizedFunc):
                function = function.func
            return MemorizedFunc(
                function,
                memory=self,
                ignore=tuple(ignore or ()),
                mmap_mode=mode,
                cache_validation_callback=cache_validation_callback,
            )

        return decorate if func is None else decorate(func)

    def eval(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *func* with *args* and *kwargs*, and remember its result."""
        return self.cache(func)(*args, **kwargs)

    def clear(self, warn: bool = True) -> None:
        """Remove all results of this memory; raises OSError when some cannot be."""
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)  # others may clear it too
            if is_there(self._root):
                shutil.rmtree(self._root)  # what stays would be taken for results

    def reduce_size(
        self,
        bytes_limit: int | str | None = None,
        items_limit: int | None = None,
        age_limit: dt.timedelta | float | None = None,
    ) -> None:
        """Remove results beyond these limits, used longest ago first.

        Args:
            bytes_limit: bytes that stay, also as "10M", with K, M or G.
            items_limit: results that stay.
            age_limit: a timedelta, or seconds, since the last use.

        Raises:
            ValidationError: a limit is negative, or no size.
        """
        if self._root is not None:
            limits = CacheLimits(bytes=_bytes_of(bytes_limit), items=items_limit, age=age_limit)
            reduce_entries(entries_below(self._root), limits)

    @property
    def _root(self) -> pathlib.Path | None:
        return None if self.location is None else pathlib.Path(self.location) / "cache"

    def __repr__(self) -> str:
        return f"Memory(location={self.location!r})"

    def __reduce__(self) -> Any:
        return (_memory, (self.location, self.mmap_mode, self.compress, self.verbose, self._trust))


class MemorizedFunc(Generic[P, R]):
    """A function whose results a `Memory` remembers. Made by `Memory.cache`."""

    def __init__(
        self,
        func: Callable[P, R],
        memory: Memory,
        ignore: tuple[str, ...] = (),
        mmap_mode: MmapMode | None = None,
        cache_validation_callback: Callable[[dict[str, Any]], bool] | None = None,
    ) -> None:
        _check_mode(mmap_mode)
        functools.update_wrapper(self, func)
        self.func: Callable[P, R] = func
        self.ignore: tuple[str, ...] = ignore
        self.mmap_mode: MmapMode | None = mmap_mode
        self.cache_validation_callback = cache_validation_callback
        self._memory = memory
        self._stored: CacheWrapper[P, R] | None = None
        if memory.location is not None:
            self._stored = CacheWrapper(
                func,
                ignore,
                compress="auto" if memory.compress else False,
                trust=memory._trust,
                folder=memory.location,
                mmap="r" if mmap_mode == "r" else "c",
                strict=False,
            )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the remembered result of this call, or compute it."""
        if self._stored is None:
            return self.func(*args, **kwargs)
        if self.cache_validation_callback and not self.check_call_in_cache(*args, **kwargs):
            return self.call(*args, **kwargs)[0]
        return self._stored(*args, **kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, dict[str, Any]]:
        """Compute and remember the result, also if there is one; return it and what was noted about it."""
        start = time.perf_counter()
        if self._stored is None:
            result = self.func(*args, **kwargs)
        else:
            result = self._stored.make(*args, force=True, **kwargs)
        noted = {"duration": time.perf_counter() - start, "time": time.time(), "input_args": {}}
        return result, noted

    def check_call_in_cache(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Say whether this call has a result that counts, without reading it."""
        if self._stored is None:
            return False
        metadata = self._path(*args, **kwargs).with_suffix(".yaml")
        try:
            noted = json.loads(metadata.read_text(encoding="utf-8"))
            shown = {
                "duration": float(noted["time_taken"]),
                "time": dt.datetime.fromisoformat(noted["created"]).timestamp(),
                "input_args": dict(noted["arguments"]),
            }
        except (OSError, ValueError, KeyError, TypeError):
            return False
        callback = self.cache_validation_callback
        return callback is None or bool(callback(shown))

    def call_and_shelve(self, *args: P.args, **kwargs: P.kwargs) -> MemorizedResult[R]:
        """Compute what is missing, and return where the result is, which is small and can be sent on."""
        result = self(*args, **kwargs)
        if self._stored is None:
            return MemorizedResult(None, "", result)
        key = self._path(*args, **kwargs).stem.rpartition("_")[2]
        return MemorizedResult(self._stored, key)

    def clear(self, warn: bool = True) -> None:
        """Remove all results of this function."""
        if self._stored is not None:
            self._stored.clear()

    def _path(self, *args: P.args, **kwargs: P.kwargs) -> pathlib.Path:
        stored: Any = self._stored
        return pathlib.Path(stored.path_of(*args, **kwargs))

    def __get__(self, owner: Any, kind: type | None = None, /) -> Any:
        """Bind to an instance, as a method does; `self` is then part of the key."""
        return self if owner is None else functools.partial(self, owner)

    def __cache_dependencies__(self) -> list[Any]:
        """Return what a cached function that calls this one depends on."""
        return [self.func]

    def __repr__(self) -> str:
        return f"MemorizedFunc(func={self.func!r}, location={self._memory.location!r})"

    def __reduce_ex__(self, protocol: Any, /) -> Any:
        """Pickle as the name of the function, or with the function where a name leads nowhere."""
        options = {
            "memory": self._memory,
            "ignore": self.ignore,
            "mmap_mode": self.mmap_mode,
            "cache_validation_callback": self.cache_validation_callback,
        }
        return reduced(self, self.func, options)


class MemorizedResult(Generic[R]):
    """Where a result is: what `call_and_shelve` returns."""

    def __init__(
        self, stored: CacheWrapper[..., R] | None, args_id: str, value: R | None = None
    ) -> None:
        self._stored = stored
        self.args_id: str = args_id
        self._value = value

    def get(self) -> R:
        """Return the result; raises `KeyError` when it was removed."""
        if self._stored is None:
            return self._value  # type: ignore[return-value] # it was given instead
        found = self._stored.read(self.args_id, MISSING)
        if found is MISSING:
            raise KeyError(f"The result {self.args_id} of {self._stored!r} was removed.")
        return found  # type: ignore[no-any-return] # what the function returned

    def clear(self) -> None:
        """Remove the result."""
        if self._stored is not None:
            self._stored.remove(self.args_id)

    def __repr__(self) -> str:
        return f"MemorizedResult(args_id={self.args_id!r})"


def _memory(location: str | None, mmap_mode: MmapMode | None, *options: Any) -> Memory:
    compress, verbose, trust = options
    return Memory(location, "local", mmap_mode, compress, verbose, trust=trust)


def _check_mode(mode: str | None) -> None:
    if mode not in {None, "r", "c"}:
        raise ValidationError(
            f"mmap_mode is None, 'r' or 'c', not {mode!r}: a stored result is not changed in its file."
        )


def _bytes_of(limit: int | str | None) -> int | None:
    if not isinstance(limit, str):
        return limit
    try:
        return int(float(limit[:-1]) * _UNITS[limit[-1:].upper()])
    except (ValueError, KeyError, OverflowError) as error:
        raise ValidationError(
            f"A size is a number with K, M or G, as '10M', not {limit!r}."
        ) from error
