"""Outbox: parcels on disk on their way to a storage, each in exactly one state.

    .staging -> new -> sending -> done
                          └----> failed -> new (by `requeue`)

A state is a folder, a parcel a folder in it, and a change of state one rename, which happens wholly
or not at all. So a process may die anywhere: what was being staged is thrown away and gathered
again, what was being sent is sent again. A parcel is staged completely before it becomes visible;
the data of a slice is therefore never mixed from two attempts at gathering it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import pathlib
import shutil
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write, safe_join, sync_directory
from ops.foundation.instants import iso, now
from ops.foundation.paths import is_there, listed
from ops.metrics_collect.errors import OutboxFull, StateError
from ops.metrics_collect.ledger import Interval
from ops.metrics_collect.locks import lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ops.metrics_collect.locks import Holder

__all__ = ["Outbox", "Parcel"]

_STATES = ("new", "sending", "done", "failed")
_META = "parcel.json"
_ERROR = "error.json"
_STAGING = ".staging"


@dataclasses.dataclass(frozen=True, slots=True)
class Parcel:
    """A folder of files that belong together, with what has to be known about them.

    *name* is that of the folder *path*; *state* is "new", "sending", "done" or "failed"; *meta* is
    what `stage` was given.
    """

    name: str
    state: str
    path: pathlib.Path
    meta: Mapping[str, Any]

    @property
    def interval(self) -> Interval:
        """The slice whose rows it holds."""
        since, until = (dt.datetime.fromisoformat(self.meta[k]) for k in ("since", "until"))
        return Interval(since, until)

    def files(self) -> list[pathlib.Path]:
        """Return the tarballs in the order they are to be sent."""
        return listed(self.path, "*.tar.gz")

    def attempts(self) -> int:
        """Return how often sending it has failed."""
        with contextlib.suppress(FileNotFoundError):
            return int(json.loads((self.path / _ERROR).read_text("utf-8"))["attempts"])
        return 0

    def error(self) -> str:
        """Return why sending it failed the last time; empty when it did not."""
        with contextlib.suppress(FileNotFoundError, ValueError, LookupError):
            return str(json.loads((self.path / _ERROR).read_text("utf-8"))["error"])
        return ""


class Outbox:
    """The parcels below *path*.

    A parcel that failed *max_attempts* times, or has waited longer than *max_age* (None: no limit),
    is moved to the failed queue. When what waits has reached *max_bytes* (None: no limit), nothing
    is staged: `OutboxFull`. *clock* returns the time, aware.

    >>> import pathlib, tempfile
    >>> outbox = Outbox(tempfile.mkdtemp())
    >>> with outbox.stage("parcel-1", {"collector": "runs"}) as folder:
    ...     _ = (folder / "rows.csv").write_text("id")
    >>> [parcel.name for parcel in outbox.parcels("new")]
    ['parcel-1']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_attempts: int = 5,
        max_bytes: int | None = None,
        max_age: dt.timedelta | None = None,
        clock: Callable[[], dt.datetime] = now,
    ) -> None:
        self.path: pathlib.Path = pathlib.Path(path)
        self.max_attempts = max_attempts
        self.max_bytes = max_bytes
        self.max_age = max_age
        self._clock = clock
        for state in (*_STATES, _STAGING):
            (self.path / state).mkdir(parents=True, exist_ok=True)

    def lock(self, timeout: float | None = 0) -> contextlib.AbstractContextManager[Holder]:
        """Return the lock to hold while staging or sending; one process works at a time.

        `LockTimeout`, after *timeout* seconds (None: never), names the holder.
        """
        return lock("outbox", path=self.path, timeout=timeout)

    @contextlib.contextmanager
    def stage(self, name: str, meta: Mapping[str, Any]) -> Iterator[pathlib.Path]:
        """Give a folder to fill; it becomes the new parcel *name* with *meta* (JSON values) when the block ends well.

        Raises `StateError` when there is a parcel of that name, `OutboxFull` when what waits has
        reached `max_bytes`.
        """
        if self.find(name):
            raise StateError(f"Parcel {name!r} is in the outbox already.")
        if self.max_bytes is not None and self.waiting_bytes() >= self.max_bytes:
            raise OutboxFull(
                f"{self.waiting_bytes()} bytes wait in {str(self.path)!r}; the limit is {self.max_bytes}.",
                suggestions=("Ship what waits, or requeue or remove what failed.",),
            )
        folder = safe_join(self.path / _STAGING, name)
        shutil.rmtree(self.path / _STAGING, ignore_errors=True)  # what crashes left
        folder.mkdir(parents=True)
        try:
            yield folder
            with atomic_write(folder / _META, durable="full") as file:
                staged = {**meta, "staged_at": iso(self._clock())}
                json.dump(staged, file, indent=1, sort_keys=True)
            for path in folder.iterdir():
                _sync_file(path)
            sync_directory(folder)
            folder.rename(self.path / "new" / name)
            sync_directory(self.path / "new")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def find(self, name: str) -> Parcel | None:
        """Return the parcel of that name in whatever state, or None.

        Raises `StateError` when its description is damaged.
        """
        for state in _STATES if pathlib.PurePath(name).name == name else ():
            path = self.path / state / name
            if is_there(path):
                return _described(path, state)
        return None

    def parcels(self, *states: str) -> list[Parcel]:
        """Return the parcels in these *states* (default: all), in the order of their names.

        Raises `StateError` when the description of one is damaged.
        """
        return [
            _described(path, state)
            for state in states or _STATES
            for path in sorted(p for p in (self.path / state).iterdir() if p.is_dir())
        ]

    def send(self) -> Iterator[Parcel]:
        """Yield each parcel that waits, now in state sending; first those of a process that died.

        The caller ends each with `done` or `fail` before it asks for the next.
        """
        for parcel in self.parcels("sending", "new"):
            if self._is_old(parcel):
                self.fail(parcel, f"waited longer than {self.max_age}", final=True)
                continue
            yield self._move(parcel, "sending") if parcel.state == "new" else parcel

    def done(self, parcel: Parcel) -> None:
        """Record that everything of a parcel has arrived, and drop its files."""
        arrived = self._move(parcel, "done")
        for path in arrived.path.iterdir():
            if path.name != _META:
                path.unlink()

    def fail(self, parcel: Parcel, error: str, *, final: bool = False) -> bool:
        """Record a failure of *parcel*; True if it was moved to the failed queue.

        *error* is the sentence to show. It is moved when this was the last of `max_attempts`, and
        at once when *final*.
        """
        attempts = parcel.attempts() + 1
        with atomic_write(parcel.path / _ERROR, durable="full") as file:
            json.dump({"attempts": attempts, "error": error}, file)
        if final or attempts >= self.max_attempts:
            self._move(parcel, "failed")
            return True
        return False

    def requeue(self, name: str) -> None:
        """Make a failed parcel new again, with its attempts forgotten.

        Raises `StateError` when there is no failed parcel of that name.
        """
        parcel = self.find(name)
        if parcel is None or parcel.state != "failed":
            raise StateError(f"There is no failed parcel {name!r}.")
        (parcel.path / _ERROR).unlink(missing_ok=True)
        with atomic_write(parcel.path / _META, durable="full") as file:  # young again
            json.dump({**parcel.meta, "staged_at": iso(self._clock())}, file, sort_keys=True)
        self._move(parcel, "new")

    def prune(self, before: dt.datetime) -> int:
        """Forget parcels that were done before a time; return how many."""
        old = [
            p
            for p in self.parcels("done")
            if dt.datetime.fromtimestamp(p.path.stat().st_mtime, dt.UTC) < before
        ]
        for parcel in old:
            # Out of sight first, so that a crash leaves no parcel without its description.
            hidden = parcel.path.rename(self.path / _STAGING / parcel.name)
            shutil.rmtree(hidden)
        return len(old)

    def waiting_bytes(self) -> int:
        """Return the size of the parcels that have not arrived, failed ones included."""
        waiting = self.parcels("new", "sending", "failed")
        return sum(file.stat().st_size for p in waiting for file in p.path.iterdir())

    def _is_old(self, parcel: Parcel) -> bool:
        staged_at = parcel.meta.get("staged_at")
        if self.max_age is None or staged_at is None:
            return False
        return self._clock() - dt.datetime.fromisoformat(staged_at) > self.max_age

    def counts(self) -> dict[str, int]:
        """Return how many parcels are in each state."""
        return {state: len(self.parcels(state)) for state in _STATES}

    def _move(self, parcel: Parcel, state: str) -> Parcel:
        path = parcel.path.rename(self.path / state / parcel.name)
        sync_directory(self.path / state)
        return dataclasses.replace(parcel, state=state, path=path)


def _described(path: pathlib.Path, state: str) -> Parcel:
    try:
        meta = json.loads((path / _META).read_text("utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise StateError(
            f"{str(path)!r} is no parcel: {error}.",
            suggestions=("Move the folder out of the outbox; its slice is a gap then.",),
        ) from error
    return Parcel(path.name, state, path, meta)


def _sync_file(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
