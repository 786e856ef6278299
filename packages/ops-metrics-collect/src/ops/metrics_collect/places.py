"""Sources and destinations by the words of the command line.

A source is a SQLite file or a PostgreSQL DSN. A destination is a folder, `s3://bucket/prefix`,
`postgres:table`, `crc:`, `crc-mutual:` or `segment:`; settings and secrets of services are taken from
OPS_METRICS_* variables, never from arguments, which other users of the machine can read.
"""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.storage import (
    StorageCRC,
    StorageCRCMutual,
    StorageDirectory,
    StoragePostgres,
    StorageS3,
    StorageSegment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.metrics_collect.storage import Storage

__all__ = ["is_dsn", "opened_source", "storage_of"]

psycopg: Any = LazyImport("psycopg", "ops-metrics-collect[postgres]")

_SERVICES: dict[str, Callable[[], Storage]] = {
    "crc": lambda: StorageCRC(),  # noqa: PLW0108 - loads on use
    "crc-mutual": lambda: StorageCRCMutual(),  # noqa: PLW0108 - loads on use
    "segment": lambda: StorageSegment(),  # noqa: PLW0108 - loads on use
}


def storage_of(place: str) -> Storage:
    """Return the storage that *place* names."""
    kind, colon, rest = place.partition(":")
    if colon and kind == "s3":
        bucket, _, prefix = rest.removeprefix("//").partition("/")
        return StorageS3(bucket or None, prefix=prefix)
    if colon and kind == "postgres":
        return StoragePostgres(table=rest or "ops_metrics_objects")
    if colon and kind in _SERVICES:
        return _SERVICES[kind]()
    if rest.startswith("//"):
        known = ", ".join(f"{service}:" for service in _SERVICES)
        raise ParameterError(
            f"{place!r} is no destination: use a folder, s3://bucket/prefix, postgres:table, {known}."
        )
    return StorageDirectory(place)


def is_dsn(source: str) -> bool:
    """Say whether *source* names a PostgreSQL database: a URL, or "host=… dbname=…"."""
    return source.startswith(("postgresql://", "postgres://")) or "dbname=" in source


@contextlib.contextmanager
def opened_source(source: str) -> Iterator[Any]:
    """Give a connection to a source that belongs to somebody else: it is only read."""
    if is_dsn(source):
        with psycopg.connect(source, autocommit=True) as db:
            yield db
        return
    if not pathlib.Path(source).is_file():  # a wrong name must not create one
        raise ParameterError(f"There is no database file {source!r}.")
    uri = pathlib.Path(source).absolute().as_uri()
    with contextlib.closing(sqlite3.connect(f"{uri}?mode=ro", uri=True)) as db:
        yield db
