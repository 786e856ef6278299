"""How the costs of ops.observe grow: with the series of a collector, with the entries of an audit log."""

from __future__ import annotations

import itertools
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness import Case, Growth, decades

from ops.observe import AuditLogger, MetricsCollector, prometheus_text

SIZES = {"series": decades(10, 100_000), "entries": decades(100, 100_000)}


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield a case for each size of each operation."""
    for size in sizes["series"]:
        yield from _metrics(size)
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes["entries"]:
            yield from _audit(pathlib.Path(folder) / f"{size}.jsonl", size)


def _metrics(size: int) -> Iterator[Case]:
    metrics = MetricsCollector()
    for number in range(size):
        metrics.increment("requests", tags={"path": f"/{number}"})
    paths = itertools.cycle([{"path": f"/{number * 7919 % size}"} for number in range(1_000)])
    yield Case(
        "count one by its name and tags",
        {"ops-observe": lambda: metrics.increment("requests", tags=next(paths))},
        size=size,
        unit="series",
        growth=Growth.FLAT,
    )
    yield Case(
        "export all series as Prometheus text",
        {"ops-observe": lambda: prometheus_text(metrics)},
        number=1,
        rounds=5,
        size=size,
        unit="series",
        growth=Growth.LINEAR,
    )


def _audit(path: pathlib.Path, size: int) -> Iterator[Case]:
    log = AuditLogger(path)
    for number in range(size):
        log.log("promote", user="ann", resource=f"model:churn/{number}")
    yield Case(
        "verify a whole audit log",
        {"ops-observe": log.verify},
        number=1,
        rounds=3,
        size=size,
        unit="entries",
        growth=Growth.LINEAR,
    )
    yield Case(
        "append to an audit log",
        {"ops-observe": lambda: log.log("promote", user="ann", resource="model:churn/0")},
        size=size,
        unit="entries",
        growth=Growth.FLAT,
    )
