"""Decorators that keep what they decorate recognisable: a class stays a class, a type stays itself."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.forks import in_children

if TYPE_CHECKING:
    # Type checkers give this one its PEP 702 meaning: they mark every use.
    from collections.abc import Callable, Iterator

    from typing_extensions import deprecated
elif sys.version_info >= (3, 13):
    from warnings import deprecated
else:
    from ops.foundation.deprecation import deprecated

__all__ = ["deprecated", "lazy_property", "singleton"]

T = TypeVar("T")
C = TypeVar("C", bound=type)


def singleton(cls: C) -> C:
    """Let a class have one instance, made by the first call; it stays a class.

    `isinstance` and subclassing work (each subclass has an instance of its own). `__init__` runs
    once, arguments of later calls are ignored, and threads that come together wait until it has
    run. When `__init__` fails, the next call starts over.
    """
    state = _Singletons(cls.__new__)

    def one_new(kind: type, *args: Any, **kwargs: Any) -> Any:
        return state.instance_of(kind, args, kwargs)

    cls.__new__ = one_new  # type: ignore[assignment]  # a static method by nature
    state.initialise_once(cls)
    return cls


class _Singletons:
    """The instances of one decorated class and its subclasses."""

    def __init__(self, new: Callable[..., Any]) -> None:
        self._new = new
        self._renew_lock()
        in_children(self, _Singletons._renew_lock)
        self._instances: dict[type, Any] = {}
        self._initialised: set[type] = set()
        self._guarded: set[type] = set()

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def instance_of(self, kind: type, args: Any, kwargs: Any) -> Any:
        with self._lock:
            if "__init__" in vars(kind):
                self.initialise_once(kind)
            if kind not in self._instances:
                plain = self._new is object.__new__
                made = self._new(kind) if plain else self._new(kind, *args, **kwargs)
                self._instances[kind] = made
            return self._instances[kind]

    def initialise_once(self, kind: Any) -> None:
        if kind in self._guarded:
            return
        self._guarded.add(kind)
        initialise = kind.__init__

        @functools.wraps(initialise)
        def once(instance: Any, *args: Any, **kwargs: Any) -> None:
            if type(instance) is not kind and "__init__" in vars(type(instance)):
                # Called by the subclass's own, which is guarded itself.
                _call_init(initialise, instance, args, kwargs)
                return
            with self._lock:
                actual = type(instance)
                if actual in self._initialised:
                    return
                # Before the call: an __init__ that asks for the instance gets this one.
                self._initialised.add(actual)
                try:
                    _call_init(initialise, instance, args, kwargs)
                except BaseException:
                    self._initialised.discard(actual)
                    self._instances.pop(actual, None)
                    raise

        kind.__init__ = once


def _call_init(initialise: Any, instance: Any, args: Any, kwargs: Any) -> None:
    if initialise is object.__init__:
        # object accepts arguments for a class with its own __new__, but not when called like this.
        return
    initialise(instance, *args, **kwargs)


class lazy_property(Generic[T]):  # noqa: N801 - used like property
    """A property that is computed once for each instance, by one thread while others wait.

    The value is stored in the instance's `__dict__`; `del obj.name` makes it be computed again.
    Other instances, and other lazy properties of this one, are not held up by another lock. Raises
    `ValidationError` for coroutine functions and generators.
    """

    def __init__(self, func: Callable[[Any], T]) -> None:
        # Stored, the coroutine or generator of the first access would be used up by the second.
        refuse_coroutine_function(func, "lazy_property")
        self._func = func
        self._name = func.__name__
        self.__doc__ = func.__doc__
        self._renew_locks()
        in_children(self, lazy_property._renew_locks)

    def _renew_locks(self) -> None:
        """Start with no lock held; a forked child has no other thread that computes."""
        self._lock = threading.Lock()
        self._locks: dict[int, tuple[threading.RLock, int]] = {}

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Self | T:
        if instance is None:
            return self
        # The instance's dict is looked up before this descriptor, so this runs only until it is there.
        values = instance.__dict__
        with self._instance_lock(id(instance)):
            if self._name not in values:
                values[self._name] = self._func(instance)
            value: T = values[self._name]
            return value

    @contextlib.contextmanager
    def _instance_lock(self, key: int) -> Iterator[None]:
        """Hold the lock of one instance, which exists only while a thread computes or waits."""
        with self._lock:
            lock, users = self._locks.get(key, (threading.RLock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks.pop(key, (lock, 1))  # no entry: forked meanwhile
                if users > 1:
                    self._locks[key] = lock, users - 1
