"""Listening: `serve` runs the web UI of a store until it is stopped."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

from ops.foundation.errors import MissingExtraError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.registry.context import MLOpsContext

__all__ = ["serve"]


def serve(
    context: MLOpsContext,
    *,
    host: str = "127.0.0.1",
    port: int = 5066,
    token: str | None = None,
    allow_writes: bool = False,
    ready: Callable[[str], object] = lambda _address: None,
) -> None:
    """Serve the pages of *context* until SIGINT or SIGTERM.

    Beyond loopback a *token* is required; "auto" makes one. *port* 0 takes a free one. *ready* is
    called with the address to open, the token in it.
    """
    try:
        import uvicorn

        from ops.registry.ui.app import create_app
        from ops.registry.ui.security import is_loopback
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "starlette", "ops-registry[ui]") from error
    if token == "auto":  # noqa: S105 - the word that asks for one
        token = secrets.token_urlsafe(24)
    if not is_loopback(host) and not token:
        raise ValidationError(
            f"{host} can be reached by others, so a token is needed.",
            suggestions=('Pass a token, or "auto" for a fresh one.',),
        )
    app = create_app(context, token=token, allow_writes=allow_writes, hosts=[host])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)  # now, so that the address works as soon as it is printed
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listener.getsockname()[1]}/"
        ready(address if token is None else f"{address}?token={quote(token, safe='')}")
        # A live stream never ends by itself: do not wait for it at the end.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        with _signals_end_quietly():
            uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Let a signal end the server and not the process: uvicorn raises it again when it is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
