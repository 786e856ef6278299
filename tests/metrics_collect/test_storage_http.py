"""Put-only storages against a scripted server: what is sent, and how faults are met."""

import base64
import datetime as dt
import gzip
import io
import ipaddress
import json
import logging
import ssl

import pytest
from tests.metrics_collect.scripted import scripted_server

from ops.foundation.errors import PathEscapesRootError
from ops.metrics_collect import (
    Package,
    ParameterError,
    PutOnlyError,
    Storage,
    StorageCRC,
    StorageCRCMutual,
    StorageError,
    StorageSegment,
    collector,
)
from ops.resilience import RetryConfig

pytest.importorskip("httpx")

QUICK = RetryConfig(max_attempts=3, initial_delay=0.0, max_delay=0.0)
SECRET = "a-very-secret-secret"
TYPE = b"application/vnd.redhat.aap-billing-controller.aap_billing_controller_payload+tgz"


def crc(server, **options):
    server.replies["/token"] = {"access_token": "token-1", "expires_in": 300}
    return StorageCRC(
        "id-1",
        SECRET,
        f"{server.url}/upload",
        None,
        f"{server.url}/token",
        None,
        **{"retry": QUICK, "timeout_seconds": 5.0, **options},
    )


def segment(server, **options):
    return StorageSegment(False, "user-1", SECRET, server.url, **{"retry": QUICK, **options})


@pytest.fixture(params=[crc, segment])
def storage(request, server):
    storage = request.param(server)
    yield storage
    storage.close()


def test_a_put_only_storage_is_a_storage_that_gives_nothing_back(storage):
    assert isinstance(storage, Storage)
    for call in (storage.get, storage.exists, storage.remove, storage.glob, storage.list):
        with pytest.raises(PutOnlyError, match="takes objects only"):
            call("name")


def test_exactly_one_source_and_no_name_that_leads_outside(storage, server):
    with pytest.raises(ParameterError, match="exactly one"):
        storage.put("name")
    with pytest.raises(PathEscapesRootError):
        storage.put("../name", dict={})
    assert server.requests == []


@pytest.mark.parametrize(
    "steps", [[(503, {})], [(429, {"Retry-After": "0"})], ["reset"], [(502, {}), (504, {})]]
)
def test_faults_that_pass_are_retried(storage, server, steps):
    server.steps = [*steps]
    storage.put("name", dict={"a": 1})
    assert server.steps == []


def test_a_fault_that_stays_is_an_error_without_secrets(storage, server):
    server.steps = [(503, {}, {"echo": SECRET})] * 3
    with pytest.raises(StorageError) as caught:
        storage.put("name", dict={"a": 1})
    assert "503" in str(caught.value)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__} {storage!r}"


def test_a_server_that_hangs_is_left_in_time(server):
    storage = segment(server, timeout_seconds=0.1)
    server.steps = ["hang"]
    storage.put("name", dict={"a": 1})
    assert len(server.requests) == 2
    storage.close()


def test_a_wait_that_would_outlast_the_total_time_is_not_begun(server):
    storage = segment(server, retry=RetryConfig(max_attempts=9, timeout=5.0))
    server.steps = [(429, {"Retry-After": "3600"})]
    with pytest.raises(StorageError, match="429"):
        storage.put("name", dict={"a": 1})
    assert len(server.requests) == 1
    storage.close()


def test_crc_uploads_a_file_with_a_token_that_it_keeps(server):
    storage = crc(server)
    storage.put("folder/a.tar.gz", fileobj=io.BytesIO(b"first"))
    storage.put("b.tar.gz", fileobj=io.BytesIO(b"second"))
    asked, first, second = server.requests
    assert asked.form["grant_type"] == "client_credentials"
    assert (asked.form["client_id"], asked.form["client_secret"]) == ("id-1", SECRET)
    assert first.headers["authorization"] == second.headers["authorization"] == "Bearer token-1"
    assert b'name="file"; filename="a.tar.gz"' in first.body
    assert TYPE in first.body
    assert b"first" in first.body
    storage.close()


def test_crc_asks_for_a_new_token_when_the_old_one_is_refused_or_old(server):
    now = [0.0]
    storage = crc(server, clock=lambda: now[0])
    tokens = iter(["token-1", "token-2", "token-3"])
    server.replies["/token"] = lambda _: {"access_token": next(tokens), "expires_in": 300}
    server.steps = ["ok", (401, {})]
    storage.put("a", fileobj=io.BytesIO(b"x"))
    sent = [r.headers["authorization"] for r in server.requests if r.path == "/upload"]
    assert sent == ["Bearer token-1", "Bearer token-2"]
    now[0] = 280.0
    storage.put("b", fileobj=io.BytesIO(b"x"))
    assert server.requests[-1].headers["authorization"] == "Bearer token-3"
    storage.close()


def test_crc_gives_up_when_new_tokens_are_refused_too(server):
    storage = crc(server)
    server.steps = ["ok", (401, {}), "ok", (401, {}, {"got": "token-1"})]
    with pytest.raises(StorageError, match="401") as caught:
        storage.put("a", fileobj=io.BytesIO(b"x"))
    assert "token-1" not in str(caught.value)
    storage.close()


def test_both_calls_go_through_the_proxy():
    with scripted_server() as proxy:
        proxy.replies["/token"] = {"access_token": "t", "expires_in": 300}
        storage = StorageCRC(
            "id",
            SECRET,
            "http://ingress.invalid/upload",
            proxy.url,
            "http://sso.invalid/token",
            None,
            retry=QUICK,
        )
        storage.put("a", dict={})
        asked = [r.path for r in proxy.requests]
        assert asked == ["http://sso.invalid/token", "http://ingress.invalid/upload"]
        storage.close()


def test_settings_come_from_the_environment(monkeypatch, server):
    with pytest.raises(ParameterError, match="OPS_METRICS_SERVICE_ACCOUNT_ID"):
        StorageCRC()
    with pytest.raises(ParameterError, match="OPS_METRICS_SEGMENT_WRITE_KEY"):
        StorageSegment()
    monkeypatch.setenv("OPS_METRICS_SERVICE_ACCOUNT_ID", "env-id")
    monkeypatch.setenv("OPS_METRICS_SERVICE_ACCOUNT_SECRET", SECRET)
    monkeypatch.setenv("OPS_METRICS_CRC_SSO_URL", f"{server.url}/token")
    monkeypatch.setenv("OPS_METRICS_CRC_INGRESS_URL", f"{server.url}/upload")
    server.replies["/token"] = {"access_token": "t"}
    storage = StorageCRC(verify_cert_path=None)
    storage.put("a", dict={})
    assert server.requests[0].form["client_id"] == "env-id"
    storage.close()


def batches(server):
    return [json.loads(gzip.decompress(r.body))["batch"] for r in server.requests]


def test_segment_gets_gzipped_batches_with_ids_that_depend_on_the_content(server):
    storage = segment(server)
    for _ in range(2):
        storage.put("usage", dict={"a": 1})
    [first], [again] = batches(server)
    assert first == again
    assert (first["type"], first["event"], first["userId"]) == ("track", "usage", "user-1")
    assert first["properties"] == {"a": 1}
    assert len(first["messageId"]) == 64
    request = server.requests[0]
    assert request.path == "/v1/batch"
    expected = base64.b64encode(f"{SECRET}:".encode()).decode()
    assert request.headers["authorization"] == f"Basic {expected}"
    storage.close()


def test_segment_cuts_what_is_larger_than_a_message_and_a_batch(server):
    rows = [{"number": i, "text": "x" * 1000} for i in range(1500)]
    storage = segment(server)
    storage.put("usage", dict={"rows": rows, "day": "2026-10-01"})
    found = batches(server)
    assert len(found) > 1
    assert all(len(gzip.decompress(r.body)) <= 475 * 1024 for r in server.requests)
    messages = [m for batch in found for m in batch]
    assert all(len(json.dumps(m, separators=(",", ":"))) <= 32 * 1024 for m in messages)
    assert [r for m in messages for r in m["properties"].get("rows", [])] == rows
    assert {m["properties"]["parts"] for m in messages} == {len(messages)}
    assert sum("day" in m["properties"] for m in messages) == 1
    with pytest.raises(ParameterError, match="'blob' alone"):
        storage.put("usage", dict={"blob": "x" * 40_000})
    storage.close()


def test_segment_takes_json_files_only(server):
    storage = segment(server)
    storage.put("usage", fileobj=io.BytesIO(b'[{"a": 1}, {"a": 2}]'))
    assert [m["properties"]["a"] for m in batches(server)[0]] == [1, 2]
    for wrong in (b"\x1f\x8b", b"[1]"):
        with pytest.raises(ParameterError, match="JSON"):
            storage.put("usage", fileobj=io.BytesIO(wrong))
    storage.close()


def test_no_secret_is_logged(server, caplog):
    caplog.set_level(logging.DEBUG)
    for storage in (crc(server), StorageSegment(True, "u", SECRET, server.url, retry=QUICK)):
        storage.put("name", dict={"a": 1})
        storage.close()
    assert SECRET not in caplog.text
    assert "token-1" not in caplog.text


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A CA, a server's and a client's certificate made by it, and a stranger's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("certificates")
    now = dt.datetime.now(dt.UTC)

    def usage(*, authority):
        names = ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
        never = dict.fromkeys([*names, "encipher_only", "decipher_only"], False)
        return x509.KeyUsage(
            digital_signature=True, key_cert_sign=authority, crl_sign=authority, **never
        )

    def issue(name, issuer=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer_name, issuer_key = issuer or (subject, key)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                False,
            )
            # Without these no certificate is good from Python 3.13 on.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
            )
            .add_extension(usage(authority=issuer is None), True)
            .sign(issuer_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (folder / f"{name}.pem").write_bytes(built.public_bytes(pem))
        secret = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(secret)
        return subject, key

    authority = issue("ca")
    issue("server", authority)
    issue("client", authority)
    issue("stranger")
    return folder


def test_mutual_tls_shows_our_certificate_and_checks_the_servers(certificates):
    def pair(name):
        return (certificates / f"{name}.pem", certificates / f"{name}.key")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair("server"))
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # so that a refusal shows in the handshake
    with scripted_server(context) as server:

        def storage(certificate, authority):
            return StorageCRCMutual(
                f"{server.url}/upload",
                None,
                pair(certificate),
                certificates / f"{authority}.pem",
                retry=QUICK,
            )

        good = storage("client", "ca")
        good.put("a.tar.gz", fileobj=io.BytesIO(b"content"))
        assert TYPE in server.requests[0].body
        good.close()
        for bad in (storage("stranger", "ca"), storage("client", "stranger")):
            with pytest.raises(StorageError):
                bad.put("b.tar.gz", fileobj=io.BytesIO(b"content"))
            bad.close()
        assert len(server.requests) == 1


def test_certificates_that_are_no_use_are_named(server):
    storage = StorageCRCMutual(server.url, None, ("/none.pem", "/none.key"), None, retry=QUICK)
    with pytest.raises(StorageError, match=r"/none\.pem"):
        storage.put("a", dict={})


def test_segment_gets_the_rows_of_a_tarball(server, tmp_path):
    @collector
    def runs():
        path = tmp_path / "runs.csv"
        path.write_text("id,name\n" + "".join(f"{n},web\n" for n in range(1500)))
        return [path]

    [path] = Package([runs()], {"install_uuid": "u1"}, directory=tmp_path, keep=True)
    storage = segment(server)
    storage.put(path.name, filename=path)
    storage.close()
    sent = [message["properties"] for batch in batches(server) for message in batch]
    rows = [row for p in sent if p.get("collection") == "runs" for row in p["rows"]]
    rows += [row for p in sent if "collection" not in p for row in p.get("rows", [])]
    assert sorted(int(row["id"]) for row in rows) == list(range(1500))
    assert {p["install_uuid"] for p in sent if "install_uuid" in p} == {"u1"}
