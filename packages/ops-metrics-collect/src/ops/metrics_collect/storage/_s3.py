"""Objects in a bucket of S3 or anything that speaks its protocol (extra `s3`).

A put is one request, or a multipart upload for larger files. An upload that was interrupted is found
by its name and continued: parts that the server has, by their digests, are not sent again. Every object
carries its SHA-256 as metadata, which `get` checks.

A create-once put asks for the object first and then sends `If-None-Match: *`, which servers that
honour it decide atomically; on others two writers at the same time could both succeed. With credentials
that may only put, the condition alone decides. When an
earlier attempt of ours has arrived although its answer has not, its digest matches, and the put has succeeded.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
from base64 import b64encode
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.hashing import calculate_file_hash
from ops.metrics_collect.errors import AccessDenied, ParameterError, StorageError
from ops.metrics_collect.storage._base import (
    BaseStorage,
    checked_name,
    private_path,
    seekable,
    setting,
)
from ops.metrics_collect.storage._s3_connection import Connection, Missing, Passing, Taken
from ops.resilience import RetryConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ops.foundation.files import StrPath

__all__ = ["StorageS3"]

_RETRY = RetryConfig(max_attempts=6, initial_delay=0.5, max_delay=20.0, timeout=300.0)


class StorageS3(BaseStorage):
    """A storage in *bucket*, below *prefix*; without keys, boto3 looks for credentials as it does.

    Credentials that may only put are enough for `put`; `AccessDenied` is raised by the rest.

    Args:
        bucket: its name.
        endpoint: the URL of a service that is not Amazon's.
        region: that of the bucket.
        access_key: with *secret_key*, the credentials.
        secret_key: see *access_key*.
        prefix: what all names begin with; slashes at its ends mean nothing.
        session_token: belongs to keys that are lent for a time.
        part_bytes: the size from which, and by which, an upload is cut (S3 wants at least 5 MiB).
        timeout_seconds: bounds each wait for the server.
        retry: bounds the attempts and the total time.
        verify_cert_path: holds the certificates that the service is checked with (None: botocore's).
        proxy_url: of the proxy (None: that of HTTPS_PROXY and NO_PROXY).
        checksums: send a SHA-256 with what is uploaded; False for servers that refuse it. The
            digest in the metadata, which `get` checks, is always there.
        encryption: "AES256" or "aws:kms", by the server.
        kms_key_id: the key of "aws:kms".
        acl: a canned one, as "bucket-owner-full-control".
        storage_class: as "STANDARD_IA".

    What is not given is taken from OPS_METRICS_BUCKET_NAME and the variables named like it.
    Raises `ParameterError` without a bucket, and for one key without the other.
    """

    def __init__(
        self,
        bucket: str | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        *,
        prefix: str = "",
        session_token: str | None = None,
        part_bytes: int = 16 << 20,
        timeout_seconds: float = 60.0,
        retry: RetryConfig = _RETRY,
        verify_cert_path: StrPath | None = None,
        proxy_url: str | None = None,
        checksums: bool | None = None,
        encryption: str | None = None,
        kms_key_id: str | None = None,
        acl: str | None = None,
        storage_class: str | None = None,
    ) -> None:
        # Environment OPS_METRICS_BUCKET_NAME: the bucket of `StorageS3`.
        # Environment OPS_METRICS_BUCKET_ENDPOINT, OPS_METRICS_BUCKET_REGION: the URL of a service
        # that is not Amazon's, and its region (default: those of boto3).
        # Environment OPS_METRICS_BUCKET_ACCESS_KEY, OPS_METRICS_BUCKET_SECRET_KEY,
        # OPS_METRICS_BUCKET_SESSION_TOKEN: its credentials (default: those that boto3 finds).
        # Environment OPS_METRICS_BUCKET_CERTIFICATES, OPS_METRICS_BUCKET_PROXY_URL: the file of
        # certificates that it is checked with, and the proxy (default: those of botocore).
        # Environment OPS_METRICS_BUCKET_CHECKSUMS: "off" for servers that refuse checksums.
        # Environment OPS_METRICS_BUCKET_ENCRYPTION, OPS_METRICS_BUCKET_KMS_KEY_ID,
        # OPS_METRICS_BUCKET_ACL, OPS_METRICS_BUCKET_STORAGE_CLASS: how objects are kept (default:
        # the defaults of the bucket).
        name = setting(bucket, "BUCKET_NAME")
        if name is None:
            raise ParameterError("StorageS3 needs a bucket= (or OPS_METRICS_BUCKET_NAME).")
        self.bucket = name
        self.prefix: str = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._part_bytes = part_bytes
        self._checksums = (
            _is_on(setting(None, "BUCKET_CHECKSUMS")) if checksums is None else checksums
        )
        self._kept = {
            field: value
            for field, value in {
                "ServerSideEncryption": setting(encryption, "BUCKET_ENCRYPTION"),
                "SSEKMSKeyId": setting(kms_key_id, "BUCKET_KMS_KEY_ID"),
                "ACL": setting(acl, "BUCKET_ACL"),
                "StorageClass": setting(storage_class, "BUCKET_STORAGE_CLASS"),
            }.items()
            if value
        }
        url = setting(endpoint, "BUCKET_ENDPOINT")
        at = f" at {url}" if url else ""
        self._connection = Connection(
            f"<StorageS3 {self.bucket}/{self.prefix}{at}>",
            endpoint=url,
            region=setting(region, "BUCKET_REGION"),
            credentials=(
                setting(access_key, "BUCKET_ACCESS_KEY"),
                setting(secret_key, "BUCKET_SECRET_KEY"),
                setting(session_token, "BUCKET_SESSION_TOKEN"),
            ),
            verify_cert_path=setting(_text(verify_cert_path), "BUCKET_CERTIFICATES"),
            proxy_url=setting(proxy_url, "BUCKET_PROXY_URL"),
            timeout_seconds=timeout_seconds,
            retry=retry,
        )
        self._client, self._call = self._connection.client, self._connection.call

    def _put(self, name: str, source: IO[bytes], *, overwrite: bool) -> None:
        key = self._key(name)
        with seekable(source) as whole:
            digest, size = _measured(whole)
            if not overwrite and self._is_there(key):
                raise self._taken(name)
            options = {} if overwrite else {"IfNoneMatch": "*"}
            send = self._put_whole if size <= self._part_bytes else self._put_parts
            try:
                send(key, whole, digest, options)
            except Taken as error:
                if not self._is_there(key, digest):
                    raise self._taken(name) from error

    @contextlib.contextmanager
    def get(self, name: str) -> Iterator[str]:
        """Give the path of a private temporary copy that vanishes when the block ends.

        Raises `ObjectNotFound`, or `StorageError` when the service failed, retries included, or the
        copy has another digest.
        """
        key = self._key(name)

        def download() -> None:
            reply = self._client.get_object(Bucket=self.bucket, Key=key)
            with open(path, "wb") as target:  # noqa: PTH123 - a str is what callers get
                shutil.copyfileobj(reply["Body"], target, 1 << 20)
            digest = reply.get("Metadata", {}).get("sha256")
            if digest and calculate_file_hash(path, "sha256") != digest:
                raise Passing(StorageError(f"{name!r} arrived with another digest."))

        with private_path(name) as path:
            try:
                self._call(download)
            except Missing as error:
                raise self._missing(name) from error
            yield path

    def exists(self, name: str) -> bool:
        """Say whether there is an object of that name."""
        return self._head(self._key(name)) is not None

    def remove(self, name: str) -> None:
        """Remove an object; raises `ObjectNotFound`, or `StorageError` when the service failed."""
        key = self._key(name)
        if self._head(key) is None:
            raise self._missing(name)
        self._call(self._client.delete_object, Bucket=self.bucket, Key=key)

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names that start with *prefix*; raises `StorageError` when the service failed."""
        names: list[str] = []
        options: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        while True:
            page = self._call(self._client.list_objects_v2, **options)
            names += [o["Key"].removeprefix(self.prefix) for o in page.get("Contents", [])]
            if not page.get("IsTruncated"):
                return sorted(name for name in names if not name.endswith("/"))
            options["ContinuationToken"] = page["NextContinuationToken"]

    def _put_whole(
        self, key: str, source: IO[bytes], digest: str, options: Mapping[str, Any]
    ) -> None:
        def send() -> None:
            source.seek(0)
            self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=source.read(),
                Metadata={"sha256": digest},
                **self._checksum(bytes.fromhex(digest)),
                **self._kept,
                **options,
            )

        self._call(send)

    def _put_parts(
        self, key: str, source: IO[bytes], digest: str, options: Mapping[str, Any]
    ) -> None:
        upload, there = self._resumed(key, source) or (self._begun(key, digest), {})
        parts = []
        for number, piece in _pieces(source, self._part_bytes):
            checksum = self._checksum(hashlib.sha256(piece).digest())
            tag = there[number]["ETag"] if number in there else None
            if tag is None:
                reply = self._call(
                    self._client.upload_part,
                    **upload,
                    PartNumber=number,
                    Body=piece,
                    **checksum,
                )
                tag = reply["ETag"]
            parts.append({"PartNumber": number, "ETag": tag, **checksum})
        try:
            made = self._call(
                self._client.complete_multipart_upload,
                **upload,
                MultipartUpload={"Parts": parts},
                **options,
            )
        except Taken:
            self._abort(upload)
            raise
        if there:
            self._correct_digest(key, digest, made["ETag"])

    def _begun(self, key: str, digest: str) -> dict[str, Any]:
        begun = self._call(
            self._client.create_multipart_upload,
            Bucket=self.bucket,
            Key=key,
            Metadata={"sha256": digest},
            **({"ChecksumAlgorithm": "SHA256"} if self._checksums else {}),
            **self._kept,
        )
        return {"Bucket": self.bucket, "Key": key, "UploadId": begun["UploadId"]}

    def _resumed(
        self, key: str, source: IO[bytes]
    ) -> tuple[dict[str, Any], dict[int, dict[str, Any]]] | None:
        """Return an upload to this key that has parts of ours and no others, and its parts.

        Other uploads to this key are what is left of other content, and are ended.
        """
        try:
            page = self._call(self._client.list_multipart_uploads, Bucket=self.bucket, Prefix=key)
        except AccessDenied:  # credentials that may only put: from the start
            return None
        for begun in page.get("Uploads", []):
            if begun["Key"] == key:
                upload = {"Bucket": self.bucket, "Key": key, "UploadId": begun["UploadId"]}
                there = self._parts_there(upload)
                pieces = _pieces(source, self._part_bytes)
                ours = sum(n in there and _is_part(there[n], piece) for n, piece in pieces)
                if there and ours == len(there):
                    return upload, there
                self._abort(upload)
        return None

    def _parts_there(self, upload: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        marker = 0
        while True:
            page = self._call(self._client.list_parts, **upload, PartNumberMarker=marker)
            found |= {part["PartNumber"]: part for part in page.get("Parts", [])}
            if not page.get("IsTruncated"):
                return found
            marker = page["NextPartNumberMarker"]

    def _correct_digest(self, key: str, digest: str, etag: str) -> None:
        """Set the digest again when the upload was begun for content that only started like ours.

        An object that another writer has put there since keeps its own.
        """
        there = self._head(key)
        if there is None or there["ETag"] != etag or there["Metadata"].get("sha256") == digest:
            return
        with contextlib.suppress(Taken, Missing):
            self._call(
                self._client.copy_object,
                Bucket=self.bucket,
                Key=key,
                CopySource={"Bucket": self.bucket, "Key": key},
                CopySourceIfMatch=etag,
                Metadata={"sha256": digest},
                MetadataDirective="REPLACE",
                **self._kept,
            )

    def _abort(self, upload: Mapping[str, Any]) -> None:
        with contextlib.suppress(StorageError, Missing):
            self._call(self._client.abort_multipart_upload, **upload)

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._call(
                self._client.head_object, Bucket=self.bucket, Key=key
            )
        except Missing:
            return None
        return found

    def _is_there(self, key: str, digest: str | None = None) -> bool:
        """Say whether there is an object, with this digest if one is given; False if that is secret."""
        try:
            there = self._head(key)
        except AccessDenied:  # credentials that may only put: the server decides by the condition
            return False
        return there is not None and digest in {None, there["Metadata"].get("sha256")}

    def _checksum(self, digest: bytes) -> dict[str, str]:
        """Return the arguments of a request that has the server check a SHA-256."""
        return {"ChecksumSHA256": b64encode(digest).decode()} if self._checksums else {}

    def _key(self, name: str) -> str:
        return self.prefix + checked_name(name)

    def __repr__(self) -> str:
        return self._connection.name


def _is_on(value: str | None) -> bool:
    return (value or "on").lower() not in {"off", "no", "false", "0"}


def _text(path: StrPath | None) -> str | None:
    return None if path is None else os.fspath(path)


def _pieces(source: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Yield numbered parts from the start of a file."""
    source.seek(0)
    for number in itertools.count(1):
        piece = source.read(size)
        if not piece:
            return
        yield number, piece


def _is_part(there: Mapping[str, Any], piece: bytes) -> bool:
    if there["Size"] != len(piece):
        return False
    checksum = there.get("ChecksumSHA256")
    if checksum:
        return bool(checksum == b64encode(hashlib.sha256(piece).digest()).decode())
    # Not all servers list checksums; an ETag is the MD5, or something that equals nothing.
    return bool(there["ETag"].strip('"') == hashlib.md5(piece, usedforsecurity=False).hexdigest())


def _measured(source: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while piece := source.read(1 << 20):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size
