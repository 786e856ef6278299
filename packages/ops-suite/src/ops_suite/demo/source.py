"""Where the demo's data come from: a service on loopback that is busy at first and hangs up halfway.

`ops.resilience` fetches from it as from any service of that kind: it waits, tries again, continues where
the connection broke off, and keeps the file only when its digest is right.
"""

from __future__ import annotations

import contextlib
import http.server
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from ops.resilience import RetryConfig, download_with_progress
from ops.serialize import load, serialize_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Fetched", "fetch"]


@dataclass(frozen=True)
class Fetched:
    """The 569 samples with 30 features each, their labels (0 malignant, 1 benign), and their file."""

    samples: np.ndarray
    labels: np.ndarray
    file: Path
    answers: tuple[str, ...]


def fetch(folder: Path) -> Fetched:
    """Fetch the data into *folder*; raises an OpsError when all retries have failed."""
    content = _content()
    config = RetryConfig(max_attempts=4, initial_delay=0.05)
    with _serve(content) as service:
        file = download_with_progress(
            service.address,
            folder / "samples.opsf",
            retries=config,
            resume=False,
            checksum=sha256(content).hexdigest(),
        )
    tree: dict[str, Any] = load(file)
    return Fetched(tree["samples"], tree["labels"], file, tuple(service.answers))


def _content() -> bytes:
    """Return scikit-learn's breast-cancer set as one file."""
    from sklearn.datasets import load_breast_cancer

    samples, labels = load_breast_cancer(return_X_y=True)
    tree = {"samples": samples.astype(np.float64), "labels": labels.astype(np.int64)}
    return bytes(serialize_data(tree))


@dataclass
class _Service:
    """What the service has, and what it has answered so far."""

    content: bytes
    address: str = ""
    answers: list[str] = field(default_factory=list)

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Be busy once, hang up once, then give what was requested."""
        if not self.answers:
            self.answers.append("503 busy")
            request.send_response(503)
            request.send_header("Retry-After", "0")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        whole, wanted = len(self.content), request.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        request.send_header("ETag", f'"{sha256(self.content).hexdigest()[:16]}"')
        request.send_header("Content-Length", str(whole - start))
        request.end_headers()
        end = whole // 2 if start < whole // 2 else whole
        request.wfile.write(self.content[start:end])
        self.answers.append("the rest" if end == whole else "half, then hung up")
        request.close_connection = True


@contextlib.contextmanager
def _serve(content: bytes) -> Iterator[_Service]:
    service = _Service(content)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.address = f"http://127.0.0.1:{server.server_address[1]}/samples.opsf"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
