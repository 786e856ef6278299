"""Who did what to which resource, in a file that can only grow and shows when it was touched.

Each entry carries a sequence number, and the SHA-256 of the entry before it followed by its own text
(with a key: HMAC-SHA-256). Changing, removing or moving an entry breaks the chain there, and `verify` names
the entry. The chain begins with entry 1, or, where rotation has removed old segments, with an entry that
is marked as the first of its segment. What no chain inside the file can show is a tail cut off as a
whole: keep `head()` somewhere else and give it to `verify`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import itertools
import json
from collections import deque
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import ValidationError
from ops.foundation.instants import require_aware
from ops.observe.errors import AuditChainError
from ops.observe.journal import Journal, segment_number, to_json

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from ops.observe.journal import Line

__all__ = ["AuditEntry", "AuditLogger"]

_START = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One audited action; `timestamp` is an aware UTC datetime.

    *sequence* counts from 1. *action*, *user*, *resource*, *status* and *details* are what
    `AuditLogger.log` was given.
    """

    sequence: int
    timestamp: dt.datetime
    action: str
    user: str | None = None
    resource: str | None = None
    status: str = "success"
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON-ready values."""
        return {
            "sequence": self.sequence,
            "timestamp": self.timestamp.isoformat(),
            "action": self.action,
            "user": self.user,
            "resource": self.resource,
            "status": self.status,
            "details": dict(self.details),
        }


class AuditLogger:
    """Append-only audit log in *path*, or the last 10 000 entries in memory when that is None.

    Several threads and processes may log into one file, and signal handlers too.

    Args:
        path: the file; segments that were closed lie beside it.
        key: turns the chain into one that only its holders can continue.
        max_bytes: the size at which a segment is closed (None: never).
        keep: how many closed segments stay (None: all); the chain begins with the oldest then.
        fsync: whether an entry is on the disk when `log` returns.
        clock: returns the time as an aware datetime.

    Raises `ValidationError` for a *key* that is empty or no bytes.

    >>> log = AuditLogger()
    >>> log.log("promote", user="ann", resource="model:churn/3").sequence
    1
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        key: bytes | None = None,
        max_bytes: int | None = None,
        keep: int | None = None,
        fsync: bool = False,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        given: Any = key
        if given is not None and not (isinstance(given, bytes) and given):
            # An empty one, as of a variable that is not set, would let anyone continue the chain.
            raise ValidationError(f"key must be bytes, at least one, not {type(key).__name__}.")
        self._journal = (
            None if path is None else Journal(path, max_bytes=max_bytes, keep=keep, fsync=fsync)
        )
        self._memory: deque[AuditEntry] = deque(maxlen=10_000)
        self._numbers = itertools.count(1)  # of the entries in memory; threads share it
        self._key, self._clock = key, clock
        self._is_continued = False  # whether the entry before the first of ours was looked at
        self._torn = 0

    def log(
        self,
        action: str,
        *,
        user: str | None = None,
        resource: str | None = None,
        status: str = "success",
        details: Mapping[str, Any] | None = None,
    ) -> AuditEntry:
        """Append an entry and return it.

        Args:
            action: what was done.
            user: by whom.
            resource: to what.
            status: how it ended.
            details: what else is to be known; values that JSON does not know are written as their text.

        Raises OSError when it could not be written. In a signal handler that interrupts a `log` of its
        own thread the entry is written when that ends, and the sequence of the returned one is 0.

        Raises `ValidationError` for an empty *action*, and `AuditChainError` when the last line of
        the file is no entry, or was sealed with another key, so that nothing can follow it.
        """
        if not action:
            raise ValidationError("An audit entry needs an action.")
        fields = dict(details or {})
        made: list[AuditEntry] = []

        def numbered(sequence: int) -> AuditEntry:
            return AuditEntry(sequence, self._clock(), action, user, resource, status, fields)

        def make(last: bytes | None, marks: Mapping[str, Any] | None = None) -> bytes:
            sequence, previous = _continue(last)
            self._refuse_other_key(last)
            entry = numbered(sequence)
            made.append(entry)
            body = to_json(entry.to_dict() | dict(marks or {}) | {"previous": previous})
            return _sealed(body, self._hash(body))

        def begin(last: bytes | None) -> bytes:
            # The chain alone would not show that a whole segment was removed from its beginning.
            oldest = journal.segments() if (journal := self._journal) else []
            number = segment_number(oldest[0]) if oldest else 0
            return make(last, {"begins_segment": True, "oldest_segment": number})

        if self._journal is None:
            made.append(numbered(next(self._numbers)))
            self._memory.append(made[0])
        elif not self._journal.append(make, begin):
            return numbered(0)
        return made[-1]

    def _refuse_other_key(self, last: bytes | None) -> None:
        """Raise AuditChainError if the entry that the first of this object follows has another seal."""
        if self._is_continued:
            return
        body, seal = ("", self._hash("")) if last is None else _unsealed(last.rstrip(b"\n"))
        if not hmac.compare_digest(self._hash(body).encode(), seal.encode()):
            raise AuditChainError(
                "The last entry was altered, or sealed with another key, so nothing can follow it.",
                suggestions=("Give the key that the log was begun with, or verify() it.",),
            )
        self._is_continued = True

    def query(
        self,
        *,
        user: str | None = None,
        action: str | None = None,
        resource: str | None = None,
        status: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        """Return the entries that match everything given, oldest first, the newest *limit* of them.

        *user*, *action*, *resource* and *status* are compared with what `log` was given; None
        matches all. The interval is half-open: *since* (aware) counts, *until* does not. *limit*
        None returns all. Raises ValueError for times without a zone, `ValidationError` for a
        negative *limit*.
        """
        if limit is not None and limit < 0:
            raise ValidationError(f"limit must be at least 0, not {limit}.")
        since, until = (None if t is None else require_aware(t) for t in (since, until))
        wanted = {"user": user, "action": action, "resource": resource, "status": status}
        found: deque[AuditEntry] = deque(maxlen=limit)
        for entry in self:
            if any(v is not None and getattr(entry, k) != v for k, v in wanted.items()):
                continue
            if (since and entry.timestamp < since) or (until and entry.timestamp >= until):
                continue
            found.append(entry)
        return list(found)

    def __iter__(self) -> Iterator[AuditEntry]:
        """Yield all entries, oldest first; lines that are none are counted in `torn_lines`."""
        if self._journal is None:
            yield from sorted(self._memory.copy(), key=attrgetter("sequence"))
            return
        self._torn = 0
        for line in self._journal.lines():
            entry = line.read(_entry)
            if entry is None:
                self._torn += 1
            else:
                yield entry

    @property
    def torn_lines(self) -> int:
        """How many lines that are no entries the last reading met: what crashes have left."""
        return self._torn

    def head(self) -> tuple[int, str]:
        """Return sequence number and hash of the last entry, to be kept elsewhere; reads only the end.

        Raises `AuditChainError` when the last line is no entry.
        """
        last = None if self._journal is None else self._journal.last_line()
        if last is None:
            return (0, _START)
        number, seal = _continue(last)
        return number - 1, seal

    def verify(self, *, head: tuple[int, str] | None = None, complete: bool | None = None) -> int:
        """Check the whole chain and return the number of entries.

        Args:
            head: an earlier result of `head()`, which must still be in the chain.
            complete: True insists on entry 1. By default the chain begins where rotation has left
                its beginning. False accepts that old segments were moved elsewhere.

        Raises AuditChainError that names the first altered, missing or reordered entry. A log in
        memory has no chain; its entries are counted.
        """
        if self._journal is None:
            return len(self._memory)
        while True:
            before = self._journal.segments()
            chain = self._read_chain(complete)
            if complete is False or not chain.is_cut or before == self._journal.segments():
                break  # else rotation has removed a segment while the others were read
        if chain.is_cut and complete is not False:
            raise AuditChainError(
                f"Segment {chain.expected_first} of {self._journal.path.name} is missing.",
                suggestions=("verify(complete=False) checks what is left of a log.",),
            )
        if head is not None and tuple(head) not in chain.heads | {(0, _START)}:
            raise AuditChainError(f"The entry {head[0]} that was once the last is missing.")
        return chain.count

    def _read_chain(self, complete: bool | None) -> _Chain:  # noqa: FBT001
        """Check entry after entry, and return what was found."""
        chain, sequence, previous = _Chain(), None, None
        for line in self._lines():
            if line.entry is None:
                continue
            self._check(line, sequence, previous)
            if sequence is None:
                _check_beginning(line, line.entry, complete)
                chain.first = segment_number(line.path)
            sequence, previous = line.entry["sequence"], line.entry["hash"]
            chain.heads.add((sequence, previous))
            chain.expected_first = line.entry.get("oldest_segment", chain.expected_first)
            chain.count += 1
        return chain

    def _check(self, line: Line, sequence: int | None, previous: str | None) -> None:
        entry = line.entry or {}
        where = f"{line.path.name}, line {line.number}"
        body, seal = _unsealed(line.text)
        # As bytes: text with other characters than ASCII cannot be compared in constant time.
        if not hmac.compare_digest(self._hash(body).encode(), seal.encode()):
            raise AuditChainError(f"Entry {entry.get('sequence')} ({where}) was altered.")
        if sequence is None:  # the oldest segment that is left
            return
        if entry["sequence"] > sequence + 1:
            raise AuditChainError(
                f"Entries {sequence + 1} to {entry['sequence'] - 1} are missing before {where}."
            )
        if entry["sequence"] <= sequence or entry["previous"] != previous:
            raise AuditChainError(f"Entry {entry['sequence']} ({where}) is out of order.")

    def _lines(self) -> Iterator[Line]:
        if self._journal is not None:
            yield from self._journal.lines()

    def _hash(self, body: str) -> str:
        if self._key is None:
            return hashlib.sha256(body.encode()).hexdigest()
        return hmac.new(self._key, body.encode(), "sha256").hexdigest()


@dataclass(slots=True)
class _Chain:
    """What reading a chain finds.

    *first* is the number of the segment that it begins in (0: the open file), *expected_first* that of
    the oldest one that was left when the newest was begun, None when that is not known.
    """

    count: int = 0
    heads: set[tuple[int, str]] = field(default_factory=set)
    first: int = 0
    expected_first: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether a segment is missing that was there when the newest was begun."""
        return self.expected_first is not None and (
            self.first == 0 or self.first > self.expected_first
        )


def _check_beginning(line: Line, entry: dict[str, Any], complete: bool | None) -> None:  # noqa: FBT001
    """Raise AuditChainError unless the chain may begin with *entry*."""
    sequence = entry["sequence"]
    if sequence == 1:
        if entry.get("previous") != _START:
            raise AuditChainError(f"Entry 1 ({line.path.name}) does not begin the chain.")
        return
    # Rotation removes whole segments, and the second is the first that can be left.
    marked = entry.get("begins_segment") is True
    is_first = segment_number(line.path) < 2 and complete is not False
    if complete or is_first or not marked:
        raise AuditChainError(
            f"Entries 1 to {sequence - 1} are missing before {line.path.name}, line {line.number}.",
            suggestions=("The beginning of the file was cut off, or a segment was removed.",),
        )


def _sealed(body: str, seal: str) -> bytes:
    """Put the hash last, so that the hashed text is everything before it."""
    return f'{body[:-1]}, "hash": "{seal}"}}'.encode()


def _unsealed(line: bytes) -> tuple[str, str]:
    body, _, seal = line.decode(errors="replace").rpartition(', "hash": "')
    return body + "}", seal.removesuffix('"}')


def _continue(last: bytes | None) -> tuple[int, str]:
    if last is None:
        return 1, _START
    entry = json.loads(last)
    try:
        return int(entry["sequence"]) + 1, str(entry["hash"])
    except (KeyError, TypeError, ValueError) as error:
        raise AuditChainError(
            "The last line is no audit entry, so nothing can follow it.",
            suggestions=("Something else wrote into the file; verify() names the line.",),
        ) from error


def _entry(fields: dict[str, Any]) -> AuditEntry:
    return AuditEntry(
        sequence=fields["sequence"],
        timestamp=dt.datetime.fromisoformat(fields["timestamp"]),
        action=fields["action"],
        user=fields["user"],
        resource=fields["resource"],
        status=fields["status"],
        details=fields["details"],
    )
