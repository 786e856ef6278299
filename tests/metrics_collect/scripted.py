"""An HTTP server that does what a script says: one step a request, then "ok" for ever.

Steps: "ok", "hang" (no answer while the server lives), "reset" (a connection cut in the middle of the
body), (status, headers) and (status, headers, JSON body). What was asked is in `requests`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import socket
import struct
import threading
from urllib.parse import parse_qs, urlsplit


@dataclasses.dataclass
class Request:
    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def form(self):
        return {k: v[0] for k, v in parse_qs(self.body.decode()).items()}

    @property
    def query(self):
        return {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}


class ScriptedServer:
    def __init__(self, context=None):
        self.requests: list[Request] = []
        self.steps: list = []
        self.replies: dict = {}
        self._released = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer._handle(self)

            do_GET = do_PUT = do_HEAD = do_POST

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def _handle(self, handler):
        length = int(handler.headers.get("Content-Length") or 0)
        if handler.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(handler.rfile.readline(), 16):
                body += handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
        else:
            body = handler.rfile.read(length)
        path = urlsplit(handler.path).path
        step = self.steps.pop(0) if self.steps else "ok"
        headers = {k.lower(): v for k, v in handler.headers.items()}
        self.requests.append(Request(handler.command, handler.path, headers, body))
        if step == "hang":
            self._released.wait(60)
            handler.close_connection = True
            return
        if step == "reset":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
            # Linger 0: the kernel sends a reset, not an orderly end.
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            handler.connection.close()
            return
        status, extra, *rest = (200, {}) if step == "ok" else step
        reply = rest[0] if rest else self.replies.get(path, {"said": "ok"})
        reply = reply(self.requests[-1]) if callable(reply) else reply
        content = json.dumps(reply).encode()
        handler.send_response(status)
        for name, value in extra.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def scripted_server(context=None):
    with ScriptedServer(context) as server:
        yield server
