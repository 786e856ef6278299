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


class CachedStorage:
    """Any object with `read_*`, `write_*` and `delete_*` methods, its reads cached by path.

    The path is the parameter called `path`, or the first where none is: `write_json(data, path)` and
    `read(path)` both work, and `./a` is `a`. A write or delete forgets every cached read of that
    path, before and after, also when it fails. Each read is an entry of its own, so the limits of the
    cache see its size; one that is too large, or whose arguments have no digest, is passed on, not
    kept. Callers get copies, so nobody shares a mutable.
    """

    def __init__(self, storage: Any, cache: Any) -> None:
        self._storage = storage
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also what copying and pickling ask for before there is a storage
            raise AttributeError(name)
        member = getattr(self._storage, name)
        verb = name.partition("_")[0]
        if verb == "read":
            return lambda *a, **k: self._read(name, member, a, k)
        if verb in {"write", "delete"}:
            return lambda *a, **k: self._change(member, a, k)
        return member

    def _read(self, name: str, member: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        path = _path_of(member, args, kwargs)
        try:
            call = digest([args, kwargs], algorithm="blake2b")
        except UnsupportedTypeError:
            return member(*args, **kwargs)
        reads = self._cache.get(path, MISSING)
        if reads is MISSING:
            reads = _Reads()
            self._cache.set(path, reads)
        # A write while we read removes `reads`, so nobody asks for this key again.
        key = ("storage", reads.token, name, call)
        value = self._cache.get(key, MISSING)
        if value is MISSING:
            value = member(*args, **kwargs)
            reads.keys.append(key)
            with contextlib.suppress(ValueTooLargeError):  # counted by the cache
                self._cache.set(key, value)
        return copy.deepcopy(value)

    def _change(self, member: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        path = _path_of(member, args, kwargs)
        self._forget(path)
        try:
            return member(*args, **kwargs)
        finally:
            self._forget(path)

    def _forget(self, path: tuple[str, str]) -> None:
        reads = self._cache.get(path, MISSING)
        self._cache.delete(path)
        if reads is not MISSING:
            for key in tuple(reads.keys):
                self._cache.delete(key)


def _path_of(member: Callable[..., Any], args: Any, kwargs: Any) -> tuple[str, str]:
    """Return the key of the argument that is the path; wrong arguments raise as the member would."""
    bound = inspect.signature(member).bind(*args, **kwargs).arguments
    path = bound["path"] if "path" in bound else next(iter(bound.values()), None)
    # Spellings that may mean one file are forgotten together; their reads stay apart by their digests.
    return ("storage", posixpath.normpath(str(path)))


class _Reads:
    """The cached reads of one path: a token that is part of their keys, and the keys."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self.keys: deque[Any] = deque(maxlen=64)  # older ones, if any, wait for their eviction


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
