"""The several-workers page with gunicorn itself: all workers are scraped as one, however they start."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("gunicorn", reason="pip install gunicorn to try the several-workers page")

APPLICATION = """
import os
from ops.observe import MetricsCollector, MultiprocessMetrics, prometheus_text

metrics = MetricsCollector()
shared = MultiprocessMetrics(os.environ["METRICS_FOLDER"], metrics, interval=0.05)

def application(environment, start_response):
    if environment["PATH_INFO"] == "/metrics":
        body = prometheus_text(shared).encode()
    else:
        metrics.increment("requests")
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=300) as reply:
        return reply.read().decode()


@pytest.mark.parametrize("options", [[], ["--preload"]])
def test_all_workers_are_scraped_as_one(tmp_path: Path, options) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{port}"]
    server = subprocess.Popen(
        [*command, *options, "application:application"],
        cwd=tmp_path,
        env=os.environ | {"METRICS_FOLDER": str(tmp_path / "metrics")},
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 300
        while True:
            try:
                fetch(f"{url}/metrics")
                break
            except urllib.error.URLError:
                assert time.monotonic() < end
                time.sleep(0.05)
        workers = [fetch(url) for _ in range(40)]
        while _total(url) != 40 and time.monotonic() < end:
            time.sleep(0.05)
        assert _total(url) == 40
        os.kill(int(workers[0]), signal.SIGKILL)  # the master starts another one
        while _total(url) != 40 and time.monotonic() < end:
            time.sleep(0.05)
        assert _total(url) == 40
    finally:
        server.terminate()
        server.wait(60)


def _total(url: str) -> int:
    try:
        found = re.search(r"^requests_total (\d+)$", fetch(f"{url}/metrics"), re.MULTILINE)
    except OSError:  # of the worker that was killed
        return -1
    return int(found[1]) if found else 0
