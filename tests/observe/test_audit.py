"""The audit log keeps every line whole, and shows where it was touched."""

from __future__ import annotations

import datetime as dt
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation.errors import ValidationError
from ops.observe import AuditChainError, AuditLogger, EventEmitter, EventLog
from ops.observe.journal import Journal

WRITER = """
import sys
from ops.observe import AuditLogger
audit = AuditLogger(sys.argv[1], max_bytes=int(sys.argv[4]) or None)
for number in range(int(sys.argv[3])):
    audit.log("write", user=sys.argv[2], resource=str(number), details={"x": "y" * 50})
    print(number, flush=True)
"""


def writer(path, user, count, max_bytes=0) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(path), user, str(count), str(max_bytes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "audit.jsonl"


def test_entries_come_back_as_they_were_logged(path) -> None:
    moments = iter(dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (1, 2, 3))
    audit = AuditLogger(path, clock=lambda: next(moments))
    audit.log("promote", user="ann", resource="model:1", details={"to": "Production"})
    audit.log("delete", user="bob", resource="model:1", status="denied")
    audit.log("promote", user="bob", resource="model:2")
    assert [e.resource for e in audit.query(action="promote")] == ["model:1", "model:2"]
    assert [e.action for e in audit.query(user="bob", status="denied")] == ["delete"]
    assert [e.sequence for e in audit.query(limit=2)] == [2, 3]
    since, until = dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime(2026, 1, 3, tzinfo=dt.UTC)
    assert [e.sequence for e in audit.query(since=since, until=until)] == [2]
    assert audit.query(action="promote")[0].details == {"to": "Production"}
    assert audit.verify() == 3
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_without_a_path_stays_in_memory() -> None:
    audit = AuditLogger()
    audit.log("a")
    audit.log("b")
    assert [(e.sequence, e.action) for e in audit] == [(1, "a"), (2, "b")]


def test_an_entry_needs_an_action(path) -> None:
    with pytest.raises(ValidationError):
        AuditLogger(path).log("")
    assert not path.exists()


def test_several_processes_make_one_unbroken_chain(path) -> None:
    processes = [writer(path, f"u{n}", 60, 4000) for n in range(3)]
    for process in processes:
        process.communicate()
    audit = AuditLogger(path)
    assert audit.verify() == 180
    assert [e.sequence for e in audit] == list(range(1, 181))
    assert len(list(path.parent.glob("audit.jsonl.0*"))) > 3, "it was rotated on the way"


@pytest.mark.fault
def test_killed_writers_leave_every_acknowledged_entry_and_an_unbroken_chain(path) -> None:
    rng = random.Random(3)
    acknowledged = 0
    for _ in range(8):
        process = writer(path, "u", 10_000)
        assert process.stdout.readline()
        time.sleep(rng.random() * 0.05)
        process.kill()
        acknowledged += 1 + len(process.communicate()[0].splitlines())
    audit = AuditLogger(path)
    assert audit.verify() >= acknowledged


def test_a_torn_last_line_is_skipped_reported_and_closed(path) -> None:
    audit = AuditLogger(path)
    audit.log("one")
    with path.open("ab") as file:
        file.write(b'{"sequence": 2, "act')
    assert [e.action for e in audit] == ["one"]
    assert audit.torn_lines == 1
    audit.log("two")
    assert [e.action for e in audit] == ["one", "two"]
    assert audit.verify() == 2


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    audit = AuditLogger(path)
    for number in range(6):
        audit.log("act", resource=str(number))
    return path.read_bytes().splitlines(keepends=True)


def verify(lines, tmp_path) -> int:
    path = tmp_path / "copy.jsonl"
    path.write_bytes(b"".join(lines))
    return AuditLogger(path).verify()


def test_a_missing_entry_is_named(written, tmp_path) -> None:
    with pytest.raises(AuditChainError, match="Entries 3 to 4 are missing"):
        verify(written[:2] + written[4:], tmp_path)


def test_a_reordered_entry_is_named(written, tmp_path) -> None:
    with pytest.raises(AuditChainError, match=r"missing|out of order"):
        verify([written[1], written[0], *written[2:]], tmp_path)
    with pytest.raises(AuditChainError, match=r"Entry 2 .* out of order"):
        verify([*written[:2], written[1], *written[2:]], tmp_path)


def test_an_altered_entry_is_named_even_when_its_own_hash_is_mended(written, tmp_path) -> None:
    changed = written[3].replace(b'"3"', b'"9"')
    with pytest.raises(AuditChainError, match=r"Entry 4 .* was altered"):
        verify([*written[:3], changed, *written[4:]], tmp_path)
    forged = AuditLogger(tmp_path / "forged.jsonl")
    for number in (0, 1, 2, 9):
        forged.log("act", resource=str(number))
    lines = (tmp_path / "forged.jsonl").read_bytes().splitlines(keepends=True)
    with pytest.raises(AuditChainError, match="Entry"):
        verify([*written[:3], lines[3], *written[4:]], tmp_path)


@given(data=st.data())
def test_no_single_byte_can_change_unnoticed(written, tmp_path_factory, data) -> None:
    whole = bytearray(b"".join(written))
    place = data.draw(st.integers(0, len(whole) - 1))
    old = whole[place]
    whole[place] = data.draw(st.integers(32, 126).filter(lambda b: b != old))
    path = tmp_path_factory.mktemp("byte") / "audit.jsonl"
    path.write_bytes(whole)
    audit = AuditLogger(path)
    try:
        count = audit.verify()
    except AuditChainError:
        return
    assert count < 6, "an entry that no longer parses is reported as torn"
    list(audit)
    assert audit.torn_lines


def test_a_cut_off_tail_shows_against_a_head_kept_elsewhere(path) -> None:
    audit = AuditLogger(path)
    for name in ("a", "b", "c"):
        audit.log(name)
    head = audit.head()
    assert audit.verify(head=head) == 3
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert audit.verify() == 2
    with pytest.raises(AuditChainError, match=r"3 .* missing"):
        audit.verify(head=head)


def test_a_chain_with_a_key_cannot_be_continued_without_it(path) -> None:
    audit = AuditLogger(path, key=b"secret")
    audit.log("one")
    assert audit.verify() == 1
    for other in (AuditLogger(path), AuditLogger(path, key=b"another")):
        with pytest.raises(AuditChainError, match="another key"):
            other.log("two")
    audit.log("two")
    assert audit.verify() == 2, "nothing came between"


def test_old_segments_may_be_dropped(path) -> None:
    audit = AuditLogger(path, max_bytes=600, keep=2)
    for number in range(20):
        audit.log("act", resource=str(number))
    assert 0 < audit.verify() < 20
    assert len(list(path.parent.glob("audit.jsonl.0*"))) == 2


def test_an_event_log_keeps_events_on_disk(tmp_path) -> None:
    emitter = EventEmitter()
    log = EventLog(tmp_path / "events.jsonl")
    emitter.subscribe("*", log)
    emitter.emit("started", {"n": 1}, source="test", correlation_id="c1")
    emitter.emit("strange", {"value": object()})
    first, second = log
    assert (first.event_type, first.data, first.source) == ("started", {"n": 1}, "test")
    assert json.dumps(second.data)


def test_details_that_json_does_not_know_lose_no_entry(tmp_path):
    class Mute:
        def __str__(self):
            raise RuntimeError

    audit = AuditLogger(tmp_path / "log")
    audit.log("a", details={(1, 2): {3}, "mute": Mute()})
    (entry,) = audit.query()
    assert entry.details["(1, 2)"] == [3]
    assert "Mute" in entry.details["mute"]
    assert audit.verify() == 1


def test_a_stranger_in_the_file_is_skipped_by_readers_and_named_by_writers(tmp_path):
    audit = AuditLogger(tmp_path / "log")
    audit.log("a")
    with (tmp_path / "log").open("ab") as file:
        file.write(b"{}\n")
    assert [e.action for e in audit.query()] == ["a"]
    assert audit.torn_lines == 1
    with pytest.raises(AuditChainError, match="no audit entry"):
        audit.log("b")
    with pytest.raises(AuditChainError, match="altered"):
        audit.verify()


def test_a_seal_of_other_characters_than_ascii_is_an_altered_entry(tmp_path):
    audit = AuditLogger(tmp_path / "log")
    audit.log("a")
    path = tmp_path / "log"
    path.write_bytes(path.read_bytes().replace(b'"hash": "', '"hash": "é'.encode()))
    with pytest.raises(AuditChainError, match="altered"):
        audit.verify()


def test_entries_in_memory_are_numbered_once_whatever_threads_do_at_once() -> None:
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    audit: AuditLogger

    def clock() -> dt.datetime:
        if to_log:
            audit.log(to_log.pop())
        return moment

    to_log = ["in between"]
    audit = AuditLogger(clock=clock)
    audit.log("first")
    assert [(e.sequence, e.action) for e in audit] == [(1, "first"), (2, "in between")]


@pytest.mark.parametrize("rotations", [1, 3])
def test_a_reader_misses_nothing_while_the_file_is_rotated(path, monkeypatch, rotations) -> None:
    """Whatever comes between its looking at the folder and its opening of the files."""
    audit = AuditLogger(path, max_bytes=600)
    for number in range(10):
        audit.log("write", resource=str(number))
    real = Journal.segments

    def rotated(self: Journal) -> list[Path]:
        known = real(self)
        monkeypatch.undo()
        before = len(known)
        while len(real(self)) < before + rotations:
            audit.log("later")
        return real(self) if rotations > 1 else known

    monkeypatch.setattr(Journal, "segments", rotated)
    assert audit.verify() >= 10
    monkeypatch.setattr(Journal, "segments", rotated)
    assert [e.resource for e in audit.query(action="write")] == [str(n) for n in range(10)]


def test_logging_looks_at_no_folder_full_of_segments(path, monkeypatch) -> None:
    audit = AuditLogger(path)
    audit.log("first")
    monkeypatch.setattr(Path, "iterdir", None)
    assert audit.log("second").sequence == 2
