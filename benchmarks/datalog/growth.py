"""How the costs of a log grow with its messages, of 64 bytes each, kept as segments."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from benchmarks.harness import Case, Growth, decades

from ops.datalog import DataLogger, LogReader

SIZES = {"messages": decades(10_000, 10_000_000)}
BATCH = 10_000


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield a case for each size of each operation."""
    for size in sizes["messages"]:
        with tempfile.TemporaryDirectory() as folder:
            yield from _by_messages(pathlib.Path(folder), size)


def _by_messages(folder: pathlib.Path, size: int) -> Iterator[Case]:
    curve: dict[str, Any] = {"size": size, "unit": "messages", "growth": Growth.FLAT}
    rows = np.random.default_rng(0).integers(0, 256, (BATCH, 64), np.uint8)
    payload = rows[0].tobytes()
    with DataLogger(folder, layout="segments") as logger:
        sink = logger.input_queue
        for start in range(0, size, BATCH):
            sink.put_many(1, np.arange(start, start + BATCH), rows)
        # Of another source and later, so that what is read below is what it would be without.
        yield Case(
            "log one message",
            {"ops-datalog": lambda: sink.log(2, size, payload)},
            number=2_000,
            **curve,
        )
    log = logger.read()
    yield Case(
        "iterate a log, per message",
        {"ops-datalog": lambda: sum(1 for _ in log.iter(1))},
        number=1,
        rounds=3,
        warm=False,
        divide=size,
        **curve,
    )
    yield Case(
        "a range of a thousand times",
        {"ops-datalog": lambda: _range(log, size // 2)},
        number=1,
        rounds=5,
        **curve | {"growth": Growth.LINEAR},
    )


def _range(log: LogReader, start: int) -> None:
    assert sum(1 for _ in log.iter(1, start, start + 1_000)) == 1_000
