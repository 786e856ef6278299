"""The index of runs: compaction, reading beside it, and what happens when parts of it are lost."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from ops.registry import CorruptStoreError, RunStatus
from ops.registry.local.index import arrays, run_index, run_table, selection, view, wide_rows
from ops.registry.local.index.run_index import RunIndex
from ops.registry.run_rows import RunningSummary, RunRow


def row(number, **more):
    kept = RunRow(
        f"r{number}", "e", f"n{number}", RunStatus.COMPLETED, number, number + 1, owners=[None]
    )
    return dataclasses.replace(kept, **more)


@pytest.fixture
def index(tmp_path):
    index = RunIndex(tmp_path / "exp")
    yield index
    index.close()


def ids(index):
    return [r.run_id for r in index.rows()]


def test_rows_are_the_same_before_and_after_compaction(index):
    for number in (2, 1, 3):
        index.put(row(number))
    index.put(row(2, name="renamed"))
    before = index.rows()
    assert index.compact() == 3
    assert index.rows() == before
    assert RunIndex(index.folder).rows() == before
    assert [r.name for r in before] == ["n1", "renamed", "n3"]


def test_later_rows_count_in_place_of_the_table(index):
    index.put(row(1))
    index.compact()
    index.put(row(1, name="later"))
    assert [r.name for r in index.rows()] == ["later"]
    index.compact()
    assert [r.name for r in index.rows()] == ["later"]


def test_a_writer_that_slept_through_two_compactions_loses_nothing(index):
    sleeper = RunIndex(index.folder)
    sleeper.put(row(1))
    for number in (2, 3):
        index.put(row(number))
        index.compact()
    sleeper.put(row(4))  # its segment is gone, and so is the one after it
    sleeper.close()
    assert ids(index) == ["r1", "r2", "r3", "r4"]


def test_a_reader_sees_every_row_while_others_compact(index, monkeypatch):
    for number in range(3):
        index.put(row(number))
    other = RunIndex(index.folder)
    listed = view.segment_numbers
    compactions = iter([True, False])

    def numbers_after_a_compaction(folder):
        if next(compactions, False):
            other.compact()  # the segments vanish between the look at the base and this listing
        return listed(folder)

    reader = RunIndex(index.folder)
    monkeypatch.setattr(view, "segment_numbers", numbers_after_a_compaction)
    assert ids(reader) == ["r0", "r1", "r2"]


def test_a_long_segment_is_folded_in_the_background(index, monkeypatch):
    monkeypatch.setattr(run_index, "SMALLEST_SEGMENT", 2000)
    for number in range(20):
        index.put(row(number))
    index.close()  # waits for it
    assert index.parquet.exists()
    assert len(ids(index)) == 20


def test_whoever_finds_a_compaction_going_on_leaves_it(index):
    from ops.foundation import FileLock

    index.put(row(1))
    with FileLock(index.folder / "index" / ".compact"):
        assert RunIndex(index.folder).compact(wait=False) == -1
    assert not index.parquet.exists()


def test_a_lost_table_is_made_again_and_never_taken_for_empty(tracker, experiment):
    with tracker.run_context(experiment.experiment_id, "kept"):
        pass
    tracker.compact()
    index = tracker._runs.index(experiment.experiment_id)
    index.parquet.unlink()
    assert [r.name for r in tracker.list_runs(experiment.experiment_id)] == ["kept"]
    assert index.parquet.exists()


def test_a_lost_index_is_made_again_from_the_journals(tracker, experiment, new_context):
    import shutil

    with tracker.run_context(experiment.experiment_id, "kept"):
        pass
    folder = tracker.root / "runs" / experiment.experiment_id
    tracker.close()
    shutil.rmtree(folder / "index")
    other = new_context().experiment_tracker
    assert [r.name for r in other.list_runs(experiment.experiment_id)] == ["kept"]


def test_a_damaged_table_is_said_and_harms_no_other_reading(tracker, experiment, new_context):
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_metric(run.run_id, "m", 1.0)
    tracker.compact()
    index = tracker._runs.index(experiment.experiment_id)
    data = index.parquet.read_bytes()
    for cut in (0, 3, len(data) // 2, len(data) - 1):
        index.parquet.write_bytes(data[:cut])
        other = new_context().experiment_tracker
        with pytest.raises(CorruptStoreError, match="fsck --repair"):
            other.search_runs(experiment.experiment_id)
        assert other.get_run(run.run_id).metrics == {"m": 1.0}
    tracker.rebuild()
    found = new_context().experiment_tracker.search_runs(experiment.experiment_id)
    assert [r.run_id for r in found] == [run.run_id]


def test_rare_keys_are_found_although_they_have_no_column(index, monkeypatch):
    from ops.registry.search.query import Query

    monkeypatch.setattr(wide_rows, "WIDE_KEYS", 2)
    for number in range(4):
        metrics = {f"m{number}": RunningSummary.of(number, 0, 0)}
        index.put(row(number, metrics=metrics, params={"p": 1, f"p{number}": "x"}))
        index.compact()
    names = run_table.RunTable(index.parquet).read().schema.names
    assert sum(n.startswith("metrics.") for n in names) == 2
    for number in range(4):
        text = f"metrics.m{number} = {number} and params.p{number} = 'x'"
        assert [r.run_id for r in selection.rows(Query(text), [index])] == [f"r{number}"]
    assert selection.rows(Query("metrics.nowhere > 0"), [index]) == []


def test_the_table_has_the_extremes_of_metrics_and_their_steps(tracker, experiment):
    import pyarrow.parquet as pq

    with tracker.run_context(experiment.experiment_id) as run:
        for step, value in enumerate([3.0, 1.0, 2.0]):
            tracker.log_metric(run.run_id, "loss", value, step=step)
    tracker.compact()
    found = pq.read_table(tracker._runs.index(experiment.experiment_id).parquet).to_pylist()[0]
    assert {k: v for k, v in found.items() if k.startswith("metrics")} == {
        "metrics.loss": 2.0,
        "metrics_min.loss": 1.0,
        "metrics_min_step.loss": 1,
        "metrics_max.loss": 3.0,
        "metrics_max_step.loss": 0,
    }
    assert json.loads(found["row_json"])["run_id"] == run.run_id
    best = tracker.search_runs(experiment.experiment_id, filter="metrics_min.loss <= 1")
    assert best[0].metric_summaries["loss"].minimum_step == 1


def test_arrays_are_those_that_pyarrow_makes():
    import pyarrow as pa

    assert arrays.numbers([1.5, None]).equals(pa.array([1.5, None], pa.float64()))
    assert arrays.wholes([1, None, 2**70]).to_pylist() == [1, None, 2**63 - 1]
    assert arrays.texts(["ä", None, ""]).equals(pa.array(["ä", None, ""], pa.large_string()))
    assert arrays.flags([True, False]).to_pylist() == [True, False]
    for made in (arrays.numbers, arrays.wholes, arrays.texts, arrays.flags):
        made([]).validate(full=True)


SEARCH = """
import sys
from ops.registry.context import MLOpsConfig, MLOpsContext
tracker = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])).experiment_tracker
for experiment in tracker.list_experiments():
    text = "metrics.m > 0.5 and params.p = 1 and not name like 'x%' and start_time > '2020-01-01'"
    assert tracker.search_runs(experiment.experiment_id, filter=text, order_by="metrics.m")
    tracker.compact()
assert "pandas" not in sys.modules
"""


def test_searching_and_compacting_load_no_pandas(context, tracker, experiment):
    with tracker.run_context(experiment.experiment_id, parameters={"p": 1}) as run:
        tracker.log_metric(run.run_id, "m", 1.0)
    tracker.compact()
    tracker.start_run(experiment.experiment_id)
    command = [sys.executable, "-W", "error", "-c", SEARCH, str(context.path)]
    subprocess.run(command, check=True)
