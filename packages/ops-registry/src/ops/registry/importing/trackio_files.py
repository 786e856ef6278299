"""trackio's folder: a SQLite database per project, and a folder of media, read without trackio.

A row of ``metrics`` has one ``log`` call as JSON, with NaN and infinities as texts; a row of ``configs`` the
configuration of a run. Older versions know runs by their names alone. trackio records no end and no status: what is
there counts as COMPLETED with the time of its last row, and a later import brings what came since.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Any

from ops.registry.disk.checked_paths import is_id
from ops.registry.importing.findings import ForeignDataError
from ops.registry.importing.foreign_files import ForeignFolder
from ops.registry.importing.mlflow_values import checked_points
from ops.registry.importing.records import ForeignFile, ForeignRun
from ops.registry.importing.sqlite_files import ForeignDatabase
from ops.registry.instants import from_ns, to_ns
from ops.registry.logged_values import VALUES, flattened, number_of, value_line
from ops.registry.records import Experiment, RunStatus
from ops.registry.run_copies import RunCopy
from ops.registry.validators import check_key

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping, Sequence

    from ops.registry.importing.findings import Findings
    from ops.registry.importing.records import ForeignLoggedModel, ForeignModel

__all__ = ["TrackioFiles"]

_MEDIA = "media"
#: What trackio itself adds to a configuration.
_OWN = {"_Username", "_Created", "_Group"}


class _Run:
    """Where the rows of a run are."""

    def __init__(self, project: str, run_id: str | None, name: str) -> None:
        self.project = project
        self.name = name
        self.condition: tuple[str, tuple[str, ...]] = (
            ("run_name = ?", (name,)) if run_id is None else ("run_id = ?", (run_id,))
        )
        own = run_id if run_id is not None and is_id(run_id) else None
        self.run_id: str = own or _digest(f"{project}\n{run_id}\n{name}")


class TrackioFiles:
    """The databases *paths*, one per project, and the folder *media* beside them."""

    def __init__(self, paths: Sequence[pathlib.Path], findings: Findings) -> None:
        self.findings: Findings = findings
        self._databases = {path.stem: ForeignDatabase(path, findings) for path in paths}
        self._folder = ForeignFolder(paths[0].parent, findings)
        self._projects: dict[str, str] = {}
        self._runs: dict[str, _Run] = {}

    def experiments(self) -> list[Experiment]:
        """Return an experiment per project, which is called as its database is."""
        found = []
        for project, database in self._databases.items():
            first = next(database.rows("metrics", order="id"), None)
            first = first or next(database.rows("configs", order="id"), None)
            times = first and (first.get("timestamp") or first.get("created_at"))
            experiment_id = _digest(project)
            self._projects[experiment_id] = project
            found.append(Experiment(experiment_id, project, from_ns(_nanoseconds(times) or 0)))
        return found

    def run_ids(self, experiment_id: str) -> list[str]:
        """Return the ids of the runs of a project."""
        project = self._projects[experiment_id]
        found: dict[str, _Run] = {}
        for table in ("configs", "metrics"):
            for row in self._databases[project].rows(table):
                name = row.get("run_name")
                if not isinstance(name, str) or not name:
                    self.findings.refuse(f"{project} table {table}", "a row without a run")
                    continue
                run = _Run(project, _text(row.get("run_id")), name)
                found.setdefault(run.run_id, run)
        self._runs |= found
        return list(found)

    def stamp(self, run_id: str) -> str:
        """Return a digest of how many rows a run has, and which the last ones are."""
        run = self._runs[run_id]
        database = self._databases[run.project]
        tables = ("configs", "metrics", "system_metrics", "alerts")
        parts = [database.summary(table, *run.condition) for table in tables]
        return _digest(repr([parts, *database.rows("configs", *run.condition)]))

    def run(self, run_id: str) -> ForeignRun:
        """Return a run with its configuration, numbers, and everything else that was logged as files."""
        run = self._runs[run_id]
        database = self._databases[run.project]
        config = self._config(run)
        made = ForeignRun(RunCopy(run_id, run.name, str(RunStatus.COMPLETED), 0))
        copy, lines = made.copy, list[str]()
        for row in database.rows("metrics", *run.condition, order="id"):
            self._log(run, row, made, lines)
        for step, row in enumerate(database.rows("system_metrics", *run.condition, order="id")):
            self._log(run, dict(row) | {"step": step}, made, lines, prefix="system/")
        alerts = [
            _json({k: _text(v) if isinstance(v, bytes) else v for k, v in row.items()})
            for row in database.rows("alerts", *run.condition, order="id")
        ]
        times = [point[3] for point in copy.points]
        created = _nanoseconds(config.get("_Created"))
        copy.start = created or min(times, default=0)
        copy.end = max([*times, copy.start])
        copy.tags = {"group": str(config["_Group"])} if config.get("_Group") else {}
        if config.get("_Username"):
            made.extras.append(("user", str(config["_Username"])))
        copy.parameters = self._parameters(run, config)
        for name, texts in ((VALUES, lines), ("logged/alerts.jsonl", alerts)):
            if texts:
                made.made[name] = "".join(texts).encode()
        return made

    def logged_models(self, experiment_id: str) -> list[ForeignLoggedModel]:
        """Return nothing: trackio has no models."""
        del experiment_id
        return []

    def models(self) -> list[ForeignModel]:
        """Return nothing: trackio has no registry."""
        return []

    def close(self) -> None:
        """Close the databases."""
        for database in self._databases.values():
            database.close()

    def _config(self, run: _Run) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for row in self._databases[run.project].rows("configs", *run.condition):
            with self.findings.refusing(f"configuration of run {run.name!r}"):
                found |= _parsed(row.get("config"))
        return found

    def _parameters(self, run: _Run, config: Mapping[str, Any]) -> dict[str, Any]:
        kept = {}
        for key, value in config.items():
            with self.findings.refusing(f"configuration of run {run.name!r}"):
                if key not in _OWN:
                    kept[check_key(key)] = value
        return kept

    def _log(
        self,
        run: _Run,
        row: Mapping[str, Any],
        made: ForeignRun,
        lines: list[str],
        prefix: str = "",
    ) -> None:
        """Take one call of log: its numbers are points, the rest are lines and files."""
        where = f"run {run.name!r} row {row.get('id')}"
        with self.findings.refusing(where):
            when = _nanoseconds(row.get("timestamp"))
            step = row.get("step") or 0
            if when is None or not isinstance(step, int):
                raise ForeignDataError("a row without a time, or a step that is no number")
            for key, value in flattened(_parsed(row.get("metrics"))).items():
                name = prefix + key
                number = number_of(value)
                if number is not None:
                    point = number, step, when
                    made.copy.points += checked_points(where, name, [point], self.findings)
                    continue
                file = self._media(run, value) if isinstance(value, dict) else None
                if file is not None:
                    made.files.append(file)
                    lines.append(value_line(name, step, when, value, artifact=file.name))
                else:
                    lines.append(value_line(name, step, when, value))

    def _media(self, run: _Run, value: Mapping[str, Any]) -> ForeignFile | None:
        """Return the file of an image, a sound or a video; its path is relative to the folder of media."""
        path = value.get("file_path")
        if not isinstance(path, str):
            return None
        found = self._folder.file(f"{_MEDIA}/{path}")
        if found is None:
            self.findings.refuse(f"{_MEDIA}/{path}", f"no file that run {run.name!r} could have")
            return None
        name = "/".join(path.split("/")[-2:])
        return ForeignFile(f"logged/{name}", found.path, found.size, found.modified_ns)


def _parsed(text: Any) -> dict[str, Any]:
    """Return the JSON of a row, which is text, or bytes in newer versions."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ForeignDataError(f"no JSON: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise ForeignDataError("no mapping")
    return found


def _nanoseconds(text: Any) -> int | None:
    if not isinstance(text, str):
        return None
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return to_ns(when if when.tzinfo else when.replace(tzinfo=dt.UTC))


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) + "\n"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
