"""Files in a volume: PUT, GET, REMOVE and LIST of the connector, and the Files API for what is large.

Its size alone decides how a file goes: up to 8 MiB by a statement of the connector, which has it in memory
meanwhile, and beyond that streamed (`filesapi`). Neither stands in for the other.

Statements about files take no parameters, so nothing that a user named goes into one: a place in the
volume has letters, digits and ``._-/%`` only (names are percent-encoded), and the local side is a name made here.
An upload shows up in the volume when it is complete. A GET is not atomic: it goes to a temporary name,
its SHA-256 is compared, and only then is it copied beside its target and renamed. Nothing is
overwritten: every upload has a place of its own, which is named to others when it is whole.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

from ops.foundation.files import safe_join
from ops.registry.databricks.failures import Failure, failure_in
from ops.registry.databricks.tables import VOLUME
from ops.registry.disk import artifacts
from ops.registry.errors import ArtifactNotFoundError, CorruptStoreError, StorageError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from ops.registry.databricks.warehouse import Warehouse

__all__ = ["Stored", "Volume", "VolumePath"]

#: Files beyond so many bytes take the Files API, whatever else: the connector would hold them in memory.
LARGE = 8 << 20
_PLACE = re.compile(r"[A-Za-z0-9._/%~-]+")


class Stored(NamedTuple):
    """A file of an artifact: its name in it ("" when it is the artifact), place, size and SHA-256."""

    name: str
    place: str
    size: int
    checksum: str


class VolumePath:
    """A place in a volume, for looking whether something is there."""

    def __init__(self, volume: Volume, place: str) -> None:
        self._volume = volume
        self._place = place

    def __truediv__(self, name: str) -> VolumePath:
        return VolumePath(self._volume, f"{self._place}/{encoded(name)}".lstrip("/"))

    def __str__(self) -> str:
        return self._volume.uri(self._place)

    def __repr__(self) -> str:
        return f"VolumePath({str(self)!r})"

    def exists(self) -> bool:
        """Whether there is a file here or below."""
        return next(self._volume.files(self._place), None) is not None


class Volume:
    """A volume of a schema: where it keeps artifacts, or another by its *name*."""

    def __init__(self, warehouse: Warehouse, name: str = VOLUME) -> None:
        self.warehouse = warehouse
        self.root: str = f"/Volumes/{warehouse.catalog}/{warehouse.schema}/{name}"

    def uri(self, place: str) -> str:
        """Return the path of a place as Databricks shows it."""
        return f"{self.root}/{place}".rstrip("/")

    def upload(self, source: pathlib.Path, place: str) -> list[Stored]:
        """Put a file or folder below *place*, which nothing else has; return what it is made of."""
        if source.is_file():
            return [self._put(source, "", place)]
        names = sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file())
        return [self._put(source / name, name, f"{place}/{encoded(name)}") for name in names]

    def download(
        self,
        files: Sequence[Stored],
        target: pathlib.Path,
        expected: str,
        *,
        overwrite: bool = True,
    ) -> None:
        """Get an artifact to *target*; what is there is replaced when all of it has come."""
        with self.fetched(files) as copy:
            if copy.is_file() and files[0].size > LARGE and _is_one_disk(copy, target):
                # It is verified, flushed and ours: a rename is all that is left to do.
                artifacts.deliver(copy, target, expected, overwrite=overwrite)
            else:
                artifacts.fetch(copy, target, expected, overwrite=overwrite)

    @contextlib.contextmanager
    def fetched(self, files: Sequence[Stored]) -> Iterator[pathlib.Path]:
        """Give a local copy of an artifact, verified file by file, for as long as the block runs."""
        copy = self.temporary()
        try:
            if not (len(files) == 1 and not files[0].name):
                copy.mkdir(parents=True)
            for file in files:
                target = safe_join(copy, file.name) if file.name else copy
                target.parent.mkdir(parents=True, exist_ok=True)
                self._get(file, target)
            yield copy
        finally:
            artifacts.remove(copy)

    def remove(self, files: Sequence[Stored]) -> None:
        """Delete files; those that are gone already are what was wanted.

        AWS answers a DELETE of a missing file with success, Azure with 404 (databricks-sql-nodejs#249).
        """
        for file in files:
            try:
                self.warehouse.transfer(f"REMOVE '{self._checked(file.place)}'")
            except StorageError as error:
                if failure_in(error) is not Failure.ABSENT_FILE:
                    raise

    def files(self, place: str) -> Iterator[str]:
        """Yield the places of all files at or below *place*."""
        try:
            found = self.warehouse.rows(f"LIST '{self._checked(place)}'")
        except StorageError as error:
            if failure_in(error) is Failure.ABSENT_FILE:
                return
            raise
        for row in found:
            path = self.place_of(str(row["path"]))
            if str(row["name"]).endswith("/"):
                yield from self.files(path.rstrip("/"))
            else:
                yield path

    def place_of(self, path: str) -> str:
        """Return the path below the volume of a path as Databricks gives it.

        LIST and dbutils give ``dbfs:/Volumes/…`` for what PUT calls ``/Volumes/…``, and Unity Catalog keeps the
        names of catalogs and schemas in small letters.
        """
        whole = path.removeprefix("dbfs:")
        root = f"{self.root}/"
        if not whole.casefold().startswith(root.casefold()):
            raise StorageError(f"{path!r} is not below {self.root!r}.")
        return whole[len(root) :]

    def left_over(
        self, below: str, before_seconds: float, named: Callable[[], Collection[str]]
    ) -> list[str]:
        """Return the paths of files below a place that are older than a time and not *named* by place."""
        found = [
            self.uri(self.place_of(path))
            for path, changed in self.warehouse.stream_names(f"{self.root}/{below}")
            if changed < before_seconds
        ]
        # Asked afterwards: what got its name meanwhile has it now.
        places = set(map(self.uri, named())) if found else set()
        return [path for path in found if path not in places]

    def clear(self, paths: Iterable[str]) -> None:
        """Remove what `left_over` returned."""
        places = [self.place_of(path) for path in paths]
        self.remove([Stored("", place, 0, "") for place in places])

    def temporary(self) -> pathlib.Path:
        """Return a local path that files may pass through."""
        self.warehouse.staging.mkdir(parents=True, exist_ok=True)
        return self.warehouse.staging / f".{secrets.token_hex(8)}.tmp"

    def _put(self, source: pathlib.Path, name: str, place: str) -> Stored:
        if source.stat().st_size > LARGE:
            # What was sent has the digest: the file may change meanwhile.
            return Stored(name, place, *self.warehouse.stream_in(source, self._checked(place)))
        # A copy under our own name: it cannot change between the digest and the upload.
        copy, size, digest = artifacts.stage(source, self.warehouse.staging, flushed=False)
        try:
            self.warehouse.transfer(f"PUT '{_local(copy)}' INTO '{self._checked(place)}' OVERWRITE")
        finally:
            artifacts.remove(copy)
        return Stored(name, place, size, digest)

    def _get(self, file: Stored, target: pathlib.Path) -> None:
        arriving = self.temporary()
        place = self._checked(file.place)
        try:
            if file.size > LARGE:
                self.warehouse.files.get(place, arriving)
            else:
                self._get_small(place, arriving)
            found = artifacts.checksum(arriving)
            if found != file.checksum:
                raise CorruptStoreError(
                    f"{self.uri(file.place)!r} has the SHA-256 {found}, and {file.checksum} was stored."
                )
            arriving.replace(target)
        finally:
            artifacts.remove(arriving)

    def _get_small(self, place: str, arriving: pathlib.Path) -> None:
        try:
            self.warehouse.transfer(f"GET '{place}' TO '{_local(arriving)}'")
        except StorageError as error:
            if failure_in(error) is Failure.ABSENT_FILE:
                raise ArtifactNotFoundError(
                    f"The artifact {place!r} is not there any more."
                ) from error
            raise

    def _checked(self, place: str) -> str:
        if not _PLACE.fullmatch(place) or ".." in place.split("/"):
            raise StorageError(f"{place!r} is no place in a volume.")
        return self.uri(place)


def _is_one_disk(copy: pathlib.Path, target: pathlib.Path) -> bool:
    folder = target.absolute().parent
    return folder.is_dir() and folder.stat().st_dev == copy.stat().st_dev


def encoded(name: str) -> str:
    """Return a relative path as a part of a place: percent-encoded, its slashes kept."""
    return "/".join(
        urllib.parse.quote(part, safe="", errors="surrogatepass") for part in name.split("/")
    )


def _local(path: pathlib.Path) -> str:
    text = str(path)
    if "'" in text or "\\" in text:
        raise StorageError(f"Files cannot pass through {text!r}: SQL has no way to say that path.")
    return text
