"""Metrics of the collection itself, as a text file of Prometheus.

A command is over before anything could scrape it, so the metrics are written into a file that the textfile
collector of node_exporter (or a side-car in Kubernetes) reads. It is replaced by one rename.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.foundation.files import atomic_write
from ops.foundation.instants import now

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from ops.foundation.files import StrPath
    from ops.metrics_collect.ledger import AnyLedger
    from ops.metrics_collect.outbox import Outbox

__all__ = ["write_metrics"]


def write_metrics(
    path: StrPath, ledger: AnyLedger, outbox: Outbox, *, at: dt.datetime | None = None
) -> None:
    """Write the state of *ledger* and *outbox* at a time, now by default, to *path*."""
    with atomic_write(path) as file:
        file.writelines(f"{line}\n" for line in _lines(ledger, outbox, at or now()))


def _lines(ledger: AnyLedger, outbox: Outbox, at: dt.datetime) -> Iterator[str]:
    yield from _metric("written_timestamp_seconds", "When these metrics were written.")
    yield f"{_PREFIX}written_timestamp_seconds {at.timestamp():.0f}"
    yield from _metric("outbox_parcels", "Parcels by state; those in state failed need replay.")
    for state, count in outbox.counts().items():
        yield f'{_PREFIX}outbox_parcels{{state="{state}"}} {count}'
    yield from _metric("outbox_waiting_bytes", "Bytes of the parcels that have not arrived.")
    yield f"{_PREFIX}outbox_waiting_bytes {outbox.waiting_bytes()}"
    yield from _metric("failed_slices", "Slices whose last attempt at gathering failed.")
    failed = [collector for collector, _, _ in ledger.failures()]
    collectors = sorted({*ledger.collectors(), *failed})
    for collector in collectors:
        yield f"{_PREFIX}failed_slices{_label(collector)} {failed.count(collector)}"
    yield from _metric("closed_until_timestamp_seconds", "End of the last slice that arrived.")
    for collector in collectors:
        if done := ledger.closed(collector):
            end = max(interval.until for interval in done)
            yield (
                f"{_PREFIX}closed_until_timestamp_seconds{_label(collector)} {end.timestamp():.0f}"
            )


_PREFIX = "ops_metrics_collect_"


def _metric(name: str, summary: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {summary}"
    yield f"# TYPE {_PREFIX}{name} gauge"


def _label(collector: str) -> str:
    escaped = collector.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{{collector="{escaped}"}}'
