"""A point that is logged twice counts once, in every history and summary; one that only resembles another is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Metric

from ops.registry.mlflow.repeated_points import RepeatedPoints
from ops.registry.run_rows import RunningSummary

points = st.builds(
    Metric,
    st.sampled_from("ab"),
    st.sampled_from([0.5, 1.0, float("nan"), float("inf")]),
    st.integers(0, 3),
    st.integers(0, 3),
)


def identity(metric):
    return metric.key, repr(metric.value), metric.step, metric.timestamp


@given(st.lists(st.lists(points, max_size=5), max_size=6))
def test_each_point_is_new_once_in_whatever_order_and_batches(batches):
    """What is written is the set of all points, however they come."""
    written = []

    def summaries():
        found = {}
        for key in {m.key for m in written}:
            own = [m for m in written if m.key == key]
            last = max(own, key=lambda m: (m.step, m.timestamp))
            at = last.timestamp * 10**6
            found[key] = RunningSummary(0.0, last.step, at, 0, 0, len(own), 0, 0)
        return found

    def history(_, key):
        return [(m.value, m.step, m.timestamp * 10**6) for m in written if m.key == key]

    repeated = RepeatedPoints(history)
    for batch in batches:
        written += repeated.new("run", summaries(), batch)
    logged = [identity(m) for batch in batches for m in batch]
    assert sorted(map(identity, written)) == sorted(set(logged))


@pytest.mark.parametrize("single", [True, False])
def test_a_repeated_request_changes_nothing(client, run_id, context, single):
    """MLflow's history, the native one and the summary have each point once, NaN and infinities too."""
    values = (0.5, float("nan"), float("inf"))
    batch = [Metric(f"m{n}", v, 1000 + s, s) for n, v in enumerate(values) for s in range(3)]
    for _ in range(2):
        if single:
            for m in batch:
                client.log_metric(run_id, m.key, m.value, m.timestamp, m.step)
        else:
            client.log_batch(run_id, metrics=batch)
    client.log_metric(run_id, "m0", 0.25, 1000, 0)  # another value at the same step and time
    client.set_terminated(run_id)
    tracker = context.experiment_tracker
    for key, count in (("m0", 4), ("m1", 3), ("m2", 3)):
        assert len(client.get_metric_history(run_id, key)) == count
        assert len(tracker.get_metric_history(run_id, key)) == count
        assert tracker.get_run(run_id).metric_summaries[key].count == count


def test_a_model_gets_the_metrics_that_its_run_has_already(client, run_id):
    """The point is not written again for the run, and is there for the model."""
    client.log_metric(run_id, "auc", 0.5, 1000, 1)
    model = client.create_logged_model("0", "m", run_id)
    client.log_batch(run_id, metrics=[Metric("auc", 0.5, 1000, 1, model_id=model.model_id)])
    assert [m.value for m in client.get_logged_model(model.model_id).metrics] == [0.5]
    assert len(client.get_metric_history(run_id, "auc")) == 1
