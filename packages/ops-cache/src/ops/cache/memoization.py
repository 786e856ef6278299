"""`memoize`: a function that remembers its results.

The wrapper is generated with the function's own signature, as dataclasses generate `__init__`, so
Python itself normalises positional, keyword and default arguments, `ignore` simply leaves names out
of the key, and a hit is one subscript of a dict. Equal arguments are one call (1, 1.0 and True
are equal). Arguments that cannot be hashed, such as arrays, frames and dicts, count by content.
"""

from __future__ import annotations

import functools
import inspect
import time
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from ops.cache.async_single_flight import TaskFlights
from ops.cache.errors import UncacheableCallError
from ops.cache.expiry import Ttl, check_ttl
from ops.cache.identity.identity import Identity, described_argument
from ops.cache.memory import MemoryCache
from ops.cache.s3fifo import OpenS3FIFOCache
from ops.cache.sources import as_names, refuse_generators
from ops.cache.staleness import StaleStore
from ops.foundation.callables import is_awaited, refuse_coroutine_function
from ops.foundation.errors import ValidationError
from ops.serialize.digests import digest
from ops.serialize.errors import UnsupportedTypeError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable

    from ops.cache.disk.stats import DiskCacheStats
    from ops.cache.disk.store import DiskCache
    from ops.cache.remote import RedisCache
    from ops.cache.staleness import Stale
    from ops.cache.stats import CacheStats

__all__ = ["Memoized", "cache_decorator", "memoize"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
_DIGEST = object()  # keeps digests apart from arguments that look like one


class Memoized(Protocol[P, R_co]):
    """A memoized function. Its extra methods take the arguments of a call.

    Those of a memoized method are called on the class: `Model.predict.invalidate(model, x)`.
    """

    __wrapped__: Callable[..., Any]

    @overload
    def __get__(self, owner: None, kind: type, /) -> Memoized[P, R_co]: ...
    @overload
    def __get__(
        self: Memoized[Concatenate[Any, Q], R_co], owner: object, kind: type | None = None, /
    ) -> Callable[Q, R_co]: ...
    def __get__(self, owner: Any, kind: type | None = None, /) -> Any:
        """Bind to an instance, as functions do."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the remembered result, or call the function."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the key of a call with *args* and *kwargs*."""
        ...

    def contains(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Return whether the result of a call with *args* and *kwargs* is remembered."""
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function with *args* and *kwargs* and remember the new result."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of the call with *args* and *kwargs*; False when there was none."""
        ...

    def cache_clear(self) -> None:
        """Forget all results."""
        ...

    def cache_info(self) -> CacheStats | DiskCacheStats:
        """Return the counters of the cache."""
        ...


@overload
def memoize(func: Callable[P, R_co], /) -> Memoized[P, R_co]: ...
@overload
def memoize(
    *,
    ttl: float | dt.timedelta | None = None,
    max_size: int | None = 1000,
    ignore: Iterable[str] = (),
    key: Callable[..., Any] | None = None,
    cache: MemoryCache[Any, Any] | DiskCache | RedisCache | None = None,
    stale: Stale = "block",
    typed: bool = False,
) -> Callable[[Callable[P, R_co]], Memoized[P, R_co]]: ...
def memoize(
    func: Callable[..., Any] | None = None,
    /,
    *,
    ttl: float | dt.timedelta | None = None,
    max_size: int | None = 1000,
    ignore: Iterable[str] = (),
    key: Callable[..., Any] | None = None,
    cache: Any = None,
    stale: Stale = "block",
    typed: bool = False,
) -> Any:
    """Remember the results of a function or coroutine function.

    Threads, or tasks of one event loop, that need the same missing result compute it once.

    Args:
        func: the function; a generator function is refused, since its result can be read only once.
        ttl: seconds, or a timedelta, for which a result counts; None is for ever.
        max_size: the most results in memory; None for no limit, 0 remembers nothing.
        ignore: parameters that do not change the result.
        key: computes the key from the arguments.
        cache: a memory cache, which several functions may share, or a `DiskCache` or `RedisCache`:
            there results outlive the process, all processes compute a missing result of a plain
            function once, and a call is known by the code of the function and all that this
            reaches, as with `ops.cache.cache`, and by a typed digest of its arguments.
        stale: what happens to a result whose time is over. With "block" all callers wait for the
            new one; with "serve" one computes and the others get the old one; with "refresh" all
            get the old one and a thread, or task, computes.
        typed: keep arguments of different types apart also where they are equal (1 and 1.0).

    Raises:
        ValidationError: a name in *ignore* names no parameter, a value is out of its range, or
            *key* is a coroutine function.

    >>> @memoize(ttl=60)
    ... def square(number):
    ...     print("computing")
    ...     return number * number
    >>> square(3), square(3)
    computing
    (9, 9)
    """
    refuse_coroutine_function(key, "key")
    seconds = check_ttl(ttl)  # here, where the mistake is, and not at the first call
    if max_size == 0 and cache is None:
        seconds, max_size = 0, 1

    def decorate(function: Callable[..., Any]) -> Any:
        return _memoized(
            function,
            ttl=seconds,
            max_size=max_size,
            ignore=ignore,
            key=key,
            cache=cache,
            stale=stale,
            typed=typed,
        )

    return decorate if func is None else decorate(func)


cache_decorator = memoize


def _memoized(
    func: Callable[..., Any],
    *,
    ttl: float | None,
    max_size: int | None,
    ignore: Iterable[str],
    key: Callable[..., Any] | None,
    cache: Any,
    stale: Stale,
    typed: bool,
) -> Any:
    refuse_generators(func, "Memoize")
    store: Any = cache
    if cache is None:
        own_store = OpenS3FIFOCache if ttl is None and stale == "block" else MemoryCache
        store = own_store(max_size)
    names: dict[str, Any] = {"digest": _content_key}
    ignored = frozenset(as_names(ignore))
    if not isinstance(store, MemoryCache):
        identity = Identity(func, ignored)
        names["digest"] = functools.partial(_stored_key, identity)
        names["func"] = _settling(func, identity)
        if key is not None:
            own, stored = key, names["digest"]
            key = lambda *a, **k: stored([own(*a, **k)])  # noqa: E731 - as the user's own
    elif cache is not None or ttl is not None:
        # Its reader is taken below, once; a cache that was given may get entries that expire later.
        store._become_timed()  # noqa: SLF001 - as above
    if isinstance(store, MemoryCache) and cache is not None:
        names["owner"] = _Owner(func)  # other functions may share the cache
    lifetime: Any = Ttl.DEFAULT if ttl is None else ttl
    is_memory = isinstance(store, MemoryCache)
    if stale != "block":
        store = _stale_store(store, ttl, stale)
    is_async = is_awaited(func)
    flights = TaskFlights(store, lifetime)

    def slow(found: Any, call: Callable[[], Any]) -> Any:
        if not is_async:
            return store.get_or_compute(found, call, lifetime)
        if isinstance(store, StaleStore):
            return store.get_or_compute_async(found, call, lambda: flights.run(found, call))
        return flights.run(found, call)

    names |= _reader(store, is_own=cache is None)
    if is_memory and stale == "block" and not is_async:
        names["claim"] = lambda found: store._claim(found, lifetime)  # noqa: SLF001 - as above
    else:
        names["slow"] = slow
    generated = _generate(func, ignored, key, names, is_async=is_async, typed=typed)
    wrapper = cast("Any", functools.update_wrapper(generated["wrapper"], func))
    wrapper.key = make_key = generated["key"]
    wrapper.contains = lambda *a, **k: store.contains(make_key(*a, **k))
    wrapper.invalidate = lambda *a, **k: store.delete(make_key(*a, **k))

    compute = names.get("func", func)

    async def refresh_async(*args: Any, **kwargs: Any) -> Any:
        result = await compute(*args, **kwargs)
        store.set(make_key(*args, **kwargs), result, lifetime)
        return result

    def refresh(*args: Any, **kwargs: Any) -> Any:
        result = compute(*args, **kwargs)
        store.set(make_key(*args, **kwargs), result, lifetime)
        return result

    wrapper.refresh = refresh_async if is_async else refresh
    wrapper.cache_clear = store.clear
    wrapper.cache_info = store.get_stats
    return wrapper


def _reader(store: Any, *, is_own: bool) -> dict[str, Any]:
    """Return what serves hits: a plain dict if there is one, since nothing is faster."""
    if is_own and type(store) is OpenS3FIFOCache:
        return {"hot": store.hot}
    return {"read": store.__getitem__}


def _generate(
    func: Callable[..., Any],
    ignore: frozenset[str],
    key: Callable[..., Any] | None,
    names: dict[str, Any],
    *,
    is_async: bool,
    typed: bool,
) -> dict[str, Any]:
    """Write and run the source of the wrapper and of its key function."""
    signature = inspect.signature(func)
    if unknown := ignore - set(signature.parameters):
        msg = f"{func.__qualname__} has no parameter {sorted(unknown)} that could be ignored."
        raise ValidationError(msg)
    space = {"_ops_func": func, **{f"_ops_{name}": value for name, value in names.items()}}
    # Built-in names too: a parameter may be called `hash`.
    space |= {"_ops_key": key, "_ops_hash": hash, "_ops_frozenset": frozenset}
    space |= {"_ops_type": type, "_ops_map": map}
    space["_ops_misses"] = (KeyError, TypeError)
    space["_ops_type_error"], space["_ops_any_error"] = TypeError, BaseException
    declared, passed, keyed = [], [], []
    for p in signature.parameters.values():
        if p.default is not p.empty:
            space[f"_ops_default_{p.name}"] = p.default
        # Annotations and defaults are replaced by names that the generated source knows.
        declared.append(
            p.replace(annotation=p.empty, default=_Name(p) if p.default is not p.empty else p.empty)
        )
        star: dict[Any, str] = {
            p.VAR_POSITIONAL: "*",
            p.VAR_KEYWORD: "**",
            p.KEYWORD_ONLY: f"{p.name}=",
        }
        passed.append(star.get(p.kind, "") + p.name)
        if p.name not in ignore:
            keyed.append(f"_ops_frozenset({p.name}.items())" if p.kind is p.VAR_KEYWORD else p.name)
    head = str(inspect.Signature(declared))
    call = ", ".join(passed)
    raw = [p.name for p in signature.parameters.values() if p.name not in ignore]
    if key is not None:
        made = f"_ops_key({call})"
    else:
        made = keyed[0] if len(keyed) == 1 else f"({''.join(k + ', ' for k in keyed)})"
        if typed:
            made = f"({made}, {_types_of(signature, ignore)})"
    content = f"_ops_digest([{', '.join(raw)}])"
    if names["digest"] is not _content_key and key is None:
        made = content
    if "owner" in names:
        made, content = f"(_ops_owner, {made})", f"(_ops_owner, {content})"
    make = f"""
    try:
        _ops_made = {made}
        _ops_hash(_ops_made)
    except _ops_type_error:
        _ops_made = {content}"""
    if key is not None:  # its errors are the user's, and what it returns is all that counts
        make = f"""
    _ops_made = {made}
    try:
        _ops_hash(_ops_made)
    except _ops_type_error:
        _ops_made = _ops_digest([_ops_made])"""
    prefix, wait = ("async ", "await ") if is_async else ("", "")
    # With a claim the function is called from this very frame: a recursion is no deeper than needed.
    miss = f"return {wait}_ops_slow(_ops_make({call}), lambda: _ops_func({call}))"
    if "claim" in names:
        miss = f"""_ops_held, _ops_value = _ops_claim(_ops_make({call}))
    if _ops_held is None:
        return _ops_value
    try:
        _ops_value = _ops_func({call})
    except _ops_any_error:
        _ops_held.fail()
        raise
    return _ops_held.finish(_ops_value)"""
    lookup = f"_ops_hot[{made}]" if "hot" in names else f"_ops_read({made})"
    source = f"""
def key{head}:{make}
    return _ops_made

_ops_make = key

{prefix}def wrapper{head}:
    try:
        return {lookup}
    except _ops_misses:
        pass
    {miss}
"""
    exec(source, space)  # noqa: S102 - built from parameter names only, as dataclasses do
    return space


def _types_of(signature: inspect.Signature, ignore: frozenset[str]) -> str:
    """Return the source of a tuple of the types of all arguments that count."""
    parts = []
    for p in signature.parameters.values():
        if p.name in ignore:
            continue
        if p.kind is p.VAR_POSITIONAL:
            parts.append(f"*_ops_map(_ops_type, {p.name})")
        elif p.kind is p.VAR_KEYWORD:
            pairs = f"({p.name}_, _ops_type({p.name}[{p.name}_])) for {p.name}_ in {p.name}"
            parts.append(f"_ops_frozenset({pairs})")
        else:
            parts.append(f"_ops_type({p.name})")
    return f"({''.join(part + ', ' for part in parts)})"


class _Name:
    def __init__(self, parameter: inspect.Parameter) -> None:
        self._name = f"_ops_default_{parameter.name}"

    def __repr__(self) -> str:
        return self._name


def _content_key(arguments: list[Any]) -> Any:
    try:
        return (_DIGEST, digest(arguments, algorithm="blake2b"))
    except UnsupportedTypeError as error:
        msg = f"A call with these arguments cannot be recognised again: {error}"
        hint = "Name the parameter in `ignore`, or give `key`."
        raise UncacheableCallError(msg, suggestions=(hint,)) from error


def _settling(func: Callable[..., Any], identity: Identity) -> Callable[..., Any]:
    """Return *func*, after whose calls what it changed itself no longer counts."""
    if is_awaited(func):

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            result = await func(*args, **kwargs)
            identity.settle()
            return result

        return awaited

    def called(*args: Any, **kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        identity.settle()
        return result

    return called


class _Owner:
    """Stands for one memoized function in keys of a memory cache that several share."""

    __slots__ = ("_func",)

    def __init__(self, func: Callable[..., Any]) -> None:
        self._func = func

    def __repr__(self) -> str:
        return f"<{getattr(self._func, '__qualname__', self._func)}>"


def _stored_key(identity: Identity, arguments: list[Any]) -> str:
    """Return the key of a call for a cache outside this process."""
    described = [described_argument(value) for value in arguments]
    call = _content_key([identity.current(), described])[1]
    return f"{identity.module}.{identity.qualname}:{call}"


def _stale_store(store: Any, ttl: float | None, stale: Stale) -> StaleStore:
    if stale not in {"serve", "refresh"}:
        raise ValidationError(f"stale is 'block', 'serve' or 'refresh', not {stale!r}.")
    if ttl is None:
        raise ValidationError(f"stale={stale!r} needs a ttl: without one nothing gets stale.")
    if isinstance(store, MemoryCache):
        return StaleStore(store, ttl, stale)
    return StaleStore(store, ttl, stale, clock=time.time)  # shared between processes
