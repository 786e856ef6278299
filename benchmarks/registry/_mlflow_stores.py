"""What is measured on MLflow's interface: a store of ours, flushed and by default, beside MLflow's own SQLite store."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

FLUSHED, QUICK, PEER = (
    "ops-registry, flushed to disk",
    "ops-registry, surviving kills",
    "MLflow on SQLite",
)

#: What makes the operations to measure, by name, for the address of a store; artifacts go below the path.
Operations = Callable[[str, pathlib.Path], dict[str, Callable[[], Any]]]


def is_there() -> bool:
    """Whether mlflow can be imported; it says nothing and sends nothing from now on."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError:
        print("pip install mlflow sqlalchemy alembic")
        return False
    mlflow.set_tracking_uri(None)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return True


@contextlib.contextmanager
def opened(
    operations: Operations,
) -> Iterator[tuple[pathlib.Path, dict[str, dict[str, Callable[[], Any]]]]]:
    """Give a folder for this measurement, and the operations of each store in it."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        yield (
            root,
            {
                FLUSHED: operations(f"ops-registry://{root}/flushed?durability=commit", root),
                QUICK: operations(f"ops-registry://{root}/quick", root),
                PEER: operations(f"sqlite:///{root}/mlflow.db", root),
            },
        )


def lines(path: pathlib.Path, sizes: Sequence[int], *, flushed: bool = True) -> Callable[[], Any]:
    """Return what appends lines of these lengths, and flushes each: the least that as many calls can do."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def append() -> None:
        for size in sizes:
            os.write(descriptor, b"x" * size + b"\n")
            if flushed:
                os.fdatasync(descriptor)

    return append
