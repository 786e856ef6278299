"""What S3 can be told: how objects are kept, by which credentials, and what these may do."""

from __future__ import annotations

import http.server
import io
import threading

import pytest

from ops.metrics_collect import (
    AccessDenied,
    ObjectExists,
    ParameterError,
    StorageCRC,
    StorageCRCMutual,
    StorageS3,
    run,
)
from ops.resilience import RetryConfig

pytest.importorskip("boto3")
ONCE = RetryConfig(max_attempts=1, timeout=30)
MIB = 1 << 20


class Bucket:
    """A server that keeps objects and what was requested; *put_only*: it refuses all but puts."""

    def __init__(self, *, put_only):
        self.objects = {}
        self.requests = []
        outer = self

        class S3(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def reply(self, status, body=b""):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"e"')
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def handle_request(self):
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.command, self.path, headers))
                path = self.path.partition("?")[0]
                if put_only and self.command in {"GET", "HEAD"}:
                    self.reply(403, b"<Error><Code>AccessDenied</Code></Error>")
                elif self.command == "PUT" and "partNumber" not in self.path:
                    taken = path in outer.objects and headers.get("if-none-match") == "*"
                    if not taken:
                        outer.objects[path] = content
                    body = b"<Error><Code>PreconditionFailed</Code></Error>" if taken else b""
                    self.reply(412 if taken else 200, body)
                elif self.command == "HEAD":
                    self.reply(200 if path in outer.objects else 404)
                elif self.command == "POST" and self.path.endswith("uploads"):
                    self.reply(200, b"<R><UploadId>u</UploadId></R>")
                elif "uploads" in self.path:
                    self.reply(200, b"<ListMultipartUploadsResult/>")
                else:
                    outer.objects[path] = outer.objects.get(path, b"") + content
                    self.reply(200, b"<R><ETag>e</ETag></R>")

            do_GET = do_HEAD = do_PUT = do_POST = handle_request

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), S3)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def storage(self, *keys, **options):
        keys = keys or ("key", "hush")
        return StorageS3("b", self.url, "us-east-1", *keys, retry=ONCE, **options)

    def headers(self, method, what=""):
        return [h for m, path, h in self.requests if m == method and what in path]


@pytest.fixture
def bucket(request):
    made = Bucket(put_only=getattr(request, "param", False))
    with made.server:
        threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.server.shutdown()


KEPT = {
    "encryption": ("x-amz-server-side-encryption", "aws:kms"),
    "kms_key_id": ("x-amz-server-side-encryption-aws-kms-key-id", "k-1"),
    "acl": ("x-amz-acl", "bucket-owner-full-control"),
    "storage_class": ("x-amz-storage-class", "STANDARD_IA"),
}


@pytest.mark.parametrize("size", [1, 6 * MIB], ids=["whole", "in parts"])
def test_objects_are_kept_as_requested_whole_or_in_parts(bucket, size):
    options = {name: value for name, (_, value) in KEPT.items()}
    storage = bucket.storage(part_bytes=5 * MIB, **options)
    storage.put("a", fileobj=io.BytesIO(b"x" * size))
    sent = bucket.headers("POST", "uploads")[0] if size > MIB else bucket.headers("PUT")[0]
    assert {sent.get(header) for header, _ in KEPT.values()} == set(options.values())


def test_how_objects_are_kept_can_stand_in_the_environment(bucket, monkeypatch):
    for name, (_, value) in KEPT.items():
        monkeypatch.setenv(f"OPS_METRICS_BUCKET_{name.upper()}", value)
    monkeypatch.setenv("OPS_METRICS_BUCKET_SESSION_TOKEN", "lent-1")
    bucket.storage().put("a", dict={})
    sent = bucket.headers("PUT")[0]
    assert [sent.get(header) for header, _ in KEPT.values()] == [v for _, v in KEPT.values()]
    assert sent["x-amz-security-token"] == "lent-1"


@pytest.mark.parametrize("size", [1, 6 * MIB], ids=["whole", "in parts"])
@pytest.mark.parametrize("way", ["argument", "environment"])
def test_checksums_can_be_switched_off(bucket, monkeypatch, size, way):
    if way == "environment":
        monkeypatch.setenv("OPS_METRICS_BUCKET_CHECKSUMS", "off")
    options = {"checksums": False} if way == "argument" else {}
    storage = bucket.storage(part_bytes=5 * MIB, **options)
    storage.put("a", fileobj=io.BytesIO(b"x" * size))
    sent = {name for _, _, headers in bucket.requests for name in headers}
    assert not {name for name in sent if "checksum" in name}
    bucket.storage(checksums=True).put("b", dict={})
    assert "x-amz-checksum-sha256" in bucket.headers("PUT", "/b/b")[0]


@pytest.mark.parametrize("bucket", [True], indirect=True)
@pytest.mark.parametrize("size", [1, 6 * MIB], ids=["whole", "in parts"])
def test_credentials_that_may_only_put_are_enough_to_put(bucket, size):
    storage = bucket.storage(part_bytes=5 * MIB)
    storage.put("a", fileobj=io.BytesIO(b"x" * size), overwrite=False)
    assert len(bucket.objects["/b/a"]) >= size
    with pytest.raises(AccessDenied), storage.get("a"):
        pass


@pytest.mark.parametrize("bucket", [True], indirect=True)
def test_what_exists_is_found_by_the_condition_where_it_cannot_be_read(bucket):
    storage = bucket.storage()
    storage.put("a", dict={"by": "first"}, overwrite=False)
    with pytest.raises(ObjectExists):
        storage.put("a", dict={"by": "second"}, overwrite=False)


@pytest.mark.parametrize("bucket", [True], indirect=True)
def test_a_run_that_died_after_the_put_is_completed_with_credentials_that_may_only_put(
    bucket, chain, monkeypatch
):
    chain.insert(0, 5)
    storage = bucket.storage()

    def die(*args, **options):
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(type(chain.ledger), "close", die)
        with pytest.raises(SystemExit):
            run(chain.factories, storage, chain.ledger, **chain.arguments())
    shipped = dict(bucket.objects)
    assert run(chain.factories, storage, chain.ledger, **chain.arguments()).ok
    assert bucket.objects == shipped
    assert chain.ledger.closed("runs")


@pytest.mark.parametrize(
    ("keys", "options"),
    [(("key", None), {}), ((None, "hush"), {}), ((None, None), {"session_token": "t"})],
)
def test_one_key_without_the_other_is_refused_at_once(bucket, keys, options):
    with pytest.raises(ParameterError, match="belong together"):
        bucket.storage(*keys, **options)


def test_a_proxy_may_lack_its_scheme_and_is_used(bucket):
    proxy = bucket.url.removeprefix("http://")
    away = "http://metrics.invalid:1234"
    StorageS3("b", away, "us-east-1", "a", "b", retry=ONCE, proxy_url=proxy).put("a", dict={})
    assert any(path.startswith(away) for _, path, _ in bucket.requests)


def test_certificates_can_stand_in_the_environment(monkeypatch, tmp_path):
    chosen = str(tmp_path / "ca.pem")
    monkeypatch.setenv("OPS_METRICS_BUCKET_CERTIFICATES", chosen)
    monkeypatch.setenv("OPS_METRICS_CRC_CERTIFICATES", chosen)
    monkeypatch.setenv("OPS_METRICS_CRC_CLIENT_CERT", "cert.pem")
    with pytest.raises(ParameterError, match="belong together"):
        StorageCRCMutual()
    monkeypatch.setenv("OPS_METRICS_CRC_CLIENT_KEY", "key.pem")
    mutual = StorageCRCMutual()
    assert mutual._session_cert == ("cert.pem", "key.pem")
    assert mutual._verify_cert_path == StorageCRC("id", "s")._verify_cert_path == chosen
    assert StorageS3("b")._client._endpoint.http_session._verify == chosen


def test_certificates_of_the_system_stand_in_where_the_default_does_not_exist(monkeypatch):
    monkeypatch.setattr("ops.metrics_collect.storage._crc.CERTIFICATES", "/nowhere/ca.pem")
    assert StorageCRC("id", "s", verify_cert_path="/nowhere/ca.pem")._verify_cert_path is None
