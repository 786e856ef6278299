"""Extractor: the rows inside tarballs, read as if the tarballs came from an enemy.

Only plain files with plain names are taken: no links, no devices, no folders, no traversal. The
number of members, their headers and their unpacked size are bounded before anything is written, which
also stops compression bombs, and each member must match the digest in the manifest. A tarball is checked as a
whole before its first row is given, so a broken one gives none.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime as dt
import gzip
import json
import pathlib
import re
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.files import safe_join
from ops.foundation.hashing import calculate_file_hash
from ops.foundation.instants import require_aware
from ops.metrics_collect.errors import BrokenTarballError
from ops.metrics_collect.rows import SUFFIXES, count_rows, read_batches
from ops.metrics_collect.tarballs import CONFIG, FORMAT, MANIFEST, STATUS, converted_manifest
from ops.metrics_collect.workspaces import workspace

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator, Mapping

    import pandas as pd
    import pyarrow as pa

__all__ = ["Extractor", "Limits", "Payload"]

_PART_NUMBER = re.compile(r"-\d{6}$")


_ALWAYS = {CONFIG, MANIFEST, STATUS}
_LONGEST_NAME = 255
_LONGEST_HEADER = 1 << 20
#: What reading a tarball can raise when it is damaged or made up; not errors of our own disk.
_DAMAGE = (
    BrokenTarballError,
    tarfile.TarError,
    zlib.error,
    EOFError,
    gzip.BadGzipFile,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    UnicodeError,
    FileExistsError,
    NotADirectoryError,
)


class _BoundedInfo(tarfile.TarInfo):
    """A member whose extended headers, which tarfile reads into memory, are not long."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in _HEADERS and not 0 <= self.size <= _LONGEST_HEADER:
            raise BrokenTarballError(f"a header of {self.size} bytes is over the limits.")
        return super()._proc_member(tar)  # type: ignore[misc]  # not in typeshed


_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a tarball may hold: members, and unpacked bytes."""

    members: int = 10_000
    bytes: int = 20_000_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Payload:
    """A part of the rows of one member: all columns are text, NULL is null.

    Attributes:
        source: the digest of the tarball, the same wherever the tarball lies.
        collection: the key of the collector.
        config: the configuration in the tarball; `install_uuid` is the origin where it has none.
        batch: the rows.
        primary_key: the column that identifies a row, None when there is none, and the empty text
            when the tarball is of a version that did not say.
        version_column: the column that orders versions of a row.
        slice: the end of the slice in microseconds since 1970, 0 when it has none.
        since: the beginning of the slice.
    """

    source: str
    collection: str
    config: Mapping[str, Any]
    batch: pa.RecordBatch
    primary_key: str | None = ""
    version_column: str | None = None
    slice: int = 0
    since: dt.datetime | None = None


class Extractor:
    """Reads tarballs.

    Args:
        files: their paths.
        collections: keys of collectors; others are not read.
        start: with *end*, the period [start, end): tarballs whose slice has nothing of it are not
            read. Of the others `payloads` gives all rows; a rollup counts those whose time is in
            the period, or, where it knows no time, the rows of slices that begin in it.
        end: see *start*.
        limits: of members and bytes.
        skip_broken: leave broken tarballs out and list them in `broken` with the reason; otherwise
            the first one raises `BrokenTarballError`.

    >>> from ops.metrics_collect import Package, collector
    >>> @collector
    ... def runs():
    ...     return {"count": 3}
    >>> for tarball in Package([runs()]):
    ...     print([payload.collection for payload in Extractor([tarball]).payloads()])
    ['runs', 'data_collection_status']
    """

    def __init__(
        self,
        files: Iterable[str | os.PathLike[str]],
        collections: Collection[str] | None = None,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        *,
        limits: Limits | None = None,
        skip_broken: bool = False,
    ) -> None:
        self._files = [pathlib.Path(f) for f in files]
        self._collections = collections
        self._start = require_aware(start) if start else None
        self._end = require_aware(end) if end else None
        self._limits = limits or Limits()
        self._skip_broken = skip_broken
        self.broken: dict[str, str] = {}

    def selected(self, collections: Collection[str]) -> set[str] | None:
        """Return those of *collections* that are read, None when all of them are."""
        if self._collections is None or set(collections) <= set(self._collections):
            return None
        return set(collections) & set(self._collections)

    @property
    def period(self) -> tuple[dt.datetime | None, dt.datetime | None]:
        """The interval [start, end) of which rows are wanted."""
        return self._start, self._end

    def split(self) -> list[Extractor]:
        """Return an extractor for each tarball."""
        parts = []
        for file in self._files:
            part = copy.copy(self)
            part._files, part.broken = [file], {}  # noqa: SLF001 - a copy of this one
            parts.append(part)
        return parts

    def payloads(
        self, collections: Collection[str] | None = None, columns: Collection[str] | None = None
    ) -> Iterator[Payload]:
        """Yield the selected rows in batches, so that memory does not grow with their number.

        *collections* and *columns* select further. Raises `BrokenTarballError` for a tarball that
        is damaged, or beyond the limits, unless `skip_broken` was given.
        """
        self.broken = {}
        for file in self._files:
            with workspace("metrics-extract-") as folder:
                given = False
                try:
                    manifest = self._unpack(file, folder)
                    if self._selected(manifest):
                        wanted = _both(self._collections, collections)
                        for payload in self._read(file, folder, manifest, wanted, columns):
                            given = True
                            yield payload
                except (*_DAMAGE, _UnreadableError) as error:
                    reason = str(error) or type(error).__name__
                    self.broken[str(file)] = reason
                    # Rows that do not parse, behind some that did and are given already, are no
                    # tarball to leave out.
                    if self._skip_broken and not given:
                        continue
                    raise BrokenTarballError(f"{str(file)!r} is broken: {reason}") from error

    def frame(self, collection: str) -> pd.DataFrame:
        """Return all rows of one collection as a pandas frame of text columns."""
        import pyarrow as pa

        tables = [pa.Table.from_batches([p.batch]) for p in self.payloads({collection})]
        table = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def _unpack(self, file: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
        """Check everything, write the members into *folder* and return the manifest."""
        names: set[str] = set()
        left = self._limits.bytes
        with tarfile.open(file, "r|gz", tarinfo=_BoundedInfo) as tar:
            for info in tar:
                if not info.isreg() or info.issparse():
                    raise BrokenTarballError(f"member {info.name!r} is no plain file.")
                name = info.name.removeprefix("./")
                if name in names:
                    raise BrokenTarballError(f"member {name!r} is there twice.")
                if any(len(part.encode()) > _LONGEST_NAME for part in name.split("/")):
                    raise BrokenTarballError(f"member {name[:40]!r}… has too long a name.")
                names.add(name)
                left -= info.size
                if len(names) > self._limits.members or left < 0:
                    raise BrokenTarballError(f"it is over the limits ({self._limits}).")
                path = safe_join(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(info)
                if content is not None:
                    _copy(content, path, info.size)
        return _verified_manifest(folder, names)

    def _selected(self, manifest: Mapping[str, Any]) -> bool:
        since, until = _interval(manifest)
        too_late = self._end is not None and since is not None and since >= self._end
        too_early = self._start is not None and until is not None and until <= self._start
        return not (too_late or too_early)

    def _read(
        self,
        file: pathlib.Path,
        folder: pathlib.Path,
        manifest: Mapping[str, Any],
        collections: Collection[str] | None,
        columns: Collection[str] | None,
    ) -> Iterator[Payload]:
        source = calculate_file_hash(file)
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        if not isinstance(config, dict):
            raise BrokenTarballError(f"{CONFIG} holds no JSON object.")
        if not config.get("install_uuid") and manifest.get("origin"):
            config["install_uuid"] = str(manifest["origin"])
        begin, until = _interval(manifest)
        slice_ = 0 if until is None else int(until.timestamp() * 1_000_000)
        for name in manifest["members"]:
            if name.endswith(".parquet"):
                with _damage_named():
                    count_rows(folder / name)  # reads the footer
        # The parts of a collection differ by "-000001": the shorter name is the first part.
        for name, entry in sorted(manifest["members"].items(), key=lambda m: (len(m[0]), m[0])):
            collection = entry.get("collector") or _PART_NUMBER.sub("", name.rpartition(".")[0])
            wanted = collections is None or collection in collections
            if not wanted or name == CONFIG or not name.endswith(SUFFIXES):
                continue
            key, version = entry.get("primary_key", ""), entry.get("version_column")
            read = columns
            if columns is not None:
                read = {*columns, *(c for c in (key, version) if c)}
            for batch in _readable(folder / name, read):
                yield Payload(source, collection, config, batch, key, version, slice_, begin)


def _readable(path: pathlib.Path, columns: Collection[str] | None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a member; what cannot be decoded is damage, not an error of our disk."""
    batches = read_batches(path, columns)
    while True:
        with _damage_named():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _interval(manifest: Mapping[str, Any]) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Return the beginning and the end of the slice, None where it has none."""
    since, until = (
        require_aware(dt.datetime.fromisoformat(manifest[k])) if manifest[k] else None
        for k in ("since", "until")
    )
    return since, until


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    """Turn what pyarrow raises for damaged pages, footers and encryption into an error of ours."""
    from pyarrow import ArrowException

    try:
        yield
    except ArrowException as error:
        raise _UnreadableError(str(error).splitlines()[0]) from error
    except OSError as error:
        if error.errno is not None:  # of the operating system
            raise
        raise _UnreadableError(str(error).splitlines()[0]) from error


class _UnreadableError(Exception):
    pass


def _both(one: Collection[str] | None, other: Collection[str] | None) -> Collection[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return set(one) & set(other)


def _copy(content: IO[bytes], path: pathlib.Path, size: int) -> None:
    written = 0
    with path.open("xb") as target:
        while piece := content.read(1 << 20):
            written += len(piece)
            target.write(piece)
    if written != size:
        raise BrokenTarballError(f"member {path.name!r} ends early.")


def _verified_manifest(folder: pathlib.Path, names: set[str]) -> dict[str, Any]:
    if missing := {CONFIG, MANIFEST, STATUS} - names:
        raise BrokenTarballError(f"it has no {', '.join(sorted(missing))}.")
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    converted = converted_manifest(manifest, (folder / STATUS).read_bytes())
    if converted is not None:
        # Some programs do not list the files that every tarball has.
        if set(converted["members"]) - names or names - set(converted["members"]) - _ALWAYS:
            raise BrokenTarballError("its members are not those of its manifest.")
        return converted
    if manifest.get("format") != FORMAT:
        raise BrokenTarballError(
            f"its format is {manifest.get('format')!r}, this program knows {FORMAT!r}."
        )
    if set(manifest["members"]) != names - {MANIFEST}:
        raise BrokenTarballError("its members are not those of its manifest.")
    for name, entry in manifest["members"].items():
        if calculate_file_hash(folder / name) != entry["sha256"]:
            raise BrokenTarballError(f"member {name!r} does not match its digest.")
    return manifest
