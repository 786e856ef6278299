"""Addresses that a journal keeps: relative to the store, where what they lead to is in it.

A store works where it lies now: it may be moved, copied, or mounted elsewhere. So an address below its folder is kept as
``{store}/experiment_tracking/…``, or ``file://{store}/…`` if it was given as a URI, and becomes absolute when it is read. Journals
of older versions have absolute addresses; one that ends in a run, logged model or version that is in this store leads there,
whatever it begins with. All others are of another machine or service, and stay as they are.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from ops.registry.disk.checked_paths import is_relative
from ops.registry.errors import CorruptStoreError

if TYPE_CHECKING:
    import pathlib

__all__ = ["below", "is_sound", "kept", "local_path", "resolved"]

_STORE = "{store}/"
_URI = f"file://{_STORE}"
#: Where a store has what it gives addresses of.
_OWN = (
    "experiment_tracking/artifacts",
    "experiment_tracking/logged_models",
    "model_registry/artifacts",
)


def kept(store: pathlib.Path, address: str) -> str:
    """Return *address* as a journal of the store in the folder *store* keeps it."""
    path = local_path(address)
    tail = None if path is None else below(store, path)
    if tail is None:
        return address
    return f"{_URI}{quote(tail)}" if _is_uri(address) else f"{_STORE}{tail}"


def resolved(store: pathlib.Path, address: str) -> str:
    """Return what a journal of the store in the folder *store* keeps as an address that leads there now.

    Raises:
        CorruptStoreError: it would lead out of the store, which this package never writes.
    """
    if not is_sound(address):
        raise CorruptStoreError(f"An address leads out of the store: {address!r:.120}.")
    if address.startswith(_URI):
        return f"{store.as_uri()}/{address.removeprefix(_URI)}"
    if address.startswith(_STORE):
        return f"{store}/{address.removeprefix(_STORE)}"
    path = local_path(address)
    if path is None or not path.startswith("/") or path.startswith(f"{store}/"):
        return address
    tail = _own_tail(path)
    if tail is None or not os.path.lexists(f"{store}/{tail}"):
        return address
    return f"{store.as_uri()}/{quote(tail)}" if _is_uri(address) else f"{store}/{tail}"


def is_sound(address: object) -> bool:
    """Whether *address* is a text that, if it is relative to the store, stays in it."""
    if not isinstance(address, str):
        return False
    for mark in (_URI, _STORE):
        if address.startswith(mark):
            tail = address.removeprefix(mark)
            return is_relative(unquote(tail) if mark == _URI else tail)
    return True


def local_path(address: str) -> str | None:
    """Return the path that an address is, None if it is one of a service."""
    parts = urlsplit(address)
    if _is_uri(address):
        return unquote(parts.path) if parts.netloc in {"", "localhost"} else None
    return address if not parts.scheme or os.path.splitdrive(address)[0] else None


def below(store: pathlib.Path, path: str) -> str | None:
    """Return the relative path of what is in a store, with slashes; None for all else."""
    if not os.path.isabs(path):  # noqa: PTH117 - a text
        return None
    for root, found in (
        (str(store), os.path.normpath(path)),
        (os.path.realpath(store), os.path.realpath(path)),
    ):
        if found.startswith(f"{root}{os.sep}"):
            tail = found[len(root) + 1 :].replace(os.sep, "/")
            return tail if is_relative(tail) else None
    return None


def _own_tail(path: str) -> str | None:
    for part in _OWN:
        at = path.rfind(f"/{part}/")
        if at >= 0:
            tail = path[at + 1 :]
            return tail if is_relative(tail) else None
    return None


def _is_uri(address: str) -> bool:
    return address.startswith("file:")
