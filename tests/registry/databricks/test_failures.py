"""What errors of Databricks mean, by the texts that Databricks and its users have published."""

from __future__ import annotations

import pickle
import re

import pytest

from ops.registry.databricks.failures import (
    TABLE,
    Failure,
    failure_in,
    failure_of,
    is_absent_file,
    readable,
)
from ops.registry.errors import StorageError


class ServerOperationError(Exception):
    """As the connector's: what the warehouse reports of a statement."""

    def __init__(self, message, context=None):
        super().__init__(message)
        self.context = context or {}


class RequestError(Exception):
    """As the connector's: what the transport reports of a request."""

    def __init__(self, message, context=None):
        super().__init__(message)
        self.context = context or {}


class OperationalError(Exception):
    """As the connector's."""


class DatabaseError(Exception):
    """As the connector's."""


STATEMENTS = {
    "[DELTA_CONCURRENT_APPEND] ConcurrentAppendException: Files were added to the root of the table by a "
    "concurrent update. Please try the operation again. SQLSTATE: 2D521": Failure.CONFLICT,
    "[DELTA_CONCURRENT_APPEND.ROW_LEVEL_CHANGES] Transaction conflict detected. SQLSTATE: 2D521": (
        Failure.CONFLICT
    ),
    "org.apache.hive.service.cli.HiveSQLException: Error running query: io.delta.exceptions."
    "MetadataChangedException: The metadata of the Delta table has been changed": Failure.CONFLICT,
    "[DELTA_METADATA_CHANGED] MetadataChangedException": Failure.CONFLICT,
    "ConcurrentAppendException: Files were added to the root of the table": Failure.CONFLICT,
    "[TABLE_OR_VIEW_NOT_FOUND] The table or view `main`.`x`.`y` cannot be found. SQLSTATE: 42P01": (
        Failure.ABSENT_TABLE
    ),
    "[SCHEMA_NOT_FOUND] The schema `main`.`x` cannot be found. SQLSTATE: 42704": (
        Failure.ABSENT_TABLE
    ),
    "[PATH_NOT_FOUND] Path does not exist: dbfs:/Volumes/main/a/b. SQLSTATE: 42K03": (
        Failure.ABSENT_FILE
    ),
    "java.io.FileNotFoundException: No such file or directory: s3://bucket/key": (
        Failure.ABSENT_FILE
    ),
    "[INSUFFICIENT_PERMISSIONS] Insufficient privileges: User does not have permission CREATE. "
    "SQLSTATE: 42501": Failure.DENIED,
    "PERMISSION_DENIED: User does not have USE SCHEMA on Schema 'main.x'.": Failure.DENIED,
    "PERMISSION_DENIED: Presigned URLs API is not enabled": Failure.NO_VOLUMES,
    "[INTERNAL_ERROR] Query could not be scheduled: HTTP Response code: 503. Please try again later. "
    "SQLSTATE: XX000": Failure.STARTING,
    "Couldn't create directory /local_disk0/tmp/abc_resources": Failure.STARTING_SESSION,
    "[INVALID_HANDLE.SESSION_CLOSED] The handle is invalid. Session was closed. SQLSTATE: HY000": (
        Failure.LOST_SESSION
    ),
    "[INVALID_HANDLE.SESSION_CHANGED] The handle x is invalid. The existing Spark server driver instance has "
    "restarted. Please reconnect. SQLSTATE: HY000": Failure.LOST_SESSION,
    "[INVALID_HANDLE.OPERATION_NOT_FOUND] The handle x is invalid. Operation not found. SQLSTATE: HY000": (
        None
    ),
    "[PARSE_SYNTAX_ERROR] Syntax error at or near 'unauthorized'. SQLSTATE: 42601": None,
    "[DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012": None,
    "[VOLUME_NOT_FOUND] Volume '/Volumes/main/a/b' does not exist. SQLSTATE: 42704": None,
}


@pytest.mark.parametrize(("message", "expected"), STATEMENTS.items())
def test_what_a_warehouse_reports_of_a_statement(message, expected):
    assert failure_of(ServerOperationError(message), message) is expected


SESSIONS = {
    "Invalid SessionHandle: SessionHandle [165008b9-a099-48aa-95f4-42544134405c]": (
        Failure.LOST_SESSION
    ),
    "Error during request to server: BAD_REQUEST: Invalid SessionHandle: Session "
    "[01f05276-6147-1fa3-97ce-77356bbde400] is closed..": Failure.LOST_SESSION,
    "requirement failed: Session handle: SessionHandle [x] has not been initialized or had already closed.": (
        Failure.STARTING_SESSION
    ),
    "Command x unexpectedly closed server side": None,
}


@pytest.mark.parametrize(("message", "expected"), SESSIONS.items())
def test_what_becomes_of_sessions(message, expected):
    assert failure_of(DatabaseError(message), message) is expected


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"http-code": 503, "error-message": "TEMPORARILY_UNAVAILABLE"}, Failure.STARTING),
        ({"http-code": 429}, Failure.STARTING),
        (
            {
                "original-exception": "Retry request would exceed Retry policy max retry duration of 30"
            },
            Failure.STARTING,
        ),
        ({"http-code": 401}, Failure.REFUSED),
        (
            {
                "http-code": 403,
                "error-message": "PERMISSION_DENIED: x is not authorized to use this SQL Endpoint.",
            },
            Failure.DENIED,
        ),
        ({"http-code": 403, "error-message": "Invalid access token."}, Failure.REFUSED),
        ({"http-code": 500}, Failure.LOST_CONNECTION),
        ({}, Failure.LOST_CONNECTION),
    ],
)
def test_what_a_transport_reports_of_a_request(context, expected):
    error = RequestError("Error during request to server", context)
    assert failure_of(error, readable(error)) is expected


def staged(status, body):
    """As the connector reports a presigned address."""
    return f"Staging operation over HTTP was unsuccessful: {status}-{body}"


FILES = {
    "aws": staged(404, "<Error><Code>NoSuchKey</Code><Key>k</Key></Error>"),
    "azure blob": staged(404, "<Error><Code>BlobNotFound</Code></Error>"),
    "azure data lake": staged(
        404, '{"error":{"code":"PathNotFound","message":"The specified path …"}}'
    ),
    "gcp": staged(
        404, "<Error><Code>NoSuchKey</Code><Details>No such object: b/k</Details></Error>"
    ),
    "gcp json": staged(404, '{"error":{"code":404,"message":"No such object: b/k"}}'),
    "no body": staged(404, ""),
}


@pytest.mark.parametrize("cloud", FILES)
def test_a_file_that_is_not_there_is_known_in_the_words_of_each_cloud(cloud):
    assert failure_of(OperationalError(FILES[cloud]), FILES[cloud]) is Failure.ABSENT_FILE


@pytest.mark.parametrize(
    "body", ["<Code>NoSuchBucket</Code>", "<Code>ContainerNotFound</Code>", "FilesystemNotFound"]
)
def test_a_bucket_that_is_not_there_is_no_missing_file(body):
    message = staged(404, body)
    assert failure_of(OperationalError(message), message) is Failure.LOST_CONNECTION


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, '{"error_code":"NOT_FOUND","message":"The file being accessed is not found."}', True),
        (404, '{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"File not found"}', True),
        (404, "<Error><Code>BlobNotFound</Code></Error>", True),
        (404, "", True),
        (
            404,
            '{"error_code":"ENDPOINT_NOT_FOUND","message":"No API found for \'GET /api\'"}',
            False,
        ),
        (404, '{"error_code":"NOT_FOUND","message":"Volume \'main.a.b\' does not exist."}', False),
        (404, '{"error_code":"NOT_FOUND","message":"Schema \'main.a\' does not exist."}', False),
        (404, "<Error><Code>NoSuchBucket</Code></Error>", False),
        (403, '{"error_code":"PERMISSION_DENIED","message":"no READ VOLUME"}', False),
    ],
)
def test_a_404_of_the_files_api_is_a_missing_file_or_something_else(status, body, expected):
    assert is_absent_file(status, body) is expected


def test_a_stack_trace_of_the_server_decides_nothing():
    trace = "Caused by: io.delta.exceptions.ConcurrentAppendException"
    error = ServerOperationError("[DIVIDE_BY_ZERO] x SQLSTATE: 22012", {"diagnostic-info": trace})
    assert failure_of(error, readable(error)) is None


def test_values_in_a_statement_are_no_refused_credentials_and_no_starting_warehouse():
    message = "[PARSE_SYNTAX_ERROR] near 'unauthorized TEMPORARILY_UNAVAILABLE'. SQLSTATE: 42601"
    assert failure_of(ServerOperationError(message), message) is None


def test_each_row_of_the_table_names_its_source_and_what_it_is_known_by():
    for sign in TABLE:
        assert re.match(r"https://[^ ]+", sign.source), sign
        assert sign.states or sign.conditions or sign.text or sign.kinds, sign
    assert {sign.failure for sign in TABLE} == set(Failure)


def test_what_an_error_means_is_known_after_it_was_pickled():
    error = StorageError("x").with_context(failure=Failure.ABSENT_FILE)
    assert failure_in(pickle.loads(pickle.dumps(error))) is Failure.ABSENT_FILE
    assert failure_in(StorageError("x")) is None
