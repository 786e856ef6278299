"""A process that begins reads a snapshot of the traces in place of a long journal, and never believes it over the journal."""

from __future__ import annotations

import os
import pathlib

import pytest

from ops.registry.disk.journal import JournalReader
from ops.registry.traces import journal as journals
from ops.registry.traces.book import TraceBook
from ops.registry.traces.journal import TraceJournal

TRACES = 40


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(journals, "SNAPSHOT_FRAMES", 20)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "traces" / "7"


@pytest.fixture
def filled(folder):
    """A journal with all kinds of frames, of which a snapshot was written."""
    with_snapshot(folder)
    return folder


def with_snapshot(folder, traces=TRACES):
    journal = TraceJournal(folder)
    for number in range(traces):
        log(journal, f"tr-{number}")
    journal.append(
        [
            {"op": "link", "id": "tr-1", "run": "r1"},
            {"op": "prompt", "id": "tr-1", "prompts": ["p/1"]},
            {"op": "link", "id": "tr-later", "run": "r2"},
            {"op": "tags", "id": "tr-2", "tags": {"team": None, "zoë": "ü" * 80}},
            {"op": "assess", "id": "tr-2", "a": {"id": "a-1", "overrides": None, "valid": True}},
            {"op": "gone", "id": "tr-3"},
            {"op": "unheard of", "id": "tr-4"},
        ]
    )
    journal.close()
    journal._save((journal._reader.offset, 0), journal._known)
    assert snapshot_of(folder).exists()


def log(journal, trace_id, text="hello"):
    content = b'{"text":"%b"}' % text.encode()
    seen = {
        "time": 1_000,
        "end": 1_010,
        "status": "OK",
        "request": text,
        "response": None,
        "tags": {"team": "ds"},
        "defaults": {"k": "v"},
        "usage": {"total_tokens": 3},
        "cost": {},
    }
    row = ["s1", None, "ask", "CHAIN", "OK", 1_000_000_000, 1_010_000_000, len(content), None]
    journal.append_spans([({"op": "spans", "id": trace_id, "seen": seen, "n": [row]}, [content])])


def snapshot_of(folder):
    return pathlib.Path(f"{folder}/journal.log.snapshot")


def shown(folder):
    """All that a new process finds, in its order."""
    journal = TraceJournal(folder)
    found = [(trace, journal.spans(trace)) for trace in journal.traces()]
    return found, journal.unknown, journal._known.early


def without_snapshot(folder):
    snapshot_of(folder).unlink()
    return shown(folder)


def read_of_journal(monkeypatch):
    """Count the bytes of journals that are read from here on."""
    total = [0]
    poll = JournalReader.poll_lines

    def counted(self, *most):
        found = poll(self, *most)
        total[0] += sum(len(body) for _, body in found)
        return found

    monkeypatch.setattr(JournalReader, "poll_lines", counted)
    return total


def test_a_snapshot_and_the_rest_of_the_journal_are_the_whole_journal(filled):
    journal = TraceJournal(filled)
    log(journal, "tr-late")
    log(journal, "tr-5", "once more")
    log(journal, "tr-later")
    journal.append([{"op": "unassess", "id": "tr-2", "a": "a-1"}, {"op": "gone", "id": "tr-6"}])
    journal.close()
    begun = shown(filled)
    assert len(begun[0]) == TRACES - 2 + 2
    assert begun == without_snapshot(filled)


def test_a_new_process_reads_nothing_of_the_journal_that_the_snapshot_has(filled, monkeypatch):
    total = read_of_journal(monkeypatch)
    journal = TraceJournal(filled)
    found = journal.get("tr-9")
    assert (found.request, found.tags, total) == ("hello", {"team": "ds"}, [0])
    assert [span.content for span in journal.spans(found)] == ['{"text":"hello"}']
    decoded = [one for one in journal._known.traces._entries.values() if not isinstance(one, tuple)]
    assert decoded == [found]


def test_a_trace_is_found_by_its_id_without_reading_what_the_snapshot_has(filled, monkeypatch):
    log(TraceJournal(filled), "tr-late")
    total = read_of_journal(monkeypatch)
    book = TraceBook(filled.parent)
    assert book.find("tr-8").trace_id == "tr-8"
    assert 0 < total[0] < 1_000
    assert book.find("tr-late").trace_id == "tr-late"
    assert book.find("tr-3") is None  # it was deleted
    assert book.find("tr-none") is None


def test_writers_leave_a_snapshot_after_some_frames_and_then_after_a_share_of_them(folder):
    journal = TraceJournal(folder)
    for number in range(19):
        log(journal, f"tr-{number}")
    assert not snapshot_of(folder).exists()
    log(journal, "tr-19")
    journal.close()
    first = snapshot_of(folder).stat().st_ino
    for number in range(300):
        log(journal, f"tr-x{number}")
        journal.close()
    assert snapshot_of(folder).stat().st_ino != first
    begun = shown(folder)
    assert begun == without_snapshot(folder)


def damage(at):
    def change(path):
        data = bytearray(path.read_bytes())
        data[at if at >= 0 else len(data) + at] ^= 0x20
        path.write_bytes(data)

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(damage(0), id="the first trace's checksum"),
        pytest.param(damage(40), id="a trace"),
        pytest.param(damage(-60), id="the header"),
        pytest.param(damage(-3), id="the header's length"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-20]), id="cut"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[100:]), id="cut before"),
        pytest.param(lambda path: path.write_bytes(b"\xff" * 5_000), id="anything"),
    ],
)
def test_what_is_damaged_is_left_alone(filled, change):
    wanted = shown(filled)
    change(snapshot_of(filled))
    assert shown(filled) == wanted
    journal = TraceJournal(filled)  # a frame about a trace that cannot be read
    journal.append([{"op": "tags", "id": "tr-0", "tags": {"a": "b"}}])
    assert journal.get("tr-0").tags["a"] == "b"
    assert journal.get("tr-7").tags == {"team": "ds"}


def test_a_link_in_place_of_a_snapshot_is_not_followed(filled, tmp_path):
    wanted = shown(filled)
    elsewhere = snapshot_of(filled).rename(tmp_path / "elsewhere")
    os.symlink(elsewhere, snapshot_of(filled))
    journal = TraceJournal(filled)
    assert journal.get("tr-1") is not None
    assert not hasattr(journal._known.traces, "_descriptor")
    assert shown(filled) == wanted


def test_a_snapshot_of_another_journal_is_left_alone(filled, tmp_path):
    other = tmp_path / "other"
    log(TraceJournal(other), "tr-other", "x" * 50_000)
    snapshot_of(other).write_bytes(snapshot_of(filled).read_bytes())
    assert [trace.trace_id for trace, _ in shown(other)[0]] == ["tr-other"]


def test_a_store_that_was_moved_keeps_its_snapshot(filled, tmp_path, monkeypatch):
    wanted = shown(filled)
    moved = tmp_path / "copy" / "7"
    moved.mkdir(parents=True)
    for path in filled.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    total = read_of_journal(monkeypatch)
    found, *_rest = shown(moved)
    assert total == [0]
    assert [spans for _, spans in found] == [spans for _, spans in wanted[0]]
    assert [trace.tags for trace, _ in found] == [trace.tags for trace, _ in wanted[0]]


def test_what_was_deleted_is_in_no_file_after_compaction(filled):
    log(TraceJournal(filled), "tr-secret", "a secret of this trace")
    journal = TraceJournal(filled)
    journal._save((journal._reader.offset, 0), journal._known)
    with_secret = TraceJournal(filled)
    with_secret.get("tr-secret")
    with_secret._save((with_secret._reader.offset, 0), with_secret._known)
    assert b"a secret" in snapshot_of(filled).read_bytes()
    with_secret.append([{"op": "gone", "id": "tr-secret"}])
    assert with_secret.compact() > 0
    with_secret._save((with_secret._reader.offset, 0), with_secret._known)  # it was late
    for path in filled.iterdir():
        assert b"a secret" not in path.read_bytes(), path
    assert shown(filled)[0][0][0].trace_id == "tr-0"


def test_a_late_snapshot_makes_no_folder_that_was_erased_again(filled):
    book = TraceBook(filled.parent)
    journal = book.journal("7")
    known = journal.get("tr-1") and journal._known
    book.erase("7")
    journal._save((10, 0), known)
    assert not filled.exists()


@pytest.mark.parametrize("count", [1, 3, 50])
def test_a_journal_written_anew_in_its_file_is_read_anew(folder, tmp_path, count):
    """As a restore does that writes into the files that are there: their inodes stay."""
    journal, other = TraceJournal(folder), TraceJournal(tmp_path / "other")
    for number in range(3):
        log(journal, f"tr-{number}")
    for number in range(count):
        log(other, f"tr-b{number}")
    assert len(journal.traces()) == 3
    (folder / "journal.log").write_bytes((tmp_path / "other/journal.log").read_bytes())
    assert [one.trace_id for one in journal.traces()] == [f"tr-b{n}" for n in range(count)]
    log(journal, "tr-more")
    assert len(TraceJournal(folder).traces()) == count + 1
    journal.close()
    other.close()
