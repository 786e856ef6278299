"""All traces of a store, by the experiments that they belong to.

A trace is in the journal of one experiment. A caller that has only its id finds it in the journals that are there: one that was
read costs a `stat`, another is searched for the id as bytes, and read only if it has that.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from ops.foundation.forks import in_children
from ops.foundation.paths import is_there, listed
from ops.registry.disk.checked_paths import inside, is_id
from ops.registry.disk.journal import writing
from ops.registry.traces.journal import TraceJournal

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterable, Sequence

    from ops.registry.traces.state import Trace

__all__ = ["FOLDER", "TraceBook"]

T = TypeVar("T")

#: Below ``experiment_tracking``.
FOLDER = "traces"
#: So many files are open for writing.
_MOST_OPEN = 64
#: Of so many traces it is known without looking where they are.
_MOST_HOMES = 100_000


class TraceBook:
    """The traces in the folder *folder* of a store, which appears with the first of them."""

    def __init__(self, folder: pathlib.Path, durability: str = "process") -> None:
        self.folder = folder
        self._durability = durability
        self._mutex = threading.Lock()
        self._journals: dict[str, TraceJournal] = {}
        #: Those with an open file, the one written to last at the end.
        self._open: dict[str, TraceJournal] = {}
        #: Where each trace was found last.
        self._homes: dict[str, str] = {}
        in_children(self, TraceBook.begin_in_child)

    def begin_in_child(self) -> None:
        """Reset after a fork: another thread may have had the lock."""
        self._mutex, self._open = threading.Lock(), {}

    def journal(self, experiment_id: str) -> TraceJournal:
        """Return the journal of an experiment's traces, which need not be there yet."""
        with self._mutex:
            known = self._journals.get(experiment_id)
            if known is None:
                folder = inside(self.folder, experiment_id)
                known = TraceJournal(folder, self._durability)
                self._journals[experiment_id] = known
            return known

    def experiments(self) -> list[str]:
        """Return the ids of the experiments that have a journal of traces."""
        try:
            with os.scandir(self.folder) as entries:
                return sorted(e.name for e in entries if is_id(e.name) and not e.is_symlink())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _note(self, trace_ids: Iterable[str], experiment_id: str) -> None:
        """Note where traces are, so that they are not looked for; a process that logs for weeks forgets some."""
        if len(self._homes) > _MOST_HOMES:
            self._homes.clear()
        self._homes.update(dict.fromkeys(trace_ids, experiment_id))

    def _writable(self, experiment_id: str) -> TraceJournal:
        """Return a journal that will be written to; of many, those written to long ago are closed."""
        journal = self.journal(experiment_id)
        with self._mutex:
            self._open.pop(experiment_id, None)
            self._open[experiment_id] = journal
            idle = self._open.pop(next(iter(self._open))) if len(self._open) > _MOST_OPEN else None
        if idle is not None:
            idle.close()
        return journal

    def recent(self, trace_id: str) -> Trace | None:
        """Return a trace that this process has written or found, None for any other."""
        home = self._homes.get(trace_id)
        return None if home is None else self.journal(home).get(trace_id)

    def find(self, trace_id: str) -> Trace | None:
        """Return a trace by its id, None when there is none."""
        found = self.recent(trace_id)
        if found is not None:
            return found
        for experiment_id in self.experiments():
            journal = self.journal(experiment_id)
            found = journal.get(trace_id) if journal.may_have(trace_id) else None
            if found is not None:
                self._note([trace_id], experiment_id)
                return found
        self._homes.pop(trace_id, None)
        return None

    def of(self, experiment_ids: Iterable[str]) -> list[Trace]:
        """Return the traces of experiments."""
        there = set(self.experiments())
        return [
            trace
            for experiment_id in dict.fromkeys(experiment_ids)
            if experiment_id in there
            for trace in self.journal(experiment_id).traces()
        ]

    def append(self, experiment_id: str, *records: dict[str, Any]) -> None:
        """Append frames to the journal of an experiment with one write."""
        self._append(experiment_id, records, lambda one: str(one["id"]), TraceJournal.append)

    def append_spans(
        self, experiment_id: str, batches: Sequence[tuple[dict[str, Any], Sequence[bytes]]]
    ) -> None:
        """Append frames of spans, each a head and the spans' JSON, to the journal of an experiment with one write."""
        self._append(
            experiment_id, batches, lambda one: str(one[0]["id"]), TraceJournal.append_spans
        )

    def _append(
        self,
        experiment_id: str,
        frames: Sequence[T],
        id_of: Callable[[T], str],
        write: Callable[[TraceJournal, list[T]], set[str]],
    ) -> None:
        """Append frames where *experiment_id* is, or has been when it was looked up, the home of their traces."""
        waiting = {experiment_id: list(frames)}
        while waiting:
            home, some = waiting.popitem()
            moved = write(self._writable(home), some)
            if not moved:
                self._note(map(id_of, some), home)
                continue
            for one in some:
                found = self.find(id_of(one)) if id_of(one) in moved else None
                waiting.setdefault(home if found is None else found.experiment_id, []).append(one)

    def change(self, trace: Trace, operation: str, **fields: Any) -> None:
        """Append a frame about a trace that is there."""
        self.append(trace.experiment_id, {"op": operation, "id": trace.trace_id, **fields})

    def move(self, trace: Trace, experiment_id: str) -> None:
        """Take a trace to another experiment: it is there before it is gone here."""
        there = self._writable(experiment_id)
        self.journal(trace.experiment_id).move(trace.trace_id, there.append_raw)
        self._note([trace.trace_id], experiment_id)

    def erase(self, experiment_id: str) -> None:
        """Delete the traces of an experiment for ever."""
        with self._mutex:
            known = self._journals.pop(experiment_id, None)
            self._open.pop(experiment_id, None)
        if known is not None:
            known.close()
        folder = inside(self.folder, experiment_id)
        with writing(folder):
            for path in listed(folder):
                path.unlink(missing_ok=True)
            if is_there(folder):
                folder.rmdir()

    def close(self) -> None:
        """Close the files that are open."""
        for known in list(self._journals.values()):
            known.close()
