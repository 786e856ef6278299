"""A cache in front of a storage, and keys for caches."""

from __future__ import annotations

import contextlib
import copy
import inspect
import posixpath
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from ops.cache.errors import ValueTooLargeError
from ops.cache.memory import MISSING
from ops.serialize.digests import digest
from ops.serialize.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["CacheKeyBuilder", "CachedStorage"]


#: Methods besides `read_*` that change nothing, by their first word.
_LOOKING = {"exists", "list", "has", "is", "get", "health"}


class CachedStorage:
    """Any object with `read_*`, `write_*` and `delete_*` methods, its reads cached by path.

    The path is the parameter called `path`, or the first where none is: `write_json(data, path)` and
    `read(path)` both work, and `./a` is `a`. A write or delete invalidates every cached read of that
    path, of all paths below it and of the folders it is in, before and after, also when it fails. What
    cannot be seen is not cached: a read whose path the signature hides (`*args`) is passed on, such a write
    and any other method that is not known to change nothing (what a transaction calls, for one)
    invalidate all reads. Each read is an entry of its own, so the limits of the cache see its size;
    one that is too large, or whose arguments have no digest, is passed on, not kept. Callers get copies, so
    no two share a mutable.
    """

    def __init__(self, storage: Any, cache: Any) -> None:
        self._storage = storage
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also what copying and pickling ask for before there is a storage
            raise AttributeError(name)
        member = getattr(self._storage, name)
        verb = name.partition("_")[0]
        if not callable(member) or verb in _LOOKING:
            return member
        if verb == "read":
            return lambda *a, **k: self._read(name, member, a, k)
        if verb in {"write", "delete"}:
            return lambda *a, **k: self._change(_path_of(member, a, k), member, a, k)
        return lambda *a, **k: self._change("", member, a, k)

    def _read(self, name: str, member: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        path = _path_of(member, args, kwargs)
        if not path:
            return member(*args, **kwargs)
        try:
            call = digest([args, kwargs], algorithm="blake2b")
        except UnsupportedTypeError:
            return member(*args, **kwargs)
        # A change while we read replaces one of the versions, so no later read has this key.
        above = [self._reads("within", folder) for folder in _folders(path)]
        own = self._reads("within", path)
        versions = tuple(reads.token for reads in (*above, own, self._reads("below", path)))
        key = ("storage", versions, name, call)
        value = self._cache.get(key, MISSING)
        if value is MISSING:
            value = member(*args, **kwargs)
            own.keys.append(key)
            with contextlib.suppress(ValueTooLargeError):  # counted by the cache
                self._cache.set(key, value)
        return copy.deepcopy(value)

    def _change(self, path: str, member: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._invalidate(path)
        try:
            return member(*args, **kwargs)
        finally:
            self._invalidate(path)

    def _reads(self, kind: str, path: str) -> _Reads:
        """Return what the keys of reads have of a path until something changes there."""
        key = ("storage", kind, path)
        found = self._cache.get(key, MISSING)
        if found is MISSING:
            found = _Reads()
            self._cache.set(key, found)
        return found  # type: ignore[no-any-return]  # caches are duck-typed here

    def _invalidate(self, path: str) -> None:
        """Renew what reads of *path*, below it and of the folders around it depend on."""
        reads = self._cache.get(("storage", "within", path), MISSING)
        self._cache.delete(("storage", "within", path))
        for folder in (*_folders(path), path):
            self._cache.delete(("storage", "below", folder))
        if reads is not MISSING:  # at once, and not when they are evicted
            for key in tuple(reads.keys):
                self._cache.delete(key)


class _Reads:
    """The cached reads of one path: a token that is part of their keys, and the keys."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self.keys: deque[Any] = deque(maxlen=64)  # older ones, if any, wait for their eviction


def _path_of(member: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """Return the path among the arguments in one spelling, "" where the signature does not name it.

    Wrong arguments raise as the member would.
    """
    signature = inspect.signature(member)
    bound = signature.bind(*args, **kwargs).arguments
    first = next(iter(bound), None)
    name = "path" if "path" in bound else first
    if name is None or signature.parameters[name].kind in _SEVERAL:
        return ""
    # Spellings that may mean one file are invalidated together; their reads stay apart by their digests.
    return posixpath.normpath(str(bound[name]))


_SEVERAL = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _folders(path: str) -> list[str]:
    """Return the folders that a path is in, the whole storage ("") first."""
    parts = path.split("/")[:-1]
    return ["", *("/".join(parts[: count + 1]) for count in range(len(parts)))] if path else []


class CacheKeyBuilder:
    """Builds readable keys that cannot collide: parts are kept apart and typed by a digest.

    >>> CacheKeyBuilder("models").build("churn", 1) == CacheKeyBuilder("models").build("churn", "1")
    False
    """

    def __init__(self, prefix: str = "", separator: str = ":") -> None:
        self._prefix = prefix
        self._separator = separator

    def build(self, *parts: Any, **named: Any) -> str:
        """Return the key of *parts* and *named*: the prefix, and a digest of all of them."""
        made = digest([self._prefix, parts, named], algorithm="blake2b")[:32]
        return f"{self._prefix}{self._separator}{made}" if self._prefix else made
