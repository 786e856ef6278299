"""What MLflow's client writes to disk stays as it is, to the byte; see ``golden/session.py``."""

from __future__ import annotations

from tests.registry.golden import session


def test_a_session_of_mlflows_client_writes_what_it_always_wrote(tmp_path):
    session.write_mlflow(tmp_path)
    recorded = (session.FOLDER / "session-mlflow.txt").read_text(encoding="utf-8")
    assert session.told(tmp_path).splitlines() == recorded.splitlines()
