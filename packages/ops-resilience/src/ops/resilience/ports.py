"""Ports and connectivity: is something listening, is something free. Contacts only the hosts it is given."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from typing import TYPE_CHECKING, overload
from urllib.parse import urlsplit

from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import ValidationError
from ops.resilience._http_policy import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_connectivity", "get_free_port", "is_port_available", "wait_for_port"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


def get_free_port(host: str = "127.0.0.1") -> int:
    """Return a port that the system has just given out as free on *host*.

    Another process may take it before you do; where you can, bind port 0 yourself.
    """
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@overload
def is_port_available(port: int, host: str = "127.0.0.1") -> bool: ...
@overload
def is_port_available(port: str, host: int) -> bool: ...
def is_port_available(port: int | str, host: str | int = "127.0.0.1") -> bool:
    """Return whether *port* can be bound on *host* now; the order (host, port) is understood as well.

    Raises ValidationError for what is no port.
    """
    port, host = _port_and_host(port, host)
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


@overload
def wait_for_port(
    port: int,
    host: str = "127.0.0.1",
    *,
    timeout: float = 30.0,
    interval: float = 0.05,
    sleep: Callable[[float], object] = time.sleep,
) -> bool: ...
@overload
def wait_for_port(
    port: str,
    host: int,
    *,
    timeout: float = 30.0,
    interval: float = 0.05,
    sleep: Callable[[float], object] = time.sleep,
) -> bool: ...
def wait_for_port(
    port: int | str,
    host: str | int = "127.0.0.1",
    *,
    timeout: float = 30.0,
    interval: float = 0.05,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Wait until something accepts connections on *port*, and return True.

    Args:
        port: 1 to 65535.
        host: name or address; the order (host, port) is understood as well.
        timeout: seconds after which TimeoutError is raised.
        interval: seconds between attempts.
        sleep: what waits.

    Raises `ValidationError` for what is no port, no host or no number of seconds.
    """
    port, host = _port_and_host(port, host)
    refuse_coroutine_function(sleep, "sleep")
    if math.isnan(timeout):
        raise ValidationError("timeout=nan is no number of seconds.")
    deadline = time.monotonic() + timeout
    while True:
        # Not longer than what is left, as packets may be dropped in silence.
        patience = min(1.0, max(0.01, deadline - time.monotonic()))
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=patience):
            return True
        if time.monotonic() >= deadline:
            raise TimeoutError(
                f"Nothing accepted connections on {host}:{port} within {timeout:g} s."
            )
        sleep(interval)


def check_connectivity(url: str, *, timeout: float = 5.0) -> bool:
    """Return whether a TCP connection to the host of *url* can be made; sends nothing.

    *timeout* is in seconds. Raises `ValidationError` for a *url* without a host and a port.
    """
    host, port = _host_and_port(url)
    try:
        with socket.create_connection((host, port), timeout=timeout):
            return True
    except OSError:
        return False


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        parts, port = urlsplit(""), None
    if not parts.hostname or port is None:
        shown = redacted(url)  # it may hold a password
        raise ValidationError(f"{shown!r} names no host and port; for example http://db:8080.")
    return parts.hostname, port


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _port_and_host(port: object, host: object) -> tuple[int, str]:
    """Return both in this order, whichever way they were given: one is a number, the other is not."""
    if isinstance(port, str) and isinstance(host, int):
        port, host = host, port
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise ValidationError(f"{port!r} is no port: 1 to 65535.")
    if not isinstance(host, str):
        raise ValidationError(f"{host!r} is no host: a name or an address.")
    return port, host
