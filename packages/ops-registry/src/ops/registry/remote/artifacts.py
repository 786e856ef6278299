"""Whole artifacts, files and folders, at addresses like ``s3://bucket/prefix/runs/{run}/{token}/model.bin``.

Every upload has an address of its own, made of a random token, so nothing is ever overwritten, and an address
stands for the same bytes for ever. The address of a folder ends with "/"; what is in it is what the
bucket lists below it, and the digest, which covers names too, shows whether that is all.

An address is named in a journal only after everything was sent. What a kill leaves is in the notes
(`uploads`) and does no harm. Reading goes by the address alone, so artifacts stay readable when the store
is configured to put new ones elsewhere.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pathlib
import re
import secrets
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ops.foundation.errors import MissingExtraError
from ops.foundation.files import safe_join, temporary_directory
from ops.foundation.logs import get_logger
from ops.registry.disk import artifacts
from ops.registry.errors import (
    ArtifactNotFoundError,
    ConfigurationError,
    CorruptStoreError,
    InvalidValueError,
    MLOpsException,
    StorageError,
)
from ops.registry.remote.uploads import Uploads

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Collection, Iterable

    from ops.registry.disk.content_store import ContentStore
    from ops.registry.remote.s3 import S3

__all__ = ["RemoteArtifacts", "Sent", "check_address", "is_remote", "name_of"]

T = TypeVar("T")
logger: logging.Logger = get_logger("ops.registry")

_SCHEME = "s3://"
#: What `send` adds to the configured address: owner, token and name.
_OWN = re.compile(r"(?:runs|models)/[^/]+/[0-9a-f]{16}/[^/]+/?")


class Sent(NamedTuple):
    """An artifact that is complete at its address: that, its size in bytes and its SHA-256."""

    uri: str
    size: int
    checksum: str


def owner_of(uri: str) -> str:
    """Return the id of the run or model that an upload was for."""
    return uri.rstrip("/").rsplit("/", 3)[1]


def is_remote(uri: str) -> bool:
    """Whether an artifact is in a bucket."""
    return uri.startswith(_SCHEME)


def name_of(uri: str) -> str:
    """Return the name of the file or folder at an address or a local path."""
    return uri.rstrip("/").rpartition("/")[2] if is_remote(uri) else pathlib.Path(uri).name


def check_address(address: str) -> str:
    """Return ``s3://bucket/prefix`` without a slash at its end, or refuse it; secrets are not repeated."""
    bucket, _, prefix = address.removeprefix(_SCHEME).partition("/")
    if is_remote(address) and {"@", ":"} & set(bucket):
        raise ConfigurationError(
            "artifact_uri has credentials in it, which would be written to the journals.",
            suggestions=("Leave them to the environment: AWS_ACCESS_KEY_ID, a profile, a role.",),
        )
    if not is_remote(address) or not bucket or any(c in address for c in "?#\\"):
        raise ConfigurationError(
            f"artifact_uri={address!r} is no address for artifacts; use s3://bucket/prefix.",
            suggestions=("Without artifact_uri they are kept in the store's own folder.",),
        )
    if prefix and {"", ".", ".."} & set(prefix.removesuffix("/").split("/")):
        raise ConfigurationError(f"artifact_uri={address!r} has an empty part, or one of dots.")
    return address.rstrip("/")


class RemoteArtifacts:
    """Uploads below *address*, if one is given, and downloads from any; *notes* is where it keeps its notes."""

    def __init__(self, address: str | None, notes: pathlib.Path, s3: S3 | None = None) -> None:
        self.address: str | None = None if address is None else check_address(address)
        if self.address is not None and importlib.util.find_spec("boto3") is None:
            raise MissingExtraError("boto3", "ops-registry[s3]")  # now, and not after a training
        self._given = s3
        self._uploads = Uploads(notes)

    def has_sent(self) -> bool:
        """Whether anything may be in a bucket."""
        return self.address is not None or self._uploads.is_begun()

    def send(self, source: pathlib.Path, owner: str, name: str | None = None) -> Sent:
        """Upload a file or folder for *owner* (``runs/{id}``) and return where, when all of it is there."""
        if not source.exists():
            raise ArtifactNotFoundError(f"There is no file or folder {str(source)!r} to store.")
        mark = "/" if source.is_dir() else ""
        uri = f"{self.address}/{owner}/{secrets.token_hex(8)}/{name or source.name}{mark}"
        bucket, key = _split(uri)
        self._uploads.note(uri)
        try:
            if not mark:
                return Sent(uri, *self._send_file(source, bucket, key))
            return Sent(uri, *self._send_folder(source, bucket, key))
        except OSError as error:
            if isinstance(error, MLOpsException):
                raise
            raise StorageError(f"{str(source)!r} cannot be stored: {error}.") from error

    def fetch(
        self, uri: str, target: pathlib.Path, expected: str, *, overwrite: bool = True
    ) -> pathlib.Path:
        """Download an artifact to *target*, which must have the digest *expected*, and return *target*."""
        copy = target.absolute().parent / f".{secrets.token_hex(8)}.tmp"
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            _compare(uri, self._receive(uri, copy), expected)
            artifacts.deliver(copy, target, expected, overwrite=overwrite)
        except OSError as error:
            if isinstance(error, MLOpsException):
                raise
            raise StorageError(f"{str(target)!r} cannot be written: {error}.") from error
        finally:
            artifacts.remove(copy)
        return target

    def fetch_from(
        self,
        source: str,
        target: pathlib.Path,
        expected: str,
        contents: ContentStore | None = None,
        *,
        overwrite: bool = True,
    ) -> pathlib.Path:
        """Do as `fetch` from an address, and copy from a local path, sharing *contents*."""
        if is_remote(source):
            return self.fetch(source, target, expected, overwrite=overwrite)
        local = pathlib.Path(source)
        return artifacts.fetch(local, target, expected, contents, overwrite=overwrite)

    def copy_from(self, source: str, owner: str, expected: str) -> Sent:
        """Send for *owner* what is at an address or a local path, and has the digest *expected*."""
        with temporary_directory() as folder:
            copy = self.fetch_from(source, folder / name_of(source), expected)
            return self.send(copy, owner)

    def verify(self, source: str, expected: str) -> None:
        """Raise `CorruptStoreError` unless the digest of what is at an address or path is *expected*."""
        if is_remote(source):
            _compare(source, self._receive(source, None), expected)
        else:
            artifacts.verify(pathlib.Path(source), expected)

    def discard(self, uri: str) -> None:
        """Remove what no journal names any more; what cannot be removed now is `left_over`."""
        if not is_remote(uri):
            artifacts.remove(pathlib.Path(uri))
            return
        if not self._is_own(uri):  # the address is from a journal, which is not trusted
            logger.warning("%s stays: it is not below %s", uri, self.address)
            return
        try:
            self._remove(uri)
        except MLOpsException:
            logger.warning("%s stays until the next ops-registry gc", uri, exc_info=True)

    def left_over(self, is_named: Callable[[str], bool], before_seconds: float) -> list[str]:
        """Return what was begun before a time, in seconds since the epoch, and no journal names."""
        # Called after reading the notes: what was old then and is named by now is seen to be named.
        noted = self._uploads.before(before_seconds)
        return [uri for uri in noted if self._is_own(uri) and not is_named(uri)]

    def clear(self, uris: Collection[str]) -> None:
        """Remove what was left over, with the parts of uploads that were never completed."""
        done = [uri for uri in uris if not self._is_own(uri) or self._cleared(uri)]
        if done:
            self._uploads.forget(done)

    def close(self) -> None:
        """Close the connections that are open."""
        if "_s3" in vars(self):
            self._s3.close()

    @functools.cached_property
    def _s3(self) -> S3:
        if self._given is not None:
            return self._given
        from ops.registry.remote.s3 import S3  # most stores never need it

        return S3()

    def _send_file(self, source: pathlib.Path, bucket: str, key: str) -> tuple[int, str]:
        with source.open("rb") as file:
            return self._s3.put(bucket, _checked(key), file)

    def _send_folder(self, source: pathlib.Path, bucket: str, key: str) -> tuple[int, str]:
        names = artifacts.names(source)
        recorded = _each(names, lambda name: self._send_file(source / name, bucket, key + name))
        digests = [(name, digest) for name, (_, digest) in zip(names, recorded, strict=True)]
        return sum(size for size, _ in recorded), artifacts.tree_digest(digests)

    def _receive(self, uri: str, target: pathlib.Path | None) -> str:
        """Write what is at *uri* to *target*, if one is given, and return its digest."""
        bucket, key = _split(uri)
        if not uri.endswith("/"):
            return self._receive_file(bucket, key, target)
        if target is not None:
            target.mkdir()
        names = [found.removeprefix(key) for found in self._s3.keys(bucket, key)]

        def receive(name: str) -> tuple[str, str]:
            path = None if target is None else safe_join(target, name)
            return name, self._receive_file(bucket, key + name, path)

        return artifacts.tree_digest(_each(sorted(names), receive))

    def _receive_file(self, bucket: str, key: str, target: pathlib.Path | None) -> str:
        path = pathlib.Path(os.devnull) if target is None else target
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            return self._s3.get(bucket, key, file)

    def _is_own(self, uri: str) -> bool:
        """Whether an address is one that `send` makes, below the configured one: nothing else is removed."""
        if self.address is None or not uri.startswith(f"{self.address}/"):
            return False
        return _OWN.fullmatch(uri.removeprefix(f"{self.address}/")) is not None

    def _cleared(self, uri: str) -> bool:
        """Remove what is at *uri*; whether its note can go, because nothing is left that could be removed later."""
        is_done = True
        try:
            self._s3.abort_uploads(*_split(uri))
        except StorageError as error:
            logger.warning("parts of %s may be left in the bucket", uri, exc_info=True)
            # Listing them is a permission of its own, which will not come by itself.
            is_done = "refused" in error.context.details
        self._remove(uri)
        return is_done

    def _remove(self, uri: str) -> None:
        bucket, key = _split(uri)
        for found in self._s3.keys(bucket, key) if uri.endswith("/") else [key]:
            self._s3.delete(bucket, found)


def _each(names: Iterable[str], call: Callable[[str], T]) -> list[T]:
    """Return what *call* makes of each name, a few at a time."""
    from concurrent.futures import ThreadPoolExecutor

    from ops.registry.remote.s3 import STREAMS

    with ThreadPoolExecutor(STREAMS, "ops-registry-files") as pool:
        return list(pool.map(call, names))


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    return bucket, key


def _checked(key: str) -> str:
    try:
        length = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidValueError(f"{key!r} is no key in S3: it is no UTF-8.") from error
    if length > 1024:
        raise InvalidValueError(
            f"{key!r:.80} is no key in S3: it has {length} bytes, 1024 at most."
        )
    return key


def _compare(uri: str, found: str, expected: str) -> None:
    if found != expected:
        if found == artifacts.tree_digest([]):
            raise ArtifactNotFoundError(f"The artifact {uri!r} is not there any more.")
        raise CorruptStoreError(f"{uri!r} has the SHA-256 {found}, and {expected} was stored.")
