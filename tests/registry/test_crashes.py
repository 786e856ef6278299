from __future__ import annotations

from ops.registry.disk.journal import frame, parse
from ops.registry.local.run_journals import RunReader


def test_a_run_cut_at_every_byte_still_reads_all_whole_lines(tracker, experiment):
    with tracker.run_context(experiment.experiment_id) as run:
        for step in range(3):
            tracker.log_metric(run.run_id, "m", float("nan"), step=step)
    folder = tracker.root / "runs" / experiment.experiment_id
    path = folder / f"{run.run_id}.main.log"
    data = path.read_bytes()
    for cut in range(data.index(b"\n") + 1, len(data)):
        path.write_bytes(data[:cut])
        points = RunReader(folder, run.run_id).poll().history.get("m", ())
        assert len(points) == min(3, data[:cut].count(b"\n") - 1)


def test_a_damaged_line_is_skipped_and_counted():
    whole = frame({"a": 1})
    assert parse(whole[:-4] + b"\n" + whole) == ([{"a": 1}], 1, 2 * len(whole) - 3)
