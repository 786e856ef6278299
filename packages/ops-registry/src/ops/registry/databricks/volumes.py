"""Files in a volume: PUT, GET, REMOVE and LIST of the connector, and the Files API for what is large.

Its size alone decides how a file goes: up to 8 MiB by a statement of the connector, which has it in memory
meanwhile, and beyond that streamed (`files_api`). Neither stands in for the other.

Statements about files take no parameters, so nothing that a user named goes into one: a path in the
volume has letters, digits and ``._-/%`` only (names are percent-encoded; those of catalog and schema have no quotes), and the local side is a name made here.
An upload shows up in the volume when it is complete. A GET is not atomic: it goes to a temporary name,
its SHA-256 is compared, and only then is it copied beside its target and renamed. Nothing is
overwritten: every upload has a path of its own, which is named to others when it is whole.
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
_PATH = re.compile(r"[A-Za-z0-9._/%~-]+")


class Stored(NamedTuple):
    """A file of an artifact: its name in it ("" when it is the artifact), path, size and SHA-256."""

    name: str
    path: str
    size: int
    checksum: str


class VolumePath:
    """A path in a volume, for looking whether something is there."""

    def __init__(self, volume: Volume, path: str) -> None:
        self._volume = volume
        self._path = path

    def __truediv__(self, name: str) -> VolumePath:
        return VolumePath(self._volume, f"{self._path}/{encoded(name)}".lstrip("/"))

    def __str__(self) -> str:
        return self._volume.uri(self._path)

    def __repr__(self) -> str:
        return f"VolumePath({str(self)!r})"

    def exists(self) -> bool:
        """Whether there is a file here or below."""
        return next(self._volume.files(self._path), None) is not None


class Volume:
    """A volume of a schema: where it keeps artifacts, or another by its *name*."""

    def __init__(self, warehouse: Warehouse, name: str = VOLUME) -> None:
        self.warehouse = warehouse
        self.root: str = f"/Volumes/{warehouse.catalog}/{warehouse.schema}/{name}"

    def uri(self, path: str) -> str:
        """Return the address of a path as Databricks shows it."""
        return f"{self.root}/{path}".rstrip("/")

    def upload(self, source: pathlib.Path, path: str) -> list[Stored]:
        """Put a file or folder below *path*, which nothing else has; return what it is made of."""
        if source.is_file():
            return [self._put(source, "", path)]
        return [
            self._put(source / name, name, f"{path}/{encoded(name)}")
            for name in artifacts.names(source)
        ]

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
                self.warehouse.transfer(f"REMOVE '{self._checked(file.path)}'")
            except StorageError as error:
                if failure_in(error) is not Failure.ABSENT_FILE:
                    raise

    def files(self, path: str) -> Iterator[str]:
        """Yield the paths of all files at or below *path*."""
        try:
            found = self.warehouse.rows(f"LIST '{self._checked(path)}'")
        except StorageError as error:
            if failure_in(error) is Failure.ABSENT_FILE:
                return
            raise
        for row in found:
            path = self.path_of(str(row["path"]))
            if str(row["name"]).endswith("/"):
                yield from self.files(path.rstrip("/"))
            else:
                yield path

    def path_of(self, uri: str) -> str:
        """Return the path below the volume of an address as Databricks gives it.

        LIST and dbutils give ``dbfs:/Volumes/…`` for what PUT calls ``/Volumes/…``, and Unity Catalog keeps the
        names of catalogs and schemas in small letters.
        """
        whole = uri.removeprefix("dbfs:")
        root = f"{self.root}/"
        if not whole.casefold().startswith(root.casefold()):
            raise StorageError(f"{uri!r} is not below {self.root!r}.")
        return whole[len(root) :]

    def left_over(
        self, below: str, before_seconds: float, named: Callable[[], Collection[str]]
    ) -> list[str]:
        """Return the addresses of files below a path that are older than a time and not *named*."""
        found = [
            self.uri(self.path_of(uri))
            for uri, changed in self.warehouse.stream_names(f"{self.root}/{below}")
            if changed < before_seconds
        ]
        # Called afterwards: what got its name meanwhile has it now.
        kept = set(map(self.uri, named())) if found else set()
        return [uri for uri in found if uri not in kept]

    def clear(self, uris: Iterable[str]) -> None:
        """Remove what `left_over` returned."""
        self.remove([Stored("", self.path_of(uri), 0, "") for uri in uris])

    def temporary(self) -> pathlib.Path:
        """Return a local path that files may pass through."""
        self.warehouse.staging.mkdir(parents=True, exist_ok=True)
        return self.warehouse.staging / f".{secrets.token_hex(8)}.tmp"

    def _put(self, source: pathlib.Path, name: str, path: str) -> Stored:
        if source.stat().st_size > LARGE:
            # What was sent has the digest: the file may change meanwhile.
            return Stored(name, path, *self.warehouse.stream_in(source, self._checked(path)))
        # A copy under our own name: it cannot change between the digest and the upload.
        copy, size, digest = artifacts.stage(source, self.warehouse.staging, flushed=False)
        try:
            self.warehouse.transfer(f"PUT '{_local(copy)}' INTO '{self._checked(path)}' OVERWRITE")
        finally:
            artifacts.remove(copy)
        return Stored(name, path, size, digest)

    def _get(self, file: Stored, target: pathlib.Path) -> None:
        arriving = self.temporary()
        uri = self._checked(file.path)
        try:
            if file.size > LARGE:
                self.warehouse.files.get(uri, arriving)
            else:
                self._get_small(uri, arriving)
            found = artifacts.checksum(arriving)
            if found != file.checksum:
                raise CorruptStoreError(
                    f"{self.uri(file.path)!r} has the SHA-256 {found}, and {file.checksum} was stored."
                )
            arriving.replace(target)
        finally:
            artifacts.remove(arriving)

    def _get_small(self, uri: str, arriving: pathlib.Path) -> None:
        try:
            self.warehouse.transfer(f"GET '{uri}' TO '{_local(arriving)}'")
        except StorageError as error:
            if failure_in(error) is Failure.ABSENT_FILE:
                raise ArtifactNotFoundError(
                    f"The artifact {uri!r} is not there any more."
                ) from error
            raise

    def _checked(self, path: str) -> str:
        if not _PATH.fullmatch(path) or ".." in path.split("/"):
            raise StorageError(f"{path!r} is no path in a volume.")
        return self.uri(path)


def _is_one_disk(copy: pathlib.Path, target: pathlib.Path) -> bool:
    folder = target.absolute().parent
    return folder.is_dir() and folder.stat().st_dev == copy.stat().st_dev


def encoded(name: str) -> str:
    """Return a relative path percent-encoded, its slashes kept."""
    return "/".join(
        urllib.parse.quote(part, safe="", errors="surrogatepass") for part in name.split("/")
    )


def _local(path: pathlib.Path) -> str:
    text = str(path)
    if "'" in text or "\\" in text:
        raise StorageError(f"Files cannot pass through {text!r}: SQL has no way to say that path.")
    return text
