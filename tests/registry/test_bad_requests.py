"""What cannot be kept is refused with a sentence before anything is written, and harms nothing later."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import shutil
import threading
import time

import pandas as pd
import pytest

from ops.registry import (
    ArtifactNotFoundError,
    ExperimentNotFoundError,
    FilterError,
    HookType,
    InvalidValueError,
    RunNotFoundError,
    RunStatus,
    StorageError,
    errors,
)
from ops.registry import context as contexts
from ops.registry.context import MLOpsContext, get_mlops_context
from ops.registry.fsck import check, collect
from ops.registry.json_values import encode


def in_ten_days():
    return time.time() + 10 * 24 * 3600


@pytest.fixture
def run_id(tracker, experiment):
    return tracker.start_run(experiment.experiment_id).run_id


@pytest.mark.parametrize("step", [1.5, "3", None, float("nan"), 2**63, -(2**63) - 1])
def test_a_step_is_a_whole_number_of_64_bits(tracker, run_id, step):
    with pytest.raises(InvalidValueError, match="whole step"):
        tracker.log_metric(run_id, "loss", 1.0, step=step)
    assert tracker.get_metric_history(run_id, "loss") == []


def test_a_whole_float_is_a_step(tracker, run_id):
    tracker.log_metric(run_id, "loss", 1.0, step=3.0)
    assert [m.step for m in tracker.get_metric_history(run_id, "loss")] == [3]


@pytest.mark.parametrize("when", [dt.datetime(2026, 1, 31), 1769817600, "2026-01-31"])
def test_a_time_without_a_zone_is_refused(tracker, run_id, when):
    with pytest.raises(InvalidValueError, match="time zone"):
        tracker.log_metric(run_id, "loss", 1.0, timestamp=when)


@pytest.mark.parametrize("year", [1, 1677, 2263, 9999])
def test_a_time_beyond_64_bits_of_nanoseconds_is_refused(tracker, run_id, year):
    with pytest.raises(InvalidValueError, match="1677 and 2262"):
        tracker.log_metric(run_id, "loss", 1.0, timestamp=dt.datetime(year, 1, 1, tzinfo=dt.UTC))


def test_no_time_of_pandas_is_refused_and_spoils_no_journal(context, tracker, run_id):
    with pytest.raises(InvalidValueError, match="NaT"):
        tracker.log_metric(run_id, "loss", 1.0, timestamp=pd.NaT)
    tracker.log_metric(run_id, "loss", 2.0)
    assert [m.value for m in tracker.get_metric_history(run_id, "loss")] == [2.0]
    assert check(context).torn_lines == 0


def test_a_time_is_kept_to_the_microsecond_in_any_zone(tracker, run_id):
    zone = dt.timezone(dt.timedelta(hours=5, minutes=45))
    when = dt.datetime(2026, 1, 31, 12, 0, 0, 999_999, tzinfo=zone)
    tracker.log_metric(run_id, "loss", 1.0, timestamp=when)
    assert tracker.get_metric_history(run_id, "loss")[0].timestamp == when


def test_a_number_of_thousands_of_digits_is_no_parameter(tracker, run_id):
    with pytest.raises(InvalidValueError, match="cannot be kept as JSON"):
        tracker.log_parameter(run_id, "huge", 10**5000)


@pytest.mark.parametrize("status", ["bogus", None, 3])
def test_an_unknown_status_is_refused_and_names_those_there_are(tracker, run_id, status):
    with pytest.raises(InvalidValueError, match="CANCELLED"):
        tracker.end_run(run_id, status)


def test_a_status_may_be_written_in_any_case(tracker, run_id):
    assert tracker.end_run(run_id, "failed").status is RunStatus.FAILED


@pytest.mark.parametrize("run_id", [5, None, "", "../x", "\0"])
def test_what_is_no_id_of_a_run_is_an_unknown_run(tracker, experiment, run_id):
    with pytest.raises(RunNotFoundError):
        tracker.get_run(run_id)
    with pytest.raises(RunNotFoundError):
        tracker.log_metric(run_id, "loss", 1.0)


@pytest.mark.parametrize("wrong", [["a"], "a", 3])
def test_tags_and_parameters_are_mappings(tracker, registry, experiment, run_id, artifact, wrong):
    home = experiment.experiment_id
    for call in (
        lambda: tracker.create_experiment("other", tags=wrong),
        lambda: tracker.start_run(home, tags=wrong),
        lambda: tracker.start_run(home, parameters=wrong),
        lambda: tracker.log_metrics(run_id, wrong),
        lambda: tracker.log_parameters(run_id, wrong),
        lambda: tracker.set_tags(run_id, wrong),
        lambda: registry.register_model("m", artifact, "t", "f", tags=wrong),
        lambda: registry.register_model("m", artifact, "t", "f", metrics=wrong),
        lambda: registry.register_model("m", artifact, "t", "f", signature=wrong),
    ):
        with pytest.raises(InvalidValueError, match="must be a mapping"):
            call()
    assert registry.list_models() == []
    assert len(tracker.list_runs(home)) == 1


def test_what_tables_keep_as_text_is_text(context, tracker, registry, artifact):
    """One number among the texts, and no index could be written any more."""
    with pytest.raises(InvalidValueError, match="description must be a text"):
        tracker.create_experiment("other", description=5)
    for more in ({"framework": 5}, {"artifact_type": None}, {"experiment_run_id": 5}):
        given = {"artifact_type": "t", "framework": "f", **more}
        with pytest.raises(InvalidValueError, match="must be a text"):
            registry.register_model("m", artifact, **given)
    with pytest.raises(InvalidValueError, match="several texts"):
        registry.register_model("m", artifact, "t", "f", dependencies="sklearn")
    made = registry.register_model("m", artifact, "t", "f", tags={"seed": 3})
    assert made.metadata.tags == {"seed": "3"}
    context.compact()


@pytest.mark.parametrize(
    "name",
    ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}"],
)
def test_names_of_any_writing_are_names(tracker, name):
    assert tracker.create_experiment(name).name == name


@pytest.mark.parametrize("name", ["\u200d", "a\u202eb", "a\nb"])
def test_names_that_show_nothing_or_something_else_are_none(tracker, name):
    with pytest.raises(InvalidValueError):
        tracker.create_experiment(name)


@pytest.mark.parametrize("text", ["(" * 3000 + "metrics.a > 1" + ")" * 3000, "not " * 3000 + "a"])
def test_an_expression_that_is_too_deep_is_said_to_be(tracker, experiment, text):
    with pytest.raises(FilterError, match="within each other"):
        tracker.search_runs(experiment.experiment_id, filter=text)


def test_a_pattern_that_nearly_fits_takes_no_time(tracker, experiment):
    """With plain backtracking this one would take longer than the universe is old."""
    home = experiment.experiment_id
    for text in ("a" * 2000, "a" * 2000 + "b"):
        with tracker.run_context(home, parameters={"text": text}):
            pass
    found = tracker.search_runs(home, filter=f"params.text LIKE '{'%a' * 30}%b'")
    assert [run.parameters["text"][-1] for run in found] == ["b"]


def test_a_current_context_is_made_once_for_all_threads(tmp_path, monkeypatch, no_current_context):
    monkeypatch.setenv("OPS_MLOPS_PATH", str(tmp_path / "store"))
    made, all_here = [], threading.Barrier(8)
    original = MLOpsContext.from_env
    monkeypatch.setattr(contexts.MLOpsContext, "from_env", lambda: made.append(1) or original())

    def ask():
        all_here.wait()
        get_mlops_context()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_every_error_comes_back_from_another_process_as_it_was():
    kinds = [getattr(errors, name) for name in errors.__all__]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Exception):
            error = kind("what was wrong", suggestions=("what to do",))
            back = pickle.loads(pickle.dumps(error))
            assert (type(back), str(back)) == (kind, str(error))


def test_logging_to_a_run_of_others_whose_store_is_gone_says_so(new_context, experiment, run_id):
    other = new_context().experiment_tracker
    other.log_metric(run_id, "loss", 1.0)
    shutil.rmtree(other.root)
    with pytest.raises(RunNotFoundError, match="erased"):
        other.log_metric(run_id, "loss", 2.0)


# Files


def test_nothing_of_the_users_is_taken_for_a_copy_on_its_way(context, tracker, run_id):
    tracker.log_text(run_id, "mine", ".settings.tmp")
    with pytest.raises(InvalidValueError, match="copies on their way"):
        tracker.log_text(run_id, "mine", ".0123456789abcdef.tmp")
    check(context, repair=True, now=in_ten_days)
    collect(context, now=in_ten_days)
    assert [a.path for a in tracker.get_run(run_id).artifacts] == [".settings.tmp"]
    assert check(context).is_sound


def test_linked_folders_are_kept_with_what_is_in_them(tracker, run_id, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "weights").write_text("w")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "linked").symlink_to("../shared")
    (folder / "dangling").symlink_to("nowhere")
    kept = tracker.log_artifact(run_id, folder)
    assert kept.size == 1
    copy = tracker.download_run_artifact(run_id, "model", tmp_path / "copy")
    assert (copy / "linked" / "weights").read_text() == "w"


def test_a_folder_that_leads_into_itself_is_refused(tracker, run_id, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "again").symlink_to(".")
    with pytest.raises(InvalidValueError, match="link to a folder that it is in"):
        tracker.log_artifact(run_id, folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_not_waited_for(tracker, registry, run_id, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactNotFoundError):
        tracker.log_artifact(run_id, tmp_path / "pipe")
    with pytest.raises(ArtifactNotFoundError):
        registry.register_model("m", tmp_path / "pipe", "t", "f")


def test_the_working_directory_goes_by_its_name(tracker, registry, run_id, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").write_text("x")
    monkeypatch.chdir(tmp_path / "here")
    assert tracker.log_artifact(run_id, ".").path == "here"
    assert registry.register_model("m", ".", "t", "f").artifact_uri.endswith("/v1/here")
    for call in (
        tracker.log_artifact,
        lambda _, path: registry.register_model("m", path, "t", "f"),
    ):
        with pytest.raises(ArtifactNotFoundError, match="empty path"):
            call(run_id, "")


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}/y"])
def test_a_name_that_no_file_can_have_is_an_error_of_the_store(tracker, run_id, artifact, name):
    tracker.log_artifact(run_id, artifact)
    with pytest.raises(StorageError, match="cannot be stored"):
        tracker.log_text(run_id, "text", name)
    assert [a.path for a in tracker.get_run(run_id).artifacts] == ["model.bin"]


def test_names_that_no_file_can_have_are_not_there(storage):
    name = "x" * 300
    assert not storage.exists(name)
    assert not storage.delete(name)
    with pytest.raises(ArtifactNotFoundError):
        storage.read_json(name)


def test_a_table_that_parquet_cannot_hold_is_refused(storage):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InvalidValueError, match="Parquet"):
        storage.write_dataframe(pandas.DataFrame({"a": [1, "x"]}), "mixed")
    with pytest.raises(InvalidValueError, match="A table is"):
        storage.write_dataframe([1], "list")
    assert storage.list_paths() == []


class SilentError(Exception):
    """An error whose text cannot be made, as some libraries have."""

    def __str__(self):
        raise RuntimeError("no text")


def test_a_block_whose_error_has_no_text_fails_its_run(tracker, experiment):
    with pytest.raises(SilentError), tracker.run_context(experiment.experiment_id) as run:
        raise SilentError
    ended = tracker.get_run(run.run_id)
    assert ended.status is RunStatus.FAILED
    assert ended.error == "SilentError: (its text raises RuntimeError)"


def test_a_veto_without_a_text_reaches_the_caller_as_it_is(tracker, run_id, operations):
    def veto(data):
        raise SilentError

    operations.hooks.register(HookType.PRE_METRIC_LOG, veto)
    with pytest.raises(SilentError):
        tracker.log_metric(run_id, "loss", 1.0)


@pytest.mark.parametrize("error", [123, ValueError("no")])
def test_a_run_ends_with_a_text_or_nothing(tracker, run_id, error):
    with pytest.raises(InvalidValueError, match="error must be a text"):
        tracker.end_run(run_id, RunStatus.FAILED, error)
    assert tracker.get_run(run_id).status is RunStatus.RUNNING


def test_tags_of_a_new_experiment_have_keys(tracker):
    with pytest.raises(InvalidValueError, match="no key"):
        tracker.create_experiment("tagged", tags={"": "x"})
    assert tracker.list_experiments() == []


def test_two_keys_of_one_text_are_refused(tracker, run_id):
    with pytest.raises(InvalidValueError, match="two keys"):
        tracker.log_parameter(run_id, "weights", {1: "a", "1": "b"})


@pytest.mark.parametrize("order", [1, 1.5, object()])
def test_an_order_is_a_field_or_several(tracker, registry, experiment, order):
    searches = (
        lambda: tracker.search_runs(experiment.experiment_id, order_by=order),
        lambda: tracker.search_experiments(order_by=order),
        lambda: registry.search_models(order_by=order),
    )
    for search in searches:
        with pytest.raises(InvalidValueError, match="order"):
            search()


def test_an_offset_is_a_number(tracker, experiment):
    with pytest.raises(InvalidValueError, match="offset"):
        tracker.search_runs(experiment.experiment_id, offset=None)


def test_an_object_among_ids_of_experiments_is_named(tracker, experiment):
    with pytest.raises(ExperimentNotFoundError, match=experiment.experiment_id):
        tracker.search_runs([experiment])


def test_one_run_is_compared_by_its_id(tracker, run_id):
    assert list(tracker.compare_runs(run_id).index) == [run_id]


def test_a_comparison_shows_half_of_a_surrogate_pair(tracker, run_id):
    tracker.log_parameter(run_id, "name", "\udcff")
    assert tracker.compare_runs([run_id])["params.name"].tolist() == ["\\udcff"]


def test_system_metrics_of_an_unknown_run_are_refused_at_once(tracker):
    with pytest.raises(RunNotFoundError):
        tracker.log_system_metrics("nothing")


@pytest.mark.parametrize("interval", [-1, float("nan")])
def test_a_negative_interval_is_refused_before_anything_is_waited_for(tracker, run_id, interval):
    with pytest.raises(InvalidValueError, match="interval_seconds"):
        tracker.follow(run_id, interval_seconds=interval)


@pytest.mark.parametrize("version", ["1", "latest", 1.0, True])
def test_a_version_is_named_by_its_number_everywhere(registry, tmp_path, version):
    (tmp_path / "m.bin").write_bytes(b"1")
    registry.register_model("m", tmp_path / "m.bin", "binary", "f")
    for read in (
        lambda: registry.get_model_version("m", version),
        lambda: registry.load_model("m", version),
        lambda: registry.download_artifact("m", version, tmp_path / "out"),
    ):
        with pytest.raises(InvalidValueError, match="no version"):
            read()


def test_no_dependencies_are_none_too(registry, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"1")
    made = registry.register_model("m", tmp_path / "m.bin", "binary", "f", dependencies=None)
    assert made.metadata.dependencies == ()
    with pytest.raises(InvalidValueError, match="several texts"):
        registry.register_model("m", tmp_path / "m.bin", "binary", "f", dependencies=3)


def test_a_file_that_nothing_can_load_is_named_with_what_helps(registry, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"weights")
    registry.register_model("m", tmp_path / "m.bin", "binary", "f")
    with pytest.raises(InvalidValueError, match=r"no loader is registered for 'binary'.*download"):
        registry.load_model("m")


def test_a_folder_that_has_the_store_in_it_is_stored_nowhere(context, tracker, run_id, tmp_path):
    (tmp_path / "code.py").write_text("x")
    for store in (
        lambda: tracker.log_artifact(run_id, tmp_path, "all"),
        lambda: context.model_registry.register_model("m", tmp_path, "folder", "f"),
        lambda: context.storage.write_artifact(tmp_path, "all"),
        lambda: context.storage.write_artifact(context.path / "storage", "all"),
    ):
        with pytest.raises(InvalidValueError, match="copied into"):
            store()
    assert check(context).is_sound
    assert tracker.log_artifact(run_id, tmp_path / "code.py").path == "code.py"


class Endless:
    """What a mock of unittest is: each call of its methods returns another one."""

    def tolist(self):
        return Endless()


def test_a_value_that_turns_into_its_like_for_ever_is_refused(tracker, run_id):
    with pytest.raises(InvalidValueError, match="Endless is no JSON value"):
        encode({"a": [Endless()]})
    for value in (Endless(), {"a": [Endless()]}):
        with pytest.raises(InvalidValueError, match="'p"):
            tracker.log_parameter(run_id, "p", value)
    assert tracker.get_run(run_id).parameters == {}
