"""`memoize`: a function that remembers its results.

The wrapper is generated with the function's own signature, as dataclasses generate `__init__`, so
Python itself normalises positional, keyword and default arguments, `ignore` simply leaves names out
of the key, and a hit is one subscript of a dict. Equal arguments are one call (1, 1.0 and True
are equal). Arguments that cannot be hashed, such as arrays, frames and dicts, count by content.
"""

from __future__ import annotations

import asyncio
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

from ops.cache.errors import UncacheableCallError
from ops.cache.expiry import Ttl, check_ttl
from ops.cache.memory import MISSING, MemoryCache
from ops.cache.s3fifo import OpenS3FIFOCache
from ops.cache.sources import as_names, refuse_generators
from ops.cache.staleness import StaleStore
from ops.foundation.errors import ValidationError
from ops.serialize.digests import digest
from ops.serialize.errors import UnsupportedTypeError

if TYPE_CHECKING:
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
        """Return the key of a call."""
        ...

    def contains(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Say whether a result is remembered."""
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function and remember the new result."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of one call; False when there was none."""
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
    ttl: float | None = None,
    max_size: int | None = 1000,
    ignore: Iterable[str] = (),
    key: Callable[..., Any] | None = None,
    cache: MemoryCache[Any, Any] | DiskCache | RedisCache | None = None,
    stale: Stale = "block",
) -> Callable[[Callable[P, R_co]], Memoized[P, R_co]]: ...
def memoize(func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Remember the results of a function or coroutine function.

    *ttl* in seconds; *ignore* names parameters that do not change the result; *key* computes the
    key from the arguments. A generator function is refused: what it returns can be read once. Threads, or tasks of one event loop, that ask for the same missing
    result compute it once. *cache* is a memory cache of this function alone, or a `DiskCache` or
    `RedisCache`, where results outlive the process, all processes compute a missing result of a
    plain function once, and a call is known by module, name and a typed digest of its arguments.

    *stale* says what happens to a result whose time has come: with "block" all callers wait for the
    new one; with "serve" one computes and the others get the old one; with "refresh" all get the
    old one and a thread, or task, computes.
    """
    check_ttl(options.get("ttl"))  # here, where the mistake is, and not at the first call
    if func is None:
        return lambda f: _memoized(f, **options)
    return _memoized(func, **options)


cache_decorator = memoize


def _memoized(
    func: Callable[..., Any],
    *,
    ttl: float | None = None,
    max_size: int | None = 1000,
    ignore: Iterable[str] = (),
    key: Callable[..., Any] | None = None,
    cache: Any = None,
    stale: Stale = "block",
) -> Any:
    refuse_generators(func, "Memoize")
    store: Any = cache
    if cache is None:
        own_store = OpenS3FIFOCache if ttl is None and stale == "block" else MemoryCache
        store = own_store(max_size)
    content_key = _content_key
    if not isinstance(store, MemoryCache):
        content_key = functools.partial(_stored_key, f"{func.__module__}.{func.__qualname__}")
        if key is not None:
            own, stored = key, content_key
            key = lambda *a, **k: stored([own(*a, **k)])  # noqa: E731 - as the user's own
    elif cache is not None or ttl is not None:
        # Its reader is taken below, once; a cache that was given may get entries that expire later.
        store._become_timed()  # noqa: SLF001 - as above
    lifetime: Any = Ttl.DEFAULT if ttl is None else ttl
    if stale != "block":
        store = _stale_store(store, ttl, stale)
    is_async = inspect.iscoroutinefunction(func)
    flights = _Tasks(store, lifetime)

    def slow(found: Any, call: Callable[[], Any]) -> Any:
        if not is_async:
            return store.get_or_compute(found, call, lifetime)
        if isinstance(store, StaleStore):
            return store.get_or_compute_async(found, call, lambda: flights.run(found, call))
        return flights.run(found, call)

    generated = _generate(
        func,
        frozenset(as_names(ignore)),
        key,
        {"slow": slow, "digest": content_key} | _reader(store, is_own=cache is None),
        is_async=is_async,
    )
    wrapper = cast("Any", functools.update_wrapper(generated["wrapper"], func))
    wrapper.key = make_key = generated["key"]
    wrapper.contains = lambda *a, **k: store.contains(make_key(*a, **k))
    wrapper.invalidate = lambda *a, **k: store.delete(make_key(*a, **k))

    async def refresh_async(*args: Any, **kwargs: Any) -> Any:
        result = await func(*args, **kwargs)
        store.set(make_key(*args, **kwargs), result, lifetime)
        return result

    def refresh(*args: Any, **kwargs: Any) -> Any:
        result = func(*args, **kwargs)
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
) -> dict[str, Any]:
    """Write and run the source of the wrapper and of its key function."""
    signature = inspect.signature(func)
    if unknown := ignore - set(signature.parameters):
        msg = f"{func.__qualname__} has no parameter {sorted(unknown)} that could be ignored."
        raise ValidationError(msg)
    space = {f"_ops_{name}": value for name, value in names.items()}
    # Built-in names too: a parameter may be called `hash`.
    space |= {"_ops_func": func, "_ops_key": key, "_ops_hash": hash, "_ops_frozenset": frozenset}
    space["_ops_misses"] = (KeyError, TypeError)
    space["_ops_type_error"] = TypeError
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
    content = f"_ops_digest([{', '.join(raw)}])"
    if names["digest"] is not _content_key and key is None:
        made = content
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
    lookup = f"_ops_hot[{made}]" if "hot" in names else f"_ops_read({made})"
    prefix, wait = ("async ", "await ") if is_async else ("", "")
    source = f"""
def key{head}:{make}
    return _ops_made

_ops_make = key

{prefix}def wrapper{head}:
    try:
        return {lookup}
    except _ops_misses:
        pass
    return {wait}_ops_slow(_ops_make({call}), lambda: _ops_func({call}))
"""
    exec(source, space)  # noqa: S102 - built from parameter names only, as dataclasses do
    return space


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


def _stored_key(name: str, arguments: list[Any]) -> str:
    """Return the key of a call for a cache outside this process."""
    return f"{name}:{_content_key(arguments)[1]}"


def _stale_store(store: Any, ttl: float | None, stale: Stale) -> StaleStore:
    if stale not in {"serve", "refresh"}:
        raise ValidationError(f"stale is 'block', 'serve' or 'refresh', not {stale!r}.")
    if ttl is None:
        raise ValidationError(f"stale={stale!r} needs a ttl: without one nothing gets stale.")
    if isinstance(store, MemoryCache):
        return StaleStore(store, ttl, stale)
    return StaleStore(store, ttl, stale, clock=time.time)  # shared between processes


class _Tasks:
    """Single flight among the tasks of an event loop."""

    def __init__(self, store: Any, ttl: Any) -> None:
        self._store, self._ttl = store, ttl
        self._flights: dict[Any, tuple[asyncio.Future[Any], Any]] = {}

    async def run(self, key: Any, call: Callable[[], Any]) -> Any:
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        while True:
            value = self._store.get(key, MISSING)
            if value is not MISSING:
                return value
            flight = self._flights.get((loop, key))
            if flight is None:
                return await self._lead((loop, key), me, call)
            if flight[1] is me:  # recursion: waiting would never end
                return await call()
            landed = await asyncio.shield(flight[0])
            if landed is not None:
                return landed[0]

    async def _lead(self, flight: Any, me: Any, call: Callable[[], Any]) -> Any:
        future = flight[0].create_future()
        self._flights[flight] = (future, me)
        landed = None
        try:
            value = await call()
            landed = (value,)
            self._store.set(flight[1], value, self._ttl)
            return value
        finally:  # also when cancelled: a waiter leads next
            del self._flights[flight]
            future.set_result(landed)
