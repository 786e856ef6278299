"""The connection of `StorageS3` to its service: credentials, retries, and errors as ours.

Errors that pass are tried again within the total time, by whatever name a vendor gives them. The others
leave as `Missing`, `Taken`, `AccessDenied` or `StorageError`. No message holds a secret of the endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport
from ops.metrics_collect.errors import AccessDenied, ParameterError, StorageError
from ops.metrics_collect.secrets import proxy_with_scheme, redacted, secrets_in
from ops.resilience import RetryConfig, RetryError, with_retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.foundation.files import StrPath

__all__ = ["Connection", "Missing", "Passing", "Taken"]

boto3: Any = LazyImport("boto3", "ops-metrics-collect[s3]")
botocore_config: Any = LazyImport("botocore.config", "ops-metrics-collect[s3]")
botocore_errors: Any = LazyImport("botocore.exceptions", "ops-metrics-collect[s3]")

_MISSING = {"404", "NoSuchKey", "NotFound"}
_TAKEN = {"412", "PreconditionFailed"}
#: A HEAD has no body to say more than its status.
_DENIED = {"403", "AccessDenied", "Forbidden"}
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


class Passing(Exception):  # noqa: N818 - marks what may be tried again; never leaves the storage
    """What may be tried again; *error* is the reason."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        response = getattr(error, "response", None) or {}
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        after = str(headers.get("retry-after", ""))
        self.retry_after = float(after) if after.isdigit() else None


class Missing(Exception):  # noqa: N818 - never leaves the storage
    """There is no such object."""


class Taken(Exception):  # noqa: N818 - never leaves the storage
    """A condition of a request did not hold: the object exists."""


class _Refused(Exception):  # noqa: N818 - never leaves this module
    pass


class _Denied(_Refused):
    pass


class Connection:
    """A client of boto3 with retries; *name* is how messages name the storage."""

    def __init__(
        self,
        name: str,
        *,
        endpoint: str | None,
        region: str | None,
        credentials: tuple[str | None, str | None, str | None],
        verify_cert_path: StrPath | None,
        proxy_url: str | None,
        timeout_seconds: float,
        retry: RetryConfig,
    ) -> None:
        access_key, secret_key, session_token = credentials
        if bool(access_key) != bool(secret_key) or (session_token and not access_key):
            raise ParameterError(
                f"{name}: access_key= and secret_key= belong together, and session_token= to both."
            )
        proxy = proxy_with_scheme(proxy_url)
        self._secrets = [*secrets_in(endpoint), *secrets_in(proxy)]
        self.name: str = redacted(name, self._secrets)
        self._retry = with_retry(
            RetryConfig(**{**_fields(retry), "exceptions": Passing, "reraise": False})
        )
        self.client: Any = self._connected(
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=session_token,
            verify=None if verify_cert_path is None else str(verify_cert_path),
            config=botocore_config.Config(
                connect_timeout=min(timeout_seconds, 10.0),
                read_timeout=timeout_seconds,
                retries={"total_max_attempts": 1},  # ours know the total time
                # Not every server sends checksums; ours is in the metadata.
                response_checksum_validation="when_required",
                request_checksum_calculation="when_required",
                proxies=None if proxy is None else {"http": proxy, "https": proxy},
                s3={"addressing_style": "path" if endpoint else "auto"},
            ),
        )

    def _connected(self, **options: Any) -> Any:
        try:
            return boto3.client("s3", **options)
        except (ValueError, botocore_errors.BotoCoreError) as error:
            # It quotes the endpoint, which may hold a password.
            message = redacted(str(error), self._secrets)
            raise ParameterError(f"{self.name}: {message}") from None

    def call(self, function: Callable[..., Any], **options: Any) -> Any:
        """Call *function* of boto3 with *options* and retries.

        Raises `Missing`, `Taken`, and `StorageError` for all else, `AccessDenied` for what the
        credentials may not do.
        """

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
                raise Passing(error) from error
            except botocore_errors.BotoCoreError as error:
                raise StorageError(f"{self.name}: {type(error).__name__}: {error}") from error

        try:
            return self._retry(attempt)()
        except RetryError as error:
            if self._secrets:
                message = redacted(str(error), self._secrets)
                raise StorageError(f"{self.name}: {message}") from None
            raise StorageError(f"{self.name}: {error}") from error
        except _Denied as error:
            raise AccessDenied(f"{self.name}: {error}") from error.__cause__
        except _Refused as error:
            raise StorageError(f"{self.name}: {error}") from error.__cause__


def _classified(error: Any) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        return Missing(str(error))
    if code in _TAKEN:
        return Taken(str(error))
    if status >= 500 or code in _PASSING or status == 429:
        return Passing(error)
    return (_Denied if code in _DENIED else _Refused)(str(error))


def _fields(config: RetryConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}
