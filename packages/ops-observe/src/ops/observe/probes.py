"""`/livez`, `/readyz` and `/metrics` over HTTP for Kubernetes and Prometheus, standard library only.

Listens on loopback unless another host is given. Replies show names and statuses of checks, never their
messages or details, which may show the inside to a stranger. A forked child closes its copies of the
sockets: else the port would stay taken, and connections open, for as long as any worker lives.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import weakref
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.forks import in_children
from ops.observe.exporters import openmetrics_text, prometheus_text
from ops.observe.health import get_health_monitor
from ops.observe.metrics import get_metrics_collector

if TYPE_CHECKING:
    from ops.observe.exporters import Source
    from ops.observe.health import HealthMonitor

__all__ = ["ProbeServer", "serve_probes"]


class ProbeServer:
    """A running probe server; `stop()` or the end of its `with` block ends it.

    It runs in the process that made it; in a forked child it is stopped.
    """

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._process = os.getpid()
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        in_children(self, ProbeServer._leave)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address, without a path."""
        host = str(self._server.server_address[0])
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def stop(self) -> None:
        """Stop listening and wait for the thread."""
        if self._process != os.getpid():
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _leave(self) -> None:
        self._server.close_copies()


class _Server(ThreadingHTTPServer):
    """Knows the sockets that it has open, and listens on IPv6 where the host is of it."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        if ":" in host:
            self.address_family: int = socket.AF_INET6
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Bind; the IPv6 wildcard takes IPv4 connections too."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle *request* in a thread."""
        self.connections.add(request)
        super().process_request(request, client_address)

    def close_copies(self) -> None:
        """In a forked child: close this process's copies, which leaves the parent's alone."""
        for each in (self.socket, *self.connections):
            descriptor = (
                each.detach()
            )  # close() would wait for the files that handlers have made of it
            if descriptor >= 0:
                os.close(descriptor)


def serve_probes(
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    monitor: HealthMonitor | None = None,
    metrics: Source | None = None,
) -> ProbeServer:
    """Serve probes in a thread, and return the running server.

    Args:
        port: 0 takes any free one.
        host: an address to listen on, loopback by default; "::1" and "::" are IPv6.
        monitor: whose checks `/readyz` runs; by default the process's own.
        metrics: what `/metrics` shows; by default the collector of this process. A
            `MultiprocessMetrics` shows all processes.

    Raises OSError when the port is taken. Start it after forking, in the process that is to answer.
    """
    health = get_health_monitor() if monitor is None else monitor
    collector = get_metrics_collector() if metrics is None else metrics

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # a client that sends nothing does not hold its thread for ever

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/livez":
                alive = health.is_healthy()
                self._reply(200 if alive else 503, "text/plain", "ok" if alive else "not alive")
            elif path == "/readyz":
                self._ready()
            elif path == "/metrics":
                self._metrics()
            else:
                self._reply(404, "text/plain", "There are /livez, /readyz and /metrics.")

        do_HEAD = do_GET  # noqa: N815 - the base's name; `_reply` leaves the body out

        def _metrics(self) -> None:
            if "application/openmetrics-text" in self.headers.get("Accept", ""):
                kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
                self._reply(200, kind, openmetrics_text(collector))
            else:
                kind = "text/plain; version=0.0.4; charset=utf-8"
                self._reply(200, kind, prometheus_text(collector))

        def _ready(self) -> None:
            report = health.check_all()
            body = {
                "status": str(report.overall_status),
                "checks": {check.name: str(check.status) for check in report.checks},
            }
            code = 200 if report.is_ready else 503
            self._reply(code, "application/json", json.dumps(body))

        def _reply(self, code: int, kind: str, text: str) -> None:
            body = text.encode("utf-8", "backslashreplace")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Probes come every few seconds; their log is noise."""

    return ProbeServer(_Server(host, port, Handler))
