"""Ports and connectivity: is something listening, is something free. Contacts only what it is told to."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_connectivity", "get_free_port", "is_port_available", "wait_for_port"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


def get_free_port(host: str = "127.0.0.1") -> int:
    """Return a port that the system has just given out as free on *host*.

    Somebody else may take it before you do; where you can, bind port 0 yourself.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_port_available(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether *port* can be bound on *host* now."""
    _check_port(port)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def wait_for_port(
    port: int,
    host: str = "127.0.0.1",
    *,
    timeout: float = 30.0,
    interval: float = 0.05,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Wait until something accepts connections on *port*; raises TimeoutError after *timeout* s."""
    _check_port(port)
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        if time.monotonic() >= deadline:
            raise TimeoutError(
                f"Nothing accepted connections on {host}:{port} within {timeout:g} s."
            )
        sleep(interval)


def check_connectivity(url: str, *, timeout: float = 5.0) -> bool:
    """Tell whether a TCP connection to the host of *url* can be made; sends nothing."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    if not parts.hostname or port is None:
        raise ValidationError(f"{url!r} names no host and port; for example http://db:8080.")
    try:
        with socket.create_connection((parts.hostname, port), timeout=timeout):
            return True
    except OSError:
        return False


def _check_port(port: int) -> None:
    if not 0 < port < 65536:
        raise ValidationError(f"{port} is no port: 1 to 65535.")
