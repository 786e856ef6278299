"""Objects in a bucket of S3 or anything that speaks its protocol (extra `s3`).

A put is one request, or a multipart upload for larger files. An upload that was interrupted is found
by its name and continued: parts that the server has, by their digests, are not sent again. Every object
carries its SHA-256 as metadata, which `get` checks.

A create-once put asks for the object first and then sends `If-None-Match: *`, which servers that
honour it decide atomically; on others two writers at the same time could both succeed. When an
earlier attempt of ours has arrived although its answer has not, its digest matches, and the put has succeeded.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
from base64 import b64encode
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.hashing import calculate_file_hash
from ops.foundation.helpers import LazyImport
from ops.metrics_collect.errors import (
    ParameterError,
    StorageError,
)
from ops.metrics_collect.secrets import redacted, secrets_in
from ops.metrics_collect.storage._base import (
    BaseStorage,
    checked_name,
    private_path,
    seekable,
    setting,
)
from ops.resilience import RetryConfig, RetryError, with_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["StorageS3"]

boto3: Any = LazyImport("boto3", "ops-metrics-collect[s3]")
botocore_config: Any = LazyImport("botocore.config", "ops-metrics-collect[s3]")
botocore_errors: Any = LazyImport("botocore.exceptions", "ops-metrics-collect[s3]")

_MISSING = {"404", "NoSuchKey", "NotFound"}
_TAKEN = {"412", "PreconditionFailed"}
#: Errors that pass, by the names that vendors give them (botocore's retry handler has the same).
_PASSING = frozenset(
    [
        "429",
        "BadDigest",
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "EC2ThrottledException",
        "IncompleteBody",
        "InternalError",
        "LimitExceededException",
        "OperationAborted",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
        "TransactionInProgressException",
    ]
)
_RETRY = RetryConfig(max_attempts=6, initial_delay=0.5, max_delay=20.0, timeout=300.0)


class _Passing(Exception):  # noqa: N818 - marks what may be tried again; never leaves this module
    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        response = getattr(error, "response", None) or {}
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        after = str(headers.get("retry-after", ""))
        self.retry_after = float(after) if after.isdigit() else None


class StorageS3(BaseStorage):
    """A storage in *bucket*, below *prefix*; without keys, boto3 looks for credentials as it does.

    *endpoint* is the URL of a service that is not Amazon's, *region* its region; *access_key* and
    *secret_key* are the credentials. What is not given is taken from OPS_METRICS_BUCKET_NAME,
    _BUCKET_ENDPOINT, _BUCKET_REGION, _BUCKET_ACCESS_KEY and _BUCKET_SECRET_KEY. *part_bytes* is the
    size from which, and by which, an upload is cut (S3 wants at least 5 MiB). *timeout_seconds*
    bounds each wait for the server, *retry* bounds the attempts and the total time. Raises
    `ParameterError` without a bucket.
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
        part_bytes: int = 16 << 20,
        timeout_seconds: float = 60.0,
        retry: RetryConfig = _RETRY,
    ) -> None:
        # Environment OPS_METRICS_BUCKET_NAME: the bucket of `StorageS3`.
        # Environment OPS_METRICS_BUCKET_ENDPOINT, OPS_METRICS_BUCKET_REGION: the URL of a service
        # that is not Amazon's, and its region (default: those of boto3).
        # Environment OPS_METRICS_BUCKET_ACCESS_KEY, OPS_METRICS_BUCKET_SECRET_KEY: its
        # credentials (default: those that boto3 finds).
        name = setting(bucket, "BUCKET_NAME")
        if name is None:
            raise ParameterError("StorageS3 needs a bucket= (or OPS_METRICS_BUCKET_NAME).")
        self.bucket = name
        self.prefix: str = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._part_bytes = part_bytes
        self._retry = with_retry(
            RetryConfig(**{**_fields(retry), "exceptions": _Passing, "reraise": False})
        )
        self._endpoint = setting(endpoint, "BUCKET_ENDPOINT")
        self._secrets = secrets_in(self._endpoint)
        self._client = self._connected(
            endpoint_url=self._endpoint,
            region_name=setting(region, "BUCKET_REGION"),
            aws_access_key_id=setting(access_key, "BUCKET_ACCESS_KEY"),
            aws_secret_access_key=setting(secret_key, "BUCKET_SECRET_KEY"),
            config=botocore_config.Config(
                connect_timeout=min(timeout_seconds, 10.0),
                read_timeout=timeout_seconds,
                retries={"total_max_attempts": 1},  # ours know the total time
                # Not every server sends checksums; ours is in the metadata.
                response_checksum_validation="when_required",
                request_checksum_calculation="when_required",
                s3={"addressing_style": "path" if self._endpoint else "auto"},
            ),
        )

    def _connected(self, **options: Any) -> Any:
        try:
            return boto3.client("s3", **options)
        except ValueError as error:  # it quotes the endpoint, which may hold a password
            raise ParameterError(f"{self!r}: {redacted(str(error), self._secrets)}") from None

    def _put(self, name: str, source: IO[bytes], *, overwrite: bool) -> None:
        key = self._key(name)
        with seekable(source) as whole:
            digest, size = _measured(whole)
            if not overwrite and self._head(key) is not None:
                raise self._taken(name)
            options = {} if overwrite else {"IfNoneMatch": "*"}
            send = self._put_whole if size <= self._part_bytes else self._put_parts
            try:
                send(key, whole, digest, options)
            except _Taken as error:
                there = self._head(key)
                if there is None or there["Metadata"].get("sha256") != digest:
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
                raise _Passing(StorageError(f"{name!r} arrived with another digest."))

        with private_path(name) as path:
            try:
                self._call(download)
            except _Missing as error:
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
                ChecksumSHA256=b64encode(bytes.fromhex(digest)).decode(),
                Metadata={"sha256": digest},
                **options,
            )

        self._call(send)

    def _put_parts(
        self, key: str, source: IO[bytes], digest: str, options: Mapping[str, Any]
    ) -> None:
        upload, there = self._resumed(key, source) or (self._begun(key, digest), {})
        parts = []
        for number, piece in _pieces(source, self._part_bytes):
            checksum = b64encode(hashlib.sha256(piece).digest()).decode()
            tag = there[number]["ETag"] if number in there else None
            if tag is None:
                reply = self._call(
                    self._client.upload_part,
                    **upload,
                    PartNumber=number,
                    Body=piece,
                    ChecksumSHA256=checksum,
                )
                tag = reply["ETag"]
            parts.append({"PartNumber": number, "ETag": tag, "ChecksumSHA256": checksum})
        try:
            made = self._call(
                self._client.complete_multipart_upload,
                **upload,
                MultipartUpload={"Parts": parts},
                **options,
            )
        except _Taken:
            self._abort(upload)
            raise
        if there:
            self._correct_digest(key, digest, made["ETag"])

    def _begun(self, key: str, digest: str) -> dict[str, Any]:
        begun = self._call(
            self._client.create_multipart_upload,
            Bucket=self.bucket,
            Key=key,
            ChecksumAlgorithm="SHA256",
            Metadata={"sha256": digest},
        )
        return {"Bucket": self.bucket, "Key": key, "UploadId": begun["UploadId"]}

    def _resumed(
        self, key: str, source: IO[bytes]
    ) -> tuple[dict[str, Any], dict[int, dict[str, Any]]] | None:
        """Return an upload to this key that has parts of ours and no others, and its parts.

        Other uploads to this key are what is left of other content, and are ended.
        """
        page = self._call(self._client.list_multipart_uploads, Bucket=self.bucket, Prefix=key)
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
        with contextlib.suppress(_Taken, _Missing):
            self._call(
                self._client.copy_object,
                Bucket=self.bucket,
                Key=key,
                CopySource={"Bucket": self.bucket, "Key": key},
                CopySourceIfMatch=etag,
                Metadata={"sha256": digest},
                MetadataDirective="REPLACE",
            )

    def _abort(self, upload: Mapping[str, Any]) -> None:
        with contextlib.suppress(StorageError, _Missing):
            self._call(self._client.abort_multipart_upload, **upload)

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._call(
                self._client.head_object, Bucket=self.bucket, Key=key
            )
        except _Missing:
            return None
        return found

    def _call(self, function: Callable[..., Any], **options: Any) -> Any:
        """Call boto3 with retries; its errors become ours here."""

        def attempt() -> Any:
            try:
                return function(**options)
            except botocore_errors.ClientError as error:
                raise _classified(error) from error
            except (
                botocore_errors.HTTPClientError,
                botocore_errors.ConnectionError,
                botocore_errors.IncompleteReadError,  # the body ended early
            ) as error:
                raise _Passing(error) from error
            except botocore_errors.BotoCoreError as error:
                raise StorageError(f"{self!r}: {type(error).__name__}: {error}") from error

        try:
            return self._retry(attempt)()
        except RetryError as error:
            if self._secrets:
                raise StorageError(f"{self!r}: {redacted(str(error), self._secrets)}") from None
            raise StorageError(f"{self!r}: {error}") from error
        except _Refused as error:
            raise StorageError(f"{self!r}: {error}") from error.__cause__

    def _key(self, name: str) -> str:
        return self.prefix + checked_name(name)

    def __repr__(self) -> str:
        at = f" at {redacted(self._endpoint, self._secrets)}" if self._endpoint else ""
        return f"<StorageS3 {self.bucket}/{self.prefix}{at}>"


class _Missing(Exception):  # noqa: N818 - never leaves this module
    pass


class _Taken(Exception):  # noqa: N818 - never leaves this module
    pass


class _Refused(Exception):  # noqa: N818 - never leaves this module
    pass


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


def _classified(error: Any) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        return _Missing(str(error))
    if code in _TAKEN:
        return _Taken(str(error))
    if status >= 500 or code in _PASSING or status == 429:
        return _Passing(error)
    return _Refused(str(error))


def _fields(config: RetryConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}
