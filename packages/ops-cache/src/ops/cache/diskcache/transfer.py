"""Importing what diskcache has stored: in batches, each with the number of its last row in one transaction.

So an import that is interrupted, or killed, goes on behind the last batch when it is called again, and no entry
is imported twice. Expired rows are left out.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

from ops.cache.diskcache.folders import UnreadableRowError, stores_in
from ops.cache.diskcache.keys import to_stored
from ops.foundation.errors import OpsError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.cache.disk.store import DiskCache
    from ops.cache.disk.transactions import Transaction
    from ops.cache.diskcache.folders import Pickles, Row, Store
    from ops.foundation.files import StrPath

__all__ = ["ImportReport", "import_diskcache"]

_ROWS_AT_ONCE = 200
_BYTES_AT_ONCE = 8 << 20
_DONE = "ops.cache.import"
_LONGEST_REASON, _MOST_REASONS = 200, 50


@dataclasses.dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    *imported* counts rows that were written, *expired* those whose time was over, *done_before*
    those of an earlier run; *skipped* counts the others by the reason.
    """

    imported: int
    expired: int
    done_before: int
    skipped: dict[str, int]

    @property
    def is_complete(self) -> bool:
        """Whether every row that had not expired is in the target."""
        return not self.skipped


class _Counts:
    def __init__(self) -> None:
        self.imported = self.expired = self.done_before = self.seen = 0
        self.skipped: collections.Counter[str] = collections.Counter()

    def skip(self, reason: str) -> None:
        """Count a row that was not imported; of very many reasons the last are one."""
        short = reason[:_LONGEST_REASON]
        is_new = short not in self.skipped and len(self.skipped) >= _MOST_REASONS
        self.skipped["other reasons" if is_new else short] += 1


def import_diskcache(
    source: StrPath,
    target: DiskCache,
    *,
    pickles: Pickles = "data",
    progress: Callable[[int, int], object] | None = None,
) -> ImportReport:
    """Copy the entries of a folder of diskcache into *target*, with their tags and the time they have left.

    Stores within a `FanoutCache` go to namespaces: `target.namespace("index").namespace("name")`.

    Args:
        source: A folder of diskcache 5, which is not changed.
        target: The cache that takes the entries. What it has is replaced where keys are equal.
        pickles: What happens to pickled keys and values. "data" reads those of plain data, by an
            interpreter that looks no name up and calls nothing; "run" runs all, which runs whatever
            code lies in them; "skip" reads none.
        progress: Called with the number of rows seen and of all rows, after each batch.

    Raises:
        ValidationError: *target* lies in *source*, or the other way round.
        UnsuitableFolderError: there is no store of diskcache in *source*, or its database is damaged from
            some row on; those before it were imported.
        CacheFullError: the disk of *target* takes no more; call again to go on.
    """
    stores = stores_in(source)
    here, there = pathlib.Path(source).resolve(), target.directory.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise ValidationError(
            f"{there} is not a folder of its own beside {here}.",
            suggestions=("Give a new folder as the target; the old one is not changed.",),
        )
    counts, total = _Counts(), 0
    for store in stores:
        with store:
            total += store.count()
    for store in stores:
        with store:
            _import_store(
                store, target, pickles, counts, lambda: progress and progress(counts.seen, total)
            )
    return ImportReport(counts.imported, counts.expired, counts.done_before, dict(counts.skipped))


def _import_store(
    store: Store, target: DiskCache, pickles: Pickles, counts: _Counts, report: Callable[[], object]
) -> None:
    view = target
    for name in store.names:
        view = view.namespace(name)
    marks, mark = target.namespace(_DONE), (os.fspath(store.folder.resolve()), pickles)
    done = marks.get(mark, 0)
    before = store.count() - store.count(done)
    counts.done_before += before
    counts.seen += before
    rows = store.rows(done)
    while batch := _next_batch(rows):
        with view.transact() as changes:
            for row in batch:
                _import_row(store, row, changes, pickles, counts, target.max_value_bytes)
            if (item := marks.encoded(mark, batch[-1].number, None, None)) is not None:
                changes.include(item)
        counts.seen += len(batch)
        report()


def _next_batch(rows: Any) -> list[Row]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.value) if isinstance(row.value, (bytes, str)) else 100
        size += (32 << 10) * (row.filename is not None)
        if len(batch) == _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE:
            break
    return batch


def _import_row(
    store: Store, row: Row, changes: Transaction, pickles: Pickles, counts: _Counts, most: int
) -> None:
    try:
        seconds = row.time_left()
        if seconds is not None and seconds <= 0:
            counts.expired += 1
            return
        key = to_stored(store.key(row, pickles))
        changes.set(key, store.value(row, pickles, most), seconds, tag=_tag(row.tag))
    except UnreadableRowError as error:
        counts.skip(error.message)
    except OpsError as error:
        if isinstance(error, OSError):  # a full disk
            raise
        counts.skip(f"{type(error).__name__}: it cannot be stored")
    except (RecursionError, MemoryError) as error:
        counts.skip(f"{type(error).__name__}: it takes more than there is")
    else:
        counts.imported += 1


def _tag(tag: Any) -> str | None:
    if isinstance(tag, bytes):
        tag = tag.decode("utf-8", "backslashreplace")
    return None if tag is None or tag == "" else str(tag)
