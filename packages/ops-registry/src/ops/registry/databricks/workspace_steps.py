"""The steps of `doctor`: each tries one thing of a workspace as the backend does it, on objects of its own.

A step returns a sentence about what it found, raises what went wrong, or ends with `Limited` where the backend can do
without what does not work. Names of what is made begin with ``ops_doctor_``; `close` removes it. A schema that
is made stays, empty.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import secrets
import statistics
import threading
import time
from typing import TYPE_CHECKING

from ops.foundation.errors import OpsError
from ops.registry.databricks.config import WarehouseAccess
from ops.registry.databricks.failures import Failure, failure_in
from ops.registry.databricks.parameters import MOST_PARAMETERS
from ops.registry.databricks.tables import FORMAT, VOLUME, format_of
from ops.registry.databricks.volumes import Stored, Volume
from ops.registry.databricks.warehouse import Warehouse
from ops.registry.errors import ArtifactNotFoundError, ConfigurationError, StorageError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Mapping

    from ops.registry.configuration import MLOpsConfig

__all__ = ["Limited", "WorkspaceSteps"]

_PACKAGES = ("databricks-sql-connector", "httpx", "databricks-sdk", "databricks-sql-kernel")
_NEEDED = ("databricks-sql-connector", "httpx")
_ROUNDS = 5
_SMALL = 64 << 10


class Limited(Exception):  # noqa: N818 - no error: a step ends with it
    """Ends a step in which something does not work that the backend can do without."""


class WorkspaceSteps:
    """The steps; what they make is removed by `close`.

    Args:
        config: Its catalog and schema count, and how long a warehouse may take to start.
        environ: The variables; None are those of the process.
        folder: Where files are made.
        versions: Is filled with the versions of what takes part.
        clock: Seconds that only differences are taken of.
    """

    def __init__(
        self,
        config: MLOpsConfig,
        environ: Mapping[str, str] | None,
        folder: pathlib.Path,
        versions: dict[str, str],
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._environ = environ
        self._folder = folder
        self._versions = versions
        self._clock = clock
        self._mark = f"ops_doctor_{secrets.token_hex(6)}"
        self._access: WarehouseAccess | None = None
        self._sessions: list[Warehouse] = []
        self._conflicts = 0
        self._format = 0
        self._undo: list[str] = []

    def in_order(self) -> tuple[tuple[str, str, Callable[[], str]], ...]:
        """Return the steps: a name, the step that must have gone well before, and what to do."""
        return (
            ("packages", "", self._packages),
            ("settings", "", self._settings),
            ("credentials", "settings", self._credentials),
            ("workspace", "credentials", self._workspace),
            ("session", "credentials", self._session),
            ("latency", "session", self._latency),
            ("parameters", "session", self._parameters),
            ("schema", "session", self._schema),
            ("tables", "schema", self._tables),
            ("conflicts", "tables", self._race),
            ("volume", "schema", self._volume),
            ("files", "volume", self._files),
            ("tags", "volume", self._tags),
        )

    def close(self) -> None:
        """Remove what was made, and close the sessions."""
        for statement in reversed(self._undo):
            with contextlib.suppress(OpsError):
                self._sessions[0].define(statement)
        for session in self._sessions:
            session.close()

    def hidden(self, text: str) -> str:
        """Return *text* without secrets and without the name of the host."""
        if self._sessions:
            text = self._sessions[0].hidden(text)
        if self._access is not None:
            name = self._access.hostname
            text = self._access.hidden(text).replace(name, "<host>")
            text = text.replace(name.partition(":")[0], "<host>")
        return text

    # What is here

    def _packages(self) -> str:
        found = self._versions
        found["python"] = platform.python_version()
        for name in ("ops-registry", *_PACKAGES):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
        missing = [name for name in _NEEDED if name not in found]
        if missing:
            raise ConfigurationError(
                f"{', '.join(missing)} is not installed.",
                suggestions=("pip install 'ops-registry[databricks]'",),
            )
        return ", ".join(f"{name} {version}" for name, version in found.items())

    def _settings(self) -> str:
        access = self._access = WarehouseAccess.from_env(self._environ)
        catalog, schema = self._config.catalog, self._config.schema
        if not catalog or not schema:
            raise ConfigurationError(
                "There is no catalog or no schema.",
                suggestions=("Pass --catalog and --schema, or set OPS_MLOPS_CATALOG and _SCHEMA.",),
            )
        self._sessions = [
            Warehouse(
                access,
                catalog,
                schema,
                self._folder / f"staging{number}",
                start_seconds=self._config.warehouse_start_seconds,
                prepares=False,
                sleep=self._sleep,
            )
            for number in range(2)
        ]
        kind = "warehouse" if "/warehouses/" in access.http_path else "cluster"
        return f"cloud {access.cloud}, {kind}, credentials: {access.credentials_kind}"

    def _sleep(self, seconds: float) -> None:
        self._conflicts += 1
        time.sleep(seconds)

    # How it is reached

    @property
    def _own(self) -> Warehouse:
        return self._sessions[0]

    def _credentials(self) -> str:
        return f"{len(self._own.credentials.headers())} header(s)"

    def _workspace(self) -> str:
        path = self._own.access.http_path
        if "/warehouses/" not in path:
            raise Limited("the path is of a cluster; SQL warehouses are what this was made for")
        name = path.strip("/").rsplit("/", 1)[-1]
        try:
            found = self._own.files.describe(f"/api/2.0/sql/warehouses/{name}")
        except StorageError as error:
            if failure_in(error) is Failure.DENIED:
                raise Limited("the warehouse may be used and not be seen (no CAN VIEW)") from None
            raise
        kind = f"{found.get('warehouse_type')}, serverless {found.get('enable_serverless_compute')}"
        return f"state {found.get('state')}, type {kind}"

    def _session(self) -> str:
        began = self._clock()
        self._own.rows("SELECT 1 AS one")
        seconds = self._clock() - began
        try:
            (row,) = self._own.rows("SELECT current_version() AS version")
            version = str((row["version"] or {}).get("dbsql_version"))
        except OpsError:
            version = "unknown"
        self._versions["dbsql"] = version
        return f"the first statement took {seconds:.1f} s, Databricks SQL {version}"

    def _latency(self) -> str:
        taken = []
        for _ in range(_ROUNDS):
            began = self._clock()
            self._own.rows("SELECT 1 AS one")
            taken.append((self._clock() - began) * 1000)
        return (
            f"a statement takes {statistics.median(taken):.0f} ms, at the most {max(taken):.0f} ms"
        )

    def _parameters(self) -> str:
        (row,) = self._own.rows("SELECT :value = 0.1D AS same", value=0.1)
        if not row["same"]:
            raise StorageError("A float does not arrive with 64 bits.")
        for count in (MOST_PARAMETERS, 2 * MOST_PARAMETERS):
            values = {f"p{n}": n for n in range(count)}
            listed = ", ".join(f":{name}" for name in values)
            (row,) = self._own.rows(f"SELECT array({listed}) AS listed", **values)
            if list(row["listed"]) != list(values.values()):
                raise StorageError(f"{count} parameters arrive as something else.")
        return f"64 bits, {MOST_PARAMETERS} parameters and more"

    # What may be done

    def _schema(self) -> str:
        own = self._own
        self._format = format_of(own)
        if self._format > FORMAT:
            raise ConfigurationError(
                f"The schema is in format {self._format}, and this version knows {FORMAT}.",
                suggestions=("Upgrade ops-registry.",),
            )
        if self._format:
            return f"the schema is there, in format {self._format}"
        own.define(f"CREATE SCHEMA IF NOT EXISTS {own.scope}")
        return "the schema is there or was made; it has no tables of ops-registry yet"

    def _tables(self) -> str:
        own, table = self._own, self._own.table(self._mark)
        try:
            own.define(
                f"CREATE TABLE {table} (name STRING NOT NULL, version BIGINT, value DOUBLE) "
                "CLUSTER BY (name)"
            )
        except StorageError as error:
            if failure_in(error) is Failure.DENIED and self._format:
                raise Limited("no CREATE TABLE: enough while the format does not change") from None
            raise
        self._undo.append(f"DROP TABLE {table}")
        own.change(f"INSERT INTO {table} VALUES ('', 0, 0.5)")  # noqa: S608 - a name made here
        update = f"UPDATE {table} SET version = version + 1 WHERE name = '' AND version = :version"  # noqa: S608 - a name made here
        first, second = (own.change(update, version=0) for _ in range(2))
        if first < 1 or second != 0:
            raise StorageError(f"UPDATE reports {first} and {second} rows in place of 1 and 0.")
        (row,) = own.rows(f"SELECT version FROM {table} WHERE name = ''")  # noqa: S608 - a name made here
        if row["version"] != 1:
            raise StorageError(f"A conditional change leaves version {row['version']}, not 1.")
        return "CREATE TABLE with CLUSTER BY, INSERT, a conditional UPDATE and SELECT work"

    def _race(self) -> str:
        if not self._undo:
            raise Limited("there is no table to try it on")
        table = self._own.table(self._mark)
        self._conflicts = 0
        taking = (
            f"MERGE INTO {table} t USING (SELECT :name AS name UNION ALL SELECT '') s ON t.name = s.name "  # noqa: S608 - a name made here
            "WHEN MATCHED AND s.name = '' THEN UPDATE SET version = t.version + 1 "
            "WHEN NOT MATCHED AND s.name <> '' THEN INSERT (name, version, value) VALUES (s.name, 1, 0)"
        )
        for number in range(_ROUNDS):
            errors = _at_once(
                [
                    lambda s=session, n=number: s.change(taking, name=f"n{n}")  # type: ignore[misc]  # bound now
                    for session in self._sessions
                ]
            )
            if errors:
                raise errors[0]
        (row,) = self._own.rows(
            f"SELECT count(*) AS names, max(version) AS changes FROM {table}"  # noqa: S608 - a name made here
        )
        if row["names"] != _ROUNDS + 1 or row["changes"] != 2 * _ROUNDS + 1:
            raise StorageError(
                f"Two sessions took {_ROUNDS} names at once; there are {row['names'] - 1}, after "
                f"{row['changes'] - 1} changes of {2 * _ROUNDS}."
            )
        return (
            f"two sessions took {_ROUNDS} names once each, {self._conflicts} waits after conflicts"
        )

    def _volume(self) -> str:
        own = self._own
        name = VOLUME if self._format else self._mark
        if not self._format:
            own.define(f"CREATE VOLUME {own.table(name)}")
            self._undo.append(f"DROP VOLUME {own.table(name)}")
        self._volume_name = name
        volume = Volume(own, name)
        source = self._folder / "small"
        source.write_bytes(secrets.token_bytes(_SMALL))
        (stored,) = volume.upload(source, f"doctor/{self._mark}/small")
        try:
            with volume.fetched([stored]) as copy:
                _compare(source, copy)
            listed = list(volume.files(f"doctor/{self._mark}"))
        finally:
            volume.remove([stored])
        if listed != [stored.path]:
            raise StorageError(f"LIST gives {listed!r:.100} in place of what was put there.")
        self._expect_absent(lambda: self._get(volume, stored), "GET")
        volume.remove([stored])  # of what is gone already
        return "PUT, GET, LIST and REMOVE work, and a missing file is known as one"

    def _files(self) -> str:
        own = self._own
        volume = Volume(own, self._volume_name)
        source, path = self._folder / "large", volume.uri(f"doctor/{self._mark}/large")
        source.write_bytes(secrets.token_bytes(_SMALL))
        own.files.put(source, path)
        try:
            own.files.get(path, self._folder / "back")
            _compare(source, self._folder / "back")
            listed = [volume.path_of(found) for found, _ in own.files.files(volume.uri("doctor"))]
        finally:
            volume.remove([Stored("", volume.path_of(path), 0, "")])
        if volume.path_of(path) not in listed:
            raise StorageError(f"The directory has {listed!r:.100}, not what was put there.")
        self._expect_absent(lambda: own.files.get(path, self._folder / "none"), "The Files API")
        return "upload, download and listing work, and a missing file is known as one"

    def _tags(self) -> str:
        own = self._own
        alter = f"ALTER VOLUME {own.table(self._volume_name)}"
        try:
            own.define(f"{alter} SET TAGS ('{self._mark}' = 'x')")
            own.define(f"{alter} UNSET TAGS ('{self._mark}')")
        except StorageError as error:
            raise Limited(f"no tags in Unity Catalog: {error.message}") from None
        return "tags of Unity Catalog can be set"

    def _get(self, volume: Volume, stored: Stored) -> None:
        with volume.fetched([stored]):
            pass

    def _expect_absent(self, work: Callable[[], object], what: str) -> None:
        try:
            work()
        except ArtifactNotFoundError:
            return
        raise StorageError(f"{what} gives a file that was removed.")


def _compare(source: pathlib.Path, copy: pathlib.Path) -> None:
    if source.read_bytes() != copy.read_bytes():
        raise StorageError("A file comes back with other bytes.")


def _at_once(calls: list[Callable[[], object]]) -> list[Exception]:
    """Run calls in threads that start together; return what they raised."""
    errors: list[Exception] = []
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        start.wait()
        try:
            call()
        except Exception as error:  # noqa: BLE001 - raised by the caller
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
