"""`/livez`, `/readyz` and `/metrics` over HTTP for Kubernetes and Prometheus, standard library only.

Listens on loopback unless told otherwise. Replies show names and statuses of checks, never their
messages or details, which may tell a stranger about the inside.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from ops.observe.exporters import prometheus_text
from ops.observe.health import get_health_monitor
from ops.observe.metrics import get_metrics_collector

if TYPE_CHECKING:
    from ops.observe.health import HealthMonitor
    from ops.observe.metrics import MetricsCollector

__all__ = ["ProbeServer", "serve_probes"]


class ProbeServer:
    """A running probe server; `stop()` or the end of its `with` block ends it."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address to ask, without a path."""
        return f"http://{self._server.server_address[0]!s}:{self.port}"

    def stop(self) -> None:
        """Stop listening and wait for the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve_probes(
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    monitor: HealthMonitor | None = None,
    metrics: MetricsCollector | None = None,
) -> ProbeServer:
    """Serve probes on *host* (loopback by default) and *port* (0: any free one) in a thread.

    Raises OSError when the port is taken.
    """
    health = get_health_monitor() if monitor is None else monitor
    collector = get_metrics_collector() if metrics is None else metrics

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # a client that sends nothing does not hold its thread for ever

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/livez":
                well = health.is_healthy()
                self._reply(200 if well else 503, "text/plain", "ok" if well else "not alive")
            elif path == "/readyz":
                self._ready()
            elif path == "/metrics":
                self._reply(200, "text/plain; version=0.0.4", prometheus_text(collector))
            else:
                self._reply(404, "text/plain", "There are /livez, /readyz and /metrics.")

        def _ready(self) -> None:
            report = health.check_all()
            body = {
                "status": str(report.overall_status),
                "checks": {check.name: str(check.status) for check in report.checks},
            }
            code = 200 if report.is_ready else 503
            self._reply(code, "application/json", json.dumps(body))

        def _reply(self, code: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Probes come every few seconds; their log is noise."""

    return ProbeServer(ThreadingHTTPServer((host, port), Handler))
