"""What is written to disk stays as it is, to the byte: ``golden/session.py`` says how that was recorded."""

from __future__ import annotations

from tests.registry.golden import session


def test_a_session_writes_what_it_always_wrote(tmp_path):
    session.write_own(tmp_path)
    recorded = (session.FOLDER / "session-own.txt").read_text(encoding="utf-8")
    assert session.told(tmp_path).splitlines() == recorded.splitlines()
