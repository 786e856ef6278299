"""Collectors: functions that gather data, with parameters given earlier than the work is done.

`@collector` turns a function into a factory. Calling the factory checks the parameters at once and
gives a `Collector`, whose `gather()` does what the function would have done. So every mistake shows
before a connection is used or a lock is taken, and a `Package` can hold a list of work to do.

The function depends on nothing but its parameters. It returns a dict, a list of files that it made,
or None or something empty when there is nothing new. An interval is [since, until), of aware datetimes.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import re
from typing import TYPE_CHECKING, Any, TypeAlias, final, overload

from ops.foundation.instants import require_aware
from ops.metrics_collect.errors import ParameterError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Collector", "CollectorFactory", "Gathered", "collector"]

Gathered: TypeAlias = "Mapping[str, Any] | Sequence[str | os.PathLike[str]] | None"

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@final
class Collector:
    """Work that is ready to be done: a function and its parameters.

    `primary_key` names the column that identifies a row for ever, or is None.
    """

    def __init__(self, factory: CollectorFactory, kwargs: Mapping[str, Any]) -> None:
        self._factory = factory
        self.kwargs: dict[str, Any] = dict(kwargs)

    @property
    def key(self) -> str:
        """The name of the collected data, used for files, manifests and ledgers."""
        return self._factory.key

    @property
    def version(self) -> str:
        """The version of the data's shape."""
        return self._factory.version

    @property
    def primary_key(self) -> str | None:
        """The column that identifies a row."""
        return self._factory.primary_key

    @property
    def version_column(self) -> str | None:
        """The column that orders versions of a row."""
        return self._factory.version_column

    @property
    def since(self) -> dt.datetime | None:
        """The start of the interval, if there is one."""
        return self.kwargs.get("since")

    @property
    def until(self) -> dt.datetime | None:
        """The end of the interval, not included, if there is one."""
        return self.kwargs.get("until")

    def gather(self) -> Gathered:
        """Call the function with the parameters and return what it returns."""
        result: Gathered = self._factory.__wrapped__(**self.kwargs)
        return result

    def into(self, folder: str | os.PathLike[str]) -> Collector:
        """Return a collector that writes its files into *folder*, unless one was given."""
        if not self._factory.takes_output_dir or self.kwargs.get("output_dir") is not None:
            return self
        return Collector(self._factory, {**self.kwargs, "output_dir": folder})

    def __repr__(self) -> str:
        # Only names: values may be connections with passwords in them.
        return f"<Collector {self.key} version {self.version}, {', '.join(self.kwargs) or 'bare'}>"


@final
class CollectorFactory:
    """A collector function that waits for its parameters. Made by `collector`."""

    def __init__(
        self,
        function: Callable[..., Gathered],
        *,
        key: str,
        version: str,
        primary_key: str | None = None,
        version_column: str | None = None,
        every: dt.timedelta = dt.timedelta(days=1),
        bound: Mapping[str, Any] | None = None,
    ) -> None:
        if not _KEY.fullmatch(key):
            raise ParameterError(
                f"{key!r} cannot be the key of a collector: use letters, digits, '_', '.' and '-'."
            )
        if every <= dt.timedelta(0) or dt.timedelta(days=1) % every:
            raise ParameterError(f"Collector {key!r}: every={every} does not divide a day.")
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self.key = key
        self.version = version
        self.primary_key = primary_key
        self.version_column = version_column
        self.every = every
        self._bound = dict(bound or {})
        self._parameters = inspect.signature(function).parameters

    def __call__(self, **kwargs: Any) -> Collector:
        """Check the parameters and return the collector; a wrong one is a `ParameterError`."""
        given = self._checked({**self._bound, **kwargs})
        missing = [
            name
            for name, p in self._parameters.items()
            if p.default is p.empty and p.kind not in _VARIADIC and name not in given
        ]
        if missing:
            raise ParameterError(f"Collector {self.key!r} needs {_names(missing)}.")
        return Collector(self, given)

    def bind(self, **kwargs: Any) -> CollectorFactory:
        """Return a factory for which some parameters are settled; *kwargs* are those of the function.

        Raises `ParameterError` for one that the function does not take, for a naive datetime, and
        for a *since* that is not before *until*.
        """
        return CollectorFactory(
            self.__wrapped__,
            key=self.key,
            version=self.version,
            primary_key=self.primary_key,
            version_column=self.version_column,
            every=self.every,
            bound=self._checked({**self._bound, **kwargs}),
        )

    @property
    def has_interval(self) -> bool:
        """Whether the collector takes `since` and `until`."""
        return {"since", "until"} <= set(self._parameters)

    @property
    def takes_db(self) -> bool:
        """Whether it reads a database that the caller opens."""
        return "db" in self._parameters

    @property
    def takes_output_dir(self) -> bool:
        """Whether the collector accepts a folder to write its files into."""
        return "output_dir" in self._parameters

    def _checked(self, given: dict[str, Any]) -> dict[str, Any]:
        open_ended = any(p.kind is p.VAR_KEYWORD for p in self._parameters.values())
        unknown = [] if open_ended else [n for n in given if n not in self._parameters]
        if unknown:
            raise ParameterError(
                f"Collector {self.key!r} does not take {_names(unknown)}; "
                f"it takes {_names(list(self._parameters)) or 'nothing'}."
            )
        for name, value in given.items():
            if isinstance(value, dt.datetime):
                try:
                    require_aware(value)
                except ValueError as error:
                    raise ParameterError(f"Collector {self.key!r}, {name}: {error}") from error
        for name in ("since", "until"):
            if name in given and not isinstance(given[name], dt.datetime | None):
                raise ParameterError(
                    f"Collector {self.key!r}: {name}={given[name]!r} is no datetime."
                )
        since, until = given.get("since"), given.get("until")
        # As timestamps: datetimes of one time zone would compare by wall clock.
        if since is not None and until is not None and since.timestamp() >= until.timestamp():
            raise ParameterError(
                f"Collector {self.key!r}: since ({since}) must lie before until ({until})."
            )
        return given

    def __repr__(self) -> str:
        return f"<CollectorFactory {self.key} version {self.version}>"


@overload
def collector(function: Callable[..., Gathered], /) -> CollectorFactory: ...
@overload
def collector(
    *,
    key: str | None = None,
    version: str = "1.0",
    primary_key: str | None = None,
    version_column: str | None = None,
    every: dt.timedelta = dt.timedelta(days=1),
) -> Callable[[Callable[..., Gathered]], CollectorFactory]: ...
def collector(
    function: Callable[..., Gathered] | None = None,
    /,
    *,
    key: str | None = None,
    version: str = "1.0",
    primary_key: str | None = None,
    version_column: str | None = None,
    every: dt.timedelta = dt.timedelta(days=1),
) -> CollectorFactory | Callable[[Callable[..., Gathered]], CollectorFactory]:
    """Turn a function into a factory of collectors.

    Args:
        function: gathers the data; see the module.
        key: the name of the data (default: that of the function).
        version: the version of the data's shape.
        primary_key: the column that identifies a row for ever; it travels with the data, so that a
            row that is delivered twice counts once.
        version_column: the column, of times or integers, that orders the versions of a
            row; without it the version of the later slice counts.
        every: the length of the slices that a run gathers; it divides a day.

    Raises `ParameterError` when the key is no name of letters, digits, '_', '.' and '-', or *every*
    does not divide a day.

    >>> @collector(primary_key="id")
    ... def runs(*, db, since, until):
    ...     return {"rows": len(db)}
    >>> runs.bind(db=[1, 2]).key
    'runs'
    """

    def decorate(function: Callable[..., Gathered]) -> CollectorFactory:
        name = key or str(getattr(function, "__name__", ""))
        return CollectorFactory(
            function,
            key=name,
            version=version,
            primary_key=primary_key,
            version_column=version_column,
            every=every,
        )

    return decorate if function is None else decorate(function)


_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _names(names: list[str]) -> str:
    return ", ".join(repr(n) for n in names)
