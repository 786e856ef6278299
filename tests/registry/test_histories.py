"""Long histories: in Parquet once the run has ended, and the same as in the journals."""

from __future__ import annotations

import math

import pytest

from ops.registry.local import metric_tables, run_journals


@pytest.fixture
def ended(tracker, experiment, monkeypatch):
    """Return a run whose history is in Parquet, and its folder."""
    monkeypatch.setattr(run_journals, "IN_JSON", 5)
    monkeypatch.setattr(run_journals, "IN_PARQUET", 20)
    monkeypatch.setattr(metric_tables, "_ROW_GROUP", 7)
    with tracker.run_context(experiment.experiment_id) as run:
        for step in range(15):
            value = math.nan if step == 3 else step / 2
            tracker.log_batch(run.run_id, [("loss", value, step), ("ümlaut", -step, step)])
    return run.run_id, tracker.root / "runs" / experiment.experiment_id


def test_a_long_history_is_read_from_its_table(tracker, ended, new_context, monkeypatch):
    run_id, folder = ended
    assert (folder / f"{run_id}.metrics.parquet").exists()
    monkeypatch.setattr(run_journals, "RunReader", None)  # the journals are not read
    for key in ("loss", "ümlaut"):
        history = new_context().experiment_tracker.get_metric_history(run_id, key)
        assert [m.step for m in history] == list(range(15))
    assert math.isnan(tracker.get_metric_history(run_id, "loss")[3].value)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more"])
def test_a_table_that_is_lost_or_damaged_is_passed_over(tracker, ended, content):
    run_id, folder = ended
    whole = [(m.step, m.timestamp) for m in tracker.get_metric_history(run_id, "loss")]
    path = folder / f"{run_id}.metrics.parquet"
    path.unlink() if content is None else path.write_bytes(content)
    found = tracker.get_metric_history(run_id, "loss")
    assert [(m.step, m.timestamp) for m in found] == whole


def test_what_is_logged_after_the_end_counts(tracker, ended):
    run_id, _ = ended
    tracker.log_metric(run_id, "loss", 99.0, step=99)
    assert tracker.get_metric_history(run_id, "loss")[-1].value == 99.0
    assert tracker.get_metric_history(run_id, "never") == []
