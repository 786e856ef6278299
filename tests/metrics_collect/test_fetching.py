"""What a report fetches from S3: the tarballs of its period, and nothing else."""

from __future__ import annotations

import datetime as dt
import http.server
import threading
import urllib.parse

import pytest

from ops.metrics_collect import Package, collector
from ops.metrics_collect.__main__ import main

pytest.importorskip("boto3")
pytest.importorskip("xlsxwriter")
DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
HEADER = "id,created,modified,host_name,ok,job_remote_id,job_template_name,organization_name\n"


@collector(primary_key="id", version_column="modified")
def job_host_summary(*, since, until, output_dir="."):
    path = f"{output_dir}/rows.csv"
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{HEADER}{since:%d},{since},{since},host,1,{since:%d},T,O\n")
    return [path]


@pytest.fixture
def bucket(monkeypatch):
    """Objects by their names, and the paths of the requests for them."""
    objects, requests = {}, []

    class S3(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            path, _, query = self.path.partition("?")
            requests.append(f"list {path}" if "list-type" in query else path)
            body = objects.get(urllib.parse.unquote(path).removeprefix("/b/"))
            if "list-type" in query:
                keys = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in objects)
                body = f"<ListBucketResult>{keys}</ListBucketResult>".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    settings = {"ACCESS_KEY": "A", "SECRET_KEY": "B", "REGION": "us-east-1"}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), S3) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        for name, value in {**settings, "ENDPOINT": url}.items():
            monkeypatch.setenv(f"OPS_METRICS_BUCKET_{name}", value)
        yield objects, requests
        server.shutdown()


def test_the_report_of_one_day_fetches_one_of_27_tarballs(bucket, tmp_path):
    objects, requests = bucket
    for number in range(27):
        since = DAY + dt.timedelta(days=number)
        work = job_host_summary(since=since, until=since + dt.timedelta(days=1))
        for tarball in Package([work], uuid="lab"):
            objects[tarball.name] = tarball.read_bytes()
    period = ["--since", "2026-10-14", "--until", "2026-10-15"]
    output = tmp_path / "report.xlsx"
    command = ["report", "--report", "ccsp", "--ship", "s3://b", "-o", str(output), "--quiet"]
    assert main([*command, *period]) == 0
    [fetched] = [path for path in requests if not path.startswith("list ")]
    assert "20261014T000000Z-20261015T000000Z-job_host_summary" in fetched
    assert set(requests) - {fetched} == {"list /b"}
    assert output.exists()
