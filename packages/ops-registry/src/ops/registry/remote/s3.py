"""Single objects in S3: sent and received in pieces, each tried again on its own; errors in our words.

What is larger than a part goes up as a multipart upload, a few parts at a time, and is there only when
it is completed; it is aborted when that fails. Every part carries its digest in the signature of its
request, so the server refuses what was changed on its way. The SHA-256 of the whole is taken from the very
bytes that are sent, in one pass. A download that breaks off goes on where it was.

boto3 (extra `s3`) and not pyarrow.fs, which would cost nothing: pyarrow's client has threads of its own that
neither a fork nor the end of the interpreter can be relied on to survive, cannot abort uploads, and
completes one whose writer failed. Credentials, region and endpoint come from where boto3 looks for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any, NoReturn

from ops.foundation.helpers import LazyImport
from ops.registry.errors import ArtifactNotFoundError, InvalidValueError, StorageError
from ops.registry.operations import retried
from ops.resilience.backoff import RetryConfig
from ops.resilience.retrying import with_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from hashlib import _Hash

__all__ = ["S3", "STREAMS"]

boto3: Any = LazyImport("boto3", "ops-registry[s3]")
botocore_config: Any = LazyImport("botocore.config", "ops-registry[s3]")
botocore_errors: Any = LazyImport("botocore.exceptions", "ops-registry[s3]")

#: How many parts, or files of a folder, move at the same time.
STREAMS = 4
_MOST_PARTS = 9_000  # S3 takes 10 000
_PIECE = 1 << 20
_RETRY = RetryConfig(max_attempts=6, initial_delay=0.5, max_delay=20.0, timeout=300.0)
_PASSING = {"429", "SlowDown", "RequestTimeout", "BadDigest", "XAmzContentSHA256Mismatch"}
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_REFUSED = {
    "403",
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}


class S3:
    """Objects by bucket and key; threads may share it, and a forked child gets a client of its own.

    *part_bytes* is the size from which, and by which, an upload is cut (S3 wants at least 5 MiB).
    """

    def __init__(self, *, part_bytes: int = 8 << 20, retry: RetryConfig = _RETRY) -> None:
        self._part_bytes = part_bytes
        self._retry = retry
        self._made: tuple[int, Any] | None = None

    def close(self) -> None:
        """Close the connections that are open; the next call opens new ones."""
        made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            made[1].close()

    def put(self, bucket: str, key: str, source: IO[bytes]) -> tuple[int, str]:
        """Send *source* from where it is to its end; return size and SHA-256 of what was sent."""
        hasher = hashlib.sha256()
        size = os.fstat(source.fileno()).st_size
        part_bytes = max(self._part_bytes, -(-size // _MOST_PARTS))
        first = source.read(part_bytes)
        hasher.update(first)
        if len(first) < part_bytes:
            self._call("put_object", bucket, key, Body=first)
            return len(first), hasher.hexdigest()
        return self._put_parts(bucket, key, _pieces(first, source, part_bytes, hasher), hasher)

    def get(self, bucket: str, key: str, target: IO[bytes]) -> str:
        """Write an object to *target* and return the SHA-256 of what came."""
        hasher = hashlib.sha256()
        done = 0

        def receive() -> None:
            nonlocal done
            span = {"Range": f"bytes={done}-"} if done else {}
            reply = self._client.get_object(Bucket=bucket, Key=key, **span)
            with contextlib.closing(reply["Body"]) as body:
                for piece in body.iter_chunks(_PIECE):
                    target.write(piece)
                    hasher.update(piece)
                    done += len(piece)

        self._tried("get_object", bucket, key, receive)
        return hasher.hexdigest()

    def size(self, bucket: str, key: str) -> int | None:
        """Return how many bytes an object has, None when there is none."""
        try:
            reply = self._call("head_object", bucket, key)
        except ArtifactNotFoundError:
            return None
        return int(reply["ContentLength"])

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """Return the keys of all objects that start with *prefix*, sorted."""
        found: list[str] = []
        more: dict[str, Any] = {}
        while True:
            reply = self._call("list_objects_v2", bucket, None, Prefix=prefix, **more)
            found += [entry["Key"] for entry in reply.get("Contents", ())]
            if not reply.get("IsTruncated"):
                return sorted(found)
            more = {"ContinuationToken": reply["NextContinuationToken"]}

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        with contextlib.suppress(ArtifactNotFoundError):
            self._call("delete_object", bucket, key)

    def abort_uploads(self, bucket: str, prefix: str) -> None:
        """Drop the parts of uploads that were never completed, of keys that start with *prefix*."""
        reply = self._call("list_multipart_uploads", bucket, None, Prefix=prefix)
        for upload in reply.get("Uploads", ()):
            with contextlib.suppress(ArtifactNotFoundError):
                self._abort(bucket, upload["Key"], upload["UploadId"])

    def _put_parts(
        self, bucket: str, key: str, pieces: Iterator[bytes], hasher: _Hash
    ) -> tuple[int, str]:
        upload = self._call("create_multipart_upload", bucket, key)["UploadId"]
        pool = ThreadPoolExecutor(STREAMS, "ops-registry-s3")
        size = 0
        parts: list[dict[str, Any]] = []
        waiting: deque[Any] = deque()
        try:
            for number, piece in enumerate(pieces, 1):
                size += len(piece)
                waiting.append(pool.submit(self._put_part, bucket, key, upload, number, piece))
                if len(waiting) > STREAMS:  # so that memory has a bound
                    parts.append(waiting.popleft().result())
            parts += [part.result() for part in waiting]
            self._complete(bucket, key, upload, parts, size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            with contextlib.suppress(StorageError, ArtifactNotFoundError):
                self._abort(bucket, key, upload)
            raise
        pool.shutdown()
        return size, hasher.hexdigest()

    def _put_part(
        self, bucket: str, key: str, upload: str, number: int, piece: bytes
    ) -> dict[str, Any]:
        reply = self._call(
            "upload_part", bucket, key, UploadId=upload, PartNumber=number, Body=piece
        )
        return {"PartNumber": number, "ETag": reply["ETag"]}

    def _complete(
        self, bucket: str, key: str, upload: str, parts: list[dict[str, Any]], size: int
    ) -> None:
        recorded = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
        try:
            self._call("complete_multipart_upload", bucket, key, **recorded)
        except (ArtifactNotFoundError, StorageError):
            # An attempt may have arrived whose answer has not: the upload is gone then, and the object there.
            if self.size(bucket, key) != size:
                raise

    def _abort(self, bucket: str, key: str, upload: str) -> None:
        self._call("abort_multipart_upload", bucket, key, UploadId=upload)

    def _call(self, operation: str, bucket: str, key: str | None, **options: Any) -> Any:
        where = {"Bucket": bucket} if key is None else {"Bucket": bucket, "Key": key}

        def call() -> Any:
            return getattr(self._client, operation)(**where, **options)

        return self._tried(operation, bucket, key, call)

    def _tried(self, operation: str, bucket: str, key: str | None, call: Callable[[], Any]) -> Any:
        where = f"s3://{bucket}/{key or ''}"

        def attempt() -> Any:
            try:
                return call()
            except (botocore_errors.ClientError, botocore_errors.BotoCoreError) as error:
                if _may_pass(error):
                    raise _Passing(_summary(error)) from error
                _refuse(operation, where, error)

        try:
            return with_retry(_retrying(self._retry), on_retry=retried)(attempt)()
        except _Passing as error:
            raise StorageError(
                f"{operation} of {where!r} was tried again and again, and failed: {error}."
            ) from error.__cause__

    @property
    def _client(self) -> Any:
        made = self._made
        if made is None or made[0] != os.getpid():
            # Connections must not be shared with a parent process.
            made = self._made = os.getpid(), _new_client()
        return made[1]


class _Passing(Exception):  # noqa: N818 - marks what may be tried again; never leaves this module
    pass


def _retrying(config: RetryConfig) -> RetryConfig:
    return RetryConfig(
        max_attempts=config.max_attempts,
        initial_delay=config.initial_delay,
        max_delay=config.max_delay,
        timeout=config.timeout,
        exceptions=_Passing,
        reraise=True,
    )


def _new_client() -> Any:
    session = boto3.session.Session()
    client = session.client("s3", config=_options())
    is_amazon = "amazonaws.com" in client.meta.endpoint_url
    if is_amazon or (client.meta.config.s3 or {}).get("addressing_style"):
        return client
    # Other servers seldom have a host name for each bucket.
    return session.client("s3", config=_options(addressing_style="path"))


def _options(**s3: Any) -> Any:
    return botocore_config.Config(
        connect_timeout=10.0,
        read_timeout=60.0,
        retries={"total_max_attempts": 1},  # ours know the whole time
        # The signature has the digest of each request; not every server takes more.
        s3={"payload_signing_enabled": True, **s3},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _pieces(first: bytes, source: IO[bytes], size: int, hasher: _Hash) -> Iterator[bytes]:
    yield first
    while piece := source.read(size):
        hasher.update(piece)
        yield piece


def _code(error: Exception) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _summary(error: Exception) -> str:
    """Return what is known of an error, without addresses and messages, which may hold anything."""
    return _code(error) or type(error).__name__


def _may_pass(error: Exception) -> bool:
    response = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if isinstance(error, botocore_errors.SSLError):
        return False
    kinds = (
        botocore_errors.ConnectionError,
        botocore_errors.HTTPClientError,
        botocore_errors.IncompleteReadError,
    )
    return status >= 500 or _code(error) in _PASSING or isinstance(error, kinds)


def _refuse(operation: str, where: str, error: Exception) -> NoReturn:
    code = _code(error)
    if code in _ABSENT:
        raise ArtifactNotFoundError(f"The artifact {where!r} is not there any more.") from error
    if code in _REFUSED:
        raise StorageError(
            f"{operation} of {where!r} was refused ({code}).",
            suggestions=("Look at the credentials that boto3 finds, and at what they may do.",),
        ).with_context(refused=code) from error
    if isinstance(error, botocore_errors.ParamValidationError):
        raise InvalidValueError(f"{where!r} is no address in S3: {error}.") from error
    if isinstance(
        error,
        (botocore_errors.NoCredentialsError, botocore_errors.PartialCredentialsError),
    ):
        raise StorageError(
            f"There are no credentials for {where!r}.",
            suggestions=("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile.",),
        ) from error
    raise StorageError(f"{operation} of {where!r} failed: {_summary(error)}.") from error
