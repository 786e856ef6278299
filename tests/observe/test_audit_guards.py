"""What the audit log does under signal handlers, cuts at either end, short writes, and on the command line."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ops.foundation.errors import ValidationError
from ops.observe import AuditChainError, AuditLogger
from ops.observe.__main__ import main


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


@pytest.mark.parametrize("key", [None, b"k"])
def test_a_beginning_that_was_cut_off_is_found(tmp_path, key) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLogger(path, key=key)
    for number in range(6):
        log.log("act", user=f"u{number}")
    head = log.head()
    path.write_text("".join(lines_of(path)[3:]))
    with pytest.raises(AuditChainError, match="1 to 3 are missing"):
        log.verify(head=head)
    path.rename(tmp_path / "audit.jsonl.000001")
    with pytest.raises(AuditChainError, match="missing"):
        log.verify()
    (tmp_path / "audit.jsonl.000001").rename(tmp_path / "audit.jsonl.000007")
    with pytest.raises(AuditChainError, match="missing"):
        log.verify()


def test_rotation_may_remove_whole_segments_and_nothing_else_may(tmp_path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLogger(path, key=b"k", max_bytes=700, keep=2)
    for number in range(20):
        log.log("act", user=f"u{number}")
    left = log.verify()
    assert 3 <= left < 20
    with pytest.raises(AuditChainError, match="missing"):
        log.verify(complete=True)
    oldest = min(tmp_path.glob("audit.jsonl.0*"))
    oldest.write_text("".join(lines_of(oldest)[1:]))
    with pytest.raises(AuditChainError, match="missing"):
        log.verify()


@pytest.mark.parametrize("keep", [None, 2])
def test_a_segment_that_was_removed_is_found_wherever_it_was(tmp_path, keep) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLogger(path, key=b"k", max_bytes=700, keep=keep)
    for number in range(20):
        log.log("act", user=f"u{number}")
    reader = AuditLogger(path, key=b"k")
    whole = reader.verify()
    oldest = min(tmp_path.glob("audit.jsonl.0*"))
    oldest.rename(tmp_path / "elsewhere")
    with pytest.raises(AuditChainError, match="missing"):
        reader.verify()
    left = reader.verify(complete=False)
    assert 0 < left < whole
    for segment in tmp_path.glob("audit.jsonl.0*"):
        segment.unlink()
    with pytest.raises(AuditChainError, match="missing"):
        reader.verify()
    assert main(["audit", "verify", str(path), "--key-file", str(_key_file(tmp_path))]) == 1
    assert (
        main(
            ["audit", "verify", str(path), "--no-complete", "--key-file", str(_key_file(tmp_path))]
        )
        == 0
    )


def _key_file(folder: Path) -> Path:
    (folder / "key").write_bytes(b"k")
    return folder / "key"


def test_rotation_while_a_log_is_verified_is_no_removal(tmp_path, monkeypatch) -> None:
    log = AuditLogger(tmp_path / "audit.jsonl", max_bytes=700, keep=2)
    for number in range(20):
        log.log("act", user=f"u{number}")
    begun = iter([True])
    read = log._read_chain

    def rotated_meanwhile(complete):
        if next(begun, False):
            min(tmp_path.glob("audit.jsonl.0*")).unlink()
            found = read(complete)
            for number in range(20):
                log.log("act", user=f"v{number}")
            return found
        return read(complete)

    monkeypatch.setattr(log, "_read_chain", rotated_meanwhile)
    assert log.verify() > 0


@pytest.mark.parametrize("key", [b"", "k", bytearray(b"k")])
def test_a_key_that_protects_nothing_is_refused(tmp_path, key) -> None:
    with pytest.raises(ValidationError, match="key"):
        AuditLogger(tmp_path / "audit.jsonl", key=key)


def test_queries_refuse_what_they_cannot_compare(tmp_path) -> None:
    log = AuditLogger(tmp_path / "audit.jsonl")
    log.log("act")
    with pytest.raises(ValueError, match="no time zone"):
        log.query(since=dt.datetime(2026, 1, 1))
    with pytest.raises(ValidationError, match="limit"):
        log.query(limit=-1)


def test_a_log_in_memory_counts_its_entries_when_it_is_verified() -> None:
    log = AuditLogger()
    log.log("act")
    assert log.verify() == 1


def test_the_head_is_read_from_the_end(tmp_path, monkeypatch) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLogger(path)
    assert log.head() == (0, "0" * 64)
    for _ in range(3):
        log.log("act")
    monkeypatch.setattr(log._journal, "lines", lambda: pytest.fail("the whole file is read"))
    number, seal = log.head()
    assert number == 3
    assert seal == json.loads(lines_of(path)[-1])["hash"]


def test_an_entry_may_be_flushed_before_log_returns(tmp_path, monkeypatch) -> None:
    flushed: list[int] = []
    real = os.fsync
    monkeypatch.setattr("os.fsync", lambda fd: (flushed.append(fd), real(fd)))
    AuditLogger(tmp_path / "a.jsonl", fsync=False).log("act")
    assert flushed == []
    log = AuditLogger(tmp_path / "b.jsonl", fsync=True)
    log.log("act")
    assert len(flushed) == 2  # the file, and the folder that has a new name
    log.log("act")
    assert len(flushed) == 3


def test_what_was_written_in_part_is_cut_off_again(tmp_path, monkeypatch) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLogger(path)
    log.log("first")
    before = path.read_bytes()
    real = os.write
    monkeypatch.setattr("os.write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(OSError, match="no space"):
        log.log("second")
    assert path.read_bytes() == before
    monkeypatch.undo()
    log.log("third")
    assert log.verify() == 2
    assert log.torn_lines == 0


def test_an_entry_of_a_handler_follows_the_one_that_it_interrupts(tmp_path) -> None:
    """The handler comes at any line of an append: it neither waits nor breaks the chain."""
    path = tmp_path / "audit.jsonl"
    log, other = AuditLogger(path), AuditLogger(path)
    log.log("begin")
    sources = ("journal.py", "audit.py", "locks.py", "_flock.py")
    counted, at = 0, -1
    results: list[int] = []

    def trace(frame, event, _):
        nonlocal counted
        if frame.f_code.co_filename.endswith(sources):
            if event == "line":
                counted += 1
                if counted == at:
                    sys.settrace(None)
                    results.append((log if at % 2 else other).log("handler").sequence)
            return trace
        return None

    def traced(position: int) -> None:
        nonlocal counted, at
        counted, at = 0, position
        sys.settrace(trace)
        try:
            log.log("work")
        finally:
            sys.settrace(None)

    traced(-1)
    total = counted
    for position in range(1, total, 3):
        traced(position)
    assert log.verify() == 2 + 2 * len(results)
    assert 0 in results
    actions = [entry.action for entry in log]
    assert actions.count("handler") == len(results)


def test_a_real_signal_handler_may_log(tmp_path) -> None:
    log = AuditLogger(tmp_path / "audit.jsonl")
    handled: list[int] = []

    def handler(*_: object) -> None:
        handled.append(1)
        log.log("signal")

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    worked = 0
    try:
        while len(handled) < 30:
            log.log("work")
            worked += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert log.verify() == worked + len(handled)


def test_threads_still_wait_for_each_other(tmp_path) -> None:
    log = AuditLogger(tmp_path / "audit.jsonl")
    threads = [
        threading.Thread(target=lambda: [log.log("act") for _ in range(25)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert log.verify() == 100


# ---------------------------------------------------------------------- the command line


@pytest.fixture
def written(tmp_path) -> Path:
    log = AuditLogger(tmp_path / "audit.jsonl", key=b"secret")
    log.log("promote", user="ann", resource="model:churn/3")
    log.log("delete", user="bob", status="denied")
    (tmp_path / "key").write_bytes(b"secret\n")
    return tmp_path / "audit.jsonl"


def test_a_log_is_verified_from_the_command_line(written, capsys, tmp_path) -> None:
    key = ["--key-file", str(tmp_path / "key")]
    assert main(["audit", "head", str(written), *key]) == 0
    (tmp_path / "head.json").write_text(capsys.readouterr().out)
    assert main(["audit", "verify", str(written), *key, "--head", str(tmp_path / "head.json")]) == 0
    assert "2 entries" in capsys.readouterr().out
    assert main(["audit", "verify", str(written), *key, "--json", "--complete"]) == 0
    assert json.loads(capsys.readouterr().out) == {"entries": 2}
    assert main(["audit", "verify", str(written)]) == 1
    assert "was altered" in capsys.readouterr().err
    written.write_text(written.read_text().replace("denied", "success"))
    assert main(["audit", "verify", str(written), *key]) == 1


def test_a_log_is_queried_from_the_command_line(written, capsys) -> None:
    assert main(["audit", "query", str(written), "--user", "bob"]) == 0
    assert "bob  delete  -  denied" in capsys.readouterr().out
    assert main(["audit", "query", str(written), "--limit", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["action"] == "delete"
    assert main(["audit", "query", str(written), "--since", "2999-01-01"]) == 0
    assert capsys.readouterr().out == ""


def test_wrong_usage_has_an_exit_code_of_its_own(written, capsys, tmp_path) -> None:
    assert main(["audit", "verify", str(tmp_path / "none.jsonl")]) == 2
    assert "There is no" in capsys.readouterr().err
    assert main(["audit", "verify", str(written), "--key-file", str(tmp_path / "none")]) == 2
    result = subprocess.run(
        [sys.executable, "-m", "ops.observe", "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "audit verify" in result.stdout
