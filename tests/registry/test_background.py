"""What works beside the user's code: system metrics, autologging, components, flushing."""

from __future__ import annotations

import pytest

from ops.registry import (
    BaseMLOpsComponent,
    ComponentState,
    ComponentStateError,
    InvalidValueError,
    SystemMetrics,
    ValidationMixin,
    autolog,
)
from ops.registry.disk.background_fsync import Flusher


@pytest.fixture
def logged(context):
    """Returns the runs of the context's own experiment."""
    return lambda: context.experiment_tracker.list_runs(context.experiment.experiment_id)


def test_a_fit_becomes_a_run(context, logged):
    linear = pytest.importorskip("sklearn.linear_model")
    pipeline = pytest.importorskip("sklearn.pipeline")
    scaler = pytest.importorskip("sklearn.preprocessing")
    before = linear.LogisticRegression.fit
    with autolog(context):
        steps = pipeline.make_pipeline(scaler.StandardScaler(), linear.LogisticRegression(C=0.5))
        steps.fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        linear.Ridge(alpha=2.0).fit([[0.0], [1.0]], [0.0, 1.0])
    assert linear.LogisticRegression.fit is before
    first, second = logged()
    assert (first.name, second.name) == ("Pipeline", "Ridge")
    assert second.parameters["alpha"] == 2.0
    assert second.tags == {"autolog": "true", "library": "sklearn"}
    assert second.metrics["fit_seconds"] >= 0


def test_inside_a_run_the_fit_is_logged_to_it(context, logged):
    linear = pytest.importorskip("sklearn.linear_model")
    tracker = context.experiment_tracker
    with autolog(context), tracker.run_context(context.experiment.experiment_id, "mine") as run:
        linear.Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    assert [r.name for r in logged()] == ["mine"]
    assert tracker.get_run(run.run_id).parameters["alpha"] == 1.0


def test_a_fit_never_fails_because_of_its_logging(context, monkeypatch, caplog):
    linear = pytest.importorskip("sklearn.linear_model")

    def broken(*args, **kwargs):
        raise OSError("disk full")

    with autolog(context):
        monkeypatch.setattr(context.experiment_tracker, "start_run", broken)
        model = linear.Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    assert model.coef_.shape == (1,)
    assert "could not be logged" in caplog.text


def test_classes_that_appear_later_are_wrapped_too(context, logged):
    base = pytest.importorskip("sklearn.base")
    with autolog(context):

        class Mine(base.BaseEstimator):
            def __init__(self, depth=3):
                self.depth = depth

            def fit(self, X, y=None):
                return self

        Mine(depth=4).fit([[1]])
    Mine(depth=5).fit([[1]])
    (run,) = logged()
    assert run.parameters == {"depth": 4}


def test_xgboost_is_logged_with_its_rounds(context, logged):
    xgboost = pytest.importorskip("xgboost")
    data = xgboost.DMatrix([[0.0], [1.0], [2.0]], label=[0.0, 1.0, 2.0])
    with autolog(context):
        xgboost.train(
            {"max_depth": 2, "nthread": 1},
            data,
            num_boost_round=3,
            evals=[(data, "train")],
            verbose_eval=False,
        )
    (run,) = logged()
    assert (run.name, run.parameters) == ("xgboost.train", {"max_depth": 2, "nthread": 1})
    assert run.metric_summaries["train/rmse"].count == 3


def test_lightgbm_is_logged(context, logged):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, min_child_samples=1, verbose=-1)
    with autolog(context):
        model.fit([[float(i)] for i in range(20)], [float(i) for i in range(20)])
    (run,) = logged()
    assert (run.name, run.parameters["n_estimators"]) == ("LGBMRegressor", 2)


def test_system_metrics_are_logged_while_the_block_runs(tracker, experiment):
    run = tracker.start_run(experiment.experiment_id)
    values = iter([{"system/x": 1.0}, {"system/x": 2.0}, {"system/x": 3.0}])
    metrics = SystemMetrics(
        tracker, run.run_id, interval_seconds=3600, measure=lambda: next(values)
    )
    with metrics:
        metrics.sample()
    history = tracker.get_metric_history(run.run_id, "system/x")
    assert [(m.step, m.value) for m in history] == [(0, 2.0), (1, 3.0)]
    assert metrics.get_stats()["operations"] == 2
    with pytest.raises(InvalidValueError):
        SystemMetrics(tracker, run.run_id, interval_seconds=0)


def test_system_metrics_are_real(tracker, experiment):
    pytest.importorskip("psutil")
    run = tracker.start_run(experiment.experiment_id)
    with tracker.log_system_metrics(run.run_id, interval_seconds=3600):
        pass
    assert tracker.get_run(run.run_id).metrics["system/process_memory_bytes"] > 1_000_000


def test_a_component_counts_and_keeps_its_error():
    class Part(BaseMLOpsComponent, ValidationMixin):
        broken = False

        def _on_start(self):
            if self.broken:
                raise OSError("no disk")

    ticks = iter([1.0, 3.0, 3.0, 4.0])
    part = Part("part", clock=lambda: next(ticks))
    with pytest.raises(ComponentStateError, match="created"), part.operation():
        pass
    with part:
        with part.operation():
            assert part.validate_stage("production") == "Production"
        with pytest.raises(InvalidValueError), part.operation():
            part.validate_name("")
    stats = part.get_stats()
    assert (stats["state"], stats["operations"], stats["errors"]) == ("stopped", 2, 1)
    assert stats["busy_seconds"] == 3.0
    part.broken = True
    with pytest.raises(OSError, match="no disk"):
        part.start()
    assert part.state is ComponentState.FAILED
    assert not part.health_check()
    part.broken = False
    assert part.start().last_error is None


def test_the_flusher_calls_each_once_and_survives_an_error(caplog):
    flusher = Flusher(interval_seconds=3600)
    called = []

    def failing():
        raise OSError("gone")

    for call in (failing, lambda: called.append(1)):
        flusher.add(call)
    flusher.run_due()
    flusher.run_due()
    assert called == [1]
    assert "could not be flushed" in caplog.text


def test_interval_flushes_what_was_appended_once(tmp_path, monkeypatch):
    from ops.registry.disk import journal

    flusher = Flusher(interval_seconds=3600)
    flushed = []
    monkeypatch.setattr(journal, "_flusher", flusher)
    monkeypatch.setattr(journal, "flush", flushed.append)
    writer = journal.JournalWriter(tmp_path / "j", durability="interval")
    writer.append(1)
    writer.append(2)
    assert flushed == []
    flusher.run_due()
    assert len(flushed) == 1
    writer.append(3)
    writer.close()
    assert len(flushed) == 2
