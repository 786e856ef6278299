"""No message, repr or file shows a secret, in whatever form its address was written."""

from __future__ import annotations

import contextlib
import io

import pytest

from ops.metrics_collect import StorageCRC, StorageError, StoragePostgres, StorageS3
from ops.metrics_collect.__main__ import main
from ops.metrics_collect.secrets import libpq_dsn, redacted, secrets_in
from ops.metrics_collect.uris import is_dsn
from ops.resilience import RetryConfig

ONCE = RetryConfig(max_attempts=1, timeout=5)
CANARY = "hunter2"

ADDRESSES = [
    f"postgresql://u:{CANARY}@127.0.0.1:9/x",
    f"postgres://u:{CANARY}@127.0.0.1:9/x?sslmode=disable",
    f"postgresql+psycopg://u:{CANARY}@127.0.0.1:9/x",
    f"postgresql://u:{CANARY}%zz@127.0.0.1:9/x",
    f"postgresql://u:{CANARY}@more@127.0.0.1:9/x",
    f"postgresql://127.0.0.1:9/x?user=u&password={CANARY}",
    f"host=127.0.0.1 port=9 user=u password={CANARY}",
    f"host=127.0.0.1 port=9 user=u password='{CANARY} x'",
    f"host=127.0.0.1 port=9 user=u password = {CANARY}",
    f"password={CANARY} host=127.0.0.1 port=9",
]


def shown(work):
    try:
        return repr(work())
    except Exception as error:
        chain, texts = error, []
        while chain is not None:
            texts.append(f"{chain} {chain!r}")
            chain = chain.__cause__
        return " ".join(texts)


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_command_line_shows_no_password_of_a_database(address, monkeypatch, tmp_path):
    pytest.importorskip("psycopg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPS_METRICS_DB", address)
    assert is_dsn(address)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["gather", "--since", "2026-10-01", "--until", "2026-10-02", "--json"])
    assert code == 1
    assert CANARY not in out.getvalue() + err.getvalue()


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_storage_in_a_database_shows_no_password(address):
    pytest.importorskip("psycopg")
    storage = StoragePostgres(address, retry=ONCE)
    assert CANARY not in shown(lambda: storage.exists("a")) + repr(storage)


@pytest.mark.parametrize("proxy", [f"u:{CANARY}@127.0.0.1:9", f"http://u:{CANARY}@127.0.0.1:9"])
def test_a_proxy_may_lack_its_scheme_and_shows_no_password(proxy):
    pytest.importorskip("httpx")
    url = "http://127.0.0.1:9"
    storage = StorageCRC("id", "secret", url, proxy, url, None, retry=ONCE)
    text = shown(lambda: storage.put("x", dict={}))
    assert "StorageError" in text
    assert CANARY not in text


def test_the_endpoint_of_a_bucket_shows_no_password():
    pytest.importorskip("boto3")
    make = lambda: StorageS3("b", f"http://u:{CANARY}@127.0.0.1:9", "r", "AK", "SK", retry=ONCE)  # noqa: E731
    assert CANARY not in shown(make)


def test_secrets_are_found_as_written_and_decoded():
    assert secrets_in("postgresql://u:a%40b@h/x") == ["a%40b", "a@b"]
    assert secrets_in(r"password='it\'s'") == [r"it\'s", "it's"]
    assert secrets_in("postgresql://h/x") == secrets_in("app.db") == secrets_in(None) == []
    assert redacted("a abc ab", ["ab", "abc", None, ""]) == "a *** ***"
    assert libpq_dsn("postgresql+psycopg2://u@h/x") == "postgresql://u@h/x"


@pytest.mark.parametrize(
    "reply",
    [
        b"<html>please log in</html>",
        b"{}",
        b'{"access_token": 5}',
        b'{"access_token": "t", "expires_in": "soon"}',
        b'["t"]',
        b"",
    ],
)
def test_an_sso_that_answers_with_something_else_is_an_error_of_the_storage(reply):
    pytest.importorskip("httpx")
    import http.server
    import threading

    class SSO(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SSO) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        storage = StorageCRC("id", "secret", url, None, url, None, retry=ONCE)
        with pytest.raises(StorageError, match="gave no token"):
            storage.put("x", fileobj=io.BytesIO(b"x"))
        storage.close()
        server.shutdown()


ECHOED = {
    "segment:": [
        {"SEGMENT_WRITE_KEY": CANARY, "SEGMENT_HOST": "http://{at}"},
        {"SEGMENT_WRITE_KEY": "k", "SEGMENT_HOST": f"http://u:{CANARY}@{{at}}"},
    ],
    "crc:": [
        {"SERVICE_ACCOUNT_SECRET": CANARY},
        {"CRC_SSO_URL": f"http://u:{CANARY}@{{at}}/sso"},
        {"CRC_SSO_URL": f"http://{{at}}/sso?token={CANARY}"},
        {"CRC_INGRESS_URL": f"http://{{at}}/up?api_key={CANARY}"},
        {"PROXY_URL": f"u:{CANARY}@{{at}}"},
    ],
    "s3://bucket": [
        {"BUCKET_SECRET_KEY": CANARY},
        {"BUCKET_SESSION_TOKEN": CANARY},
        {"BUCKET_ENDPOINT": f"http://u:{CANARY}@{{at}}"},
        {"BUCKET_PROXY_URL": f"u:{CANARY}@{{at}}"},
    ],
    f"s3://AK:{CANARY}@bucket": [{}],
    f"https://u:{CANARY}@host/x": [{}],
    f"u:{CANARY}@host:/x": [{}],
}
USUAL = {
    "SERVICE_ACCOUNT_ID": "account",
    "SERVICE_ACCOUNT_SECRET": "plain-secret",
    "CRC_SSO_URL": "http://{at}/sso",
    "CRC_INGRESS_URL": "http://{at}/up",
    "BUCKET_ENDPOINT": "http://{at}",
    "BUCKET_REGION": "us-east-1",
    "BUCKET_ACCESS_KEY": "access",
    "BUCKET_SECRET_KEY": "plain-key",
}


@pytest.mark.parametrize(
    ("ship", "settings"),
    [(ship, settings) for ship, several in ECHOED.items() for settings in several],
    ids=lambda v: "+".join(v) if isinstance(v, dict) else str(v).partition(":")[0],
)
def test_nothing_that_is_printed_or_written_holds_a_secret(
    chain, server, tmp_path, monkeypatch, ship, settings
):
    """The service refuses, with all that it was sent in its answer."""
    import base64

    pytest.importorskip("httpx")
    pytest.importorskip("boto3")

    def echo(request):
        return {
            "path": request.path,
            "headers": request.headers,
            "body": request.body.decode("latin1"),
        }

    server.steps = [(400, {}, echo)] * 9
    at = server.url.removeprefix("http://")
    for name, value in (USUAL | settings).items():
        monkeypatch.setenv(f"OPS_METRICS_{name}", value.format(at=at))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    chain.insert(0, 1)
    (work / "q.sql").write_text("select * from runs where finished >= :since and finished < :until")
    source = ("--db", str(chain.folder / "source.db"), "--query", "runs=q.sql")
    span = ("--since", "2026-10-01", "--until", "2026-10-02")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for command in (
            ["backfill", *source, *span, "--ship", ship],
            ["status"],
            ["replay", "--ship", ship],
        ):
            main([*command, "--json"])
    printed = out.getvalue() + err.getvalue()
    written = "".join(f.read_text("latin1") for f in work.rglob("*") if f.is_file())
    names = " ".join(map(str, work.rglob("*")))
    hidden = [base64.b64encode(text.encode()).decode() for text in (f"{CANARY}:", f"u:{CANARY}")]
    for secret in (CANARY, *hidden):
        assert secret not in printed + written + names
