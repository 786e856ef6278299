"""What ``ops-registry://PATH`` means: the folder of a store, and how its journals are flushed.

The folder is the *storage_path* of `ops.registry.init_mlops`: what MLflow writes there is seen by
`ops.registry`, and the other way round. ``ops-registry:///data/mlops`` is absolute,
``ops-registry://mlops`` is below the working directory, and ``?durability=commit`` is as in
`MLOpsConfig`.
"""

from __future__ import annotations

import pathlib
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from ops.registry.disk.journal import DURABILITIES
from ops.registry.errors import InvalidValueError

__all__ = ["SCHEME", "Address", "parse_address"]

SCHEME = "ops-registry"


class Address(NamedTuple):
    """The folder of a store, absolute, and the durability of what is written through this address."""

    root: pathlib.Path
    durability: str


def parse_address(uri: str) -> Address:
    """Parse *uri*; anything that is not understood is an `InvalidValueError`."""
    parts = urlsplit(uri)
    path = unquote(parts.netloc + parts.path)
    if parts.scheme != SCHEME or not path:
        raise InvalidValueError(
            f"{uri!r} is no address of a store; it looks like {SCHEME}:///data/mlops."
        )
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    durability = options.pop("durability", "process")
    if options or durability not in DURABILITIES:
        raise InvalidValueError(
            f"{uri!r} asks for what is unknown; after ? there may be durability, "
            f"one of {list(DURABILITIES)}."
        )
    return Address(pathlib.Path(path).absolute(), durability)
