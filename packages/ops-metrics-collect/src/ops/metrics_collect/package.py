"""Package: what collectors gather, as a stream of self-describing tarballs.

Each tarball holds `config.json`, `manifest.json`, `data_collection_status.csv` and payload files; a
big result spreads over several. Nothing but the content decides the bytes of a tarball: times, owners
and modes are fixed and members have a fixed order. (The status file has the time and duration of
each collection, so two runs differ unless the clocks are given; the payloads do not.)

PostgreSQL connections (psycopg) are read in one snapshot: all collectors see the same state, from
the first of them until the last tarball is requested.

A collector that raises does not stop the others: its failure becomes a row of the status file. The
files that collectors made are removed here, packed or not, and each tarball when the consumer asks
for the next. Made by them is what lies in the folder that they were given, or in that for temporary files, and elsewhere
what was written since the package began; an older file is another program's and stays. Collectors that accept a folder write into a workspace, which ends with its process.
The formats are described in docs/metrics-collect.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import math
import pathlib
import string
import tempfile
import time
import uuid as uuids
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import text_of
from ops.foundation.files import safe_join
from ops.foundation.instants import iso, now
from ops.foundation.logs import get_logger
from ops.metrics_collect.collectors import Collector
from ops.metrics_collect.csv_parts import encode_row
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.payload_files import document_text, readable_rows, require_rows
from ops.metrics_collect.snapshots import shared_snapshot
from ops.metrics_collect.tarballs import Member, write_tarball
from ops.metrics_collect.workspaces import workspace

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ops.metrics_collect.tarballs import Layout

__all__ = ["CollectionStatus", "Package", "parse_size"]

_log = get_logger("ops.metrics_collect")
_LONGEST_ERROR = 2000  # characters; some messages quote a whole row
_CLOCK_SECONDS = 0.1  # by which the time of a new file may lie behind that of the clock
_UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_TARBALL_FIELDS = {"uuid", "since", "until", "key", "index"}
_PAYLOAD_FIELDS = {"key", "type", "index"}
_STATUS_COLUMNS = (
    "collection_start_timestamp",
    "since",
    "until",
    "file_name",
    "status",
    "elapsed",
    "collector",
    "error",
)


@dataclasses.dataclass(frozen=True, slots=True)
class CollectionStatus:
    """How the run of one collector ended.

    *collector* is its key; *started* when it began; *since* and *until* its slice (None: it has
    none). *status* is "ok", "empty" or "failed", then with the *error*; *elapsed* is in seconds.
    """

    collector: str
    started: dt.datetime
    since: dt.datetime | None
    until: dt.datetime | None
    status: str
    elapsed: float
    error: str = ""


class Package:
    """An iterable of tarball paths; iterating runs the collectors, one after the other.

    *collectors* have all their parameters. *config* is the collector of the configuration, or a
    mapping, which travels in each tarball (default: the collector "config" among *collectors*, or
    none). *max_size* bounds the payload of a tarball before compression ("200M" or bytes); a single
    file that is larger travels alone. *tarball_format* names tarballs, by `uuid`, `since`, `until`,
    `key` and `index`; *payload_format* names the files inside, by `key`, `type` and `index`. *uuid*
    names the installation, in file names and manifests; by default it is the `install_uuid` of the
    configuration, else derived from the collectors' keys: give it when several installations ship
    to one storage without a configuration. *layout* "controller" is what the receiver of
    console.redhat.com takes (docs/metrics-collect.md). With *keep*, tarballs stay in *directory*.
    *clock* returns the time, aware; *timer* counts seconds. After iteration `statuses` has how
    each collector ended.

    Raises `ParameterError` for two configurations, a size that is none and a format with unknown
    fields. A collector that fails raises nothing: its error is in `statuses`.

    >>> from ops.metrics_collect import Extractor, collector
    >>> @collector
    ... def runs():
    ...     return {"count": 3}
    >>> for tarball in Package([runs()], uuid="lab-1"):
    ...     print(tarball.name, len(list(Extractor([tarball]).payloads())))
    lab-1-all-all-runs-000000.tar.gz 2
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        config: Collector | Mapping[str, Any] | None = None,
        max_size: int | str = "200M",
        tarball_format: str = "{uuid}-{since}-{until}-{key}-{index:06}.tar.gz",
        payload_format: str = "{key}.{type}",
        *,
        uuid: str | None = None,
        layout: Layout = "ops",
        directory: str | os.PathLike[str] | None = None,
        keep: bool = False,
        clock: Callable[[], dt.datetime] = now,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        named = [c for c in collectors if c.key == "config"]
        if len(named) + (config is not None) > 1:
            raise ParameterError("A package has one configuration; several were given.")
        self._config = named[0] if named else config
        self._collectors = [c for c in collectors if c.key != "config"]
        self._max_size = parse_size(max_size)
        self._tarball_format = _checked_format(tarball_format, _TARBALL_FIELDS)
        self._payload_format = _checked_format(payload_format, _PAYLOAD_FIELDS)
        self._uuid = uuid
        self._layout: Layout = layout
        self._directory = directory
        self._keep = keep
        self._clock = clock
        self._timer = timer
        self.statuses: list[CollectionStatus] = []
        self._rows: dict[pathlib.Path, int] = {}  # of files that are not packed yet
        self._folders: list[pathlib.Path] = []  # in which files are those of collectors
        self._began = math.inf

    def __iter__(self) -> Iterator[pathlib.Path]:
        """Gather and yield tarballs; each is removed when the next one is requested."""
        self.statuses = []
        # Beside where tarballs are kept: a rename does not lead from one file system to another.
        parent = self._directory or ("." if self._keep else None)
        with workspace("metrics-package-", parent) as folder:
            given = [c.kwargs.get("output_dir") for c in self._collectors]
            folders = [folder, tempfile.gettempdir(), *(one for one in given if one)]
            self._began = time.time()
            self._folders = [pathlib.Path(one).resolve() for one in folders]
            for path in self._collected(folder):
                target = path
                if self._keep:
                    target = path.rename(pathlib.Path(self._directory or ".", path.name))
                yield target
                if not self._keep:
                    target.unlink(missing_ok=True)

    def _collected(self, folder: pathlib.Path) -> Iterator[pathlib.Path]:
        configs = [self._config] if isinstance(self._config, Collector) else []
        with shared_snapshot(c.kwargs.get("db") for c in [*configs, *self._collectors]):
            yield from self._tarballs(folder)

    def _tarballs(self, folder: pathlib.Path) -> Iterator[pathlib.Path]:
        config = self._configuration(folder)
        members: list[Member] = []
        unreported = list(self.statuses)  # statuses that no tarball contains yet
        files: list[pathlib.Path] = []
        index = 0
        try:
            for collector in self._collectors:
                files, status = self._gather(collector, folder)
                if not files:
                    unreported.append(status)
                while files:
                    size = files[0].stat().st_size
                    if members and sum(m.size for m in members) + size > self._max_size:
                        yield self._write(folder, index, config, members, unreported)
                        members, unreported, index = [], [], index + 1
                    members.append(self._member(collector, files.pop(0), members))
                    if status not in unreported:
                        unreported.append(status)
            if members or unreported or index == 0:
                yield self._write(folder, index, config, members, unreported)
        finally:  # the consumer may leave early, and the disk may be full
            self._remove([*files, *(m.path for m in members)])

    def _configuration(self, folder: pathlib.Path) -> dict[str, Any]:
        if self._config is None or isinstance(self._config, Mapping):
            return dict(self._config or {})
        result, status = self._run(self._config, folder, lambda result: result)
        if result is not None and not isinstance(result, Mapping):
            raise ParameterError("The collector 'config' must return a dict.")
        if status.status == "failed":
            self.statuses.append(status)
        return dict(result or {})

    def _gather(
        self, collector: Collector, folder: pathlib.Path
    ) -> tuple[list[pathlib.Path], CollectionStatus]:
        def use(result: Any) -> list[pathlib.Path]:
            files = _files(result, folder)
            require_rows(files)  # what is none may be of others, and stays where it is
            try:
                return self._readable(files, collector)
            except BaseException:
                self._remove(files)
                raise

        files, status = self._run(collector, folder, use)
        self.statuses.append(status)
        return files or [], status

    def _readable(self, files: list[pathlib.Path], collector: Collector) -> list[pathlib.Path]:
        """Return *files* when all of them are there and can be read again."""
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            raise ParameterError(f"A collector returned {missing}, which are no files.")
        declared = (collector.primary_key, collector.version_column)
        self._rows |= {path: readable_rows(path, declared) for path in files}
        return files

    def _remove(self, paths: Iterable[pathlib.Path]) -> None:
        """Remove files that collectors made, and none that they only found."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                if self._is_made(path):
                    path.unlink()

    def _is_made(self, path: pathlib.Path) -> bool:
        folder = path.absolute().parent.resolve()
        if any(folder.is_relative_to(one) for one in self._folders):
            return True
        return path.lstat().st_mtime > self._began - _CLOCK_SECONDS

    def _run(
        self, collector: Collector, folder: pathlib.Path, use: Callable[[Any], Any]
    ) -> tuple[Any, CollectionStatus]:
        """Gather, and return what *use* makes of the result, and how it ended."""
        started, begin = self._clock(), self._timer()
        error = ""
        result: Any = None
        try:
            result = use(collector.into(folder).gather())
        except Exception as caught:  # noqa: BLE001 - any failure of a collector is a row of the status file
            _log.exception("collector %s failed", collector.key)
            error = f"{type(caught).__name__}: {text_of(caught)}"[:_LONGEST_ERROR]
        status = "failed" if error else "ok" if result else "empty"
        elapsed = round(self._timer() - begin, 6)
        return result, CollectionStatus(
            collector.key, started, collector.since, collector.until, status, elapsed, error
        )

    def _member(self, collector: Collector, path: pathlib.Path, others: list[Member]) -> Member:
        number = sum(m.collector == collector.key for m in others)
        kind = path.suffix.lstrip(".").lower()
        name = self._payload_format.format(key=collector.key, type=kind, index=number)
        if number and any(m.name == name for m in others):
            stem, dot, suffix = name.rpartition(".")
            name = f"{stem}-{number:06}{dot}{suffix}"
        return Member(
            name,
            path,
            collector.key,
            collector.version,
            collector.primary_key,
            collector.version_column,
            self._rows.pop(path, None),
        )

    def _write(
        self,
        folder: pathlib.Path,
        index: int,
        config: dict[str, Any],
        members: list[Member],
        statuses: list[CollectionStatus],
    ) -> pathlib.Path:
        path = safe_join(folder, self._name(config, index))  # an uuid may be any text
        status = _status_csv(statuses, members, self._layout)
        origin = self._origin(config)
        write_tarball(path, config, status, members, self._interval(), origin, self._layout)
        self._remove(member.path for member in members)
        return path

    def _name(self, config: Mapping[str, Any], index: int) -> str:
        since, until = self._interval()
        keys = [c.key for c in self._collectors]
        return self._tarball_format.format(
            uuid=self._origin(config),
            since=compact(since),
            until=compact(until),
            key=keys[0] if len(set(keys)) == 1 else "package",
            index=index,
        )

    def _origin(self, config: Mapping[str, Any]) -> str:
        """Return what names the installation: rows of two installations are never the same row."""
        keys = ",".join(c.key for c in self._collectors)
        named = self._uuid or config.get("install_uuid")
        return str(named or uuids.uuid5(uuids.NAMESPACE_OID, keys))

    def _interval(self) -> tuple[dt.datetime | None, dt.datetime | None]:
        since = [c.since for c in self._collectors if c.since]
        until = [c.until for c in self._collectors if c.until]
        return min(since, default=None), max(until, default=None)


def _files(result: Any, folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the files of what a collector gathered; a dict becomes one in *folder*."""
    if not result:
        return []
    if isinstance(result, Mapping):
        path = folder / f"{uuids.uuid4().hex}.json"
        path.write_text(document_text(result), "utf-8")
        return [path]
    if not isinstance(result, list | tuple):
        raise ParameterError(
            f"A collector returns a dict, a list of files or nothing, not {type(result).__name__}."
        )
    return [pathlib.Path(item) for item in result]


def _checked_format(text: str, known: set[str]) -> str:
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
    except ValueError as error:
        raise ParameterError(f"{text!r} is no format: {error}.") from error
    if "/" in text:
        raise ParameterError(f"{text!r} names a folder; a format gives a name in one.")
    if unknown := sorted(fields - known):
        raise ParameterError(f"{text!r} has the fields {unknown}; there are {sorted(known)}.")
    return text


def parse_size(size: int | str) -> int:
    """Return bytes for a number or a text such as "200M" (decimal units K, M, G)."""
    text = str(size).strip().upper()
    number = text.rstrip("BKMG")
    unit = text[len(number) :]
    if not number.isdecimal() or unit not in _UNITS or int(number) == 0:
        raise ParameterError(f"{size!r} is no size; write a number of bytes, or 500K, 200M, 2G.")
    return int(number) * _UNITS[unit]


def compact(at: dt.datetime | None) -> str:
    """Return a time as it stands in file names: 20261001T000000Z, microseconds if there are any."""
    if at is None:
        return "all"
    utc = at.astimezone(dt.UTC)
    return f"{utc:%Y%m%dT%H%M%S}{f'.{utc.microsecond:06}' if utc.microsecond else ''}Z"


def _status_csv(statuses: list[CollectionStatus], members: list[Member], layout: Layout) -> bytes:
    # The receiver of the other layout knows six columns.
    width = 6 if layout == "controller" else len(_STATUS_COLUMNS)
    lines = [encode_row(_STATUS_COLUMNS[:width])]
    for s in statuses:
        names = [m.name for m in members if m.collector == s.collector]
        interval = [iso(m) if m else None for m in (s.since, s.until)]
        lines += [
            encode_row(
                [
                    iso(s.started),
                    *interval,
                    name or None,
                    s.status,
                    s.elapsed,
                    s.collector,
                    s.error or None,
                ][:width]
            )
            for name in (names or [""])
        ]
    return b"".join(lines)
