"""Errors of S3 that pass are tried again, by whatever name a vendor gives them."""

from __future__ import annotations

import http.server
import io
import threading

import pytest

from ops.metrics_collect import StorageS3
from ops.resilience import RetryConfig

pytest.importorskip("boto3")
RETRY = RetryConfig(max_attempts=3, initial_delay=0.001, max_delay=0.002, timeout=60)


@pytest.fixture
def bucket():
    """A storage, and the answers that its server gives before good ones: (code, status)."""
    plan = []

    class S3(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def answer(self, status, body=b"", length=None):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.send_header("ETag", '"e"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = length is not None

        def do_HEAD(self):
            self.answer(404)

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            code, status = plan.pop() if plan else ("", 200)
            body = f"<Error><Code>{code}</Code><Message>later</Message></Error>".encode()
            self.answer(status, body if code else b"")

        def do_GET(self):
            if plan and plan.pop():
                self.answer(200, b"he", 5)
            else:
                self.answer(200, b"hello")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), S3) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield StorageS3("b", url, "us-east-1", "A", "B", retry=RETRY), plan
        server.shutdown()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SlowDown", 503),
        ("OperationAborted", 409),
        ("Throttling", 400),
        ("ThrottlingException", 400),
        ("RequestLimitExceeded", 400),
        ("TooManyRequestsException", 429),
        ("BandwidthLimitExceeded", 509),
        ("ServiceUnavailable", 400),
    ],
)
def test_throttling_is_tried_again(bucket, code, status):
    storage, plan = bucket
    plan.append((code, status))
    storage.put("a", fileobj=io.BytesIO(b"x"))
    assert plan == []


def test_a_body_that_ends_early_is_fetched_again(bucket):
    storage, plan = bucket
    plan.append(True)
    with storage.get("a") as path, open(path, "rb") as file:
        assert file.read() == b"hello"
