"""What runs log, kept in a local journal until the warehouse has it.

A frame is on the local disk when a log call returns; nothing waits for the network. Frames are sent
in batches: after a second in the background, and before this process reads. Each point has the
name of its spool and its number there: a batch that is sent twice, because the answer was lost or the
process died before it noted the success, is counted once by readers. A spool belongs to the process
that holds its lock. One whose owner died is sent, and deleted, by the next process with this folder.
While the warehouse cannot be reached frames stay where they are, which makes logging work offline.
"""

from __future__ import annotations

import json
import math
import secrets
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import LockTimeout, OpsError
from ops.foundation.forks import in_children
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger
from ops.foundation.paths import is_there, listed
from ops.registry.databricks.patience import at_most
from ops.registry.disk.journal import JournalReader, JournalWriter, decode, encode, writing
from ops.registry.search.filters import as_number, as_text

if TYPE_CHECKING:
    import logging
    import pathlib
    from collections.abc import Callable, Iterable, Iterator

    from ops.registry.databricks.warehouse import Warehouse

__all__ = ["Spool", "send_records"]

logger: logging.Logger = get_logger("ops.registry")

#: Rows per statement, and seconds until they are sent in the background.
BATCH = 5_000
INTERVAL_SECONDS = 1.0
#: The longest time between two tries while the warehouse does not take records, and how long closing a spool
#: waits for a warehouse that is starting: what is not sent stays for the next process.
_LONGEST_INTERVAL, _CLOSING_SECONDS = 30.0, 30.0
_POINTS = "array<struct<r:string,x:string,k:string,v:string,s:bigint,t:bigint,w:string,n:bigint>>"
_FACTS = (
    "array<struct<r:string,x:string,d:string,k:string,b:string,c:string,f:double,t:bigint,"
    "w:string,n:bigint>>"
)


class Spool:
    """The spools in *folder*; this process appends to one of its own, which appears with the first frame."""

    def __init__(
        self, folder: pathlib.Path, warehouse: Warehouse, *, durability: str = "process"
    ) -> None:
        self._folder = folder
        self._warehouse = warehouse
        self._durability = durability
        self._begin_in_process()
        in_children(self, Spool._begin_in_process)

    def _begin_in_process(self) -> None:
        """Start without the locks of a parent process, which no thread releases here."""
        self._mutex = threading.RLock()
        self._sending = threading.RLock()
        self._begin()

    def _begin(self) -> None:
        """Start without a spool."""
        self._name = ""
        self._journal: JournalWriter | None = None
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._count = 0
        self._keeper: _Keeper | None = None

    def append(self, run_id: str, experiment_id: str, body: bytes) -> tuple[str, tuple[int, int]]:
        """Keep what `encode` made of a record; when this returns, a kill cannot lose it.

        Returns in which file it is, and where there.
        """
        with self._mutex:
            journal = self._opened()
            self._count += 1
            index = self._count
            head = f'{{"n":{index},"r":"{run_id}","x":"{experiment_id}","f":'.encode()
            at = journal.append_body(b"%b%b}" % (head, body))
            record = {"r": run_id, "x": experiment_id, "f": decode(body)}
            self._pending.append((index, record))
            return journal.path, at

    def flush(self) -> None:
        """Send what is kept; raises when the warehouse does not take it, and keeps it then."""
        with self._sending:
            while self._pending and self._journal is not None:
                batch = self._pending[:BATCH]
                send_records(self._warehouse, self._name, batch)
                self._journal.append({"sent": batch[-1][0]})
                with self._mutex:
                    del self._pending[: len(batch)]

    def recover(self) -> int:
        """Send the spools of processes that are gone; return how many there were."""
        found = 0
        for path in listed(self._folder, "*.log"):
            if path.stem == self._name:
                continue
            lock = FileLock(path.with_suffix(".lock"), timeout=0)
            try:
                lock.acquire()
            except LockTimeout:
                continue  # its owner lives
            try:
                if is_there(path):
                    for batch in _unsent(path):
                        send_records(self._warehouse, path.stem, batch)
                    path.unlink()
                    found += 1
                path.with_suffix(".lock").unlink(missing_ok=True)
            finally:
                lock.release()
        return found

    def close(self) -> None:
        """Send what is kept and delete the spool; what cannot be sent stays for the next process."""
        if self._keeper is None or self._journal is None:
            return
        with self._sending:
            try:
                with at_most(_CLOSING_SECONDS):
                    self.flush()
            except OpsError:
                logger.warning(
                    "%d records stay in %s", len(self._pending), self._folder, exc_info=True
                )
            with self._mutex:
                self._journal.close()
                path = self._folder / f"{self._name}.log"
                if not self._pending:
                    path.unlink(missing_ok=True)
                keeper = self._keeper
                self._begin()
        keeper.stop()
        if not is_there(path):
            path.with_suffix(".lock").unlink(missing_ok=True)

    def _opened(self) -> JournalWriter:
        if self._journal is None:
            self._name = secrets.token_hex(8)
            with writing(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                # Before the journal: one without an owner is taken over by others.
                self._keeper = _Keeper(self._folder / f"{self._name}.lock", self.flush)
            path = self._folder / f"{self._name}.log"
            try:
                self._journal = JournalWriter(path, durability=self._durability)
            except BaseException:
                self._keeper.stop()
                raise
        return self._journal


class _Keeper:
    """A thread that holds the lock of a spool, because locks belong to threads, and sends it."""

    def __init__(self, path: pathlib.Path, send: Callable[[], None]) -> None:
        self._lock = FileLock(path, timeout=0)
        self._send = send
        self._stopped = threading.Event()
        self._requested = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ops-spool", daemon=True)
        self._thread.start()
        self._requested.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Let go of the lock."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._lock.acquire()
        except (OSError, OpsError) as error:
            self._failure = error
            return
        finally:
            self._requested.set()
        try:
            failures = 0
            while not self._stopped.wait(min(INTERVAL_SECONDS * 2**failures, _LONGEST_INTERVAL)):
                try:
                    with at_most(0):  # it is tried again anyway, and `stop` waits for this thread
                        self._send()
                    failures = 0
                except OpsError as error:
                    failures = min(failures + 1, 10)
                    logger.warning("what was logged waits for the warehouse: %s", error)
        finally:
            self._lock.release()


def _unsent(path: pathlib.Path) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Yield the records of a spool that were not noted as sent, in batches."""
    records = JournalReader(path).poll()
    sent = max((r["sent"] for r in records if "sent" in r), default=0)
    left = [(r["n"], r) for r in records if r.get("n", 0) > sent]
    for start in range(0, len(left), BATCH):
        yield left[start : start + BATCH]


def send_records(
    warehouse: Warehouse, name: str, batch: Iterable[tuple[int, dict[str, Any]]]
) -> None:
    """Insert the rows of records of a writer, each of which has its index there."""
    points: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    for index, record in batch:
        where = {"r": record["r"], "x": record["x"], "w": name}
        for inside, (kind, row) in enumerate(_rows(record["f"])):
            made = where | row | {"n": (index << 20) + inside}
            (points if kind == "point" else facts).append(made)
    if points:
        warehouse.change(
            f"INSERT INTO @ops_run_metrics "  # noqa: S608 - literals of this package, values are parameters
            "SELECT e.r, e.x, e.k, CAST(e.v AS DOUBLE), e.s, e.t, e.w, e.n "
            f"FROM (SELECT explode(from_json(:batch, '{_POINTS}')) AS e)",
            batch=json.dumps(points),
        )
    if facts:
        warehouse.change(
            f"INSERT INTO @ops_run_facts "  # noqa: S608 - literals of this package, values are parameters
            "SELECT e.r, e.x, e.d, e.k, e.b, e.c, e.f, e.t, e.w, e.n "
            f"FROM (SELECT explode(from_json(:batch, '{_FACTS}')) AS e)",
            batch=json.dumps(facts),
        )


def _rows(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a record as the trackers write them (`ops.registry.tracking.logging_api`)."""
    for key, value, step, when in record.get("m", ()):
        yield "point", {"k": key, "v": _number(value), "s": step, "t": when}
    for kind, field in (("param", "p"), ("tag", "g"), ("artifact", "files")):
        for key, value in record.get(field, {}).items():
            # A parameter that is None counts as its JSON; a tag that is None was removed.
            is_text = kind == "param" or (kind == "tag" and value is not None)
            text = as_text(value) if is_text else None
            yield (
                kind,
                {
                    "d": kind,
                    "k": key,
                    # JSON in JSON: what UTF-8 cannot say (half surrogates) stays an escape.
                    "b": encode(value).decode(),
                    "c": None if text is None else text.encode("utf-8", "replace").decode(),
                    "f": None if text is None else _double(text),
                    "t": record["t"],
                },
            )


def _double(text: str) -> float | None:
    number = as_number(text)
    try:
        return None if number is None else float(number)
    except OverflowError:
        return None


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
