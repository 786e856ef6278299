"""What the errors of Databricks mean: one table, by SQLSTATE, condition, text and kind, each with its source.

Neither the connector nor the Files API has an error class per cause: a lost session, a warehouse that is
starting and a missing file all arrive as a text. So the text is looked at, and only here. The SQLSTATE and the
condition (``[DELTA_CONCURRENT_APPEND]``) are documented and stable. Other texts are what users have
reported; each row of the table links to where. `failure_of` returns the first row that fits.

What is not in the table is an error for the caller: nothing unknown is tried again for long.
"""

from __future__ import annotations

import dataclasses
import re
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.foundation.errors import OpsError

__all__ = [
    "ADVICE",
    "TABLE",
    "Failure",
    "Sign",
    "failure_in",
    "failure_of",
    "is_absent_file",
    "readable",
]

_ERRORS = "https://docs.databricks.com/aws/en/error-messages/error-classes"
_CONNECTOR = "https://github.com/databricks/databricks-sql-python"
_FILES = "https://docs.databricks.com/api/workspace/files/download"


class Failure(StrEnum):
    """What an error means for what is done next."""

    #: Another commit was first and nothing was done: decide again.
    CONFLICT = "conflict"
    #: The warehouse is starting or busy and did nothing: wait.
    STARTING = "starting"
    #: The warehouse is starting and has rejected the session that it accepted before: wait, and open another.
    STARTING_SESSION = "starting_session"
    #: The session is gone and nothing was done: open another.
    LOST_SESSION = "lost_session"
    #: The connection broke and it is not known whether the statement was done: open another.
    LOST_CONNECTION = "lost_connection"
    #: The credentials are wrong or have expired.
    REFUSED = "refused"
    #: The credentials are right and a privilege is missing.
    DENIED = "denied"
    #: The certificate of the server is of no authority that is trusted here; nothing was sent.
    UNTRUSTED = "untrusted"
    #: A schema, table or view is not there.
    ABSENT_TABLE = "absent_table"
    #: A file or folder of a volume is not there.
    ABSENT_FILE = "absent_file"
    #: The connection has no PUT, GET and REMOVE.
    NO_VOLUMES = "no_volumes"


@dataclasses.dataclass(frozen=True, slots=True)
class Sign:
    """A row of the table: a *failure* is known by any of the others.

    Args:
        failure: What it means.
        source: Where this is documented or was reported.
        states: SQLSTATEs.
        conditions: Beginnings of error conditions, as they stand in brackets.
        text: A regular expression that the message has.
        kinds: Names of exception classes, of their bases too.
        of_statements: Whether a message that the warehouse gives for a statement counts. Such a message may quote
            values of the caller.
    """

    failure: Failure
    source: str
    states: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    text: str | None = None
    kinds: tuple[str, ...] = ()
    of_statements: bool = True

    def fits(self, message: str, kinds: frozenset[str]) -> bool:
        """Return whether an error with this message, of classes with these names, is one of these."""
        if not self.of_statements and "ServerOperationError" in kinds:
            return False
        if kinds.intersection(self.kinds):
            return True
        if any(state in self.states for state in _STATE.findall(message)):
            return True
        if any(found.startswith(self.conditions) for found in _CONDITION.findall(message)):
            return True
        return self.text is not None and re.search(self.text, message, re.IGNORECASE) is not None


_STATE = re.compile(r"SQLSTATE:? ?\(?([0-9A-Z]{5})\b")
_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)?)\]")

TABLE: tuple[Sign, ...] = (
    # Before all others: a conflict is the one thing that is known to have changed nothing.
    Sign(
        Failure.CONFLICT,
        "https://docs.databricks.com/aws/en/optimizations/isolation/row-level-concurrency#conflict-exceptions",
        states=("2D521",),
        conditions=("DELTA_CONCURRENT_", "DELTA_METADATA_CHANGED", "DELTA_PROTOCOL_CHANGED"),
        text=r"\bio\.delta\.exceptions\.(Concurrent|MetadataChanged|ProtocolChanged)\w*Exception",
    ),
    Sign(
        Failure.CONFLICT,
        "https://kb.databricks.com/delta/insert-operation-fails-while-trying-to-execute-multiple-"
        "concurrent-insert-or-merge-operations-to-append-data",
        text=r"\bConcurrent(Append|DeleteRead|DeleteDelete|Transaction|Write)Exception\b",
    ),
    # Databricks answers 403 to who is known and may not use the warehouse, and to a token that is wrong.
    Sign(
        Failure.DENIED,
        "https://docs.databricks.com/aws/en/security/auth/access-control/",
        text=r"\bPERMISSION_DENIED\b|is not authorized to use this SQL",
        of_statements=False,
    ),
    Sign(
        Failure.REFUSED,
        f"{_CONNECTOR}/blob/main/src/databricks/sql/auth/retry.py",  # 401 and 403 are final
        text=r"invalid access token|unauthorized|http-code['\": ]+(401|403)\b"
        r"|invalid token|token is expired|\bforbidden\b|Credential was not sent",
        of_statements=False,
    ),
    # A warehouse that is starting accepts a session and rejects what comes next, or answers 503.
    Sign(
        Failure.STARTING_SESSION,
        "https://github.com/lightdash/lightdash/pull/28654",
        text=r"Session handle.* has not been initialized or had already closed"
        r"|Couldn't create directory /local_disk0/",
    ),
    Sign(
        Failure.STARTING,
        "https://github.com/databricks/dbt-databricks/issues/892",
        text=r"too many (429|503) error responses|http-code['\": ]+(429|503)\b|TEMPORARILY_UNAVAILABLE",
        of_statements=False,
    ),
    # A Retry-After that is longer than the connector waits, in place of the answer itself.
    Sign(
        Failure.STARTING,
        f"{_CONNECTOR}/blob/main/src/databricks/sql/auth/retry.py",
        text=r"would exceed Retry policy max retry duration",
        kinds=("MaxRetryDurationError",),
        of_statements=False,
    ),
    Sign(
        Failure.STARTING,
        "https://github.com/databricks/dbt-databricks/issues/1063",
        text=r"Query could not be scheduled: HTTP Response code: 503",
    ),
    Sign(
        Failure.STARTING,
        "https://github.com/lightdash/lightdash/issues/9200",
        text=r"background threadpool cannot accept new task",
    ),
    Sign(
        Failure.STARTING,
        "https://docs.databricks.com/aws/en/error-messages/sqlstates",
        states=("08KD1",),  # server busy
    ),
    Sign(
        Failure.LOST_SESSION,
        f"{_CONNECTOR}/issues/400",
        text=r"Invalid SessionHandle|SessionHandle \[[^\]]*\] (is closed|not found)|Session \[[^\]]*\] is closed",
        kinds=("SessionAlreadyClosedError",),
    ),
    Sign(
        Failure.LOST_SESSION,
        "https://docs.databricks.com/aws/en/error-messages/invalid-handle-error-class",
        conditions=("INVALID_HANDLE.SESSION_", "SESSION_CLOSED", "SESSION_NOT_FOUND"),
    ),
    Sign(
        Failure.NO_VOLUMES,
        f"{_CONNECTOR}/pull/787",  # use_kernel; a Real-Time warehouse (SQLSTATE KP001) leads there too
        states=("KP001",),
        text=r"staging operations? \(PUT / GET / REMOVE\) are not supported|"
        r"Presigned URLs API is not enabled",
    ),
    Sign(
        Failure.ABSENT_FILE,
        f"{_ERRORS}#path_not_found",
        states=("42K03",),
        conditions=("PATH_NOT_FOUND", "FILE_NOT_FOUND"),
    ),
    # A presigned address leads to the storage of the cloud, which answers in its own words.
    Sign(
        Failure.ABSENT_FILE,
        "https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"
        " https://cloud.google.com/storage/docs/xml-api/reference-status",
        text=r"<Code>NoSuchKey</Code>|\bNoSuchKey\b|No such object:",
    ),
    Sign(
        Failure.ABSENT_FILE,
        "https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes"
        " https://learn.microsoft.com/rest/api/storageservices/datalakestoragegen2/path/read",
        text=r"\b(BlobNotFound|PathNotFound|ResourceNotFound)\b|The specified (blob|path) does not exist",
    ),
    Sign(
        Failure.ABSENT_FILE,
        f"{_CONNECTOR}/blob/main/src/databricks/sql/client.py",  # a status and the cloud's text
        text=r"Staging operation over HTTP was unsuccessful: 404-(?!.*(Bucket|Container|Filesystem))",
    ),
    Sign(
        Failure.ABSENT_FILE,
        _FILES,
        text=r"\bNOT_FOUND: The (file|directory)|The (file|directory) being accessed is not found"
        r"|\bRESOURCE_DOES_NOT_EXIST\b.*\b(file|directory|path)\b"
        r"|FileNotFoundException|NoSuchFileException|No such file or directory",
    ),
    Sign(
        Failure.ABSENT_TABLE,
        f"{_ERRORS}#table_or_view_not_found",
        states=("42P01",),
        conditions=("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND"),
    ),
    Sign(
        Failure.DENIED,
        "https://docs.databricks.com/aws/en/error-messages/sqlstates",
        states=("42501",),
        conditions=("INSUFFICIENT_PERMISSIONS", "INSUFFICIENT_PRIVILEGES", "PERMISSION_DENIED"),
        text=r"\bPERMISSION_DENIED\b|does not have (permission|privilege)",
    ),
    Sign(
        Failure.UNTRUSTED,
        "https://docs.python.org/3/library/ssl.html#ssl.SSLCertVerificationError",
        text=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        of_statements=False,
    ),
    # Last: these say of nothing what it was.
    Sign(
        Failure.LOST_CONNECTION,
        f"{_CONNECTOR}/blob/main/src/databricks/sql/exc.py",
        kinds=(
            "RequestError",  # of the connector, and of urllib3
            "OperationalError",
            "InterfaceError",
            "HTTPError",
            "ConnectionError",
        ),
        of_statements=False,
    ),
)


def failure_of(error: BaseException, message: str) -> Failure | None:
    """Return what *error* means, None for what the table does not know.

    Args:
        error: What was raised; the names of its classes count.
        message: Its text, with what `readable` adds.
    """
    kinds = frozenset(kind.__name__ for kind in type(error).__mro__)
    return next((sign.failure for sign in TABLE if sign.fits(message, kinds)), None)


def readable(error: BaseException) -> str:
    """Return the text of *error* with what its context adds, without stack traces of the server.

    A stack trace (``diagnostic-info``) names classes of all that went before, and none of it is a cause.
    """
    context = getattr(error, "context", None)
    added = context if isinstance(context, dict) else {}
    parts = [f"{key}: {value}" for key, value in added.items() if key in _TELLING and value]
    return "; ".join([str(error), *parts])


_WAIT = ("Start the warehouse, or wait longer: warehouse_start_seconds of MLOpsConfig.",)
#: What to do, by what it means; sentences for the suggestions of an error.
ADVICE: dict[Failure | None, tuple[str, ...]] = {
    Failure.STARTING: _WAIT,
    Failure.STARTING_SESSION: _WAIT,
    Failure.DENIED: ("Run `ops-registry doctor`: it finds the privilege that is missing.",),
    Failure.NO_VOLUMES: (
        "Use a serverless, pro or classic SQL warehouse: others have no PUT, GET and REMOVE.",
    ),
    Failure.UNTRUSTED: (
        "Set REQUESTS_CA_BUNDLE to the PEM file of the authority that your network uses.",
    ),
}

#: What a `RequestError` of the connector records about a request.
_TELLING = ("http-code", "error-message", "original-exception")


def failure_in(error: OpsError) -> Failure | None:
    """Return what an error of this package that came from Databricks means, None for any other."""
    found = error.context.details.get("failure")
    return found if isinstance(found, Failure) else None


def is_absent_file(status: int, body: str) -> bool:
    """Return whether an answer of the Files API means that a file or folder is not there.

    A 404 also means that the volume is not there, or that the host has no such API; neither is a missing file.
    AWS, Azure and GCP differ where the API redirects to the storage of the cloud.
    """
    if status != 404:
        return False
    return not re.search(
        r"ENDPOINT_NOT_FOUND|No API found|(Volume|Catalog|Schema|Metastore)\b[^\"\n]* does not exist"
        r"|VOLUME_DOES_NOT_EXIST|NoSuchBucket|ContainerNotFound|FilesystemNotFound",
        body,
    )
