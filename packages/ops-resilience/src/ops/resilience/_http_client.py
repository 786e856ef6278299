"""httpx clients whose connections belong to one process, and whose requests end by a total deadline.

`BoundClient` is an `httpx.Client`. In a forked child it opens connections of its own with its first
request, as two processes on one connection read each other's replies. Within `deadline_of` no
read, write or connection attempt outlasts the deadline, and none begins after it: a server that sends a
byte now and then resets httpx's own timeout each time. For that the network backend of httpcore's pools
is wrapped; the attribute is private, so a test sends a slow header and a slow body. Looking up a host
name cannot be interrupted.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import httpx

from ops.foundation.deadlines import Deadline, current_deadline
from ops.foundation.forks import in_children
from ops.resilience._building import building
from ops.resilience.errors import HTTPTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BoundClient", "Checked", "check_deadline", "deadline_of"]

_ends: ContextVar[Deadline | None] = ContextVar("ops.resilience.http", default=None)
_KEPT = ("auth", "base_url", "cookies", "event_hooks", "headers", "params", "timeout")
_SLICE = 1 << 14


@contextlib.contextmanager
def deadline_of(deadline: Deadline | None) -> Iterator[None]:
    """Bound what is sent and received in the block."""
    token = _ends.set(deadline)
    try:
        yield
    finally:
        _ends.reset(token)


def check_deadline() -> None:
    """Raise HTTPTimeoutError if the deadline of the block has passed."""
    end = _end()
    if end is not None and end.expired:
        raise _overrun(end)


class BoundClient(httpx.Client):
    """An `httpx.Client` that survives forks and observes deadlines; the same arguments."""

    def __init__(self, **settings: Any) -> None:
        self._ops_settings = settings
        self._ops_lock = threading.Lock()
        self._ops_is_inherited = False
        super().__init__(**settings)
        self._ops_wrap()
        in_children(self, BoundClient._ops_mark_inherited)

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send *request* as httpx does, over connections of this process."""
        if self._ops_is_inherited:
            self._ops_renew()
        end = _end()
        if end is not None:
            limits = request.extensions.get("timeout", {})
            request.extensions["timeout"] = {k: end.clamp(v) for k, v in limits.items()}
        return super().send(request, **options)

    def _ops_mark_inherited(self) -> None:
        self._ops_lock = threading.Lock()
        self._ops_is_inherited = True

    def _ops_renew(self) -> None:
        with self._ops_lock:
            if not self._ops_is_inherited or self.is_closed:
                return
            kept = {name: getattr(self, name) for name in _KEPT}
            # Dropped, not closed: a lock of the pool may be held by a thread that is not here.
            with building():
                super().__init__(**self._ops_settings)
            for name, value in kept.items():
                setattr(self, name, value)
            self._ops_wrap()
            self._ops_is_inherited = False

    def _ops_wrap(self) -> None:
        for transport in (self._transport, *self._mounts.values()):
            pool: Any = getattr(transport, "_pool", None)
            backend = getattr(pool, "_network_backend", None)
            if backend is not None:
                pool._network_backend = _Backend(backend)  # noqa: SLF001 - see above


class Checked(httpx.SyncByteStream):
    """The body of a reply over a client that is not ours: the deadline is checked between its parts."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            yield part
            check_deadline()

    def close(self) -> None:
        """Close the body."""
        self._stream.close()


class _Backend:
    """A network backend of httpcore whose streams observe the deadline."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, **options: Any
    ) -> _Stream:
        with _bounded(timeout) as limit:
            return _Stream(self._backend.connect_tcp(host, port, timeout=limit, **options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, **options: Any
    ) -> _Stream:
        with _bounded(timeout) as limit:
            return _Stream(self._backend.connect_unix_socket(path, timeout=limit, **options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _Stream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _bounded(timeout) as limit:
            data: bytes = self._stream.read(max_bytes, limit)
            return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In slices: httpcore's timeout is for each part that the kernel takes, however small.
        for start in range(0, len(buffer), _SLICE):
            with _bounded(timeout) as limit:
                self._stream.write(buffer[start : start + _SLICE], limit)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Stream:
        with _bounded(timeout) as limit:
            return _Stream(self._stream.start_tls(ssl_context, server_hostname, limit))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _end() -> Deadline | None:
    """Return the earlier of the block's deadline and that of a `timeout_context` around it."""
    found = [each for each in (_ends.get(), current_deadline()) if each is not None]
    return min(found, key=Deadline.remaining, default=None)


@contextlib.contextmanager
def _bounded(timeout: float | None) -> Iterator[float | None]:
    """Yield how long an operation may last; raises HTTPTimeoutError once the deadline has passed."""
    end = _end()
    if end is None:
        yield timeout
        return
    if end.expired:
        raise _overrun(end)
    try:
        yield end.clamp(timeout)
    except Exception as error:
        if end.expired:
            raise _overrun(end) from error
        raise


def _overrun(end: Deadline) -> HTTPTimeoutError:
    return HTTPTimeoutError(f"The request did not end within {end.seconds:g} s.")
