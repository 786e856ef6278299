"""A ledger in any storage that can be read, so that it can be kept with the destination.

Closing is one create-once put of an object whose name is the slice and whose content are the keys.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import pathlib
import tempfile
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ops.foundation.ids import generate_short_id
from ops.foundation.instants import iso, now, require_aware
from ops.metrics_collect.errors import ObjectExists, ObjectNotFound, StateError
from ops.metrics_collect.ledger import FORMAT, AnyLedger, Interval, ended, mark_of_keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.metrics_collect.storage import Storage

__all__ = ["LedgerStorage"]


class LedgerStorage(AnyLedger):
    """A ledger of objects below *prefix* of a storage; any number of processes may use it at once.

    `origin.json`; `closed/<collector>/<since>_<until>_<revision>.keys`, a key a line;
    `failed/<collector>/<since>_<until>.json`.
    """

    def __init__(self, storage: Storage, prefix: str = "ledger") -> None:
        self._storage = storage
        self._prefix = prefix.strip("/")

    @property
    def origin(self) -> str:
        """A random name of this ledger, kept for ever: identifies its parcels.

        Raises `StateError` for a ledger of a newer format.
        """
        name = f"{self._prefix}/origin.json"
        with contextlib.suppress(ObjectExists):
            if not self._storage.exists(name):
                made = {"format": FORMAT, "origin": generate_short_id()}
                self._storage.put(name, dict=made, overwrite=False)
        found = self._json(name)
        if found["format"] != FORMAT:
            raise StateError(
                f"The ledger {self._prefix!r} has format {found['format']}, this program knows {FORMAT}.",
                suggestions=("Update ops-metrics-collect.",),
            )
        return str(found["origin"])

    def close(
        self, collector: str, interval: Interval, revision: int = 0, keys: Iterable[str] = ()
    ) -> None:
        """Record that a slice, or a later revision of it, has arrived with rows of these keys."""
        stem = self._stem("closed", collector, interval)
        with tempfile.TemporaryFile() as file:
            file.writelines(key.encode("utf-8", "surrogatepass") + b"\n" for key in keys)
            file.seek(0)
            with contextlib.suppress(ObjectExists):
                self._storage.put(f"{stem}_{revision:06}.keys", fileobj=file, overwrite=False)
        names = self._storage.list(f"{self._prefix}/failed/{quote(collector)}/")
        for over in ended(self, collector, interval, [self._parsed(name)[1] for name in names]):
            with contextlib.suppress(ObjectNotFound):
                self._storage.remove(f"{self._stem('failed', collector, over)}.json")

    def record_failure(self, collector: str, interval: Interval, error: str) -> None:
        """Remember why a slice is still a gap, or was not searched for late rows."""
        name = f"{self._stem('failed', collector, interval)}.json"
        self._storage.put(name, dict={"error": error, "failed_at": iso(now())})

    def failures(self) -> list[tuple[str, Interval, str]]:
        """Return (collector, slice, error) of the slices whose last attempt failed."""
        found = []
        for name in self._storage.list(f"{self._prefix}/failed/"):
            collector, interval, _ = self._parsed(name)
            with contextlib.suppress(ObjectNotFound):  # closed since it was listed
                found.append((collector, interval, str(self._json(name)["error"])))
        return found

    def closed(self, collector: str) -> list[Interval]:
        """Return the closed slices as they were closed, in order."""
        names = self._storage.list(f"{self._prefix}/closed/{quote(collector)}/")
        return sorted({self._parsed(name)[1] for name in names})

    def collectors(self) -> list[str]:
        """Return the keys of the collectors that have closed slices."""
        names = self._storage.list(f"{self._prefix}/closed/")
        return sorted({self._parsed(name)[0] for name in names})

    def next_revision(self, collector: str, interval: Interval) -> int:
        """Return the revision that the next shipment of this slice has; 0 is the first."""
        return len(self._revisions(collector, interval))

    def keys(self, collector: str, interval: Interval) -> set[str]:
        """Return the primary keys of the rows that arrived with this slice."""
        found: set[str] = set()
        for name in self._revisions(collector, interval):
            with self._storage.get(name) as path, pathlib.Path(path).open("rb") as file:
                found.update(line[:-1].decode("utf-8", "surrogatepass") for line in file)
        return found

    def forget_keys(self, before: dt.datetime) -> int:
        """Drop the keys of slices that ended before a time, and return of how many slices."""
        forgotten = set()
        mark = mark_of_keys(None).encode() + b"\n"
        for name in self._storage.list(f"{self._prefix}/closed/"):
            collector, interval, _ = self._parsed(name)
            if interval.until < before:
                with self._storage.get(name) as path:
                    if pathlib.Path(path).read_bytes() == mark:
                        continue
                self._storage.put(name, fileobj=io.BytesIO(mark))
                forgotten.add((collector, interval))
        return len(forgotten)

    def _revisions(self, collector: str, interval: Interval) -> list[str]:
        return self._storage.list(f"{self._stem('closed', collector, interval)}_")

    def _stem(self, kind: str, collector: str, interval: Interval) -> str:
        bounds = "_".join(_compact(m) for m in (interval.since, interval.until))
        return f"{self._prefix}/{kind}/{quote(collector)}/{bounds}"

    def _parsed(self, name: str) -> tuple[str, Interval, str]:
        _, collector, last = name.rsplit("/", 2)
        since, until, *rest = last.rpartition(".")[0].split("_")
        return (
            unquote(collector),
            Interval(_parsed_time(since), _parsed_time(until)),
            "_".join(rest),
        )

    def _json(self, name: str) -> dict[str, object]:
        with self._storage.get(name) as path:
            found: dict[str, object] = json.loads(pathlib.Path(path).read_text("utf-8"))
        return found


_COMPACT = "%Y%m%dT%H%M%S.%fZ"


def _compact(time: dt.datetime) -> str:
    return require_aware(time).astimezone(dt.UTC).strftime(_COMPACT)


def _parsed_time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, _COMPACT).replace(tzinfo=dt.UTC)
