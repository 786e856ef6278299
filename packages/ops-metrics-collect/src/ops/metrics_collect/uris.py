"""Sources and destinations by the words of the command line.

A source is a SQLite file or a PostgreSQL DSN. A destination is a folder, `s3://bucket/prefix`,
`postgres:table`, `crc:`, `crc-mutual:` or `segment:`; settings and secrets of services are taken from
OPS_METRICS_* variables, never from arguments, which other users of the machine can read.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import sqlite3
from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport
from ops.metrics_collect import plugins
from ops.metrics_collect.errors import ParameterError, StorageError
from ops.metrics_collect.secrets import libpq_dsn, redacted, secrets_in
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

__all__ = ["is_dsn", "opened_source", "opened_storage", "storage_of"]

psycopg: Any = LazyImport("psycopg", "ops-metrics-collect[postgres]")

# A URL, also with SQLAlchemy's driver in it, or keywords of libpq.
_DSN = re.compile(
    r"postgres(ql)?(\+\w+)?://|\s*(host|hostaddr|port|dbname|user|password|service|passfile)\s*=",
    re.IGNORECASE,
)

#: user@host:path, and a URL with a user.
_WITH_USER = re.compile(r"(?:\w[\w+.-]*://)?[^/]*@[^/]*(?:[:/]|$)")

#: What stands before a colon; a single letter is a drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+")

_SERVICES: dict[str, Callable[[], Storage]] = {
    "crc": lambda: StorageCRC(),  # noqa: PLW0108 - loads on use
    "crc-mutual": lambda: StorageCRCMutual(),  # noqa: PLW0108 - loads on use
    "segment": lambda: StorageSegment(),  # noqa: PLW0108 - loads on use
}


def storage_of(uri: str) -> Storage:
    """Return the storage that *uri* names."""
    kind, colon, rest = uri.partition(":")
    if "@" in uri and _WITH_USER.match(uri):
        raise ParameterError(
            f"{redacted(uri, secrets_in(uri))!r} is no destination: credentials are read from "
            "OPS_METRICS_* variables, and no other machine is reached by its name."
        )
    if colon and kind == "s3":
        bucket, _, prefix = rest.removeprefix("//").partition("/")
        return StorageS3(bucket or None, prefix=prefix)
    if colon and kind == "postgres":
        return StoragePostgres(table=rest or "ops_metrics_objects")
    if colon and kind in _SERVICES:
        return _SERVICES[kind]()
    if colon and kind in plugins.names("storages"):
        made: Storage = plugins.loaded("storages", kind)(rest)
        return made
    if not uri.strip():
        raise ParameterError("The name of the destination is empty.")
    if colon and _SCHEME.fullmatch(kind) and not pathlib.Path(uri).exists():
        known = ", ".join(f"{service}:" for service in (*_SERVICES, *plugins.names("storages")))
        raise ParameterError(
            f"{uri!r} is no destination: use a folder, s3://bucket/prefix, postgres:table, {known}. "
            "A folder with a colon in its name is written as ./NAME."
        )
    return StorageDirectory(uri)


@contextlib.contextmanager
def opened_storage(uri: str) -> Iterator[Storage]:
    """Give the storage that *uri* names, and close its connections when the block ends."""
    storage = storage_of(uri)
    try:
        yield storage
    finally:
        close = getattr(storage, "close", None)
        if close is not None:
            close()


def is_dsn(source: str) -> bool:
    """Say whether *source* names a PostgreSQL database: a URL, or "host=… dbname=…"."""
    return bool(_DSN.match(source))


@contextlib.contextmanager
def opened_source(source: str) -> Iterator[Any]:
    """Give a connection to a source of another application: it is only read."""
    if is_dsn(source):
        try:
            connection = psycopg.connect(libpq_dsn(source), autocommit=True)
        except psycopg.Error as error:  # it quotes an address that it cannot read
            message = redacted(str(error), secrets_in(source))
            raise StorageError(f"The database cannot be opened: {message}") from None
        with connection as db:
            yield db
        return
    if not pathlib.Path(source).is_file():  # a wrong name must not create one
        shown = redacted(source, secrets_in(source))
        raise ParameterError(f"There is no database file {shown!r}.")
    uri = pathlib.Path(source).absolute().as_uri()
    with contextlib.closing(sqlite3.connect(f"{uri}?mode=ro", uri=True)) as db:
        yield db
