"""Whole stores from local files to Databricks and back: nothing is lost, and a second time nothing happens."""

from __future__ import annotations

import datetime as dt
import math

import pytest

from ops.foundation import PathEscapesRootError
from ops.registry import AlreadyExistsError, MLOpsConfig, MLOpsContext, ModelStage, RunStatus
from ops.registry.transfer import copy_store

pytestmark = pytest.mark.service


@pytest.fixture
def new_local(tmp_path, operations):
    made = []

    def make():
        path = tmp_path / f"local{len(made)}"
        made.append(MLOpsContext(MLOpsConfig("local", str(path)), operations=operations))
        return made[-1]

    yield make
    for context in made:
        context.cleanup()


def fill(context, tmp_path):
    """Two experiments with what runs and models can have."""
    tracker, registry = context.experiment_tracker, context.model_registry
    study = tracker.create_experiment("study", "the first", {"team": "ds"}).experiment_id
    tracker.create_experiment("empty")
    folder = tmp_path / "saved"
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "sub" / "w").write_bytes(b"12345")
    with tracker.run_context(study, "full", tags={"t": "ü"}, parameters={"a": [1, None]}) as run:
        for step in range(1200):
            tracker.log_metric(run.run_id, "loss", 1 / (step + 1), step)
        tracker.log_metric(run.run_id, "odd", math.nan, 2, dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        tracker.log_metric(run.run_id, "odd", -math.inf)
        tracker.log_parameter(run.run_id, "b", {"x": math.inf})
        tracker.log_text(run.run_id, "text", "notes/it's ä.txt")
        tracker.log_artifact(run.run_id, folder, "models")
    with pytest.raises(ValueError), tracker.run_context(study, "failed", run.run_id):
        raise ValueError("no")
    for number in (1, 2, 3):
        described = {"tags": {"n": str(number)}, "metrics": {"auc": math.nan}}
        registry.register_model("credit", folder, "folder", "mine", **described)
        registry.promote_model("credit", number, ModelStage.PRODUCTION)
    registry.set_alias("credit", "best", 2)
    registry.annotate("credit", 2, "the good one")
    registry.delete_model_version("credit", 1)
    registry.rollback("credit")
    return study


def told(context):
    """All that a store says, without where its files are."""
    tracker, registry = context.experiment_tracker, context.model_registry
    runs, versions = {}, []
    for experiment in tracker.list_experiments():
        for run in tracker.list_runs(experiment.experiment_id):
            files = [(a.path, a.size, a.checksum) for a in run.artifacts]
            points = {
                key: [(p.step, repr(p.value), p.timestamp) for p in
                      tracker.get_metric_history(run.run_id, key)]
                for key in run.metrics
            }  # fmt: skip
            fields = (
                run.name,
                run.status,
                run.start_time,
                run.end_time,
                run.parent_run_id,
                run.error,
            )
            values = (repr(sorted(run.parameters.items())), dict(run.tags), sorted(files), points)
            runs[experiment.name, run.run_id] = (fields, values)
    for v in registry.search_models():
        kept = (v.model_id, v.name, v.version, v.stage, v.created_at, v.checksum, v.size)
        versions.append((*kept, repr(v.metadata), v.aliases, v.stage_history))
    names = [(e.name, e.experiment_id, e.description, dict(e.tags), e.created_at)
             for e in tracker.list_experiments()]  # fmt: skip
    return names, runs, versions


def test_a_store_goes_to_databricks_and_back_as_it_was(new_local, context, tmp_path):
    local, back = new_local(), new_local()
    study = fill(local, tmp_path)
    first = copy_store(local, context)
    assert (first.experiments, first.runs, first.runs_there, first.models) == (2, 2, 0, 1)
    assert told(context) == told(local)
    again = copy_store(local, context)
    assert (again.runs, again.runs_there, again.changes) == (0, 2, 0)
    second = copy_store(context, back)
    assert (second.runs, second.changes) == (2, first.changes)
    assert told(back) == told(local)
    assert copy_store(context, back).changes == 0
    assert copy_store(back, context).runs_there == 2

    (run,) = context.experiment_tracker.search_runs(study, filter="name = 'full'")
    for end, one in enumerate((context, back)):
        out = one.experiment_tracker.download_run_artifact(
            run.run_id, "models/saved", tmp_path / f"run{end}"
        )
        assert (out / "sub" / "w").read_bytes() == b"12345"
        out = one.model_registry.download_artifact("credit", 2, tmp_path / f"model{end}")
        assert (out / "sub" / "w").read_bytes() == b"12345"


def test_what_was_logged_since_the_last_copy_arrives(new_local, context, tmp_path):
    local = new_local()
    study = fill(local, tmp_path)
    tracker, registry = local.experiment_tracker, local.model_registry
    run = tracker.start_run(study, "open")
    tracker.log_metric(run.run_id, "m", 1.0)
    copy_store(local, context)
    assert context.experiment_tracker.get_run(run.run_id).status is RunStatus.RUNNING
    tracker.log_metric(run.run_id, "m", 2.0, 1, dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    tracker.set_tag(run.run_id, "late", "yes")
    tracker.end_run(run.run_id)
    registry.set_tag("credit", 3, "late", "yes")
    registry.delete_model_version("credit", 2)
    copied = copy_store(local, context)
    assert (copied.runs, copied.runs_there, copied.changes) == (1, 2, 2)
    assert told(context) == told(local)


def test_what_was_changed_of_an_experiment_since_the_last_copy_arrives(
    new_local, context, tmp_path
):
    local, back = new_local(), new_local()
    study = fill(local, tmp_path)
    gone = local.experiment_tracker.get_experiment_by_name("empty").experiment_id

    def shown(one):
        known = one.experiment_tracker.list_experiments(include_deleted=True)
        return [(e.experiment_id, e.name, dict(e.tags), e.deleted_at, e.updated_at) for e in known]

    copy_store(local, context)
    local.experiment_tracker.rename_experiment(study, "renamed")
    local.experiment_tracker.set_experiment_tag(study, "late", "yes")
    local.experiment_tracker.delete_experiment_tag(study, "team")
    local.experiment_tracker.delete_experiment(gone)
    copy_store(local, context)
    assert shown(context) == shown(local)
    copy_store(context, back)
    assert shown(back) == shown(local)
    # What is newer there is not taken back.
    context.experiment_tracker.rename_experiment(study, "newest")
    context.experiment_tracker.restore_experiment(gone)
    copy_store(local, context)
    names = {e.name: e.deleted_at for e in context.experiment_tracker.list_experiments()}
    assert names == {"newest": None, "empty": None}
    copy_store(context, local)
    assert shown(local) == shown(context)


def test_a_run_to_which_both_stores_have_added_is_not_replaced(new_local, context, tmp_path):
    local = new_local()
    study = fill(local, tmp_path)
    run_id = local.experiment_tracker.start_run(study, "both").run_id
    local.experiment_tracker.log_metric(run_id, "m", 1.0)
    copy_store(local, context)
    context.experiment_tracker.log_metric(run_id, "m", 2.0)
    copy_store(context, local)
    assert local.experiment_tracker.get_run(run_id).metric_summaries["m"].count == 2
    local.experiment_tracker.log_metric(run_id, "m", 3.0)
    context.experiment_tracker.log_parameter(run_id, "p", 4)
    for pair in ((context, local), (local, context)):
        with pytest.raises(AlreadyExistsError, match=f"Both stores have added to run {run_id}"):
            copy_store(*pair)
    assert local.experiment_tracker.get_run(run_id).metrics == {"m": 3.0}
    assert context.experiment_tracker.get_run(run_id).parameters == {"p": 4}


def test_a_run_that_is_here_gets_what_it_lacks_while_it_is_logged_to(new_local, context, tmp_path):
    local, tables = new_local(), context.experiment_tracker
    tracker = local.experiment_tracker
    run_id = tracker.start_run(fill(local, tmp_path), "open", tags={"a": "1", "b": "2"}).run_id
    tracker.log_parameter(run_id, "x", 1)
    copy_store(local, context)
    tables.log_batch(
        run_id, [("m", math.nan, 0), ("m", 2.0, 1), ("k", 5.0, 1)], {"y": True}, {"a": "new"}
    )
    tables.delete_tag(run_id, "b")
    tables.log_text(run_id, "late", "notes/late.txt")
    tables.delete_run(run_id)
    copy_store(context, local)
    tracker.log_metric(run_id, "m", 3.0, 2)  # by the context that has had the run open all the time
    found = tracker.get_run(run_id)
    assert (found.parameters, found.tags) == ({"x": 1, "y": True}, {"a": "new"})
    assert [p.step for p in tracker.get_metric_history(run_id, "m")] == [0, 1, 2]
    assert found.deleted_at is not None
    assert [a.path for a in found.artifacts] == ["notes/late.txt"]
    copy_store(local, context)
    tracker.restore_run(run_id)
    tracker.end_run(run_id, RunStatus.FAILED, "no")
    copy_store(local, context)
    there = tables.get_run(run_id)
    assert (there.status, there.error, there.deleted_at) == (RunStatus.FAILED, "no", None)
    assert tables.export_run(run_id).canonical_text() == tracker.export_run(run_id).canonical_text()


def test_a_copy_that_was_cut_off_is_finished_by_the_next(new_local, context, warehouse, tmp_path):
    local = new_local()
    fill(local, tmp_path)

    def stop(done, _):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_store(local, context, progress=stop)
    warehouse.control(lose=3, conflicts=3, cut=1)
    copied = copy_store(local, context)
    assert (copied.runs, copied.runs_there) == (1, 1)
    assert told(context) == told(local)


def test_a_deletion_that_a_copy_left_as_it_was_cut_off_does_not_count(new_local, context, tmp_path):
    local = new_local()
    study = fill(local, tmp_path)
    run_id = local.experiment_tracker.list_runs(study)[0].run_id
    context.experiment_tracker.warehouse.change(
        "INSERT INTO @ops_run_deletions VALUES (:run, :home, 5, 5)", run=run_id, home=study
    )
    copy_store(local, context)
    assert context.experiment_tracker.get_run(run_id).deleted_at is None
    assert told(context) == told(local)


def test_another_model_of_that_name_is_left_alone(new_local, context, artifact, tmp_path):
    local = new_local()
    fill(local, tmp_path)
    context.model_registry.register_model("credit", artifact, "binary", "other")
    with pytest.raises(AlreadyExistsError):
        copy_store(local, context)
    with pytest.raises(AlreadyExistsError):
        copy_store(context, local)
    assert [v.version for v in context.model_registry.list_model_versions("credit")] == [1]


def test_a_name_in_a_table_does_not_lead_out_of_the_local_store(new_local, context):
    tracker, local = context.experiment_tracker, new_local()
    study = tracker.create_experiment("study").experiment_id
    with tracker.run_context(study) as run:
        tracker.log_text(run.run_id, "text", "evil")
    tracker.warehouse.change(
        "UPDATE @ops_run_facts SET name = '../../../../evil' WHERE kind = 'artifact'"
    )
    with pytest.raises(PathEscapesRootError):
        copy_store(context, local)
    assert [path.name for path in local.path.parent.rglob("evil")] == []


def test_from_one_schema_to_another(new_local, context, operations, fresh_copy, tmp_path):
    local = new_local()
    fill(local, tmp_path)
    copy_store(local, context)
    copy_store(context, fresh_copy)
    assert told(fresh_copy) == told(local)
    assert copy_store(context, fresh_copy).changes == 0


@pytest.fixture
def fresh_copy(schema, tmp_path, operations, warehouse):
    config = MLOpsConfig("databricks", str(tmp_path / "other"), "main", f"{schema}_copy")
    with MLOpsContext(config, operations=operations) as other:
        yield other
