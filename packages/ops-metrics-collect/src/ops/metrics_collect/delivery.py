"""How a parcel arrives: stored once, its slice closed, also where another worker was there before.

Names are created once. What is there already is ours from before a crash, or of another worker of the same
ledger, which died before it closed the slice, or was faster. Equal rows are an arrival. Where rows were committed
or changed meanwhile, what is there stays, and the rest of our rows, by primary key, travels as the next revision
of the slice. Without a key, a slice that is not closed yet and fits into one tarball is put again.

A row that has arrived with other values is a changed row when the ledger is kept with the destination,
since only workers of one installation share it. With a ledger of our own it may be the row of another
installation (a copied state): then nothing is done, and it stays a conflict.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from typing import TYPE_CHECKING, Any

from ops.foundation.hashing import calculate_file_hash
from ops.foundation.instants import iso
from ops.foundation.paths import is_there
from ops.metrics_collect.collectors import CollectorFactory
from ops.metrics_collect.csv_parts import part_path, write_csv_parts
from ops.metrics_collect.errors import (
    AccessDenied,
    BrokenTarballError,
    ObjectExists,
    ShipConflict,
    StateError,
)
from ops.metrics_collect.extractor import Extractor
from ops.metrics_collect.late_rows import key_without_key
from ops.metrics_collect.ledger import mark_of_keys
from ops.metrics_collect.ledger_storage import LedgerStorage
from ops.metrics_collect.package import Package
from ops.metrics_collect.tarballs import payload_digests

if TYPE_CHECKING:
    import os
    import pathlib
    from collections.abc import Iterable, Iterator

    from ops.metrics_collect.ledger import AnyLedger
    from ops.metrics_collect.outbox import Outbox, Parcel
    from ops.metrics_collect.storage import Storage

__all__ = ["KEYS", "arrives"]

#: File of a parcel with the primary keys of its rows.
KEYS = "keys.txt"

_PART_BYTES = 50_000_000
_REVISION = re.compile(r"-r[0-9]+$")


def arrives(storage: Storage, ledger: AnyLedger, outbox: Outbox, parcel: Parcel) -> bool:
    """Store a parcel and close its slice; False when it was settled with what another worker stored.

    Raises `ShipConflict` when that cannot be.
    """
    try:
        for path in parcel.files():
            _put_once(storage, path)
    except ShipConflict:
        if not _settled(storage, ledger, outbox, parcel):
            raise
        return False
    _close(ledger, parcel)
    return True


def _put_once(storage: Storage, path: pathlib.Path) -> None:
    try:
        storage.put(path.name, filename=path, overwrite=False)
    except ObjectExists as error:
        # Ours from before a crash, or of another worker? The rows decide; the status file has times.
        try:
            with storage.get(path.name) as there:
                if calculate_file_hash(there) == calculate_file_hash(path):
                    return
                found = payload_digests(there)
        except AccessDenied:
            # It cannot be compared, but it is of our ledger, and of a slice that is not closed yet.
            storage.put(path.name, filename=path)
        else:
            if found is None or found != payload_digests(path):
                raise ShipConflict(
                    f"{path.name!r} at the destination has other rows than ours.",
                    suggestions=("Has another outbox shipped this slice?",),
                ) from error


def _close(ledger: AnyLedger, parcel: Parcel) -> None:
    meta = parcel.meta
    with contextlib.ExitStack() as stack:
        keys: Iterable[str] = ()
        path = parcel.path / KEYS
        if is_there(path):
            file = stack.enter_context(path.open(encoding="utf-8"))
            keys = (line.rstrip("\n") for line in file)
        ledger.close(meta["collector"], parcel.interval, meta["revision"], keys)


def _settled(storage: Storage, ledger: AnyLedger, outbox: Outbox, parcel: Parcel) -> bool:
    """Complete the slice of *parcel*, whose names are taken; False if that would lose rows.

    What is left of it, if anything, is a new parcel then, and *parcel* is done.
    """
    column = _key_column(parcel)
    if column is None:
        return isinstance(ledger, LedgerStorage) and _replaced(storage, ledger, outbox, parcel)
    collector, revision = str(parcel.meta["collector"]), int(parcel.meta["revision"])
    arrived: dict[str, int] = {}
    try:
        for name in _names_there(storage, parcel):
            with storage.get(name) as path:
                arrived |= {key: hash(row) for key, row in _rows([path], collector, column)}
    except (BrokenTarballError, KeyError):  # no tarball, or one without the key: not ours
        return False
    known = ledger.keys(collector, parcel.interval)
    changed, fresh = set(), set()
    for key, row in _rows(parcel.files(), collector, column):
        if key in arrived and arrived[key] != hash(row):
            changed.add(key)
        elif key not in arrived and key not in known:
            fresh.add(key)
    if changed and not isinstance(ledger, LedgerStorage):
        return False
    # In this order: whatever dies in between, the rest is shipped, or found to be missing again.
    if wanted := fresh | changed:
        _stage_rest(ledger, outbox, parcel, column, wanted)
    mark = mark_of_keys(column)
    ledger.close(collector, parcel.interval, revision, [mark, *arrived])
    outbox.done(parcel)
    return True


def _replaced(storage: Storage, ledger: AnyLedger, outbox: Outbox, parcel: Parcel) -> bool:
    """Put a parcel without keys again, or leave it when its slice is closed; False if it has parts."""
    collector, revision = str(parcel.meta["collector"]), int(parcel.meta["revision"])
    if ledger.next_revision(collector, parcel.interval) <= revision:
        files = parcel.files()
        if len(files) != 1 or _names_there(storage, parcel) != [files[0].name]:
            return False
        storage.put(files[0].name, filename=files[0])
        ledger.close(collector, parcel.interval, revision, [mark_of_keys(None)])
    outbox.done(parcel)
    return True


def _key_column(parcel: Parcel) -> str | None:
    """Return the column whose keys the parcel has; None when it has none."""
    path = parcel.path / KEYS
    if not is_there(path):
        return None
    with path.open(encoding="utf-8") as file:
        first = json.loads(next(file, "null"))
    column = first.get("column") if isinstance(first, dict) else None
    return None if column is None else str(column)


def _names_there(storage: Storage, parcel: Parcel) -> list[str]:
    """Return the names at the destination that are of this parcel, also where it had more parts."""
    part = re.compile(re.escape(parcel.name) + r"-[0-9]{6}[.]tar[.]gz")
    names = {name for name in storage.list(parcel.name) if part.fullmatch(name)}
    ours = {path.name for path in parcel.files()} - names  # of another format
    return sorted(names | {name for name in ours if storage.exists(name)})


def _rows(
    files: Iterable[str | os.PathLike[str]], collector: str, column: str
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the key of each row as ledgers have it, and the row with the names of its columns."""
    for payload in Extractor(files).payloads({collector}):
        names = tuple(payload.batch.schema.names)
        keys = payload.batch.column(column).to_pylist()
        values = zip(*(c.to_pylist() for c in payload.batch.columns), strict=True)
        for key, row in zip(keys, values, strict=True):
            # As in the ledger: a row without a key is known by all of its fields.
            yield json.dumps(key) if key is not None else key_without_key(row), (names, row)


def _stage_rest(
    ledger: AnyLedger, outbox: Outbox, parcel: Parcel, column: str, wanted: set[str]
) -> None:
    """Make a parcel of the rows with *wanted* keys: the next revision of the slice."""
    collector, interval = str(parcel.meta["collector"]), parcel.interval
    revision = max(ledger.next_revision(collector, interval), int(parcel.meta["revision"]) + 1)
    name = f"{_REVISION.sub('', parcel.name)}-r{revision}"
    if outbox.find(name):  # from before a crash
        return
    config = next(p.config for p in Extractor(parcel.files()).payloads())
    meta = {
        **parcel.meta,
        "since": iso(interval.since),
        "until": iso(interval.until),
        "revision": revision,
    }

    def rest(*, since: Any, until: Any, output_dir: Any = None) -> list[pathlib.Path]:  # noqa: ARG001
        made: list[pathlib.Path] = []
        for number, file in enumerate(parcel.files()):
            rows = [r for key, r in _rows([file], collector, column) if key in wanted]
            path = functools.partial(part_path, output_dir, f"{collector}-{number}")
            for names in dict.fromkeys(names for names, _ in rows):
                values = (row for columns, row in rows if columns == names)
                made += write_csv_parts(values, names, path, max_bytes=_PART_BYTES)
        return made

    factory = CollectorFactory(
        rest,
        key=collector,
        version=str(parcel.meta.get("version", "1.0")),
        primary_key=column,
        version_column=parcel.meta.get("version_column"),
    )
    with outbox.stage(name, meta) as folder:
        keys = [mark_of_keys(column), *sorted(wanted)]
        (folder / KEYS).write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
        work = factory(since=interval.since, until=interval.until)
        package = Package(
            [work],
            config,
            tarball_format=name.replace("{", "{{").replace("}", "}}") + "-{index:06}.tar.gz",
            uuid=ledger.origin,
            layout=parcel.meta.get("layout", "ops"),
            directory=folder,
            keep=True,
        )
        for _ in package:
            pass
        for status in package.statuses:
            if status.status == "failed":
                raise StateError(
                    f"What is left of {parcel.name!r} cannot be packed: {status.error}"
                )
